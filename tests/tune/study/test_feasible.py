"""Constraints of a study file: checked before anything starts, and met by whatever people ask for."""

from __future__ import annotations

from typing import Any

import pytest

from tune.errors import StudyFileError
from tune.study.spec import StudySpec, load_spec

SPACE: dict[str, Any] = {
    "optimizer": {"type": "categorical", "choices": ["adam", "sgd"], "default": "adam"},
    "momentum": {"type": "float", "low": 0.5, "high": 0.9, "default": 0.7, "when": {"optimizer": "sgd"}},
    "batch_size": {"type": "int", "low": 8, "high": 64, "default": 8, "log": True},
    "dropout": {"type": "float", "low": 0.0, "high": 0.5, "step": 0.1, "default": 0.1},
    "warmup_epochs": {"type": "float", "low": 0.0, "high": 2.0, "default": 0.0},
}


def spec(*constraints: str, **fixed: Any) -> StudySpec:
    return load_spec({"name": "a", "data": "d", "space": SPACE, "fixed": fixed, "constraints": list(constraints)})


def test_parameters_count_as_drawn_fixed_or_by_default() -> None:
    found = spec("batch_size * image_size_px <= 2048", "width <= 1", image_size_px=48)
    assert not found.broken_constraint({"batch_size": 42})
    assert found.broken_constraint({"batch_size": 43}) == "batch_size * image_size_px <= 2048"


def test_a_constraint_on_a_parameter_that_does_not_count_holds() -> None:
    found = spec("momentum < 0.6")
    assert not found.broken_constraint({"optimizer": "adam", "batch_size": 8})
    assert found.broken_constraint({"optimizer": "sgd", "momentum": 0.8})


def test_what_people_ask_for_meets_them_too() -> None:
    found = spec("batch_size < 32")
    assert found.complete({"batch_size": 16})["batch_size"] == 16
    with pytest.raises(ValueError, match=r"the constraint 'batch_size < 32' must hold\. Received: .*'batch_size': 64"):
        found.complete({"batch_size": 64})


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        ("batchsize < 32", r"batchsize is no parameter of the study\. Did you mean 'batch_size'\?"),
        ("model.depth < 3", r"model\.depth is no parameter of the study\. Name it in fixed or in space"),
        ("__import__('os')", r"a constraint has parameters, values"),
        ("batch_size", r"'batch_size' must be true or false\. Received: 8"),
        ("optimizer > 3", r"cannot be worked out"),
        ("batch_size > 8", r"must hold for the defaults of the space.*batch_size=8"),
        ("warmup_epochs == 0", r"at least one in 200 configurations of the space\. Received: 0 of 2000 drawn"),
    ],
)
def test_what_cannot_be_met_is_told_in_one_line(constraint: str, message: str) -> None:
    with pytest.raises(StudyFileError, match=message) as raised:
        spec(constraint)
    assert "\n" not in str(raised.value)
