"""Proposes configurations with Optuna and tells it how each trial ended."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.trial import TrialState as OptunaState

from search_spaces import Value
from tune.search.optuna_study import optuna_state
from tune.search.trial_queue import TrialQueue
from tune.study.journal import Journal
from tune.study.spec import StudySpec
from tune.study.trial_record import ENDED, TrialRecord, TrialState


class OptunaSearcher(TrialQueue):
    """Proposes configurations to Ray Tune and tells Optuna how each trial ended."""

    def __init__(self, study: optuna.Study, spec: StudySpec, journal: Journal) -> None:
        """Takes Optuna's study, in step with the journal; unfinished trials of an earlier session come first."""
        records = journal.state.trials.values()
        super().__init__(spec, journal, [trial for trial in records if trial.state not in ENDED])
        self._study = study
        self._optuna_trials: dict[int, optuna.trial.Trial] = {}
        self._reported = {trial.number: set(trial.epochs) for trial in records}
        if not records:
            study.enqueue_trial(spec.space.optuna_params(spec.space.defaults()))

    def has_more(self) -> bool:
        """Says whether the study may have further trials."""
        return len(self._journal.state.trials) < self._spec.trials

    def new_trial(self) -> tuple[int, Mapping[str, Value]]:
        """Asks Optuna."""
        asked = self._study.ask()
        self._optuna_trials[asked.number] = asked
        return asked.number, self._spec.space.suggest(asked)

    def on_trial_start(self, number: int) -> None:
        """Takes up Optuna's trial again where an earlier session left it."""
        if number not in self._optuna_trials:
            self._optuna_trials[number] = optuna.trial.Trial(self._study, self._study.trials[number]._trial_id)

    def on_epoch(self, number: int, result: Mapping[str, Any]) -> None:
        """Reports an epoch's objective at its step, once."""
        value, epoch = float(result[self._spec.objective]), int(result["epoch"])
        if math.isfinite(value) and epoch not in self._reported.setdefault(number, set()):
            self._reported[number].add(epoch)
            self._optuna_trials[number].report(value, epoch)

    def before_trial_end(self, record: TrialRecord, state: TrialState) -> None:
        """Tells Optuna a trial's end."""
        optuna_end = optuna_state(record, state)
        value = record.best_value(self._spec.objective, self._spec.mode) if optuna_end == OptunaState.COMPLETE else None
        self._study.tell(record.number, values=value, state=optuna_end)
