"""The simulated study of benchmarks/pruned.py: real searchers and schedulers, made-up curves, equal epochs."""

from __future__ import annotations

import optuna
import pytest

from benchmarks.pruned import SIDES, SPEC, Curve, compare, mean_interval, table


@pytest.fixture(autouse=True)
def quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def test_every_side_searches_the_same_epochs_and_beats_the_default() -> None:
    found = compare(seeds=2, epochs=150, fading=0.0)
    assert set(found) == set(SIDES)
    for scores in found.values():
        for world, score in enumerate(scores):
            default = Curve(world).score(SPEC.space.defaults(), SPEC.asha.max_epochs)
            assert default - 0.02 < score < 0.71
    assert "| stock |" in table(found) and "95 % interval" in table(found)


def test_the_same_seed_gives_the_same_scores() -> None:
    assert compare(1, 60, 0.0)["ours"] == compare(1, 60, 0.0)["ours"]


def test_a_curve_has_the_same_noise_for_everybody_and_fades_when_it_is_to() -> None:
    values = SPEC.space.defaults()
    assert Curve(3).observed(values, 5) == Curve(3).observed(values, 5) != Curve(3).score(values, 5)
    assert Curve(3, fading=0.01).score(values, 27) < Curve(3).score(values, 27)


def test_the_interval_of_a_mean() -> None:
    mean, low, high = mean_interval([1.0, 2.0, 3.0])
    assert (mean, low, high) == (
        2.0,
        pytest.approx(2 - 4.3027 / 3**0.5, abs=1e-3),
        pytest.approx(2 + 4.3027 / 3**0.5, abs=1e-3),
    )
