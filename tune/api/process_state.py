"""Keeps what TensorFlow needs out of the caller's process: its variables and its log."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Keeps to itself what TensorFlow (2.21) logs of a SavedModel that it wrote; in a notebook it is shown in red."""
    logger = logging.getLogger("tensorflow")
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before


@contextmanager
def unchanged_environment() -> Iterator[None]:
    """Gives back what the block sets for TensorFlow: a hidden GPU would be hidden from the next study's Ray too."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
