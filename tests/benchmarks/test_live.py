"""Stock Ray Tune searches with our trial, and what live runs add up to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.hand_set import train
from benchmarks.live import SIDES, table
from benchmarks.stock_ray import Settings, search
from search_spaces import builtin_spaces
from tune.study.trial_parameters import NEW_STUDY


@pytest.mark.slow
def test_stock_ray_tune_searches_our_space_and_its_best_is_scored_on_the_sealed_test(
    faces: Path, tmp_path: Path
) -> None:
    space = builtin_spaces()["alexnet"]  # whose learning rate is multiplied
    found = search(
        Settings(
            data=str(faces),
            folder=str(tmp_path / "ray"),
            space=str(space),
            fixed={"image_size_px": 32, "width": 0.0625, "batch_norm": True, "weight_average": 0.9, "mirror": True},
            trials=2,
            max_epochs=1,
            context={"selection_share": 0.2, "max_images_per_fold": 64},
            from_default=True,
            sealed=True,
        )
    )
    assert (found.trials, found.epochs) == (2, 2) and found.wall_s > found.trained_s / 2 > 0
    assert 0 <= found.selection <= 1 and found.sealed is not None and 0 < found.sealed < 1
    assert "learning_rate" in found.values and "learning_rate_base" not in found.values


@pytest.mark.slow
def test_a_hand_set_net_trains_for_as_long_and_is_scored_on_the_sealed_test(faces: Path) -> None:
    found = train(faces, 1.0, max_images_per_fold=64)
    assert found["epochs"] >= 1 and found["wall_s"] < 120 and 0 <= found["sealed"] <= 1
    assert found["values"].items() >= NEW_STUDY.items()


def test_the_table_has_the_mean_of_each_side_and_every_seed() -> None:
    runs: list[dict[str, Any]] = [
        {"side": side, "wall_s": 600, "trials": 9, "epochs": 40, "selection": chosen, "sealed": score}
        for side, chosen, scores in zip(SIDES, (0.5, 0.5, 0.5, None), ((0.6, 0.62), (0.55,), (), (0.57,)), strict=True)
        for score in scores
    ]
    assert table(runs).splitlines()[2:] == [
        "| emotune | 2 | 10.0 | 9 | 40 | 0.5000 | 0.6100 | 0.6000, 0.6200 |",
        "| stock Ray Tune, our trial | 1 | 10.0 | 9 | 40 | 0.5000 | 0.5500 | 0.5500 |",
        "| hand-set net | 1 | 10.0 | 9 | 40 |  | 0.5700 | 0.5700 |",
    ]
