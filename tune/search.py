"""Decides what to try: Optuna asked and told through Ray Tune's searcher interface, with the right state for every end.

Ray's own OptunaSearch tells a trial that ASHA stopped COMPLETE with its low-epoch value; here it is PRUNED with all its
values, a failed or diverged one is FAIL, and the value of a complete one is its best epoch's.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState as OptunaState

from search_spaces import Value
from tune.ledger import Ledger
from tune.record import ENDED, TrialRecord, TrialState
from tune.spec import StudySpec
from tune.trial_queue import TrialQueue

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
    state = optuna_state(record, record.state)
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


class OptunaSearcher(TrialQueue):
    """Proposes configurations to Ray Tune and tells Optuna how each trial ended."""

    def __init__(self, study: optuna.Study, spec: StudySpec, ledger: Ledger) -> None:
        """Takes Optuna's study, in step with the ledger; unfinished trials of an earlier session come first."""
        records = ledger.record.trials.values()
        super().__init__(spec, ledger, [trial for trial in records if trial.state not in ENDED])
        self._study = study
        self._asked: dict[int, optuna.trial.Trial] = {}
        self._reported = {trial.number: set(trial.epochs) for trial in records}
        if not records:
            study.enqueue_trial(spec.space.defaults())

    def more(self) -> bool:
        """Says whether the study may have further trials."""
        return len(self._ledger.record.trials) < self._spec.trials

    def new_trial(self) -> tuple[int, Mapping[str, Value]]:
        """Asks Optuna."""
        asked = self._study.ask()
        self._asked[asked.number] = asked
        return asked.number, self._spec.space.suggest(asked)

    def begun(self, number: int) -> None:
        """Takes up Optuna's trial again where an earlier session left it."""
        if number not in self._asked:
            self._asked[number] = optuna.trial.Trial(self._study, self._study.trials[number]._trial_id)

    def reported(self, number: int, result: Mapping[str, Any]) -> None:
        """Reports an epoch's objective at its step, once."""
        value, epoch = float(result[self._spec.objective]), int(result["epoch"])
        if math.isfinite(value) and epoch not in self._reported.setdefault(number, set()):
            self._reported[number].add(epoch)
            self._asked[number].report(value, epoch)

    def told(self, record: TrialRecord, state: TrialState) -> None:
        """Tells Optuna a trial's end."""
        told = optuna_state(record, state)
        value = record.best_value(self._spec.objective, self._spec.mode) if told == OptunaState.COMPLETE else None
        self._study.tell(record.number, values=value, state=told)


def optuna_state(record: TrialRecord, state: TrialState) -> OptunaState:
    """Returns what Optuna is to know of a trial's state.

    A trial that did not fit in memory is PRUNED without a value: TPE ranks it below every other, and keeps away from
    its like. FAIL would teach it nothing.
    """
    if state == "failed" and record.faults and record.faults[-1].kind == "model_memory":
        return OptunaState.PRUNED
    return _STATES.get(state, OptunaState.RUNNING)
