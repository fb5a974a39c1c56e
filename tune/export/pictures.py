"""Finds the pictures that paths name: files, folders, zips, standard input. Decodes none of them."""

from __future__ import annotations

import re
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tune.errors import EmotuneError, ImageError, SourceError
from tune.sources.decoding import UnreadableImage
from tune.sources.file_kinds import is_image
from tune.sources.file_store import MAX_IMAGE_FILE_BYTES, Listing, check_sizes
from tune.sources.folder_source import list_folder
from tune.sources.zip_source import ZipStore

STANDARD_INPUT = "-"


@dataclass(frozen=True)
class Picture:
    """A picture: its name, as a reader would write it, and its file's content when it is asked for."""

    name: str
    read: Callable[[], bytes]


def find_pictures(paths: Iterable[Path]) -> tuple[list[Picture], list[str]]:
    """Returns the pictures in files, in folders and those below, in zips (`ZIP/ENTRY`), and in standard input (`-`);
    and the other files of folders and zips, which are passed over.

    Linked folders are followed, as an import does, and hidden ones are not. Folders and zips give the files with an
    image's suffix, sorted; a file that is named itself is always one. Where a path cannot be looked into, and others
    can, it is a picture that cannot be read.

    Raises:
        ImageError: No path can be looked into; of the first: it is missing, a device, or has no pictures.
        SourceError: The same of a zip that is damaged or hostile.
    """
    pictures: list[Picture] = []
    passed_over: list[str] = []
    refused: list[EmotuneError] = []
    found = 0
    for path in paths:
        try:
            of_path = list(_pictures_of(path, passed_over))
            if not of_path:
                raise ImageError(f"A folder or zip must hold images. Received: {path}, without one. Name another.")
            found += 1
        except (ImageError, SourceError) as error:
            refused.append(error)
            of_path = [Picture(str(path), partial(_refuse, error))]
        pictures += of_path
    if refused and not found:
        raise refused[0]
    return pictures, passed_over


def _refuse(error: EmotuneError) -> bytes:
    raise UnreadableImage(str(error).rstrip(".")) from error


def _pictures_of(path: Path, passed_over: list[str]) -> Iterator[Picture]:
    if str(path) == STANDARD_INPUT:
        yield Picture(STANDARD_INPUT, lambda: sys.stdin.buffer.read(MAX_IMAGE_FILE_BYTES + 1))
    elif path.is_dir():
        try:
            listing = list_folder(path)
        except OSError as error:
            raise ImageError(
                f"A folder must be readable, with all below it. Received: {error.filename}: {error.strerror}. Fix its "
                "permissions, or name others"
            ) from None
        passed_over += (str(path / name) for name in _no_images(listing))
        for name in sorted(filter(is_image, listing.images)):
            yield Picture(str(path / name), (path / name).read_bytes)
    else:
        check_file(path)
        if path.suffix.lower() == ".zip" or zipfile.is_zipfile(path):
            store = ZipStore(path, path.name, str(path), path.stat().st_size)
            images = {name: file.size_bytes for name, file in store.listing.images.items() if is_image(name)}
            passed_over += (f"{path}/{name}" for name in _no_images(store.listing))
            check_sizes(images, MAX_IMAGE_FILE_BYTES, store.packed_bytes, store.where)
            for name in sorted(images):
                yield Picture(f"{path}/{name}", partial(store.read, name))
        else:
            yield Picture(str(path), path.read_bytes)


def _no_images(listing: Listing) -> list[str]:
    """Returns the files that nobody reads here: without an image's suffix; a zip in a folder or in a zip is one."""
    return sorted([*listing.others, *(name for name in listing.images if not is_image(name))])


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
