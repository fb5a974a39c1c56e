"""What happened in a study, as the journal's events tell it: the one place that knows what an event means. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from search_spaces import Value
from trainables.config import validation_metric_of
from trainables.places import Place
from trainables.training.fault_kinds import FaultKind

TrialState = Literal["waiting", "running", "complete", "pruned", "cut", "failed"]
ENDED: frozenset[TrialState] = frozenset({"complete", "pruned", "cut", "failed"})
SEED_STRIDE = 1_000_000
"""The confirmation of trial n with seed s has the number n + s x SEED_STRIDE, s from 1."""
REFIT_SEED = 900
"""Seed of the final fit on all training images."""
CHECKPOINT_FILES = ("model.keras", "state.json")
"""What a checkpoint's folder holds; the latter is written last."""


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

    @property
    def restarts(self) -> int:
        """Times that it was started again after a fault."""
        return sum(fault.retried and fault.kind != "checkpoint" for fault in self.faults)

    def best_epoch(self, objective: str, mode: str) -> int | None:
        """Returns the epoch that inner validation found best (the first of equals), or None."""
        sign, chooser = 1 if mode == "max" else -1, validation_metric_of(objective)
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

    def existing_checkpoints(self, study: Place) -> list[str]:
        """Returns the folders of the checkpoints that are still in the study's place, the latest first."""
        found = (self.checkpoint(study, epoch) for epoch in sorted(self.checkpoints, reverse=True))
        return [checkpoint for checkpoint in found if checkpoint is not None]

    def checkpoint(self, study: Place, epoch: int | None) -> str | None:
        """Returns the folder of the checkpoint of one epoch, if it is still in the study's place."""
        folder = self.checkpoints.get(epoch) if epoch is not None else None
        return folder if folder is not None and study.exists(f"{folder}/state.json") else None


@dataclass(frozen=True)
class UsageRates:
    """How fast an open session uses things up: machines, GPUs of each running trial, price of a machine's hour."""

    nodes: int = 1
    gpus_per_trial: float = 0.0
    node_hour_price: float = 0.0


@dataclass(frozen=True)
class Usage:
    """What a study has used so far: epochs trained, GPU hours, cost in the study's currency."""

    epochs: int
    gpu_hours: float
    cost: float


def run_name(number: int, attempt: int = 0) -> str:
    """Returns `trial-0003`, `trial-0003-seed-2` for a confirmation, `trial-0003-again-1` when it was started again."""
    seed, trial = divmod(number, SEED_STRIDE)
    return f"trial-{trial:04d}" + (f"-seed-{seed}" if seed else "") + (f"-again-{attempt}" if attempt else "")


def run_label(number: int) -> str:
    """Returns `trial 3`, `trial 3 seed 2` for a confirmation, or `trial 3 final fit`."""
    seed, trial = divmod(number, SEED_STRIDE)
    return f"trial {trial}" + (" final fit" if is_final_fit(number) else f" seed {seed}" if seed else "")


def is_final_fit(number: int) -> bool:
    """Says whether a run is the winner's fit on all training images, which no selection fold has scored."""
    return number // SEED_STRIDE == REFIT_SEED


