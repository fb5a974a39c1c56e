"""One trial as the journal's events tell it: its epochs, rungs, checkpoints, faults and end. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from search_spaces import Value
from trainables.checkpoint_files import MODEL_FILE, STATE_FILE
from trainables.config import validation_metric_of
from trainables.places import Place
from trainables.training.best_epoch import BestEpoch
from trainables.training.fault_kinds import FaultKind

TrialState = Literal["waiting", "running", "complete", "pruned", "cut", "failed", "repeat"]


ENDED: frozenset[TrialState] = frozenset({"complete", "pruned", "cut", "failed", "repeat"})
WHOLE: frozenset[TrialState] = frozenset({"complete", "cut"})
"""Of trials that nothing stopped for their scores: they come before the others."""

SEED_STRIDE = 1_000_000
"""The confirmation of trial n with seed s has the number n + s x SEED_STRIDE, s from 1."""


REFIT_SEED = 900
"""Seed of the first final fit on all training images; further ones count up from it."""


CHECKPOINT_FILES = (MODEL_FILE, STATE_FILE)
"""What a checkpoint's folder holds in any case; the latter is written last."""


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

    @classmethod
    def from_event(cls, event: Mapping[str, Any]) -> RungDecision:
        """Returns what a `rung` event of the journal says."""
        return cls(**{one.name: event[one.name] for one in fields(cls)})

    @property
    def reason(self) -> str:
        """Why a trial that was stopped here ended."""
        cutoff = "" if self.cutoff is None else f" misses the cutoff {self.cutoff:.4f}"
        return f"stopped at rung {self.epoch}: {self.value:.4f}{cutoff}, rank {self.rank} of {self.among}"


@dataclass(frozen=True)
class FaultRecord:
    """Something that held a trial up.

    Attributes:
        kind: see `trainables.training.fault_kinds`.
        reason: what is known of it, in one line.
        epoch: epochs that the trial had reported by then.
        retried: whether it was started again (a checkpoint that could not be read: whether it went on at all).
    """

    kind: FaultKind
    reason: str
    epoch: int
    retried: bool


@dataclass
class TrialRecord:
    """One trial as the journal tells it.

    Attributes:
        values: what the searcher proposed, by parameter.
        epochs: the metrics reported after each epoch (from 1).
        checkpoints: folder of each checkpoint that was written, by epoch, relative to the study's.
        reason: why it ended, in words.
        faults: what held it up, in order.
        session: number of the session that began it.
        dropped: somebody has asked for its end.
        repeats: the trial that has the same configuration, if this one was therefore not trained.
        schedule_epochs: what its learning rate's schedule spans, where that is not the study's `asha.max_epochs`.
        chosen: somebody has asked for this configuration: `points_to_evaluate`, an earlier study, `emotune enqueue`.
    """

    number: int
    values: dict[str, Value]
    state: TrialState = "waiting"
    epochs: dict[int, dict[str, Any]] = field(default_factory=dict)
    rungs: list[RungDecision] = field(default_factory=list)
    checkpoints: dict[int, str] = field(default_factory=dict)
    reason: str = ""
    faults: list[FaultRecord] = field(default_factory=list)
    session: int = 0
    dropped: bool = False
    repeats: int | None = None
    chosen: bool = False
    schedule_epochs: int | None = None

    @property
    def restarts(self) -> int:
        """Times that it was started again after a fault."""
        return sum(fault.retried and fault.kind != "checkpoint" for fault in self.faults)

    @property
    def infeasible(self) -> bool:
        """Whether its parameters gave no model."""
        return bool(self.faults) and self.faults[-1].kind == "infeasible"

    def best_epoch(self, objective: str, mode: str) -> int | None:
        """Returns the epoch that inner validation chooses (`BestEpoch`), or None."""
        chooser, best = validation_metric_of(objective), BestEpoch()
        for epoch, metrics in sorted(self.epochs.items()):
            if math.isfinite(metrics[objective]) and math.isfinite(metrics[chooser]):
                best = best.after(epoch, chooser, metrics[chooser], mode, metrics.get("validation_images"))
        return best.epoch or None

    def best_value(self, objective: str, mode: str) -> float | None:
        """Returns the best epoch's objective, or None."""
        epoch = self.best_epoch(objective, mode)
        return None if epoch is None else float(self.epochs[epoch][objective])

    def always_one_class(self, objective: str, mode: str) -> bool:
        """Says whether its best epoch gives all images of the selection fold, of several classes, the same class."""
        confusion = self.epochs.get(self.best_epoch(objective, mode) or 0, {}).get("selection_confusion", [])
        several = sum(any(row) for row in confusion) > 1
        return several and sum(any(column) for column in zip(*confusion, strict=True)) == 1

    def existing_checkpoints(self, study: Place) -> list[str]:
        """Returns the folders of the checkpoints that are still in the study's place, the latest first."""
        found = (self.checkpoint(study, epoch) for epoch in sorted(self.checkpoints, reverse=True))
        return [checkpoint for checkpoint in found if checkpoint is not None]

    def checkpoint(self, study: Place, epoch: int | None) -> str | None:
        """Returns the folder of the checkpoint of one epoch, if it is still in the study's place."""
        folder = self.checkpoints.get(epoch) if epoch is not None else None
        return folder if folder is not None and study.exists(f"{folder}/{STATE_FILE}") else None


