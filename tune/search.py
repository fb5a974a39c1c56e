"""Decides what to try: Optuna asked and told through Ray Tune's searcher interface, with the right state for every end.

Ray's own OptunaSearch tells a trial that ASHA stopped COMPLETE with its low-epoch value; here it is PRUNED with all its
values, a failed or diverged one is FAIL, and the value of a complete one is its best epoch's.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState as OptunaState
from ray.tune.search import Searcher

from search_spaces import SearchSpace
from tune.ledger import ENDED, Ledger, TrialRecord, TrialState
from tune.spec import StudySpec
from tune.unsaved import Unsaved

_STATES = {
    "complete": OptunaState.COMPLETE,
    "cut": OptunaState.COMPLETE,
    "pruned": OptunaState.PRUNED,
    "failed": OptunaState.FAIL,
}


def make_sampler(seed: int, startup_trials: int, past: int) -> optuna.samplers.BaseSampler:
    """Returns multivariate TPE over groups of conditional parameters; a resumed search draws on from a fresh stream."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            seed=(seed + 7919 * past) % 2**32,
            n_startup_trials=startup_trials,
            multivariate=True,
            group=True,
            constant_liar=True,
        )


def rebuild_optuna_study(path: Path, spec: StudySpec, trials: Iterable[TrialRecord]) -> optuna.Study:
    """Writes Optuna's file anew from the journal's trials, so that each is told once and in the right state.

    Args:
        path: the journal-storage file; replaced only when the new one is complete.
        spec: the study.
        trials: every trial so far; numbers are kept.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    records = sorted(trials, key=lambda trial: trial.number)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    name = f"{spec.name}-{spec.space.digest()}"
    direction: Literal["maximize", "minimize"] = "maximize" if spec.mode == "max" else "minimize"
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(fresh))), study_name=name, direction=direction
    )
    for record in records:
        study.add_trial(_frozen(record, spec))
    fresh.replace(path)
    return optuna.load_study(
        study_name=name,
        storage=JournalStorage(JournalFileBackend(str(path))),
        sampler=make_sampler(spec.seed, spec.startup_trials, len(records)),
    )


def _frozen(record: TrialRecord, spec: StudySpec) -> optuna.trial.FrozenTrial:
    values = {
        epoch: float(metrics[spec.objective])
        for epoch, metrics in sorted(record.epochs.items())
        if math.isfinite(metrics[spec.objective])
    }
    state = _STATES.get(record.state, OptunaState.RUNNING)
    value = record.best_value(spec.objective, spec.mode) if state == OptunaState.COMPLETE else None
    if state == OptunaState.PRUNED and values:
        value = values[max(values)]
    return optuna.trial.create_trial(
        state=state,
        value=value,
        params=dict(record.values),
        distributions=spec.space.distributions(record.values),
        intermediate_values=values,
        user_attrs={"reason": record.reason} if record.reason else {},
    )


class OptunaSearcher(Unsaved, Searcher):
    """Proposes configurations to Ray Tune and tells Optuna how each trial ended."""

    def __init__(self, study: optuna.Study, space: SearchSpace, spec: StudySpec, ledger: Ledger, trials: int) -> None:
        """Prepares the queue: unfinished trials of an earlier session first, then new ones.

        Args:
            study: Optuna's study, in step with the ledger.
            space: what may vary.
            spec: the study.
            ledger: where starts and ends are recorded.
            trials: how many trials the study may have altogether.
        """
        super().__init__(metric=spec.objective, mode=spec.mode)
        self._study = study
        self._space = space
        self._spec = spec
        self._ledger = ledger
        self._objective = (spec.objective, spec.mode)
        self._trials = trials
        self._numbers: dict[str, int] = {}
        self._asked: dict[int, optuna.trial.Trial] = {}
        self._reported = {t.number: set(t.epochs) for t in ledger.record.trials.values()}
        records = ledger.record.trials.values()
        self._unfinished = [t.number for t in records if t.state in ("waiting", "running")]
        self.stopping = ""
        """Why the search is ending early: "", "interrupted" or "time"."""
        if not ledger.record.trials:
            study.enqueue_trial(space.defaults())

    @property
    def running(self) -> int:
        """Trials of this session that a process is training now."""
        numbers = set(self._numbers.values())
        return sum(self._ledger.record.trials[number].state == "running" for number in numbers)

    def suggest(self, trial_id: str) -> Any:
        """Returns the next trial's configuration, or Ray's word for the end of the search."""
        if self.stopping:
            return str(Searcher.FINISHED)
        if self._unfinished:
            record = self._ledger.record.trials[self._unfinished.pop(0)]
            number, values = record.number, record.values
            checkpoint = record.latest_checkpoint(self._ledger.path.parent)
            self._asked[number] = optuna.trial.Trial(self._study, self._study.trials[number]._trial_id)
        elif len(self._ledger.record.trials) < self._trials:
            asked = self._study.ask()
            number, values, checkpoint = asked.number, self._space.suggest(asked), None
            self._asked[number] = asked
            self._ledger.append("trial", trial=number, values=values)
        else:
            return str(Searcher.FINISHED)
        self._numbers[trial_id] = number
        config = self._spec.trial_config(values).model_dump()
        return {"trial": number, "parameters": config, "resume_from": str(checkpoint) if checkpoint else None}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Reports an epoch's objective at its step."""
        self._report(self._numbers[trial_id], result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tells Optuna the trial's end. An interrupted trial is told nothing: it goes on with the next session."""
        number = self._numbers.pop(trial_id)
        record = self._ledger.record.trials[number]
        if result and "epoch" in result:  # Ray withholds the stopping report from on_trial_result (2.60)
            self._report(number, result)
        state, reason = self._ending(record, result or {}, error)
        if state is not None:
            self._tell(record, state, reason)

    def end_unfinished(self) -> None:
        """Ends every trial that is still open, when the study's time is over: by its score if it has one."""
        for record in self._ledger.record.trials.values():
            if record.state not in ENDED:
                self._tell(record, "cut", "the study's time was over")

    def _tell(self, record: TrialRecord, state: TrialState, reason: str) -> None:
        value = record.best_value(*self._objective)
        if state in ("complete", "cut") and value is None:
            state, reason = "failed", f"{reason}; it has no score"
        told = value if _STATES[state] == OptunaState.COMPLETE else None
        self._study.tell(record.number, values=told, state=_STATES[state])
        self._ledger.append("end", trial=record.number, state=state, reason=reason)

    def _ending(self, record: TrialRecord, result: dict[str, Any], error: bool) -> tuple[TrialState | None, str]:
        if error:
            return "failed", record.reason
        if result.get("diverged"):
            return "failed", f"the loss was not finite in epoch {result['epoch']}"
        last = record.rungs[-1] if record.rungs else None
        if last is not None and last.stopped:
            return "pruned", (
                f"stopped at rung {last.epoch}: {last.value:.4f} misses the cutoff {last.cutoff:.4f}, "
                f"rank {last.rank} of {last.among}"
            )
        if result.get("epoch", 0) >= self._spec.asha.max_epochs:
            return "complete", "trained all its epochs"
        if result.get("stalled"):
            return "complete", f"its inner validation found no better epoch than {record.best_epoch(*self._objective)}"
        if self.stopping == "time":
            return "cut", "the study's time was over"
        return None, ""

    def _report(self, number: int, result: dict[str, Any]) -> None:
        value, epoch = float(result[self._spec.objective]), int(result["epoch"])
        if math.isfinite(value) and epoch not in self._reported.setdefault(number, set()):
            self._reported[number].add(epoch)
            self._asked[number].report(value, epoch)

    def save(self, checkpoint_path: str) -> None:
        """Does nothing: the journal holds the search, and `Tuner.restore` is never used."""

    def restore(self, checkpoint_path: str) -> None:
        """Does nothing, like `save`."""
