"""What the recorder of learning curves draws, packs and says of it; the training itself is a trial's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import curves_report, record_curves
from benchmarks.record_curves import FIXED, RATE_SCALE, REPEATED, REPEATS_FROM, pack, packed, parameters
from trainables.config import TrialConfig


def test_every_draw_is_a_trial_of_the_space_and_the_first_is_the_default() -> None:
    drawn = [parameters(number) for number in range(120)]
    for values in drawn:
        TrialConfig.model_validate({**FIXED, **values})
    assert len({json.dumps(values, sort_keys=True) for values in drawn}) == 120
    assert (drawn[0]["optimizer"], drawn[0]["learning_rate"]) == ("adam", 1e-3)
    assert {values["preprocessing"] for values in drawn} >= {"none", "shifts", "crop", "noise", "augment", "face"}


def test_every_third_draw_is_near_the_default_and_a_repeat_draws_the_same() -> None:
    near = [distance(parameters(number)) for number in range(0, 300, 3)]
    far = [distance(parameters(number)) for number in range(1, 300, 3)]
    assert np.mean(near) < 0.7 * np.mean(far)
    assert max(v["learning_rate"] for v in map(parameters, range(300)) if v["optimizer"] == "sgd") > 0.1
    assert all(parameters(number) == parameters(number + REPEATS_FROM) for number in range(REPEATED))


def distance(values: dict[str, Any]) -> float:
    """How many decades a learning rate is from the default, in its optimizer's own scale."""
    return float(abs(np.log10(values["learning_rate"] / RATE_SCALE.get(values["optimizer"], 1.0)) + 3))


def curve(number: int, final: float) -> dict[str, Any]:
    """A made-up record: the better the end, the better the beginning."""
    names = [f"{fold}_{weights}" for fold in ("validation", "selection", "holdout") for weights in ("last", "average")]
    names += ["selection_average_mirror", "holdout_average_mirror"]
    at = lambda share: {name: round(final * share, 4) for name in names}  # noqa: E731
    return {
        "trial": number,
        "values": {"learning_rate": 10**-final, "optimizer": "adam" if number % 2 else "sgd"},
        "mirrors": True,
        "quarters": [{"epoch": share, **at(share / 4)} for share in (0.25, 0.5, 0.75)],
        "epochs": [{"epoch": epoch, "training_loss": 1.0, **at(0.5 + epoch / 30)} for epoch in range(1, 16)],
    }


def test_what_is_recorded_is_added_to_what_is_packed_and_the_page_says_what_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_curves, "PARQUET", tmp_path / "curves.parquet")
    for batch in (range(6), range(6, 12)):
        lines = [json.dumps(curve(number, 0.3 + number / 50)) for number in batch]
        (tmp_path / "curves.jsonl").write_text("\n".join(lines) + "\n")
        pack(tmp_path / "curves.jsonl")
    assert {row["trial"] for row in packed()} == set(range(12))
    assert len(packed()) == 12 * 18

    curves = curves_report.Curves(tmp_path / "curves.parquet")
    assert curves.final[11] == pytest.approx(0.52)
    assert all("1.00 (1.00 to 1.00) | 0.0000" in line for line in curves_report.ranking(curves)[2:])
    assert "| learning_rate | rank correlation | 12 | -1.00 | -1.00 | -1.00 |" in curves_report.effects(curves)
    curves_report.pictures(curves, tmp_path)
    assert (tmp_path / "curves.png").stat().st_size > 10_000
