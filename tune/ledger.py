"""The study's one source of truth: a journal of events, and the record they add up to. Starts and decides nothing.

Every line of `journal.jsonl` is one event; replaying them gives the same `StudyRecord` that the driver held in memory.
Optuna's file, ASHA's rungs and TensorBoard's logs can all be made again from it.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from search_spaces import Value
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
        """Returns the epoch with the best finite objective (the first of equals), or None."""
        sign = 1 if mode == "max" else -1
        finite = {e: sign * m[objective] for e, m in self.epochs.items() if math.isfinite(m.get(objective, math.nan))}
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
    search_s: float = 0.0
    finished: bool = False
    ended_by: str = ""
    sealed: dict[str, Any] = field(default_factory=dict)
    export: str = ""

    def apply(self, event: Mapping[str, Any]) -> None:
        """Adds one event. Events of a kind that this version does not know are passed over."""
        trial = self.trials.get(event.get("trial", -1))
        match event["event"]:
            case "session":
                self.sessions, self.finished = event["number"], False
                self.fingerprint = event["fingerprint"]
            case "session_end":
                self.search_s += event["search_s"]
                self.finished, self.ended_by = event["finished"], event["ended_by"]
            case "trial":
                self.trials[event["trial"]] = TrialRecord(event["trial"], dict(event["values"]))
            case "sealed":
                self.sealed = {"checkpoint": event["checkpoint"], "metrics": event["metrics"]}
            case "export":
                self.export = event["path"]
            case _ if trial is not None:
                _apply_to_trial(trial, event)

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
            trial.epochs[event["epoch"]] = dict(event["metrics"])
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
        """Opens or creates a journal and replays it.

        Raises:
            StudyError: a line before the last is damaged.
        """
        self.path = path
        self.record, whole = replay(path) if path.exists() else (StudyRecord(), 0)
        self._file = path.open("ab")
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
                f"{path}, line {number} is damaged. Restore the file from a copy, or remove that line"
            ) from None
        whole += len(line)
    return record, whole