def run_name(number: int, attempt: int = 0) -> str:
    """Returns `trial-0003`, `trial-0003-seed-2` for a confirmation, `trial-0003-again-1` when it was started again."""
    seed, trial = divmod(number, SEED_STRIDE)
    return f"trial-{trial:04d}" + (f"-seed-{seed}" if seed else "") + (f"-again-{attempt}" if attempt else "")


def run_label(number: int) -> str:
    """Returns `trial 3`, `trial 3 seed 2` for a confirmation, `trial 3 final fit`, or `trial 3 final fit 2`."""
    seed, trial = divmod(number, SEED_STRIDE)
    if is_final_fit(number):
        return f"trial {trial} final fit" + (f" {seed - REFIT_SEED + 1}" if seed > REFIT_SEED else "")
    return f"trial {trial}" + (f" seed {seed}" if seed else "")


def is_final_fit(number: int) -> bool:
    """Says whether a run is a fit of the winner on all training images, which no selection fold has scored."""
    return number // SEED_STRIDE >= REFIT_SEED


def rank(trials: Iterable[TrialRecord], objective: str, mode: str) -> list[TrialRecord]:
    """Returns the trials with a score, best first: those that ran to their end before those that were stopped."""
    sign = 1 if mode == "max" else -1
    scored = [
        (t.state not in WHOLE, -sign * value, t.number, t)
        for t in trials
        if t.state != "failed" and (value := t.best_value(objective, mode)) is not None
    ]
    return [trial for *_, trial in sorted(scored, key=lambda entry: entry[:3])]


def apply_to_trial(trial: TrialRecord, event: Mapping[str, Any]) -> None:
    """Adds one event of the journal to its trial."""
    match event["event"]:
        case "started":
            trial.state = "running"
        case "epoch":
            epoch = event["epoch"]  # one that is reported again, after a restart, replaces itself and those after it
            trial.epochs = {e: m for e, m in trial.epochs.items() if e < epoch} | {epoch: dict(event["metrics"])}
            trial.checkpoints = {e: path for e, path in trial.checkpoints.items() if e < epoch}
        case "rung":
            trial.rungs.append(RungDecision.from_event(event))
        case "checkpoint":
            trial.checkpoints[event["epoch"]] = event["path"]
        case "fault":
            fault = FaultRecord(event["kind"], event["reason"], max(trial.epochs, default=0), event["retried"])
            trial.faults.append(fault)
            if fault.retried and fault.kind != "checkpoint":
                trial.state = "waiting"
        case "end":
            trial.state = event["state"]
            trial.reason = event["reason"]
        case "reopened":
            trial.state, trial.reason = "waiting", ""
        case "dropped":
            trial.dropped = True
