"""The study's one source of truth: a journal of events, and the record they add up to. Starts and decides nothing.

Every line of `journal.jsonl` is one event; replaying them gives the same `StudyRecord` that the driver held in memory.
Optuna's file, ASHA's rungs and TensorBoard's logs can all be made again from it.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from search_spaces import Value
from trainables.config import chooser_of
from tune.errors import StudyError

TrialState = Literal["waiting", "running", "complete", "pruned", "cut", "failed"]
ENDED: frozenset[TrialState] = frozenset({"complete", "pruned", "cut", "failed"})


@dataclass(frozen=True)
class RungDecision:
    """What ASHA decided when a trial reached a rung.

    Attributes:
        value: the trial's objective at the rung.
        cutoff: the value it had to reach, None for the first trial there.
        rank: its place among the trials that had reached the rung by then, 1 is best.
        among: how many those were, itself included.
    """

    trial: int
    epoch: int
    value: float
    cutoff: float | None
    rank: int
    among: int
    stopped: bool


@dataclass
class TrialRecord:
    """One trial as the journal tells it.

    Attributes:
        values: what the searcher proposed, by parameter.
        epochs: the metrics reported after each epoch (from 1).
        checkpoints: folder of each checkpoint that was written, by epoch, relative to the study's.
        reason: why it ended, in words.
        restarts: times its process was started again.
    """

    number: int
    values: dict[str, Value]
    state: TrialState = "waiting"
    epochs: dict[int, dict[str, Any]] = field(default_factory=dict)
    rungs: list[RungDecision] = field(default_factory=list)
    checkpoints: dict[int, str] = field(default_factory=dict)
    reason: str = ""
    restarts: int = 0

    def best_epoch(self, objective: str, mode: str) -> int | None:
        """Returns the epoch that inner validation found best (the first of equals), or None; see `chooser_of`."""
        sign, chooser = 1 if mode == "max" else -1, chooser_of(objective)
        finite = {
            epoch: sign * metrics[chooser]
            for epoch, metrics in self.epochs.items()
            if math.isfinite(metrics[objective]) and math.isfinite(metrics[chooser])
        }
        return max(sorted(finite), key=finite.__getitem__) if finite else None

    def best_value(self, objective: str, mode: str) -> float | None:
        """Returns the best epoch's objective, or None."""
        epoch = self.best_epoch(objective, mode)
        return None if epoch is None else float(self.epochs[epoch][objective])

    def latest_checkpoint(self, study: Path) -> Path | None:
        """Returns the folder of the latest checkpoint that is still there, or None."""
        for epoch in sorted(self.checkpoints, reverse=True):
            if checkpoint := self.checkpoint(study, epoch):
                return checkpoint
        return None

    def checkpoint(self, study: Path, epoch: int | None) -> Path | None:
        """Returns the folder of the checkpoint of one epoch, if it is still there."""
        folder = study / self.checkpoints[epoch] if epoch in self.checkpoints else None
        return folder if folder is not None and (folder / "state.json").exists() else None


