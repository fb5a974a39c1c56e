"""The command `emotune`: a Ctrl-C while its modules are still being imported ends it without a traceback."""

from __future__ import annotations

import sys


def main() -> None:
    """Imports the command line and runs it."""
    try:
        from tune.cli.main import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()
