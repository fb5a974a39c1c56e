"""Proposes configurations with Optuna and tells it how each trial ended."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import optuna
from optuna.trial import TrialState as OptunaState

from search_spaces import Value
from trainables.errors import PlaceError
from tune.errors import StudyError
from tune.search.feasible_trials import feasible_values
from tune.search.near_points import near_points
from tune.search.optuna_study import frozen_trial, make_sampler, optuna_ending
from tune.search.trial_queue import NewTrial, TrialQueue
from tune.study.journal import Journal
from tune.study.requests import Request, waiting_requests
from tune.study.spec import StudySpec
from tune.study.trial_record import ENDED, TrialRecord, TrialState

_LOOK_S, _LOOK_IN_BUCKET_S = 1.0, 15.0
"""How often requests are looked for."""

_OWN_ATTEMPTS, _REPEATS = 9, 20
"""Repeats in a row after which an untried configuration is drawn in the sampler's place, and one is trained all the
same."""


class OptunaSearcher(TrialQueue):
    """Proposes configurations to Ray Tune and tells Optuna how each trial ended."""

    def __init__(self, study: optuna.Study, spec: StudySpec, journal: Journal) -> None:
        """Takes Optuna's study, in step with the journal; unfinished trials of an earlier session come first."""
        records = journal.state.trials.values()
        super().__init__(spec, journal, [trial for trial in records if trial.state not in ENDED])
        self._study = study
        self._optuna_trials: dict[int, optuna.trial.Trial] = {}
        self._looked = -math.inf
        self._most_trials = spec.most_trials
        self._every = spec.every_configuration() or []
        self._tried: dict[str, int] = {}
        for trial in sorted(records, key=lambda trial: trial.number):
            self._tried.setdefault(spec.space.key(spec.coerce_values(trial.values)), trial.number)
        self._sampler = make_sampler(spec, len(records))
        self._reported = {trial.number: set(trial.epochs) for trial in records}
        if not records:
            study.enqueue_trial(spec.space.optuna_params(spec.space.defaults()))

    def has_more(self) -> bool:
        """Says whether the study may have further trials."""
        return self._journal.state.tried < self._most_trials

    def new_trial(self) -> NewTrial:
        """Asks Optuna; what was enqueued comes first, and what was tried before is not tried again."""
        space, state = self._spec.space, self._journal.state
        untried: dict[str, Value] | None = None
        for attempt in range(_REPEATS + 1):
            request, wanted = next(iter(state.enqueued.items()), ("", untried))
            if wanted is None and state.trials:
                wanted = near_points(self._spec, len(state.trials))
            if wanted is None and self._spec.constraints and state.trials:
                wanted = feasible_values(self._study, self._sampler, self._spec)
            if wanted and state.trials:  # trial 0 is the default
                self._study.enqueue_trial(space.optuna_params(wanted))
            else:
                request = ""
            asked = self._study.ask()
            values = space.suggest(asked)
            first = self._tried.setdefault(space.key(values), asked.number)
            failed = first != asked.number and state.trials[first].state == "failed"
            if first == asked.number or attempt == _REPEATS or (failed and request):
                break
            self._note_repeat(asked, values, first, request)
            if attempt >= _OWN_ATTEMPTS:  # the sampler asks for the same again and again
                untried = self._untried(asked.number)
        self._optuna_trials[asked.number] = asked
        return NewTrial(asked.number, values, {"request": request} if request else {})

    def _note_repeat(self, asked: optuna.trial.Trial, values: Mapping[str, Value], first: int, request: str) -> None:
        """Journals a trial with the configuration of another, and tells Optuna what that one scored."""
        fields = {"values": dict(values), "of": first, **({"request": request} if request else {})}
        self._journal.append("repeat", trial=asked.number, **fields)
        known = frozen_trial(self._journal.state.trials[first], self._spec, repeat=True)
        for epoch, value in known.intermediate_values.items():
            asked.report(value, epoch)
        scores = known.values if known.state == OptunaState.COMPLETE else None
        self._study.tell(asked.number, values=scores, state=known.state)

    def _untried(self, number: int) -> dict[str, Value] | None:
        """Returns a configuration of a small space that is not tried yet, drawn for a trial's number."""
        untried = [values for values in self._every if self._spec.space.key(values) not in self._tried]
        return random.Random(number).choice(untried) if untried else None

    def take_requests(self) -> None:
        """Takes up what people have asked of the study meanwhile; a bucket is looked into less often than a folder."""
        place, state, now = self._journal.place, self._journal.state, time.monotonic()
        if now - self._looked < (_LOOK_IN_BUCKET_S if place.remote else _LOOK_S):
            return
        self._looked = now
        with suppress(OSError, PlaceError):  # the storage may be back the next time
            for request in waiting_requests(place):
                if request.path not in state.requests:
                    self._take(request)
                with suppress(OSError, PlaceError):  # somebody else's file perhaps; it is taken up once
                    place.delete(request.path)

    def _take(self, request: Request) -> None:
        try:  # anybody may write such a file; what the journal takes comes back with every session
            if request.kind == "enqueue":
                values = self._spec.complete(request.fields["values"])
                self._spec.trial_config(values)
                self._journal.append("enqueued", values=values, request=request.path)
                return
            number = int(request.fields["trial"])
        except (LookupError, TypeError, AttributeError, ValueError, StudyError):
            return
        record = self._journal.state.trials.get(number)
        if record is not None and record.state not in ENDED:
            self._journal.append("dropped", trial=number, request=request.path)
            self.drop(number)

    def on_trial_start(self, number: int) -> None:
        """Takes up Optuna's trial again where an earlier session left it."""
        if number not in self._optuna_trials:
            self._optuna_trials[number] = optuna.trial.Trial(self._study, self._study.trials[number]._trial_id)

    def on_epoch(self, number: int, result: Mapping[str, Any]) -> None:
        """Reports an epoch's objective at its step, once; Optuna (5.0) takes none of a study with two objectives."""
        if len(self._spec.objectives) > 1:
            return
        value, epoch = float(result[self._spec.objective]), int(result["epoch"])
        if math.isfinite(value) and epoch not in self._reported.setdefault(number, set()):
            self._reported[number].add(epoch)
            self._optuna_trials[number].report(value, epoch)

    def before_trial_end(self, record: TrialRecord, state: TrialState) -> None:
        """Tells Optuna a trial's end."""
        optuna_end, values = optuna_ending(record, self._spec, state)
        self._study.tell(record.number, values=values, state=optuna_end)