@dataclass
class StudyState:
    """All that happened in a study, in memory.

    Attributes:
        trials: the search's trials, by number.
        confirmations: repeated trainings of the search's best, by number; see `run_name`.
        ended: numbers of the search's trials in the order in which they ended.
        running: numbers of the trials and confirmations that a process is training.
        epochs_trained: every epoch that was reported, also those that a crash made necessary again.
        gpu_s: seconds for which trials held their GPUs, times their share.
        node_s: seconds times machines.
        cost: what the machines cost, in the study's currency.
        confirmed: what `tune.search.confirmation` found, None before; more trials make it None again.
        began: when the first session began (seconds since 1970).
        sealed: figures of the sealed test by checkpoint.
        export: folder of the export, relative to the study's; empty again when the search goes on.
        provenance: what each session ran on, by its number.
    """

    trials: dict[int, TrialRecord] = field(default_factory=dict)
    confirmations: dict[int, TrialRecord] = field(default_factory=dict)
    ended: list[int] = field(default_factory=list)
    running: set[int] = field(default_factory=set)
    sessions: int = 0
    began: float = 0.0
    fingerprint: str = ""
    closed_s: float = 0.0
    open_since: float | None = None
    searching: bool = False
    last_event: float = 0.0
    finished: bool = False
    ended_by: str = ""
    pid: int = 0
    epochs_trained: int = 0
    gpu_s: float = 0.0
    node_s: float = 0.0
    cost: float = 0.0
    rates: UsageRates = UsageRates()
    confirmed: dict[str, Any] | None = None
    sealed: dict[str, dict[str, Any]] = field(default_factory=dict)
    export: str = ""
    provenance: dict[int, dict[str, Any]] = field(default_factory=dict)

    @property
    def search_s(self) -> float:
        """Seconds searched so far; a session that was killed counts up to its last event."""
        open_s = self.last_event - self.open_since if self.open_since is not None and self.searching else 0.0
        return self.closed_s + open_s

    def run(self, number: int) -> TrialRecord:
        """Returns a trial or a confirmation."""
        return self.trials[number] if number < SEED_STRIDE else self.confirmations[number]

    def spent(self, now: float) -> Usage:
        """Returns what was used up to a time (seconds since 1970); between sessions nothing is."""
        seconds = max(0.0, now - self.last_event) if self.open_since is not None else 0.0
        nodes_s = seconds * self.rates.nodes
        return Usage(
            epochs=self.epochs_trained,
            gpu_hours=(self.gpu_s + seconds * self.rates.gpus_per_trial * len(self.running)) / 3600,
            cost=self.cost + nodes_s * self.rates.node_hour_price / 3600,
        )

    def apply(self, event: Mapping[str, Any]) -> None:
        """Adds one event. Events of a kind that this version does not know are passed over."""
        number, kind = event.get("trial", -1), event["event"]
        if self.open_since is not None and kind != "session":  # between a killed session and the next nothing is used
            self._add_usage(max(0.0, event["time"] - self.last_event))
        match kind:
            case "session":
                self._open_session(event)
            case "session_end":
                if self.searching:
                    self.closed_s += event["search_s"]
                    self.finished, self.ended_by = event["finished"], event["ended_by"]
                self.open_since = None
                self.running.clear()
            case "nodes":
                self.rates = replace(self.rates, nodes=event["count"])
            case "trial":
                runs = self.trials if number < SEED_STRIDE else self.confirmations
                runs[number] = TrialRecord(number, dict(event["values"]), session=self.sessions)
            case "confirmed":
                self.confirmed, self.export = dict(event["findings"]), ""
            case "sealed":
                self.sealed[event["checkpoint"]] = dict(event["metrics"])
            case "export":
                self.export = event["path"]
            case _ if number in self.trials or number in self.confirmations:
                self._apply_to_run(number, event)
        self.last_event = max(self.last_event, event["time"])

    def _open_session(self, event: Mapping[str, Any]) -> None:
        self.closed_s, self.searching = self.search_s, event.get("phase", "search") == "search"
        self.open_since, self.sessions, self.pid = event["time"], event["number"], event["pid"]
        self.began = self.began or event["time"]
        self.fingerprint = event["fingerprint"]
        self.rates = UsageRates(
            event.get("nodes", 1), event.get("gpus_per_trial", 0.0), event.get("node_hour_price", 0.0)
        )
        self.provenance[self.sessions] = dict(event.get("provenance", {}))
        self.running.clear()
        if self.searching:
            self.finished, self.confirmed, self.export = False, None, ""

    def _add_usage(self, seconds: float) -> None:
        self.gpu_s += seconds * self.rates.gpus_per_trial * len(self.running)
        self.node_s += seconds * self.rates.nodes
        self.cost += seconds * self.rates.nodes * self.rates.node_hour_price / 3600

    def _apply_to_run(self, number: int, event: Mapping[str, Any]) -> None:
        _apply_to_trial(self.run(number), event)
        match event["event"]:
            case "started":
                self.running.add(number)
            case "epoch":
                self.epochs_trained += 1
            case "end":
                self.running.discard(number)
                if number in self.trials:
                    self.ended.append(number)
            case "fault" if event["kind"] != "checkpoint":
                self.running.discard(number)
            case "reopened":
                self.ended.remove(number)

    def ranked(self, objective: str, mode: str) -> list[TrialRecord]:
        """Returns the search's trials with a score, best first; see `rank`."""
        return rank(self.trials.values(), objective, mode)


def rank(trials: Iterable[TrialRecord], objective: str, mode: str) -> list[TrialRecord]:
    """Returns the trials with a score, best first: those that ran to their end before those that were stopped."""
    sign = 1 if mode == "max" else -1
    scored = [
        (t.state not in ("complete", "cut"), -sign * value, t.number, t)
        for t in trials
        if t.state != "failed" and (value := t.best_value(objective, mode)) is not None
    ]
    return [trial for *_, trial in sorted(scored, key=lambda entry: entry[:3])]


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
