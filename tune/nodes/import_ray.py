"""Imports Ray without its greetings. Starts nothing."""

from __future__ import annotations

import io
import logging
import sys
from contextlib import redirect_stderr

from trainables.home_folder import ensure_home


def import_ray() -> None:
    """Imports Ray and Ray Tune; what they say at it in a notebook, of widgets that are not used here, is left out."""
    if "ray.tune" in sys.modules:
        return
    ensure_home()
    with redirect_stderr(io.StringIO()) as said:
        import ray.tune  # noqa: F401
    for handler in logging.getLogger("ray").handlers:  # Ray 2.60's keeps the stderr that it was made with
        if isinstance(handler, logging.StreamHandler) and handler.stream is said:
            handler.setStream(sys.stderr)
