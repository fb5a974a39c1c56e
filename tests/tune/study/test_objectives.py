"""What `objective` may say: one metric, a weighted mean of several, two at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search_spaces import WRITTEN
from trainables.training.metrics import evaluate, with_score
from tune.errors import StudyFileError
from tune.study.objectives import shares
from tune.study.spec import StudySpec, load_spec

WEIGHTS = {"selection_accuracy": 3, "selection_macro_f1": 1}


def spec(objective: Any, **more: Any) -> StudySpec:
    space = {"dropout": {"type": "float", "low": 0.0, "high": 0.5, "default": 0.1}}
    return load_spec({"name": "a", "data": "d", "space": space, "objective": objective, **more})


@pytest.mark.parametrize(
    ("objective", "told", "mode"),
    [
        ("selection_loss", ("selection_loss",), "min"),
        (["selection_accuracy", "parameters"], ("selection_accuracy", "parameters"), "max"),
        (WEIGHTS, ("selection_score",), "max"),
        ([WEIGHTS, "images_per_s"], ("selection_score", "images_per_s"), "max"),
    ],
)
def test_one_metric_a_weighted_mean_and_two_at_once_are_understood_and_written_out(
    objective: Any, told: tuple[str, ...], mode: str
) -> None:
    found = spec(objective)
    assert (found.objectives, found.mode) == (told, mode)
    assert StudySpec.model_validate(found.model_dump(mode="json"), context=WRITTEN) == found
    assert bool(found.objective_weights) == (told[0] == "selection_score")


@pytest.mark.parametrize(
    ("objective", "rule"),
    [
        ("[selection_accuracy]", "must be one metric, a mapping of weights, or a list of two"),
        ("[selection_accuracy, null]", "or a list of two. Received: ['selection_accuracy', None]"),
        ("[selection_accuracy, selection_accuracy]", "must be two different metrics. Received: selection_accuracy"),
        ("[parameters, selection_accuracy]", "objective: Input should be 'selection_accuracy'"),
        ("[selection_accuracy, size]", "or 'images_per_s'. Received: 'size' (FILE, line 4)"),
        ("selection_score", "objective selection_score is a weighted mean of metrics, and needs at least one"),
        ("{}", "is a weighted mean of metrics, and needs at least one"),
        ("{selection_loss: 1}", "objective.selection_loss: Input should be 'selection_accuracy'"),
        ("{selection_accuracy: -1}", "objective.selection_accuracy: Input should be greater than 0. Received: -1"),
        ("{selection_accuracy: true}", "objective.selection_accuracy: Input should be a valid number. Received: True"),
        ("{selection_accuracy: .inf}", "objective.selection_accuracy: Input should be a finite number"),
    ],
)
def test_other_objectives_are_refused_in_one_line_that_says_where(objective: str, rule: str, tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(f"name: a\ndata: d\nspace: quickstart\nobjective: {objective}\n")
    with pytest.raises(StudyFileError) as refused:
        load_spec(file)
    said = str(refused.value)
    assert said.replace(str(file), "FILE").count(rule) == 1, said
    assert "\n" not in said


def test_weights_are_shares_so_that_a_score_is_from_0_to_1() -> None:
    assert shares(WEIGHTS) == {"selection_accuracy": 0.75, "selection_macro_f1": 0.25} and shares({}) == {}
    logits = np.eye(3, dtype=np.float32)[[0, 1, 1, 2]]
    scores = evaluate(logits, np.array([0, 1, 2, 2], np.int32), 3)
    weighed = with_score(scores, shares(WEIGHTS))
    assert weighed["score"] == pytest.approx(0.75 * scores["accuracy"] + 0.25 * scores["macro_f1"])
    assert with_score(scores, {}) == scores
