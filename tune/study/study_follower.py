"""Follows a study's journal as it grows, in a folder or a bucket, from any process. Writes nothing of the study's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psutil

from tune.errors import StudyError
from tune.study.bucket_study import LEASE_EXPIRES_S, LEASE_FILE, download_journal
from tune.study.journal import JOURNAL_FILE, apply_line
from tune.study.resolved_spec import read_spec
from tune.study.studies import StudyFiles
from tune.study.study_state import StudyState

_COMPARED_BYTES = 4096
"""Of what was read last: a journal that has something else there is another one."""

_UNSIGNED_S = 10 * LEASE_EXPIRES_S
"""Age by this machine's clock, which need not be the bucket's, at which a driver's signature is an old one."""


class StudyFollower:
    """A study's journal, read from where the last look ended.

    Attributes:
        study: the study; its study file is read again when a session begins that may have changed it.
        state: what has been read adds up to.
        restarts: times that another journal lay there, so that everything was read again.
    """

    def __init__(self, study: StudyFiles) -> None:
        """Takes the study; reads nothing yet."""
        self.study = study
        self.state = StudyState()
        self.restarts = 0
        self._offset = 0
        self._last_bytes = b""
        self._stored: tuple[int, float] | None = None
        self._lease: float | None = None
        self._lease_seen = 0.0

    def read(self, *, fetch: bool = True) -> Iterator[dict[str, Any]]:
        """Yields the events that have come since, each when it is in `state`; a line that is not whole yet waits.

        Args:
            fetch: look into the study's bucket first, if it has one.

        Raises:
            StudyError: a line is damaged, or the journal is gone.
            PlaceError: the bucket cannot be reached.
        """
        if fetch:
            self.fetch()
        path = self.study.journal
        try:
            with path.open("rb") as file:
                if not self._continues(file):
                    self.state, self._offset, self._last_bytes = StudyState(), 0, b""
                    self.restarts += 1
                file.seek(self._offset)
                new = file.read()
        except FileNotFoundError:
            raise StudyError(f"{path} is gone. Was the study removed, or moved?") from None
        for line in new.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                return
            event = apply_line(self.state, line, f"{path}, the line at byte {self._offset}")
            self._offset += len(line)
            self._last_bytes = (self._last_bytes + line)[-_COMPARED_BYTES:]
            if event["event"] == "session" and (self.state.sessions > 1 or self.restarts):
                self.study = replace(self.study, spec=read_spec(self.study.study_file))
            yield event

    def is_running(self) -> bool:
        """Says whether a driver has the study, as of the last look into a bucket."""
        if self.study.running_here:
            return True
        if self.study.bucket is None or self._lease is None:
            return False
        return time.monotonic() - self._lease_seen < LEASE_EXPIRES_S and time.time() - self._lease < _UNSIGNED_S

    def in_session(self) -> bool:
        """Says whether the journal's open session is the present driver's; none is while that one starts or exports."""
        here = self.study.running_here
        return self.state.open_since is not None and (not here or psutil.pid_exists(self.state.pid))

    def _continues(self, file: Any) -> bool:
        file.seek(self._offset - len(self._last_bytes))
        return bool(file.read(len(self._last_bytes)) == self._last_bytes)

    def fetch(self) -> None:
        """Fetches the journal of a study in a bucket if it has grown, and notes the driver's signature.

        Raises:
            PlaceError: the bucket cannot be reached.
        """
        bucket = self.study.bucket
        if bucket is None or self.study.running_here:  # a driver of this machine writes the working folder itself
            return
        files = {file.path: file for file in bucket.files(recursive=False)}
        journal, lease = files.get(JOURNAL_FILE), files.get(LEASE_FILE)
        if journal is not None and self._stored != (journal.size_bytes, journal.time):
            download_journal(bucket, self.study.directory)
            self._stored = (journal.size_bytes, journal.time)
        if lease is None:
            self._lease = None
        elif lease.time != self._lease:
            self._lease, self._lease_seen = lease.time, time.monotonic()
