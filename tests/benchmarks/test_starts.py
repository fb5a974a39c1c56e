"""What the benchmark of configurations that never begin to learn adds up to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.starts import configurations, run, table


def test_configurations_are_the_same_each_time_and_need_no_face_boxes() -> None:
    drawn = configurations(30)
    assert drawn == configurations(40)[:30] and len({str(values) for values in drawn}) == 30
    assert "face" not in {values["preprocessing"] for values in drawn} and drawn[0]["optimizer"] == "adam"


@pytest.mark.slow
def test_a_studys_trials_stand_in_for_random_configurations(finished_study: Any) -> None:
    trials = finished_study.state().trials
    assert configurations(2, finished_study.directory) == [dict(trials[number].values) for number in (0, 1)]


def test_the_table_compares_each_variant_with_the_same_configurations() -> None:
    runs = [
        {"variant": variant, "configuration": place, "scores": [0.2, score], "asleep": score < 0.26}
        for variant, scores in {"as it is": (0.25, 0.4, 0.25), "warm-up": (0.35, 0.4)}.items()
        for place, score in enumerate(scores)
    ]
    plain, warm = table(runs).splitlines()[2:]
    assert "| as it is | 3 | 2 (0.21 to 0.94) | 0.3000 | +0.0000 (+0.0000 to +0.0000) | 0.4000 |" in plain
    assert "| warm-up | 2 | 0 (0.00 to 0.66) | 0.3750 | +0.0500 (" in warm


@pytest.mark.slow
def test_a_configuration_is_trained_with_clipped_gradients(faces: Path) -> None:
    values = {"batch_size": 16, "learning_rate": 1e-3, "preprocessing": "none"}
    found = run(faces, values, "gradients clipped to norm 1", 0, 1, 48)
    assert len(found["scores"]) == 1 and found["training_loss"] > 0 and found["asleep"] in (True, False)
