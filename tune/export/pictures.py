"""Finds the pictures that paths name: files, folders, zips, standard input. Decodes none of them."""

from __future__ import annotations

import re
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tune.errors import ImageError
from tune.sources.file_kinds import is_image
from tune.sources.file_store import MAX_IMAGE_FILE_BYTES, check_sizes
from tune.sources.folder_source import list_folder
from tune.sources.zip_source import ZipStore

STANDARD_INPUT = "-"


@dataclass(frozen=True)
class Picture:
    """A picture: its name, as a reader would write it, and its file's content when it is asked for."""

    name: str
    read: Callable[[], bytes]


def find_pictures(paths: Iterable[Path]) -> list[Picture]:
    """Returns the pictures in files, in folders and those below, in zips (`ZIP/ENTRY`), and in standard input (`-`).

    Linked folders are followed, as an import does, and hidden ones are not. Folders and zips give the files with an
    image's suffix, sorted; a file that is named itself is always one.

    Raises:
        ImageError: A path is missing, a device, or a folder or zip without pictures.
        SourceError: A zip is damaged or hostile.
    """
    pictures: list[Picture] = []
    for path in paths:
        found = list(_pictures_of(path))
        if not found:
            raise ImageError(f"A folder or zip must hold images. Received: {path}, without one. Name another.")
        pictures += found
    return pictures


def _pictures_of(path: Path) -> Iterator[Picture]:
    if str(path) == STANDARD_INPUT:
        yield Picture(STANDARD_INPUT, lambda: sys.stdin.buffer.read(MAX_IMAGE_FILE_BYTES + 1))
    elif path.is_dir():
        try:
            listed = list_folder(path).images
        except OSError as error:
            raise ImageError(
                f"A folder must be readable, with all below it. Received: {error.filename}: {error.strerror}. Fix its "
                "permissions, or name others"
            ) from None
        for name in sorted(filter(is_image, listed)):
            yield Picture(str(path / name), (path / name).read_bytes)
    else:
        check_file(path)
        if path.suffix.lower() == ".zip" or zipfile.is_zipfile(path):
            store = ZipStore(path, path.name, str(path), path.stat().st_size)
            images = {name: file.size_bytes for name, file in store.listing.images.items() if is_image(name)}
            check_sizes(images, MAX_IMAGE_FILE_BYTES, store.packed_bytes, store.where)
            for name in sorted(images):
                yield Picture(f"{path}/{name}", partial(store.read, name))
        else:
            yield Picture(str(path), path.read_bytes)


def check_images(paths: Iterable[Path]) -> None:
    """Refuses paths that cannot be images, without reading them.

    Raises:
        ImageError: A path is missing, a folder, a device or empty.
    """
    for path in map(Path, paths):
        check_file(path)
        if not path.stat().st_size:
            raise ImageError(f"An image must have content. Received: {path}, an empty file. Copy it again.")


def check_file(path: Path) -> None:
    """Refuses a path that is missing, a folder, an address or a device, whatever it holds; raises ImageError."""
    if path.is_dir():
        raise ImageError(f"An image must be a file. Received: {path}, a folder. Name the images in it: {path}/*.png.")
    if re.match(r"\w+:/", str(path)):
        raise ImageError(f"An image must be a file of this machine. Received: {path}, an address. Download it first.")
    if not path.exists():
        raise ImageError(f"An image must exist. Received: {path}, which does not. Check the spelling.")
    if not path.is_file():
        raise ImageError(f"An image must be a regular file. Received: {path}. Name a file.")
