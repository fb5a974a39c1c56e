"""Proposes only configurations that a study's constraints allow; what is not allowed is never a trial."""

from __future__ import annotations

import optuna
from optuna.trial import TrialState as OptunaState

from search_spaces import Value
from tune.errors import StudyError
from tune.search.seeds import trial_seed
from tune.study.spec import StudySpec

_DRAWS = 50
"""Of the sampler, then as many at random: a model of what is good may propose the same again and again."""
_RANDOM_DRAWS = 5000


def feasible_values(study: optuna.Study, sampler: optuna.samplers.BaseSampler, spec: StudySpec) -> dict[str, Value]:
    """Returns the values of the next trial.

    They are drawn on a copy of Optuna's study in memory, so that what is refused leaves no trace in the study.

    Args:
        study: Optuna's, with all trials so far.
        sampler: draws the values; not the study's own, which belongs to that one study.
        spec: the study.

    Raises:
        StudyError: nothing that the constraints allow was drawn.
    """
    trials = study.get_trials(deepcopy=False)
    copy = optuna.create_study(sampler=sampler, directions=study.directions)
    copy.add_trials([trial for trial in trials if trial.state != OptunaState.WAITING])
    for draw in range(_DRAWS + _RANDOM_DRAWS):
        if draw == _DRAWS:
            copy.sampler = optuna.samplers.RandomSampler(seed=trial_seed(spec, len(trials)))
        asked = copy.ask()
        values = spec.space.suggest(asked)
        if not spec.broken_constraint(values):
            return values
        copy.tell(asked, state=OptunaState.FAIL)
    raise StudyError(
        f"the constraints must leave something of the space. Received: {_DRAWS + _RANDOM_DRAWS} configurations, and "
        "they allow none of them. Widen the space"
    )
