"""Hands trials to Ray Tune and notes how each ends: unfinished ones first, then new ones; faulted ones start again.

Ray restarts nothing itself (`max_failures=0`): a trial that may go on after a fault is handed out again, under its own
number and with its latest checkpoint, as it would be by the next session.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ray.tune.search import Searcher

from search_spaces import Value
from trainables.config import TrialConfig
from trainables.errors import PlaceError
from trainables.training.fault_kinds import FaultKind, TrialFault
from tune.errors import StudyError
from tune.search.not_pickled import NotPickled
from tune.study.journal import Journal
from tune.study.spec import StudySpec
from tune.study.trial_record import ENDED, SEED_STRIDE, WHOLE, TrialRecord, TrialState

RETRY_PAUSES_S: Mapping[FaultKind, float] = {"storage": 30.0, "host_memory": 5.0}
"""Seconds before a trial starts again after a fault that may need time to pass; others start at once."""

_BUCKET_PAUSE_S = 5.0
"""Seconds before a bucket that did not answer is asked again for a trial's checkpoints."""

ALWAYS_RETRIED: frozenset[FaultKind] = frozenset({"preempted", "replaced", "disk_full"})
"""Not the trial's doing. A full disk ends the session, and the trial goes on with the next."""
NEVER_RETRIED: frozenset[FaultKind] = frozenset({"not_finite", "checkpoint", "infeasible"})
"""What would only happen again, or did not hold the trial up. How often for every other kind: `faults:` in the file."""

MICRO_BATCHES = (4, 2)
"""Into how many micro-batches a batch may be cut that did not fit in memory, best first."""


DROPPED = "dropped by emotune drop"
"""Why a trial ended that somebody dropped."""


class NewTrial(NamedTuple):
    """A trial that nobody has begun: its number, its values, and what else the journal notes of it."""

    number: int
    values: Mapping[str, Value]
    noted: Mapping[str, Any]


