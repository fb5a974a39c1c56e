"""Studies as Optuna's tools read them: a storage over their journals, which refuses to write."""

from __future__ import annotations

import threading
from collections.abc import Container, Sequence
from datetime import datetime
from typing import Any, NoReturn

from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy  # what storages of Optuna 5.0 return; it is not exported
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from tune.search.optuna_study import directions, told_trials
from tune.study.studies import StudyFiles
from tune.study.study_follower import StudyFollower
from tune.study.trial_record import SEED_STRIDE
from tune.study.wording import unique_names


class JournalStorageView(BaseStorage):
    """What Optuna was told of some studies' trials, as their journals have it by now; from any thread.

    A study's id is its place among them; a trial's is its number, beside that place.
    """

    def __init__(self, studies: Sequence[StudyFiles]) -> None:
        """Takes the studies and reads their journals.

        Raises:
            StudyError: a journal is damaged.
            PlaceError: a bucket cannot be reached.
        """
        self._names = unique_names([study.spec.name for study in studies])
        self._told = [_ToldTrials(place, study) for place, study in enumerate(studies)]
        for told in self._told:
            told.trials()

    def get_all_studies(self) -> list[FrozenStudy]:
        """Returns the studies, in their order."""
        return [
            FrozenStudy(name, None, self.get_study_user_attrs(place), {}, place, directions=self._told[place].wanted)
            for place, name in enumerate(self._names)
        ]

    def get_study_id_from_name(self, study_name: str) -> int:
        """Returns a study's place."""
        if study_name not in self._names:
            raise KeyError(study_name)
        return self._names.index(study_name)

    def get_study_name_from_id(self, study_id: int) -> str:
        """Returns a study's name, numbered where several have it."""
        self._study(study_id)
        return self._names[study_id]

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """Returns what is wanted of each objective."""
        return self._study(study_id).wanted

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """Returns where the study lies."""
        return {"location": self._study(study_id).location}

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Returns nothing: Optuna keeps no notes of its own here."""
        return {}

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Returns the trial of that id."""
        place, number = divmod(trial_id, SEED_STRIDE)
        trials = self._study(place).trials()
        if number >= len(trials):
            raise KeyError(trial_id)
        return trials[number]

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[OptunaState] | None = None
    ) -> list[FrozenTrial]:
        """Returns a study's trials as they are by now. They are never changed, so none has to be copied."""
        return [trial for trial in self._study(study_id).trials() if states is None or trial.state in states]

    def _study(self, place: int) -> _ToldTrials:
        if not 0 <= place < len(self._told):
            raise KeyError(place)
        return self._told[place]

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise PermissionError("these studies can be looked at only; emotune enqueue and emotune drop change them")

    create_new_study = delete_study = set_study_user_attr = set_study_system_attr = _refuse
    create_new_trial = set_trial_param = set_trial_state_values = set_trial_intermediate_value = _refuse
    set_trial_user_attr = set_trial_system_attr = _refuse


class _ToldTrials:
    """One study's trials, made anew when its journal has grown."""

    def __init__(self, place: int, study: StudyFiles) -> None:
        self.wanted = [StudyDirection[direction.upper()] for direction in directions(study.spec)]
        self.location = study.name
        self._place = place
        self._lock = threading.Lock()
        self._follower = StudyFollower(study)
        self._restarts = 0
        self._times: dict[int, list[float]] = {}
        self._trials: list[FrozenTrial] = []

    def trials(self) -> list[FrozenTrial]:
        with self._lock:
            events = list(self._follower.read())
            if self._follower.restarts != self._restarts:  # another study of the same name
                self._restarts = self._follower.restarts
                self._times.clear()
            for event in events:
                if "trial" in event:
                    self._times.setdefault(event["trial"], []).append(event["time"])
            if events:
                told = told_trials(self._follower.state.trials.values(), self._follower.study.spec)
                self._trials = [self._numbered(number, trial) for number, trial in enumerate(told)]
            return self._trials

    def _numbered(self, number: int, trial: FrozenTrial) -> FrozenTrial:
        """Returns a trial with its number, its id, and when it began and ended."""
        times = self._times[number]
        return FrozenTrial(
            number=number,
            state=trial.state,
            value=None,
            values=trial.values,
            datetime_start=datetime.fromtimestamp(times[0]),
            datetime_complete=datetime.fromtimestamp(times[-1]) if trial.state.is_finished() else None,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs=trial.user_attrs,
            system_attrs=trial.system_attrs,
            intermediate_values=trial.intermediate_values,
            trial_id=self._place * SEED_STRIDE + number,
        )
