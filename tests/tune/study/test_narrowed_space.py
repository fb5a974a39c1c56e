"""A space of which `--set` narrows or removes a parameter: what depends on it follows by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from search_spaces import FloatParameter
from tune.errors import StudyFileError
from tune.study.spec import StudySpec, load_spec

SPACE = """
optimizer: {type: categorical, choices: [sgd, adam, adamw, rmsprop], default: adam}
learning_rate: {type: float, low: 1.0e-4, high: 1.0e-2, default: 1.0e-3, scale_by: {optimizer: {sgd: 30, adamw: 2}}}
momentum: {type: float, low: 0.5, high: 0.99, default: 0.9, when: {optimizer: [sgd, rmsprop]}}
nesterov: {type: categorical, choices: [true, false], default: true, when: {optimizer: sgd}}
beta_1: {type: float, low: 0.8, high: 0.95, default: 0.9, when: {optimizer: [adam, adamw]}}
weight_decay: {type: float, low: 1.0e-5, high: 1.0e-1, default: 4.0e-3, when: {optimizer: adamw}}
preprocessing: {type: categorical, choices: [none, crop], default: none}
crop_keep: {type: float, low: 0.75, high: 0.95, default: 0.9, when: {preprocessing: crop}}
"""


def narrowed(folder: Path, *overrides: str, space: str = "mine.yaml") -> StudySpec:
    (folder / "mine.yaml").write_text(SPACE)
    (folder / "s.yaml").write_text(f"name: a\ndata: d\nspace: {space}\n")
    return load_spec(folder / "s.yaml", overrides)


def test_parameters_of_choices_that_are_gone_are_left_out(tmp_path: Path) -> None:
    parameters = narrowed(tmp_path, "space.optimizer.choices=[adam, adamw]").space.parameters
    assert {"momentum", "nesterov"}.isdisjoint(parameters)
    assert parameters["beta_1"].conditions() == {"optimizer": ["adam", "adamw"]}
    assert parameters["weight_decay"].conditions() == {"optimizer": ["adamw"]}
    rate = parameters["learning_rate"]
    assert isinstance(rate, FloatParameter) and rate.scale_by == {"optimizer": {"adamw": 2}} and rate.low == 1e-4
    both = narrowed(tmp_path, "space.optimizer.choices=[adam, sgd]").space.parameters
    assert both["momentum"].conditions() == both["nesterov"].conditions() == {"optimizer": ["sgd"]}
    rate = both["learning_rate"]
    assert isinstance(rate, FloatParameter) and list(rate.scale_by["optimizer"]) == ["sgd"]


def test_beside_a_fixed_value_what_counts_with_it_stays_without_its_condition(tmp_path: Path) -> None:
    spec = narrowed(tmp_path, "space.optimizer=null", "fixed.optimizer=sgd", "space.preprocessing=null")
    parameters = spec.space.parameters
    assert {"momentum", "nesterov"} <= parameters.keys() and not parameters["momentum"].conditions()
    assert {"beta_1", "weight_decay", "crop_keep"}.isdisjoint(parameters)
    rate = parameters["learning_rate"]
    assert isinstance(rate, FloatParameter) and not rate.scale_by
    assert (rate.low, rate.default, rate.high) == pytest.approx((3e-3, 3e-2, 0.3))  # sgd's are thirty times as large
    config = spec.trial_config(spec.space.defaults())
    assert (config.optimizer, config.preprocessing) == ("sgd", "none")  # the default where nothing is fixed


def test_children_of_children_follow_and_what_nobody_overrode_is_checked_as_before(tmp_path: Path) -> None:
    choice = "{type: categorical, choices: [true, false], default: true"
    space = (
        f"{{optimizer: {{type: categorical, choices: [adam, sgd], default: adam}}, nesterov: {choice}, "
        f"when: {{optimizer: sgd}}}}, mirror: {choice}, when: {{nesterov: true}}}}}}"
    )
    assert list(narrowed(tmp_path, "space.optimizer.choices=[adam]", space=space).space.parameters) == ["optimizer"]
    wrong = space.replace("optimizer: sgd", "optimizer: lion")
    with pytest.raises(StudyFileError, match="nesterov: when optimizer must be among that parameter's values"):
        narrowed(tmp_path, "trials=3", space=wrong)
    with pytest.raises(StudyFileError, match="default must be one of"):
        narrowed(tmp_path, "space.optimizer.choices=[sgd]")
