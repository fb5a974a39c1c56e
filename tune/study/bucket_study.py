"""Keeps a study that lives in a bucket in step with its working folder on this machine; one driver at a time.

Ray writes the trials' checkpoints into the bucket itself, and the process that exports writes the export. Everything
else (journal, Optuna's file, TensorBoard) is written in the working folder, CACHE/studies/<hash>/<name>, and copied up
within seconds, the journal last.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import psutil

from trainables.errors import PlaceError
from trainables.local_copies import cache_folder, local_folder
from trainables.places import Place, StoredFile, single_process_lock
from tune.errors import StudyError
from tune.study.journal import JOURNAL_FILE, is_locked, kept_from_drivers

STUDY_FILE, CHECKPOINTS_FOLDER, EXPORT_FOLDER = "study.yaml", "trials", "export"
LEASE_FILE, LEASE_EXPIRES_S = ".lease.json", 60.0
"""What a driver signs again and again while it has a study, and after how long without that it counts as gone."""

_CLOCK_FILE = ".clock"
_COPY_EVERY_S, _LEASE_EVERY_S, _LAST_TRIES_S, _SETTLE_S = 2.0, 10.0, 60.0, 1.0


def working_folder(place: Place) -> Path:
    """Returns this machine's working folder of a study in a bucket."""
    digest = hashlib.blake2b(place.name.encode(), digest_size=6).hexdigest()
    return cache_folder() / "studies" / digest / place.last_part


def is_being_created(place: Place) -> bool:
    """Says whether a driver has taken a place in a bucket, whose study file is not there yet."""
    return place.exists(LEASE_FILE)


def download_study(place: Place, folder: Path) -> None:
    """Brings the working folder up to what the bucket has; leaves it alone while a driver of this machine has it.

    The longer of two journals is kept when one begins with the other. When another machine has gone on from an earlier
    line, the bucket's is the one that counts, and this machine's is kept beside it.

    Raises:
        PlaceError: the bucket cannot be reached.
    """
    journal = folder / JOURNAL_FILE
    with _one_reader(folder):
        if journal.exists() and is_locked(journal):
            return
        theirs, ours = _both_journals(place, journal)
        stored = {file.path: file for file in _files(place)}
        behind, ahead = not ours.startswith(theirs), ours != theirs and ours.startswith(theirs)
        for path, file in stored.items():
            local = folder / path
            if path == JOURNAL_FILE or (ahead and path == STUDY_FILE and local.exists()):
                continue
            # Event files only grow; a study file or an export of the same size may be another.
            rewritten = behind and not path.startswith("tensorboard/")
            if rewritten or not local.exists() or local.stat().st_size != file.size_bytes:
                local.with_name(f".{local.name}.part").unlink(missing_ok=True)
                place.download(path, local)
        if b'"event":"export"' not in theirs + ours:  # its driver died while it was being copied up
            for path in stored:
                if path.startswith(f"{EXPORT_FOLDER}/"):
                    (folder / path).unlink()
        _keep_the_longer(journal, theirs, ours)


def download_journal(place: Place, folder: Path) -> None:
    """Brings the working folder's journal and study file alone up to what the bucket has, as `download_study` does.

    Raises:
        PlaceError: the bucket cannot be reached.
    """
    journal = folder / JOURNAL_FILE
    with _one_reader(folder):
        if journal.exists() and is_locked(journal):
            return
        theirs, ours = _both_journals(place, journal)
        if theirs and not ours.startswith(theirs):
            # The study file after the journal, which goes up after it: a session may have extended the study.
            _keep_the_longer(journal, theirs, ours, place.read(STUDY_FILE))


@contextmanager
def _one_reader(folder: Path) -> Iterator[None]:
    """Lets one process of this machine after the other fill a working folder: two would write into one file."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with single_process_lock(folder.with_name(f".{folder.name}.lock")):
        yield


def _both_journals(place: Place, journal: Path) -> tuple[bytes, bytes]:
    return place.read(JOURNAL_FILE) or b"", journal.read_bytes() if journal.exists() else b""


def _keep_the_longer(journal: Path, theirs: bytes, ours: bytes, study_file: bytes | None = None) -> None:
    """Puts the bucket's journal in place, and its study file if that is given, unless ours is the longer."""
    if not theirs or ours.startswith(theirs):
        return
    journal.parent.mkdir(parents=True, exist_ok=True)
    with kept_from_drivers(journal) as free:
        ours = journal.read_bytes()
        if not free or ours.startswith(theirs):  # a driver has begun since, perhaps ended too
            return
        if not theirs.startswith(ours):
            journal.with_name(f"journal-{time.time_ns()}.jsonl").write_bytes(ours)
        working = Place(str(journal.parent))
        if study_file is not None:
            working.write(STUDY_FILE, study_file)
        working.write(JOURNAL_FILE, theirs)


def download_export(place: Place, folder: Path) -> None:
    """Copies a study's export from the bucket into its working folder, in place of an earlier one."""
    with local_folder(place.at(EXPORT_FOLDER)) as export:
        target = folder / EXPORT_FOLDER
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(export, target)


def _files(place: Place) -> list[StoredFile]:
    """Returns the files of a study that have copies here: all but the trials' and the lease."""
    own = [file for file in place.files(recursive=False) if not file.path.startswith(".")]
    return [*own, *place.files("tensorboard"), *place.files(EXPORT_FOLDER)]