@dataclass
class StudyRecord:
    """All that happened in a study, in memory."""

    trials: dict[int, TrialRecord] = field(default_factory=dict)
    sessions: int = 0
    fingerprint: str = ""
    closed_s: float = 0.0
    open_since: float | None = None
    last_event: float = 0.0
    finished: bool = False
    ended_by: str = ""
    pid: int = 0
    sealed: dict[str, dict[str, Any]] = field(default_factory=dict)
    export: str = ""

    @property
    def search_s(self) -> float:
        """Seconds searched so far; a session that was killed counts up to its last event."""
        return self.closed_s + (0.0 if self.open_since is None else self.last_event - self.open_since)

    def apply(self, event: Mapping[str, Any]) -> None:
        """Adds one event. Events of a kind that this version does not know are passed over."""
        trial = self.trials.get(event.get("trial", -1))
        match event["event"]:
            case "session":
                self.closed_s, self.open_since = self.search_s, event["time"]
                self.sessions, self.finished, self.pid = event["number"], False, event["pid"]
                self.fingerprint = event["fingerprint"]
            case "session_end":
                self.closed_s, self.open_since = self.closed_s + event["search_s"], None
                self.finished, self.ended_by = event["finished"], event["ended_by"]
            case "trial":
                self.trials[event["trial"]] = TrialRecord(event["trial"], dict(event["values"]))
            case "sealed":
                self.sealed[event["checkpoint"]] = dict(event["metrics"])
            case "export":
                self.export = event["path"]
            case _ if trial is not None:
                _apply_to_trial(trial, event)
        self.last_event = max(self.last_event, event["time"])

    def ranked(self, objective: str, mode: str) -> list[TrialRecord]:
        """Returns the trials with a score, best first: those that ran to their end before those that were stopped."""
        sign = 1 if mode == "max" else -1
        scored = [
            (t.state not in ("complete", "cut"), -sign * value, t.number)
            for t in self.trials.values()
            if t.state != "failed" and (value := t.best_value(objective, mode)) is not None
        ]
        return [self.trials[number] for _, _, number in sorted(scored)]


def _apply_to_trial(trial: TrialRecord, event: Mapping[str, Any]) -> None:
    match event["event"]:
        case "started":
            trial.state = "running"
        case "epoch":
            epoch = event["epoch"]  # one that is reported again, after a restart, replaces itself and those after it
            trial.epochs = {e: m for e, m in trial.epochs.items() if e < epoch} | {epoch: dict(event["metrics"])}
            trial.checkpoints = {e: path for e, path in trial.checkpoints.items() if e < epoch}
        case "rung":
            names = ("trial", "epoch", "value", "cutoff", "rank", "among", "stopped")
            trial.rungs.append(RungDecision(**{name: event[name] for name in names}))
        case "checkpoint":
            trial.checkpoints[event["epoch"]] = event["path"]
        case "restart":
            trial.restarts += 1
            trial.reason = event["reason"]
        case "error":
            trial.reason = event["reason"]
        case "end":
            trial.state = event["state"]
            trial.reason = event["reason"] or trial.reason


class Ledger:
    """The journal, open for appending, and the record it adds up to."""

    def __init__(self, path: Path) -> None:
        """Opens or creates a journal, takes it for this process alone, and replays it.

        Raises:
            StudyError: another process has it, or a line before the last is damaged.
        """
        self.path = path
        self._file = path.open("ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            pid = replay(path)[0].pid
            raise StudyError(
                f"study {path.parent} is being run by {f'process {pid}' if pid else 'another process'}. "
                f"Watch it: emotune show {path.parent}; or stop that process first"
            ) from None
        try:
            self.record, whole = replay(path)
        except StudyError:
            self._file.close()
            raise
        self._file.truncate(whole)  # a line torn by a crash is cut off; what it said is told again
        self._file.seek(whole)

    def append(self, kind: str, **fields: Any) -> None:
        """Writes one event through to the disk, then adds it to the record."""
        event = {"event": kind, "time": round(time.time(), 3), **fields}
        self._file.write(json.dumps(event, separators=(",", ":")).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.record.apply(event)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def replay(path: Path) -> tuple[StudyRecord, int]:
    """Returns the record that a journal adds up to, and the bytes that its complete lines take.

    A last line without its end, torn by a crash, is left out.

    Raises:
        StudyError: a complete line is no event.
    """
    record, whole = StudyRecord(), 0
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
        if not line.endswith(b"\n"):
            break
        try:
            record.apply(json.loads(line))
        except (ValueError, LookupError, TypeError, AttributeError):
            raise StudyError(
                f"{path}, line {number} is damaged, or of another version of emotune. "
                "Restore the file from a copy, or use the version that wrote it"
            ) from None
        whole += len(line)
    return record, whole


def is_taken(path: Path) -> bool:
    """Says whether a process has a journal open for writing."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
