"""Copies a driver's working folder up to its bucket, and signs there that the study is taken; one driver at a time."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import signal
import socket
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import psutil

from trainables.errors import PlaceError
from trainables.places import Place
from tune.errors import StudyError
from tune.study.bucket_study import (
    CHECKPOINTS_FOLDER,
    EXPORT_FOLDER,
    LEASE_EXPIRES_S,
    LEASE_FILE,
    UPLOADED_FILE,
    download_study,
)
from tune.study.journal import JOURNAL_FILE

_CLOCK_FILE = ".clock"
_COPY_EVERY_S, _LEASE_EVERY_S, _LAST_TRIES_S, _SETTLE_S = 2.0, 10.0, 60.0, 1.0


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
        self._taken_over_by, self._signed = "", 0.0
        self._thread = Thread(target=self._run, name="bucket", daemon=True)

    def open(self) -> None:
        """Takes the study for this driver and begins to copy.

        Waits for what another machine has signed to expire, as long as it is not signed again: a job that Ray begins
        again on a new head finds the sign of the one that was lost.

        Raises:
            StudyError: another driver has it.
            PlaceError: the bucket cannot be reached or written.
        """
        signed = self._place.modified_at(LEASE_FILE)
        while self._holder(elsewhere=True) and self._place.modified_at(LEASE_FILE) == signed:
            time.sleep(_COPY_EVERY_S)
        self._refuse_other_driver()
        self._write_lease()
        time.sleep(_SETTLE_S)  # one that looked before this signature was there has put its own over it by now
        self._refuse_other_driver()
        download_study(self._place, self._folder)
        for file in self._place.files("tensorboard"):  # they only grow, and may be thousands
            local = self._folder / file.path
            if local.exists() and local.stat().st_size == file.size_bytes:
                self._copied[file.path] = (local.stat().st_mtime_ns, file.size_bytes)
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
                self._taken_over_by = self._successor()
                if not self._taken_over_by:
                    self._copy()
                if not self._taken_over_by:
                    self._place.delete(LEASE_FILE)
                    return
            except (PlaceError, OSError) as error:
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
        while not self._closing:
            self._changed.wait(_COPY_EVERY_S)
            self._changed.clear()
            with suppress(PlaceError, OSError):  # tried again in a moment; the last copy, in `close`, is not optional
                self._keep_lease()
                if not self._taken_over_by:
                    self._copy()
            if self._taken_over_by:
                os.kill(os.getpid(), signal.SIGINT)  # running trials save themselves; `close` says why
                return

    def _keep_lease(self) -> None:
        """Signs again when it is time, or notes who has taken the study over.

        The time is the wall clock's: no other goes on while a laptop sleeps.
        """
        if abs(time.time() - self._signed) > _LEASE_EVERY_S:
            self._taken_over_by = self._successor()
            if not self._taken_over_by:
                self._write_lease()

    def _copy(self) -> None:
        """Copies what has changed; nothing before the study has begun, or when another has taken it over."""
        journal = self._folder / JOURNAL_FILE
        if not journal.exists() or not journal.stat().st_size:
            return
        walked = os.walk(self._folder)  # which, unlike `Path.rglob`, bears a folder that goes meanwhile
        present = {os.path.relpath(Path(root) / name, self._folder) for root, _, names in walked for name in names}
        wanted = {name for name in present if _is_copied(name)}
        for name in sorted(wanted, key=lambda name: (name == JOURNAL_FILE, name)):
            try:
                stat = (self._folder / name).stat()
                if self._copied.get(name) == (stat.st_mtime_ns, stat.st_size):
                    continue
                self._keep_lease()
                if self._taken_over_by:
                    return
                self._place.upload(self._folder / name, name)
                self._copied[name] = (stat.st_mtime_ns, stat.st_size)
            except FileNotFoundError:  # an earlier export that has just given way
                continue
        (self._folder / UPLOADED_FILE).touch()
        for name in [name for name in self._copied if name not in wanted]:
            self._place.delete(name)
            del self._copied[name]

    def _write_lease(self) -> None:
        lease = {
            "token": self._token,
            "host": socket.gethostname(),
            "machine": _machine(),
            "pid": os.getpid(),
            "began": _process_start_time(os.getpid()),
        }
        self._place.write(LEASE_FILE, json.dumps(lease).encode())
        self._signed = time.time()

    def _successor(self) -> str:
        """Returns who has signed since this driver did, or that somebody has, and has ended; empty while nobody has."""
        written = self._place.read(LEASE_FILE)
        with suppress(ValueError, LookupError, TypeError):
            lease = json.loads(written or b"{}")
            return "" if lease["token"] == self._token else f"process {lease['pid']} on {lease['host']}"
        return "another driver, which has ended,"

    def _holder(self, *, elsewhere: bool = False) -> str:
        """Returns who else has the study, on another machine if `elsewhere`; empty when nobody has."""
        written = self._place.read(LEASE_FILE)
        if written is None:
            return ""
        try:
            lease = json.loads(written)
            token, host, pid, began = lease["token"], lease["host"], int(lease["pid"]), lease["began"]
        except (ValueError, LookupError, TypeError):
            return ""
        here = lease.get("machine") == _machine()
        if token == self._token or (here and (elsewhere or _process_start_time(pid) != began)):
            return ""  # our own, or that of a process of this machine that has ended
        self._place.write(_CLOCK_FILE, b"")  # the bucket's own clock on both sides
        now, then = self._place.modified_at(_CLOCK_FILE), self._place.modified_at(LEASE_FILE)
        return f"process {pid} on {host}" if now is None or then is None or now - then < LEASE_EXPIRES_S else ""


def _is_copied(name: str) -> bool:
    parts = Path(name).parts
    return parts[0] not in (CHECKPOINTS_FOLDER, EXPORT_FOLDER) and not any(part.startswith(".") for part in parts)


def _machine() -> str:
    """Returns what is this machine's alone, and this container's: names of hosts are given twice."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:  # not Linux
        return f"{socket.gethostname()} {uuid.getnode():x}"


def _process_start_time(pid: int) -> float | None:
    """Returns when a process of this machine was started, None when there is none of that number."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return None
