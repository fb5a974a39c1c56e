"""The bench of searches, on made-up curves; and our own default on the recorded ones, against random search."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import wilcoxon

from benchmarks import search
from benchmarks.record_curves import EPOCHS, PARQUET, parameters
from benchmarks.search import Contestant, interquartile_mean, run, score_at, sides, table
from benchmarks.sides import be_quiet
from benchmarks.simulation import Begun, Found, simulate
from benchmarks.surrogate import Recorded, Surrogate, features, held_out_error


@pytest.fixture(autouse=True)
def quiet() -> None:
    be_quiet()


class Line:
    """A world where a trial scores its number times its epoch, and an epoch takes a second."""

    def observed(self, values: Any, epoch: int) -> float:
        return float(values["number"] * epoch)

    score = observed

    def epoch_s(self, values: Any) -> float:
        return 1.0


class InTurn:
    """Trials 1, 2, 3... of so many epochs each."""

    def __init__(self, epochs: int) -> None:
        self.begun, self._epochs = 0, epochs

    def begin(self, name: str) -> Begun | None:
        self.begun += 1
        return Begun({"number": self.begun})

    def report(self, name: str, epoch: int, value: float) -> bool:
        return epoch == self._epochs

    def close(self) -> None:
        pass


def test_workers_share_the_wall_time_and_pay_for_starting_a_trial() -> None:
    found = simulate(InTurn(2), Line(), workers=2, budget_s=10.0, start_s=1.0)  # 3 s a trial
    assert [(f.at_s, f.score) for f in found][:3] == [(2.0, 1.0), (2.0, 2.0), (3.0, 4.0)]
    assert (found[-1].at_s, found[-1].score, found[-1].epochs) == (9.0, 12.0, 12)  # trial 6, its second epoch
    assert score_at(found, 5.9) == 4.0 and score_at(found, 1.0) == 0.0


def test_a_mean_of_the_middle_half_has_its_interval() -> None:
    mean, low, high = interquartile_mean([0.0, 1.0, 2.0, 3.0, 100.0, 2.0, 1.0, 2.0])
    assert mean == 1.75 and low <= mean <= high < 100


def test_what_emotune_gains_and_when_it_is_there_stands_in_a_row() -> None:
    ours = [[Found(2.0, 0.5, 3, 4), Found(5.0, 0.6, 5, 9)]] * 3
    other = [[Found(1.0, 0.3, 2, 2), Found(9.0, 0.5, 4, 9)]] * 3
    row = next(line for line in table({"emotune": ours, "other": other}, 10.0) if line.startswith("| other"))
    assert "| +0.1000 (+0.1000 to +0.1000) | 4 | 20% of the time |" in row


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    return Recorded(PARQUET)


def test_the_recorded_curves_are_whole_and_the_surrogate_knows_good_from_bad(recorded: Recorded) -> None:
    rows = pd.read_parquet(PARQUET)
    assert rows.trial.nunique() >= 90 and len(recorded.values) == len(recorded.average)
    assert recorded.average.shape[1] == EPOCHS and np.isfinite(recorded.average).all()
    assert json.loads(rows["values"].iloc[0])["optimizer"] == "adam"
    error, ranks = held_out_error(recorded)
    assert error < 0.06 and ranks > 0.4
    world = Surrogate(recorded, seed=1)
    values = parameters(0)
    assert world.observed(values, 3) == world.observed(values, 3) != world.score(values, 3)
    order = np.argsort(recorded.average[:, -1])
    low, high = (np.mean([world.score(recorded.values[i], EPOCHS) for i in some]) for some in (order[:10], order[-10:]))
    assert high - low > 0.05
    assert features(values).shape == features(parameters(1)).shape


def final(name: str, contestant: Contestant, recorded: Recorded, seed: int) -> float:
    return run(name, contestant, recorded, seed, 2, 57.0)[-1].score


def test_our_default_is_better_than_random_search_on_the_recorded_curves(recorded: Recorded) -> None:
    everybody = sides()
    ours, random = (
        [final(name, everybody[name], recorded, seed) for seed in range(10)] for name in ("emotune", "random search")
    )
    assert wilcoxon(ours, random, alternative="greater").pvalue < 0.05
    stored = json.loads((Path(search.__file__).parent / "results/search-default.json").read_text())
    assert np.mean(ours) > stored["mean"] - 2 * stored["standard_error"]
