"""Ends with one line of advice where this Python cannot run emotune; any Python 3 can read this file."""

import sys

if not (3, 11) <= sys.version_info[:2] < (3, 13):
    version = sys.version.split()[0]
    sys.exit(f"emotune needs Python 3.11 or 3.12. Received: {version} ({sys.executable}). Try: make PYTHON=python3.11")
