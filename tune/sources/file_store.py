"""What a folder, a zip, a tar and an archive in an archive have in common: files with paths, sizes and content.

Says what files there are and hands out their bytes; decides nothing about what they mean.
"""

from __future__ import annotations

import gzip
import lzma
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import IO, Final, Protocol

from trainables.dataset.info import LeftOut
from tune.errors import SourceError
from tune.sources.file_kinds import FileKind, file_kind

DAMAGED: Final = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, gzip.BadGzipFile, EOFError, NotImplementedError)
"""What the standard library raises where compressed files are damaged; the last is zipfile's for a compression that
it does not know."""

MAX_IMAGE_FILE_BYTES: Final = 256 << 20
MAX_TABLE_BYTES: Final = 8 << 30
MAX_RATIO: Final = 200
_RATIO_FREE_BYTES: Final = 16 << 20
_COPY_BYTES: Final = 1 << 20
_FEWEST_OF_A_CLASS: Final = 3

PassedOver = Counter[tuple[str, str]]
"""Files that are not read, by the folder that they are in (with a slash behind) and what they are."""


@dataclass(frozen=True)
class FoundFile:
    """A file of a source.

    Attributes:
        path: relative to the source, with forward slashes.
        kind: what it is; for what is no image, the name under which it is counted.
        size_bytes: unpacked.
        real: where it really is, if links lead elsewhere.
        is_link: whether it is a link itself.
        stamp: changes when the file does; empty where that is not known.
        problem: why it cannot be read, if that is known already.
    """

    path: str
    kind: FileKind | str
    size_bytes: int
    real: str = ""
    is_link: bool = False
    stamp: str = ""
    problem: str = ""


@dataclass
class Listing:
    """The files of a source: those that are or may be images, other known ones, and those that nobody reads.

    `notes` say how names were read, where that is not plain.
    """

    images: dict[str, FoundFile] = field(default_factory=dict)
    others: dict[str, FoundFile] = field(default_factory=dict)
    passed_over: PassedOver = field(default_factory=Counter)
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, file: FoundFile) -> None:
        """Takes a file in by its kind."""
        if isinstance(file.kind, FileKind):
            self.images[file.path] = file
        elif file.kind.startswith(".") and file.kind != ".DS_Store":
            self.others[file.path] = file
        else:
            self.passed_over[folder_of(file.path), file.kind] += 1

    @property
    def sure_images(self) -> list[str]:
        """Paths of the files that are images by their name or first bytes."""
        return [path for path, file in self.images.items() if file.kind is FileKind.IMAGE]

    @property
    def has_class_folders(self) -> bool:
        """Whether images lie in two folders or more, not one or two in each: else no folders' names can be classes."""
        images = Counter(folder_of(path) for path in self.sure_images)
        return len(images.keys() - {""}) > 1 and max(images.values()) >= _FEWEST_OF_A_CLASS

    def besides(self, read: Iterable[str]) -> PassedOver:
        """Counts the files that are not read where the images are in tables or archives: pictures beside them too."""
        loose = Counter(
            (folder_of(path), PurePosixPath(path).suffix.lower() or "without a suffix") for path in self.images
        )
        return self.not_read(read) + loose

    def not_read(self, read: Iterable[str]) -> PassedOver:
        """Counts the files that are no images, but for those that were read."""
        read = set(read)
        return self.passed_over + Counter(
            (folder_of(path), str(file.kind)) for path, file in self.others.items() if path not in read
        )


class FileStore(Protocol):
    """Files of a source, wherever they lie.

    Attributes:
        name: what to call the source, in the data set and its rows.
        where: what to call it in errors.
        listing: its files.
        packed_bytes: size of the archive; 0 if its files are not packed.
    """

    name: str
    where: str
    listing: Listing
    packed_bytes: int

    def read(self, path: str) -> bytes:
        """Returns a file's bytes; several threads may ask. Raises UnreadableImage."""

    def open(self, path: str) -> IO[bytes]:
        """Opens a file from its start. Raises OSError and what the archive's module raises."""


def folder_of(path: str) -> str:
    """The folder that a file is in, with a slash behind; empty for the source itself."""
    return path[: path.rfind("/") + 1]


def found_file(path: str, size_bytes: int, beginning: Callable[[], bytes]) -> FoundFile:
    """Says what a packed file is; `beginning` returns its first bytes."""
    return FoundFile(path, file_kind(path, beginning), size_bytes)


def check_sizes(sizes: Mapping[str, int], largest: int, packed_bytes: int, where: str) -> None:
    """Refuses packed files that unpack to more than they may, alone or together.

    Raises:
        SourceError: one is larger than `largest` bytes, or all together are more than `MAX_RATIO` times the archive.
    """
    for name, size in sizes.items():
        if size > largest:
            raise SourceError(
                f"A packed file must unpack to at most {largest >> 20:,} MiB. "
                f"Received: {size >> 20:,} MiB in {where} ({name!r}); do not trust this file."
            )
    # Against the archive's own size, so that entries which share compressed data are counted as often as they unpack.
    if packed_bytes and sum(sizes.values()) > _most_unpacked(packed_bytes):
        raise _too_large(f"{sum(sizes.values()) / packed_bytes:,.0f} times", where)


def copied(stream: IO[bytes], packed_bytes: int, where: str) -> IO[bytes]:
    """Copies a stream into a file without a name, which is gone when it is closed, so that it can be read anywhere.

    Args:
        stream: read to its end.
        packed_bytes: what it was packed into; more than `MAX_RATIO` times as much is refused.
        where: what to call it in errors.

    Raises:
        SourceError: it unpacks to more than it may.
        OSError: the folder for temporary files (TMPDIR) is full.
    """
    most, size = _most_unpacked(packed_bytes), 0
    file = tempfile.TemporaryFile()  # noqa: SIM115 - handed on
    try:
        while block := stream.read(_COPY_BYTES):
            size += len(block)
            if size > most:
                raise _too_large(f"more than {MAX_RATIO} times", where)
            file.write(block)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def _most_unpacked(packed_bytes: int) -> int:
    return max(MAX_RATIO * packed_bytes, _RATIO_FREE_BYTES)


def _too_large(received: str, where: str) -> SourceError:
    return SourceError(
        f"An archive must unpack to at most {MAX_RATIO} times its size. Received: {received} in {where}; "
        "do not trust this file."
    )
