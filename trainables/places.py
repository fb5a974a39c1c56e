"""A place for files: a folder, or a prefix in a bucket through pyarrow.fs. Knows nothing of what is in it.

Every node opens the same place by the same name: a path, or `s3://bucket/prefix`, `gs://bucket/prefix`, with pyarrow's
options behind a question mark (`?region=eu-central-1`, `?endpoint_override=http://...&scheme=http`).
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, urlsplit, urlunsplit

import pyarrow as pa
from pyarrow import fs

from trainables.atomic_folder import NO_LOCKS
from trainables.errors import PlaceError, first_line

SCHEMES = ("s3", "gs", "gcs")
_COPY_BYTES = 8 * 2**20


def is_bucket(name: str) -> bool:
    """Says whether a name is a bucket's address rather than a folder."""
    return "://" in name


@dataclass(frozen=True)
class StoredFile:
    """A file of a place: its path there, its size, and the storage's own time of it (seconds since 1970)."""

    path: str
    size_bytes: int
    time: float


@dataclass(frozen=True)
class Place:
    """A folder or a bucket's prefix, by name. Methods take paths relative to it.

    Every method raises `PlaceError` when a bucket cannot be reached or says no, `OSError` for a folder.
    """

    name: str

    def __post_init__(self) -> None:
        """Refuses addresses that pyarrow would not understand.

        Raises:
            PlaceError: another scheme, no bucket, or a password in the address.
        """
        if not is_bucket(self.name):
            return
        try:
            parts = urlsplit(self.name)
        except ValueError:  # of brackets, as in s3://[my-bucket]
            parts = urlsplit("")
        if parts.scheme not in SCHEMES or not parts.netloc:
            raise PlaceError(
                f"a bucket's address must begin with s3://BUCKET or gs://BUCKET. Received: {self.name}. Fix it"
            )
        secrets = [key for key in parse_qs(parts.query) if re.search("secret|token|password|access_?key", key, re.I)]
        if parts.password or secrets:
            where = f"{parts.scheme}://...@{parts.hostname}" if parts.password else f"...?{secrets[0]}=..."
            raise PlaceError(
                f"a bucket's address must hold no password. Received: {where}. "
                "Give it in the environment or in the cloud's own credentials file"
            )

    @property
    def remote(self) -> bool:
        """Whether it is in a bucket."""
        return is_bucket(self.name)

    def at(self, path: str) -> str:
        """Returns the name of what lies in it, as every node understands it."""
        if not self.remote:
            return str(Path(self.name) / path)
        parts = urlsplit(self.name)
        return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{path}"))

    def child(self, path: str) -> Place:
        """Returns the place below it."""
        return Place(self.at(path))

    @property
    def last_part(self) -> str:
        """The name's last part, without a bucket's options."""
        return PurePosixPath(urlsplit(self.name).path).name if self.remote else Path(self.name).name

    @cached_property
    def filesystem_and_path(self) -> tuple[Any, str]:
        """The pyarrow file system, and this place's path in it."""
        if not self.remote:
            return fs.LocalFileSystem(), os.path.abspath(self.name)  # other nodes may have no such link
        with self._translate_errors():
            system, path = fs.FileSystem.from_uri(self.name)
        return system, path.rstrip("/")

    def exists(self, path: str) -> bool:
        """Says whether a file is there."""
        if not self.remote:
            return (Path(self.name) / path).exists()
        with self._translate_errors():
            return bool(self._info(path).type == fs.FileType.File)

    def entries(self) -> set[str] | None:
        """Returns the names directly below, empty where nothing is yet; None for a file."""
        with self._translate_errors():
            kind = self._info("").type
            if kind == fs.FileType.File:
                return None
            return set(self._children())

    def read(self, path: str) -> bytes | None:
        """Returns a file's content, None where there is none."""
        if not self.exists(path):
            return None
        with self._translate_errors(), self.filesystem_and_path[0].open_input_stream(self._full_path(path)) as stream:
            return bytes(stream.read())

    def write(self, path: str, content: bytes) -> None:
        """Puts a file in place, whole or not at all."""
        with self._translate_errors():
            if not self.remote:
                target = Path(self.name) / path
                target.parent.mkdir(parents=True, exist_ok=True)
                temporary = target.with_name(f".{target.name}.{os.getpid()}")
                temporary.write_bytes(content)
                temporary.replace(target)
                return
            with self.filesystem_and_path[0].open_output_stream(self._full_path(path)) as stream:
                stream.write(content)

    def files(self, path: str = "", *, recursive: bool = True) -> list[StoredFile]:
        """Returns the files below a path, by name; only those directly below it unless `recursive`.

        A bucket's file whose name has `..` between slashes is left out: copied here, it would lie somewhere else.
        """
        with self._translate_errors():
            found = self.filesystem_and_path[0].get_file_info(
                fs.FileSelector(self._full_path(path).rstrip("/"), recursive=recursive, allow_not_found=True)
            )
        root = len(self.filesystem_and_path[1]) + 1
        return sorted(
            (
                StoredFile(info.path[root:], info.size, info.mtime.timestamp() if info.mtime else 0.0)
                for info in found
                if info.type == fs.FileType.File and ".." not in info.path[root:].split("/")
            ),
            key=lambda file: file.path,
        )

    def folders(self) -> list[str]:
        """Returns the names of the folders directly below."""
        with self._translate_errors():
            system, path = self.filesystem_and_path
            found = self._children()
            missing = self.remote and system.get_file_info(path.partition("/")[0]).type == fs.FileType.NotFound
        if missing:
            raise PlaceError(f"{self.name} must be in a bucket that exists. Received: one that does not. Fix its name")
        return sorted(name for name, folder in found.items() if folder)

    def _children(self) -> dict[str, bool]:
        """Returns the names directly below, and whether each is a folder."""
        system, path = self.filesystem_and_path
        flat = system.type_name == "gcs"  # pyarrow 25 lists a folder there only where somebody has put a marker for it
        found: dict[str, bool] = {}
        for info in system.get_file_info(fs.FileSelector(path, recursive=flat, allow_not_found=True)):
            name, deeper, _ = info.path[len(path) + 1 :].partition("/")
            found[name] = found.get(name, False) or bool(deeper) or info.type == fs.FileType.Directory
        return found

    def relative(self, path: str) -> str:
        """Returns a file system's own path relative to this place."""
        here = self.filesystem_and_path[1]
        if self.remote:
            return path[len(here) + 1 :]
        found, root = Path(os.path.abspath(path)), Path(here)
        if not found.is_relative_to(root):  # reached by another link
            found, root = found.resolve(), root.resolve()
        return str(found.relative_to(root))

    def modified_at(self, path: str) -> float | None:
        """Returns the storage's own time of a file (seconds since 1970), None where there is none."""
        with self._translate_errors():
            info = self._info(path)
        return info.mtime.timestamp() if info.type == fs.FileType.File and info.mtime else None

    def upload(self, local: Path, path: str) -> None:
        """Puts a copy of a local file in place; what is broken off leaves nothing there."""
        with local.open("rb") as source, self._translate_errors():
            system, target = self.filesystem_and_path[0], self._full_path(path)
            sink = system.open_output_stream(target)
            try:
                shutil.copyfileobj(source, sink, _COPY_BYTES)
            except BaseException:  # closing the stream puts what it has in place
                with suppress(Exception):
                    sink.close()
                    system.delete_file(target)
                raise
            sink.close()

    def download(self, path: str, local: Path) -> None:
        """Copies a file to this machine; goes on with what an interrupted download has left."""
        local.parent.mkdir(parents=True, exist_ok=True)
        part = local.with_name(f".{local.name}.part")
        with self._translate_errors():
            source = self.filesystem_and_path[0].open_input_file(self._full_path(path))
        with source, part.open("ab") as sink:  # whose errors, as a full disk, are this machine's
            with self._translate_errors():
                if sink.tell() > source.size():
                    sink.truncate(0)
                source.seek(sink.tell())
            while block := self._read(source):
                sink.write(block)
            sink.flush()
            os.fsync(sink.fileno())
        part.replace(local)

    def _read(self, source: Any) -> bytes:
        with self._translate_errors():
            return bytes(source.read(_COPY_BYTES))

    def delete(self, path: str) -> None:
        """Removes a file or everything below a path; what is not there is no error."""
        with self._translate_errors():
            info = self._info(path)
            if info.type == fs.FileType.File:
                self.filesystem_and_path[0].delete_file(self._full_path(path))
            elif info.type == fs.FileType.Directory:
                try:
                    self.filesystem_and_path[0].delete_dir(self._full_path(path))
                except FileNotFoundError:  # Google's wants a marker of the folder itself, after all in it has gone
                    if self.files(path):
                        raise

    def _full_path(self, path: str) -> str:
        return f"{self.filesystem_and_path[1]}/{path}" if path else self.filesystem_and_path[1]

    def _info(self, path: str) -> Any:
        return self.filesystem_and_path[0].get_file_info(self._full_path(path))

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            if not self.remote:
                if isinstance(error, OSError) and error.errno and error.filename is None:  # pyarrow names no file
                    error.filename = self.name
                raise
            raise PlaceError(
                f"{self.name} must be reachable and allow reading and writing. Received: {first_line(error)}. "
                "Check address, credentials and network"
            ) from error


@contextmanager
def single_process_lock(lock: Path) -> Iterator[None]:
    """Waits until no other process of this machine is in such a block with the same file.

    Storage that knows no locks goes without: two processes may then do the same work at once.
    """
    # The kernel lets go of the lock when its holder dies, so none can be left behind.
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
        yield