class Mirror:
    """Copies a working folder up to its bucket while a driver has the study.

    Args:
        folder: the working folder.
        place: the study's place in the bucket.
    """

    def __init__(self, folder: Path, place: Place) -> None:
        self._folder = folder
        self._place = place
        self._token = secrets.token_hex(8)
        self._copied: dict[str, tuple[int, int]] = {}
        self._changed, self._closing = Event(), False
        self._taken_over_by = ""
        self._thread = Thread(target=self._run, name="bucket", daemon=True)

    def open(self) -> None:
        """Takes the study for this driver and begins to copy.

        Raises:
            StudyError: another driver has it.
            PlaceError: the bucket cannot be reached or written.
        """
        self._refuse_other_driver()
        self._write_lease()
        time.sleep(_SETTLE_S)  # one that looked before this signature was there has put its own over it by now
        self._refuse_other_driver()
        download_study(self._place, self._folder)
        self._thread.start()

    def _refuse_other_driver(self) -> None:
        holder = self._holder()
        if holder:
            raise StudyError(
                f"study {self._place.name} is being run by {holder}. Watch it: emotune watch "
                f"{shlex.quote(self._place.name)}; or stop that process; it counts as gone {LEASE_EXPIRES_S:.0f} s "
                "after its last sign of life"
            )

    def on_event(self, event: Mapping[str, Any]) -> None:
        """Copies soon: an event was journalled."""
        self._changed.set()

    def close(self) -> None:
        """Copies the rest, and lets go of the study.

        Raises:
            StudyError: the bucket did not take it for a minute, or another driver has taken the study over.
        """
        self._closing = True
        self._changed.set()
        self._thread.join()
        until = time.monotonic() + _LAST_TRIES_S
        while not self._taken_over_by:
            try:
                self._copy()
                self._place.delete(LEASE_FILE)
                return
            except PlaceError as error:
                if time.monotonic() > until:
                    raise StudyError(
                        f"the study is whole in {self._folder}, but not its copy in the bucket: {error}. Then: "
                        f"emotune resume {shlex.quote(self._place.name)}, on this machine"
                    ) from None
                time.sleep(_COPY_EVERY_S)
        raise StudyError(
            f"study {self._place.name} was taken over by {self._taken_over_by} while this driver could not reach the "
            f"bucket. What this one did since is kept in {self._folder}"
        )

    def _run(self) -> None:
        signed = time.monotonic()
        while not self._closing:
            self._changed.wait(_COPY_EVERY_S)
            self._changed.clear()
            with suppress(PlaceError):  # tried again in a moment; the last copy, in `close`, is not optional
                if time.monotonic() - signed > _LEASE_EVERY_S:
                    self._taken_over_by = self._holder()
                    if self._taken_over_by:
                        os.kill(os.getpid(), signal.SIGINT)  # running trials save themselves; `close` says why
                        return
                    self._write_lease()
                    signed = time.monotonic()
                self._copy()

    def _copy(self) -> None:
        """Copies what has changed; nothing before the study has begun."""
        journal = self._folder / JOURNAL_FILE
        if not journal.exists() or not journal.stat().st_size:
            return
        present = {str(path.relative_to(self._folder)): path for path in self._folder.rglob("*") if path.is_file()}
        wanted = {name: path for name, path in present.items() if _is_copied(name)}
        for name in sorted(wanted, key=lambda name: (name == JOURNAL_FILE, name)):
            try:
                stat = wanted[name].stat()
                if self._copied.get(name) != (stat.st_mtime_ns, stat.st_size):
                    self._place.upload(wanted[name], name)
                    self._copied[name] = (stat.st_mtime_ns, stat.st_size)
            except FileNotFoundError:  # an earlier export that has just given way
                continue
        for name in [name for name in self._copied if name not in wanted]:
            self._place.delete(name)
            del self._copied[name]

    def _write_lease(self) -> None:
        lease = {
            "token": self._token,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "began": _process_start_time(os.getpid()),
        }
        self._place.write(LEASE_FILE, json.dumps(lease).encode())

    def _holder(self) -> str:
        """Returns who else has the study, empty when nobody has."""
        written = self._place.read(LEASE_FILE)
        if written is None:
            return ""
        try:
            lease = json.loads(written)
            token, host, pid, began = lease["token"], lease["host"], int(lease["pid"]), lease["began"]
        except (ValueError, LookupError, TypeError):
            return ""
        if token == self._token or (host == socket.gethostname() and _process_start_time(pid) != began):
            return ""  # our own, or that of a process of this machine that has ended
        self._place.write(_CLOCK_FILE, b"")  # the bucket's own clock on both sides
        now, then = self._place.modified_at(_CLOCK_FILE), self._place.modified_at(LEASE_FILE)
        return f"process {pid} on {host}" if now is None or then is None or now - then < LEASE_EXPIRES_S else ""


def _is_copied(name: str) -> bool:
    parts = Path(name).parts
    return parts[0] not in (CHECKPOINTS_FOLDER, EXPORT_FOLDER) and not any(part.startswith(".") for part in parts)


def _process_start_time(pid: int) -> float | None:
    """Returns when a process of this machine was started, None when there is none of that number."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return None
