"""What happened in a study, as the journal's events tell it: the one place that knows what an event means. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from search_spaces import Value
from trainables.config import validation_metric_of
from trainables.keras_setup import ONEDNN
from tune.errors import StudyError
from tune.study.trial_record import (
    SEED_STRIDE,
    TrialRecord,
    apply_to_trial,
    is_final_fit,
    rank,
)

OUTSIDE_SESSIONS = frozenset({"confirmed", "ensemble", "calibration", "sealed", "export"})
"""Events that may come long after a session that was killed: they use none of its budgets."""


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


@dataclass
class StudyState:
    """All that happened in a study, in memory.

    Attributes:
        trials: the search's trials, by number.
        confirmations: repeated trainings of the search's best, by number; see `run_name`.
        ended: numbers of the search's trials in the order in which they ended.
        running: numbers of the trials and confirmations that a process is training.
        epochs_trained: every epoch that was reported, also those that a crash made necessary again.
        epochs_before_session: those of them that earlier sessions trained.
        epochs_repeated: those again: no checkpoint held them when a process or a machine was lost.
        gpu_s: seconds for which trials held their GPUs, times their share.
        cost: what the machines cost, in the study's currency.
        last_search: number of the last session that searched.
        confirmed: what `tune.search.confirmation` found, None before; more trials make it None again.
        began: when the first session began (seconds since 1970).
        ensemble: what the mean of several models scored beside the single one, and whether that is exported; None
            before that was asked.
        precision: what `precision: auto` stands for in this study.
        calibrations: what a temperature did on the selection fold, by checkpoint as in `sealed`.
        sealed: figures of the sealed test by checkpoint; of several by their names joined by `+`.
        export: folder of the export, relative to the study's; empty again when the search goes on.
        provenance: what each session ran on, by its number.
        workers: processes that trained a run together, by session; none of versions that did not write it.
        enqueued: configurations that are to be tried next, by the request for each, in order.
        requests: every request that was taken up (`tune.study.requests`).
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
    last_search: int = 0
    last_event: float = 0.0
    finished: bool = False
    ended_by: str = ""
    pid: int = 0
    epochs_trained: int = 0
    epochs_before_session: int = 0
    epochs_repeated: int = 0
    _highest: dict[int, int] = field(default_factory=dict)
    gpu_s: float = 0.0
    cost: float = 0.0
    rates: UsageRates = UsageRates()
    confirmed: dict[str, Any] | None = None
    ensemble: dict[str, Any] | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    calibrations: dict[str, dict[str, Any]] = field(default_factory=dict)
    sealed: dict[str, dict[str, Any]] = field(default_factory=dict)
    export: str = ""
    provenance: dict[int, dict[str, Any]] = field(default_factory=dict)
    workers: dict[int, int] = field(default_factory=dict)
    enqueued: dict[str, dict[str, Value]] = field(default_factory=dict)
    requests: set[str] = field(default_factory=set)

    @property
    def tried(self) -> int:
        """How many of the search's trials were begun and are no repeats of others."""
        return sum(trial.repeats is None for trial in self.trials.values())

    def onednn(self, session: int | None = None) -> str:
        """Returns what a session's trials, or the first's, took of TensorFlow's kernels; empty: TensorFlow's choice."""
        noted = self.provenance.get(min(self.provenance) if session is None else session, {})
        return str(noted.get("environment", {}).get(ONEDNN, ""))

    @property
    def search_s(self) -> float:
        """Seconds searched so far; a session that was killed counts up to its last event."""
        open_s = self.last_event - self.open_since if self.open_since is not None and self.searching else 0.0
        return self.closed_s + open_s

    @property
    def judged(self) -> dict[str, Any] | None:
        """What training the best again has shown; None also where a spent budget forbade it."""
        return None if self.confirmed is None or self.confirmed.get("budget") else self.confirmed

    def final_fits(self) -> list[int]:
        """Returns the numbers of the final fits that belong to what was confirmed, whatever became of them."""
        if self.confirmed is None:
            return []
        winner = self.confirmed["winner"]  # before emotune named them, all of the winner's were meant
        of_winner = (n for n in self.confirmations if is_final_fit(n) and n % SEED_STRIDE == winner)
        return list(self.confirmed.get("final_fits", of_winner))

    def final_fits_with(self, schedule_epochs: int | None) -> list[int]:
        """Returns those of them whose schedule spans so many epochs, or that too many failures kept from beginning."""
        others = {n for n, run in self.confirmations.items() if run.schedule_epochs != schedule_epochs}
        return [number for number in self.final_fits() if number not in others]

    def winners_runs(self, objective: str, mode: str) -> list[TrialRecord]:
        """Returns what was trained to its end after the search, of its winner: final fits, then its repetitions.

        The repetition that its inner validation found best comes first.
        """
        if self.confirmed is None:
            return []
        sign, chooser = (1 if mode == "max" else -1), validation_metric_of(objective)

        def key(run: TrialRecord) -> float:
            epoch = run.best_epoch(objective, mode)
            return float("-inf") if epoch is None else sign * float(run.epochs[epoch][chooser])

        ended = [run for run in self.confirmations.values() if run.state == "complete"]
        fits = [run for number in self.final_fits() for run in ended if run.number == number]
        winner = self.confirmed["winner"]
        repeated = [run for run in ended if run.number % SEED_STRIDE == winner and not is_final_fit(run.number)]
        return fits + sorted(repeated, key=key, reverse=True)

    @property
    def confirming(self) -> bool:
        """Whether training the best again has begun since the last search."""
        return any(run.session > self.last_search for run in self.confirmations.values())

    def exported_checkpoints(self, checkpoint: str) -> list[str]:
        """Returns the checkpoints whose mean is exported: that of the run to export, or those of the ensemble."""
        found = self.ensemble
        return (
            found["checkpoints"] if found and found["kept"] and found["checkpoints"][0] == checkpoint else [checkpoint]
        )

    def sealed_scores(self, checkpoints: Sequence[str]) -> dict[str, Any] | None:
        """Returns what the sealed test said of a checkpoint, or of the mean of several; None before it was asked."""
        return self.sealed.get("+".join(checkpoints))

    def calibration(self, checkpoints: Sequence[str]) -> dict[str, Any] | None:
        """Returns what a temperature does for a checkpoint, or for the mean of several; None before that was asked."""
        return self.calibrations.get("+".join(checkpoints))

    def run(self, number: int) -> TrialRecord:
        """Returns a trial or a confirmation."""
        return self.trials[number] if number < SEED_STRIDE else self.confirmations[number]

    def find_run(self, number: int) -> TrialRecord:
        """Returns a trial or a confirmation that somebody has asked for.

        Raises:
            StudyError: there is none of that number.
        """
        if number not in self.trials and number not in self.confirmations:
            raise StudyError(
                f"the study has no trial {number}. Received: {number}, with trials 0 to {max(self.trials, default=-1)}"
            )
        return self.run(number)

    def spent(self, now: float) -> Usage:
        """Returns what was used up to a time (seconds since 1970); between sessions nothing is."""
        seconds = max(0.0, now - self.last_event) if self.open_since is not None else 0.0
        return Usage(
            epochs=self.epochs_trained,
            gpu_hours=(self.gpu_s + seconds * self.rates.gpus_per_trial * len(self.running)) / 3600,
            cost=self.cost + seconds * self.rates.nodes * self.rates.node_hour_price / 3600,
        )

    def apply(self, event: Mapping[str, Any]) -> None:
        """Adds one event. Events of a kind that this version does not know are passed over."""
        number, kind = event.get("trial", -1), event["event"]
        outside = kind in OUTSIDE_SESSIONS
        # Between a killed session and the next nothing is used.
        if self.open_since is not None and kind != "session" and not outside:
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
                chosen = bool(event.get("request"))
                record = TrialRecord(number, dict(event["values"]), session=self.sessions, chosen=chosen)
                record.schedule_epochs = event.get("schedule_epochs")
                runs[number] = record
                self.enqueued.pop(event.get("request", ""), None)
            case "repeat":
                words = f"the configuration of trial {event['of']}"
                record = TrialRecord(number, dict(event["values"]), "repeat", reason=words, session=self.sessions)
                record.repeats = event["of"]
                self.trials[number] = record
                self.enqueued.pop(event.get("request", ""), None)
            case "enqueued":
                self.enqueued[event["request"]] = dict(event["values"])
                self.requests.add(event["request"])
            case "confirmed":
                self.confirmed, self.ensemble, self.export = dict(event["findings"]), None, ""
            case "ensemble":
                self.ensemble = {name: value for name, value in event.items() if name not in ("event", "time")}
            case "calibration":
                self.calibrations[event["checkpoint"]] = dict(event["findings"])
            case "sealed":
                self.sealed[event["checkpoint"]] = dict(event["metrics"])
            case "export":
                self.export = event["path"]
            case _ if number in self.trials or number in self.confirmations:
                self._apply_to_run(number, event)
        if not outside:
            self.last_event = max(self.last_event, event["time"])

    def _open_session(self, event: Mapping[str, Any]) -> None:
        self.closed_s, self.searching = self.search_s, event.get("phase", "search") == "search"
        self.open_since, self.sessions, self.pid = event["time"], event["number"], event["pid"]
        self.began = self.began or event["time"]
        self.fingerprint = event["fingerprint"]
        self.rates = UsageRates(
            event.get("nodes", 1), event.get("gpus_per_trial", 0.0), event.get("node_hour_price", 0.0)
        )
        self.precision = event.get("precision", self.precision)
        self.provenance[self.sessions] = dict(event.get("provenance", {}))
        if "workers" in event:
            self.workers[self.sessions] = event["workers"]
        self.running.clear()
        self.epochs_before_session = self.epochs_trained
        if self.searching:
            self.last_search = self.sessions
            self.finished, self.confirmed, self.ensemble, self.export = False, None, None, ""

    def _add_usage(self, seconds: float) -> None:
        self.gpu_s += seconds * self.rates.gpus_per_trial * len(self.running)
        self.cost += seconds * self.rates.nodes * self.rates.node_hour_price / 3600

    def _apply_to_run(self, number: int, event: Mapping[str, Any]) -> None:
        apply_to_trial(self.run(number), event)
        match event["event"]:
            case "started":
                self.running.add(number)
            case "epoch":
                self.epochs_trained += 1
                highest = self._highest.get(number, 0)
                self.epochs_repeated += event["epoch"] <= highest
                self._highest[number] = max(highest, event["epoch"])
            case "end":
                self.running.discard(number)
                if number in self.trials:
                    self.ended.append(number)
            case "fault" if event["kind"] != "checkpoint":
                self.running.discard(number)
            case "reopened":
                self.ended.remove(number)
            case "dropped":
                self.requests.add(event["request"])

    def ranked(self, objective: str, mode: str) -> list[TrialRecord]:
        """Returns the search's trials with a score, best first; see `rank`."""
        return rank(self.trials.values(), objective, mode)