class TrialQueue(NotPickled, Searcher):
    """What searches and confirmations have in common, as Ray's `Searcher`."""

    refit_epochs: int | None = None
    """Train so many epochs on all training images, None for a trial like any other."""

    def __init__(self, spec: StudySpec, journal: Journal, open_trials: list[TrialRecord]) -> None:
        """Takes the study, its journal, and the trials that an earlier session left open."""
        super().__init__(metric=spec.objective, mode=spec.mode)
        self._spec = spec
        self._journal = journal
        self._waiting = [(0.0, trial.number) for trial in open_trials]
        self._numbers: dict[str, int] = {}
        self._faults: dict[int, TrialFault] = {}
        self._failures_in_a_row = 0
        self.stopping = ""
        """Why the session is ending early: "", "interrupted", "disk_full", "no_process" or the budget that is spent."""
        self.no_process = ""
        """Why no trial's process has started, if that is what ends the session."""

    @abstractmethod
    def has_more(self) -> bool:
        """Says whether there are new trials."""

    @abstractmethod
    def new_trial(self) -> NewTrial:
        """Returns the next new trial."""

    def take_requests(self) -> None:
        """Takes up what people have asked of the study meanwhile."""

    def on_trial_start(self, number: int) -> None:
        """Called when a trial is handed out."""

    def on_epoch(self, number: int, result: Mapping[str, Any]) -> None:
        """Called with every epoch of a trial."""

    def before_trial_end(self, record: TrialRecord, state: TrialState) -> None:
        """Called before a trial's end is journalled."""

    @property
    def idle(self) -> bool:
        """Whether nothing is left to hand out."""
        return not self._waiting and not self.has_more()

    @property
    def handed_out(self) -> int:
        """Trials of this session that Ray has and has not ended."""
        return len(self._numbers)

    @property
    def running(self) -> int:
        """Trials of this session that a process is training now."""
        return sum(number in self._journal.state.running for number in self._numbers.values())

    def suggest(self, trial_id: str) -> Any:
        """Returns the next trial's configuration, None while there may be one later, or Ray's word for the end."""
        if self.stopping:
            return str(Searcher.FINISHED)
        self._fail_invalid_trials()
        ready = next((pair for pair in self._waiting if pair[0] <= time.monotonic()), None)
        if ready is not None:
            self._waiting.remove(ready)
            number = ready[1]
            config = self._spec.trial_config(self._journal.state.run(number).values)
            try:
                checkpoints = self._checkpoints(number)
            except PlaceError:  # the bucket does not answer: the trial waits for it
                self._waiting.append((time.monotonic() + _BUCKET_PAUSE_S, number))
                return None
        elif self.has_more():
            number, values, noted = self.new_trial()
            config = self._spec.trial_config(values)  # before it is journalled: what no trial takes is no trial
            self._journal.append("trial", trial=number, values=dict(values), **noted)
            checkpoints = []
        else:
            return None if self._waiting or self._numbers else str(Searcher.FINISHED)
        self.on_trial_start(number)
        self._numbers[trial_id] = number
        state = self._journal.state.run(number)
        return {
            "trial": number,
            "attempt": state.restarts,
            "parameters": config.model_dump(),
            "resume_from": checkpoints,
            "micro_batches": micro_batches(state, config),
            "refit_epochs": self.refit_epochs,
            "schedule_epochs": state.schedule_epochs,
        }

    def _checkpoints(self, number: int) -> list[str]:
        place = self._journal.place
        return [place.at(checkpoint) for checkpoint in self._journal.state.run(number).existing_checkpoints(place)]

    def _fail_invalid_trials(self) -> None:
        """Ends waiting trials with values that no trial takes: earlier versions journalled those before they looked."""
        for entry in list(self._waiting):
            state = self._journal.state.run(entry[1])
            try:
                self._spec.trial_config(state.values)
            except StudyError as error:
                self._waiting.remove(entry)
                self.end(state, "failed", str(error))

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Passes an epoch on."""
        self.on_epoch(self._numbers[trial_id], result)

    def note_fault(self, number: int, fault: TrialFault) -> None:
        """Tells what is behind the error that Ray reports next."""
        self._faults[number] = fault

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Notes a trial's end. One that is interrupted, or may try again after a fault, has not ended."""
        number = self._numbers.pop(trial_id)
        record = self._journal.state.run(number)
        if error:
            fault = self._faults.pop(number, TrialFault("process_died", "its process died"))
            # It goes on with the next session, whatever became of its process.
            if self.stopping not in ("interrupted", "disk_full", "no_process"):
                self._after_fault(record, fault)
            return
        if result and "epoch" in result:  # Ray withholds the stopping report from on_trial_result (2.60)
            self.on_epoch(number, result)
        if result and result.get("diverged"):
            self._after_fault(record, TrialFault("not_finite", f"the loss was not finite in epoch {result['epoch']}"))
            return
        state, reason = self._how_it_ended(record, result or {})
        if state is not None:
            self.end(record, state, reason)

    def end_settled_trials(self) -> None:
        """Ends the waiting trials whose last report had settled them when an earlier session was killed."""
        for entry in list(self._waiting):
            record = self._journal.state.run(entry[1])
            epoch = max(record.epochs, default=0)
            state, reason = self._how_it_ended(record, {"epoch": epoch})
            best = epoch if self.refit_epochs else record.best_epoch(self._spec.objective, self._spec.mode)
            if state == "complete" and record.checkpoint(self._journal.place, best) is None:
                continue  # what it is to be exported from was not saved: it goes back and trains those epochs again
            if state is not None:
                self._waiting.remove(entry)
                self.end(record, state, reason)

    def drop(self, number: int) -> None:
        """Ends a trial that waits; one that runs ends with its epoch (`AshaScheduler`)."""
        waiting = next((entry for entry in self._waiting if entry[1] == number), None)
        if waiting is not None:
            self._waiting.remove(waiting)
            self.end(self._journal.state.run(number), "pruned", DROPPED)

    def end_unfinished_trials(self, words: str) -> None:
        """Ends every trial that is still open, when a budget is spent: by its score if it has one."""
        for record in list(self._journal.state.trials.values()):
            if record.state not in ENDED:
                self.end(record, "cut", words)

    def end(self, record: TrialRecord, state: TrialState, reason: str) -> None:
        """Journals a trial's end; one that trained to its end and has no score has failed."""
        if state in WHOLE and record.best_value(self._spec.objective, self._spec.mode) is None:
            state, reason = "failed" if state == "complete" else "cut", f"{reason}; it has no score"
        self.before_trial_end(record, state)
        self._journal.append("end", trial=record.number, state=state, reason=reason)
        if not (record.infeasible and any(other.epochs for other in self._journal.state.trials.values())):
            self._failures_in_a_row = self._failures_in_a_row + 1 if state == "failed" else 0
        if self._failures_in_a_row >= self._spec.faults.in_a_row and not self.stopping:
            self.stopping = "failures"

    def _after_fault(self, record: TrialRecord, fault: TrialFault) -> None:
        retried = not record.dropped and self._may_retry(record, fault.kind)
        self._journal.append("fault", trial=record.number, kind=fault.kind, reason=fault.message, retried=retried)
        if retried:
            self._waiting.append((time.monotonic() + RETRY_PAUSES_S.get(fault.kind, 0.0), record.number))
        elif record.dropped:
            self.end(record, "pruned", DROPPED)
        else:
            self.end(record, "failed", failure_reason(record, fault))
        if fault.kind == "disk_full":
            self.stopping = "disk_full"

    def _may_retry(self, record: TrialRecord, kind: FaultKind) -> bool:
        if kind in ALWAYS_RETRIED:
            return True
        if kind in NEVER_RETRIED:
            return False
        if kind == "model_memory" and not possible_micro_batches(self._spec.trial_config(record.values)):
            return False
        before = sum(fault.kind == kind for fault in record.faults)
        return before < int(getattr(self._spec.faults, kind))

    def _how_it_ended(self, record: TrialRecord, result: Mapping[str, Any]) -> tuple[TrialState | None, str]:
        if record.dropped:
            return "pruned", DROPPED
        last = record.rungs[-1] if record.rungs else None
        if last is not None and last.stopped:
            return "pruned", last.reason
        if result.get("epoch", 0) >= (self.refit_epochs or self._spec.asha.max_epochs):
            return "complete", "trained all its epochs"
        if result.get("stalled"):
            return "complete", "its inner validation found no better epoch for early_stop_patience epochs"
        return None, ""

    def save(self, checkpoint_path: str) -> None:
        """Does nothing: the journal holds the study, and `Tuner.restore` is never used."""

    def restore(self, checkpoint_path: str) -> None:
        """Does nothing, like `save`."""


