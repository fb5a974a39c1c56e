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
from tune.study.journal import Ledger
from tune.study.spec import StudySpec
from tune.study.study_state import ENDED, TrialRecord, TrialState


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
