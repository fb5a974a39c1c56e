"""Random trials near the default configuration: how near, how many, and never against the constraints."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest

from search_spaces import SearchSpace, builtin_spaces
from tune.errors import StudyFileError
from tune.search.near_default import NearSuggester, near_default
from tune.search.optuna_searcher import OptunaSearcher
from tune.search.optuna_study import rebuild_optuna_study
from tune.study.feasible import RandomSuggester
from tune.study.journal import Journal
from tune.study.spec import StudySpec, load_spec
from tune.yaml_values import parse

SPACE = SearchSpace.model_validate(parse(builtin_spaces()["alexnet"].read_text()))
CENTRE = SPACE.optuna_params(SPACE.defaults())


def spec(**settings: Any) -> StudySpec:
    return load_spec({"name": "a", "data": "d", "space": "alexnet", "trials": 20, **settings})


def test_draws_stay_in_range_and_lie_nearer_to_the_centre_than_random_ones() -> None:
    def far(suggester: Any) -> float:
        values = SPACE.suggest(suggester)  # raises where a value is out of its range
        SPACE.optuna_params(values)
        return sum(values[name] != SPACE.defaults()[name] for name in ("optimizer", "batch_size", "preprocessing"))

    near = statistics.mean(far(NearSuggester(seed, CENTRE)) for seed in range(300))
    rnd = statistics.mean(far(RandomSuggester(seed)) for seed in range(300))
    assert near < 0.5 * rnd
    dropouts = [
        NearSuggester(seed, CENTRE).suggest_float("dropout", 0.0, 0.7, step=0.05, log=False) for seed in range(300)
    ]
    assert abs(statistics.mean(dropouts) - CENTRE["dropout"]) < 0.05 and 0.05 < statistics.stdev(dropouts) < 0.16
    assert {round(value / 0.05, 6) % 1 for value in dropouts} == {0.0} and max(dropouts) <= 0.7


def test_integers_stay_on_their_steps_and_what_the_centre_lacks_is_random() -> None:
    ints = {NearSuggester(seed, {"depth": 5}).suggest_int("depth", 2, 9, step=2, log=False) for seed in range(200)}
    assert ints == {2, 4, 6, 8}
    others = {NearSuggester(seed, {}).suggest_int("depth", 1, 8, step=1, log=True) for seed in range(200)}
    assert min(others) == 1 and max(others) == 8


def test_the_share_of_the_random_trials_is_near_the_default_and_a_resumed_study_draws_the_same(tmp_path: Path) -> None:
    half = spec(near_default=0.5, startup_trials=400)
    drawn = [near_default(half, number) for number in range(1, 401)]
    assert 160 < sum(values is not None for values in drawn) < 240
    assert drawn == [near_default(half, number) for number in range(1, 401)]
    assert near_default(half, 401) is None and near_default(spec(startup_trials=400), 1) is None
    assert near_default(spec(near_default=1.0, sampler="random", startup_trials=0), 401) is not None

    whole = spec(near_default=1.0, constraints=["dropout <= 0.5", "batch_size >= 32"])
    journal = Journal(tmp_path / "journal.jsonl")
    searcher = OptunaSearcher(rebuild_optuna_study(tmp_path / "optuna.log", whole, []), whole, journal)
    tried = [searcher.suggest(f"t{number}")["parameters"] for number in range(8)]
    assert all(values["dropout"] <= 0.5 and values["batch_size"] >= 32 for values in tried)
    for number, values in enumerate(tried[1:], 1):
        wanted = near_default(whole, number)
        assert wanted is not None and all(values[name] == value for name, value in wanted.items())
    journal.close()


def test_a_share_of_no_random_trials_is_refused() -> None:
    with pytest.raises(StudyFileError, match="near_default needs random trials.*startup_trials=0"):
        spec(near_default=0.5, startup_trials=0)