class ConfirmationQueue(TrialQueue):
    """Hands out confirmations: configurations of the search, each under numbers of its own and so with fresh seeds."""

    def __init__(
        self, spec: StudySpec, journal: Journal, numbers: Sequence[int], refit_epochs: int | None = None
    ) -> None:
        """Takes the numbers to train; those begun in an earlier session come first."""
        begun = journal.state.confirmations
        super().__init__(spec, journal, [begun[n] for n in numbers if n in begun and begun[n].state not in ENDED])
        self._new = [number for number in numbers if number not in begun]
        self.refit_epochs = refit_epochs

    def has_more(self) -> bool:
        """Says whether there are confirmations that have not begun."""
        return bool(self._new)

    def new_trial(self) -> NewTrial:
        """Returns the next confirmation."""
        number = self._new.pop(0)
        stretched = self._spec.confirm.refit_epochs if self.refit_epochs else None
        noted = {"schedule_epochs": stretched} if stretched else {}
        return NewTrial(number, self._journal.state.trials[number % SEED_STRIDE].values, noted)


def possible_micro_batches(config: TrialConfig) -> int:
    """Returns into how many micro-batches a batch that did not fit in memory can be cut, 0 for none."""
    return next((count for count in MICRO_BATCHES if config.batch_size % count == 0), 0)


def micro_batches(record: TrialRecord, config: TrialConfig) -> int:
    """Returns into how many micro-batches the trial's batches are to be cut: 1 until one did not fit in memory."""
    return possible_micro_batches(config) if any(fault.kind == "model_memory" for fault in record.faults) else 1


def failure_reason(record: TrialRecord, fault: TrialFault) -> str:
    """Returns why a trial failed for good."""
    times = sum(f.kind == fault.kind for f in record.faults)
    return fault.message + (f" ({times} times)" if times > 1 else "")
