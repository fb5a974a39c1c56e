"""Ways to propose configurations that are tried beside TPE on the bench; what pays moves into the product.

Each takes the study's own records and returns a configuration, which Optuna is given to try next.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor, GradientBoostingRegressor

from search_spaces import CategoricalParameter, SearchSpace
from tune.search.near_points import NearSuggester
from tune.search.optuna_searcher import OptunaSearcher
from tune.search.trial_queue import NewTrial
from tune.study.feasible import RandomSuggester
from tune.study.trial_record import TrialRecord

Proposer = Callable[[SearchSpace, Sequence[TrialRecord], np.random.Generator], dict[str, Any] | None]
"""Returns the next configuration from all trials so far; None leaves it to Optuna."""

OBJECTIVE = "selection_accuracy"


def searcher(propose: Proposer) -> type[OptunaSearcher]:
    """Returns a searcher that asks `propose` first."""

    class Proposed(OptunaSearcher):
        """Gives Optuna what is proposed, as if somebody had enqueued it."""

        def new_trial(self) -> NewTrial:
            records = list(self._journal.state.trials.values())
            if records:
                rng = np.random.default_rng((self._spec.seed, len(records)))
                values = propose(self._spec.space, records, rng)
                if values is not None:
                    self._study.enqueue_trial(self._spec.space.optuna_params(values))
            return super().new_trial()

    return Proposed


def draws(rng: np.random.Generator) -> RandomSuggester:
    """Returns what draws at random."""
    return RandomSuggester(int(rng.integers(2**31)))


def near(
    rng: np.random.Generator, space: SearchSpace, centre: Mapping[str, Any], spread: float, kept: float
) -> NearSuggester:
    """Returns what draws near a configuration."""
    return NearSuggester(int(rng.integers(2**31)), space.optuna_params(centre), spread, kept)


def near_best(
    random_share: float = 0.25, top: int = 3, until: int = 5, spread: float = 0.2, kept: float = 0.7
) -> Proposer:
    """Proposes near the default at first, then near one of the best; a share is random (after PriorBand)."""

    def propose(space: SearchSpace, records: Sequence[TrialRecord], rng: np.random.Generator) -> dict[str, Any] | None:
        if rng.random() < random_share:
            return space.suggest(draws(rng))
        scored = sorted((record for record in records if record.epochs), key=lambda r: -reached(r))
        near_points = len(scored) < until or rng.random() < 1 / (1 + len(scored) / until)
        centre = space.defaults() if near_points else scored[int(rng.integers(min(top, len(scored))))].values
        return space.suggest(near(rng, space, centre, spread, kept))

    return propose


def reached(record: TrialRecord) -> float:
    """Returns a trial's score, with a bonus for each epoch: one that went on was better than those that did not."""
    epoch = max(record.epochs)
    return float(record.epochs[epoch][OBJECTIVE]) + 1e-3 * epoch


def encode(space: SearchSpace, values: Mapping[str, Any]) -> NDArray[np.float64]:
    """Returns a configuration as numbers from 0 to 1; -1 where a parameter does not count."""
    params, found = space.optuna_params(values), []
    for name, parameter in space.parameters.items():
        value = params.get(name, params.get(f"{name}_base"))
        if isinstance(parameter, CategoricalParameter):
            found += [float(value == choice) for choice in parameter.choices]
        elif value is None:
            found.append(-1.0)
        else:
            scale = math.log if parameter.log else float
            first, last = scale(parameter.low), scale(parameter.high)
            found.append((scale(value) - first) / max(last - first, 1e-12))
    return np.array(found)


def rows_of(space: SearchSpace, records: Sequence[TrialRecord]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns a row for each epoch of each trial, the logarithm of the epoch last, and its score."""
    x, y = [], []
    for record in records:
        base = encode(space, record.values)
        for epoch, metrics in record.epochs.items():
            x.append([*base, math.log(epoch)])
            y.append(metrics[OBJECTIVE])
    return np.array(x), np.array(y)


def candidates(space: SearchSpace, records: Sequence[TrialRecord], rng: np.random.Generator, count: int) -> list[Any]:
    """Returns configurations to choose from: random ones, and others near the best so far."""
    scored = sorted((record for record in records if record.epochs), key=lambda r: -reached(r))[:3]
    found = [space.suggest(draws(rng)) for _ in range(count)]
    for record in scored:
        draws = near(rng, space, record.values, 0.1, 0.85)
        found += [space.suggest(draws) for _ in range(count // 3)]
    return found


def forest(startup: int = 8, max_epochs: int = 15, optimism: float = 1.0, first: Proposer | None = None) -> Proposer:
    """Proposes what a forest over configuration and epoch expects most of at the end, plus what its trees disagree by.

    The forest learns from every epoch of every trial, stopped or not (Hutter's SMAC, with the epoch as a feature).
    """

    def propose(space: SearchSpace, records: Sequence[TrialRecord], rng: np.random.Generator) -> dict[str, Any] | None:
        if sum(bool(record.epochs) for record in records) < startup:
            return first(space, records, rng) if first else space.suggest(draws(rng))
        if rng.random() < 0.1:
            return space.suggest(draws(rng))
        x, y = rows_of(space, records)
        model = ExtraTreesRegressor(60, min_samples_leaf=2, max_features=0.5, random_state=int(rng.integers(2**31)))
        model.fit(x, y)
        options = candidates(space, records, rng, 200)
        at_end = np.array([[*encode(space, values), math.log(max_epochs)] for values in options])
        each = np.array([tree.predict(at_end) for tree in model.estimators_])
        return options[int(np.argmax(each.mean(0) + optimism * each.std(0)))]

    return propose


def quantiles(startup: int = 8, max_epochs: int = 15, first: Proposer | None = None) -> Proposer:
    """Proposes by quantile regression: each candidate draws a quantile, the best draw wins (Salinas et al. 2023)."""
    levels = (0.1, 0.3, 0.5, 0.7, 0.9)

    def propose(space: SearchSpace, records: Sequence[TrialRecord], rng: np.random.Generator) -> dict[str, Any] | None:
        if sum(bool(record.epochs) for record in records) < startup:
            return first(space, records, rng) if first else space.suggest(draws(rng))
        x, y = rows_of(space, records)
        options = candidates(space, records, rng, 200)
        at_end = np.array([[*encode(space, values), math.log(max_epochs)] for values in options])
        each = [
            GradientBoostingRegressor(loss="quantile", alpha=level, n_estimators=40, max_depth=3, random_state=0)
            .fit(x, y)
            .predict(at_end)
            for level in levels
        ]
        drawn = np.sort(np.array(each), axis=0)[rng.integers(len(levels), size=len(options)), np.arange(len(options))]
        return options[int(np.argmax(drawn))]

    return propose
