"""Folders of buckets as folders of this machine, for as long as they are read or written. `places.py` copies."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainables.errors import PlaceError
from trainables.places import Place, is_bucket


def cache_folder() -> Path:
    """Returns this machine's folder for copies of what lies in buckets: $EMOTUNE_CACHE, or `~/.cache/emotune`."""
    return Path(os.environ.get("EMOTUNE_CACHE") or Path.home() / ".cache/emotune")


@contextmanager
def written_folder(name: str) -> Iterator[Path]:
    """Gives a folder to write: the folder itself, or one whose files are put into a bucket when the block ends well.

    Files of the bucket's prefix that the folder does not hold are removed after that.

    Raises:
        PlaceError: the bucket cannot be reached or written.
    """
    if not is_bucket(name):
        yield Path(name)
        return
    place = Place(name)
    with tempfile.TemporaryDirectory(prefix="emotune-") as folder:
        target = Path(folder) / place.last_part
        yield target
        written = {str(path.relative_to(target)): path for path in target.rglob("*") if path.is_file()}
        for path, local in sorted(written.items()):
            place.upload(local, path)
        for file in place.files():
            if file.path not in written:
                place.delete(file.path)


@contextmanager
def local_folder(name: str) -> Iterator[Path]:
    """Gives a folder's files on this machine: the folder itself, or a copy of a bucket's for as long as it is needed.

    Raises:
        PlaceError: the bucket cannot be reached, or has nothing there.
    """
    if not is_bucket(name):
        yield Path(name)
        return
    place = Place(name)
    files = place.files()
    if not files:
        raise PlaceError(f"{name} must hold files. Received: none, or no such bucket. Check the address")
    with tempfile.TemporaryDirectory(prefix="emotune-") as folder:
        for file in files:
            place.download(file.path, Path(folder) / file.path)
        yield Path(folder)
