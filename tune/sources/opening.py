"""Opens what is to be imported (a zip, a folder or a FER-2013 CSV) and hands out its images. Writes nothing.

Nothing is ever unpacked to disk. `zip_source.py`, `folder_source.py` and `csv_source.py` read.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Final, Protocol

from trainables.dataset.reader import LeftOut, Pixels, SkippedImage
from tune.errors import SourceError
from tune.sources.csv_source import CsvSource
from tune.sources.file_kinds import FileKind
from tune.sources.folder_layout import Item
from tune.sources.folder_source import FolderSource, list_folder
from tune.sources.split_names import SplitDecisions
from tune.sources.zip_source import MAX_CSV_BYTES, MAX_IMAGE_FILE_BYTES, ZipSource, check_sizes, list_zip

_ZIP_DIRECTORY_BYTES: Final = 64 << 20


class Source(Protocol):
    """Images with a class and perhaps a split, in a fixed order, and what of the source is not among them."""

    name: str
    classes: tuple[str, ...]
    expected_images: int
    skipped: tuple[SkippedImage, ...]
    passed_over: dict[str, int]
    notes: tuple[str, ...]

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """Folders that are not imported; whole when all images have been handed out."""

    def __iter__(self) -> Iterator[Item]:
        """The images, in an order that every import repeats."""

    def pixels(self, item: Item) -> Pixels:
        """Decodes one image (several threads may ask): uint8, (height, width, 1 or 3). Raises UnreadableImage."""


def open_source(path: Path, decisions: SplitDecisions | None = None) -> Source:
    """Looks at a source and checks all that can be checked without decoding.

    Args:
        path: a zip or a folder of images in class folders, a CSV like `fer2013.csv`, or a zip or folder with that.
        decisions: what the user decided about its folders.

    Raises:
        SourceError: the source is missing, unreadable, hostile, or holds no usable images.
    """
    path, decisions = Path(path), decisions or SplitDecisions()
    with _readable(path):
        if path.is_dir():
            return _open_folder(path, decisions)
        if path.suffix.lower() == ".csv":
            return CsvSource(path.name, path.stat().st_size, lambda: path.open("rb"), decisions)
        return _open_zip(path, decisions)


def fingerprint_source(path: Path) -> str:
    """32 hexadecimal digits that change when a source does; next to nothing is decompressed.

    A folder counts with the names, sizes and dates of its images and tables, a CSV with its size and date, a zip with
    its size and its last 64 MiB, where its directory holds the checksum of every entry.

    Raises:
        SourceError: the source is missing or unreadable.
    """
    path = Path(path)
    digest = hashlib.blake2b(digest_size=16)
    with _readable(path):
        if path.is_dir():
            walk = list_folder(path)
            for found in sorted([*walk.files, *walk.tables], key=lambda found: found.path):
                digest.update(f"{found.path}\n{found.stamp}\n".encode("utf-8", "surrogateescape"))
        elif path.suffix.lower() == ".csv":
            digest.update(f"{path.stat().st_size} {path.stat().st_mtime_ns}".encode())
        else:
            size = path.stat().st_size
            with path.open("rb") as file:
                file.seek(max(0, size - _ZIP_DIRECTORY_BYTES))
                while block := file.read(1 << 20):
                    digest.update(block)
            digest.update(str(size).encode())
    return digest.hexdigest()


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    if not path.exists():
        raise SourceError(f"A source must exist. Received: {path}; check the path.")
    if path.exists() and not path.is_file() and not path.is_dir():
        raise SourceError(f"A source must be a regular file or a folder. Received: {path}; name one of these.")
    try:
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename and str(error.filename) != str(path) else ""
        raise SourceError(f"A source must be readable. Received: {path}: {error.strerror or error}{where}.") from error


def _open_folder(path: Path, decisions: SplitDecisions) -> Source:
    walk = list_folder(path)
    if len(walk.tables) != 1 or any(file.kind is FileKind.IMAGE for file in walk.files):
        return FolderSource(path, walk, decisions)
    table = path / walk.tables[0].path
    passed_over = walk.passed_over + _suffixes(file.path for file in walk.files)
    return CsvSource(table.name, table.stat().st_size, lambda: table.open("rb"), decisions, passed_over)


def _open_zip(path: Path, decisions: SplitDecisions) -> Source:
    content = list_zip(path)
    if len(content.tables) != 1 or content.images.keys() - content.doubtful:
        check_sizes(content.images, MAX_IMAGE_FILE_BYTES, path)
        return ZipSource(path, content, decisions)
    ((name, entry),) = content.tables.items()
    check_sizes(content.tables, MAX_CSV_BYTES, path)
    passed_over = content.passed_over + _suffixes(content.images)
    return CsvSource(
        f"{path.name}/{name}", entry.file_size, lambda: content.archive.open(entry), decisions, passed_over
    )


def _suffixes(paths: Iterable[str]) -> Counter[str]:
    return Counter(PurePosixPath(path).suffix.lower() or "without a suffix" for path in paths)
