"""The search space: what it proposes, what it refuses."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
import yaml
from pydantic import ValidationError

from search_spaces import SearchSpace, builtin_spaces
from trainables.config import TrialConfig

MISSION = {"learning_rate", "batch_size", "dropout", "split_ratio", "optimizer", "preprocessing"}


def load(name: str) -> SearchSpace:
    return SearchSpace.model_validate(yaml.safe_load(builtin_spaces()[name].read_text()))


def space(**parameters: Any) -> SearchSpace:
    return SearchSpace.model_validate(parameters)


@pytest.mark.parametrize("name", sorted(builtin_spaces()))
def test_every_builtin_space_varies_the_missions_six_and_every_value_suits_a_trial(name: str) -> None:
    loaded = load(name)
    assert loaded.parameters.keys() >= MISSION
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(200):
        TrialConfig.model_validate(loaded.suggest(study.ask()))


def test_the_missions_default_is_what_the_user_chose_by_hand() -> None:
    config = TrialConfig.model_validate(load("alexnet").defaults())
    assert (config.optimizer, config.batch_size, config.dropout, config.split_ratio, config.preprocessing) == (
        "adam",
        32,
        0.5,
        0.8,
        "none",
    )


def test_a_parameter_is_proposed_only_when_its_condition_holds() -> None:
    loaded = load("alexnet")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    seen = set()
    for _ in range(200):
        values = loaded.suggest(study.ask())
        assert ("nesterov" in values) == (values["optimizer"] == "sgd")
        assert ("crop_keep" in values) == (values["preprocessing"] == "crop")
        seen.add(values["optimizer"])
    assert seen == {"sgd", "adam", "adamw", "rmsprop", "nadam", "lion"}


def test_the_digest_follows_the_content_not_the_object() -> None:
    one = space(dropout={"type": "float", "low": 0.0, "high": 0.5, "default": 0.1})
    same = space(dropout={"type": "float", "low": 0, "high": 0.5, "default": 0.1, "log": False})
    other = space(dropout={"type": "float", "low": 0.0, "high": 0.6, "default": 0.1})
    assert one.digest() == same.digest() != other.digest()


FLOAT = {"type": "float", "low": 0.1, "high": 0.9, "default": 0.5}
PICK = {"type": "categorical", "choices": ["a", "b"], "default": "a"}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "at least one parameter"),
        ({"x": {**FLOAT, "low": 1.0}}, r"low=1 must be <= high=0.9"),
        ({"x": {**FLOAT, "default": 2.0}}, r"default must be in \[low, high\]"),
        ({"x": {**FLOAT, "low": 0.0, "log": True}}, "log: true needs low > 0"),
        ({"x": {**FLOAT, "log": True, "step": 0.1}}, "log and step exclude each other"),
        ({"x": {**FLOAT, "step": 0.3}}, "whole number of steps"),
        ({"x": {**FLOAT, "low": float("nan")}}, "finite"),
        ({"x": {"type": "int", "low": 1, "high": 5, "default": 2.5}}, "valid integer"),
        ({"x": {**PICK, "default": "c"}}, "default must be one of"),
        ({"x": {**PICK, "choices": ["a", "a"]}}, "choices must differ"),
        ({"x": {**FLOAT, "when": {"y": "a"}}, "y": PICK}, "may only name a parameter above it"),
        ({"y": PICK, "x": {**FLOAT, "when": {"y": "c"}}}, "must be among that parameter's values"),
    ],
)
def test_a_space_that_breaks_a_rule_is_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SearchSpace.model_validate(parameters)


NARROW = {
    "dropout": {"type": "float", "low": 0.1, "high": 0.4, "step": 0.1, "default": 0.2},
    "optimizer": {"type": "categorical", "choices": ["adam", "lion"], "default": "adam"},
    "beta_1": {"type": "float", "low": 0.5, "high": 0.9, "default": 0.9, "when": {"optimizer": ["adam"]}},
}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"dropout": {"low": 0.0, "high": 0.5}}, None),
        ({"optimizer": {"choices": ["sgd", "adam", "lion"]}}, None),
        ({"dropout": {"high": 0.3}}, "dropout: its bounds shrink from 0.1-0.4 to 0.1-0.3"),
        ({"dropout": {"low": 0.05, "high": 0.45, "default": 0.25}}, "dropout: its steps fall elsewhere"),
        ({"dropout": {"step": None}}, "dropout: its scale changes"),
        ({"dropout": {"default": 0.3}}, "dropout: its default changes from 0.2 to 0.3"),
        ({"optimizer": {"choices": ["adam", "sgd"]}}, "optimizer: its choices lose lion"),
        ({"beta_1": {"when": {}}}, "beta_1: its conditions change"),
        ({"beta_1": None}, "beta_1 is gone"),
        ({"width": {"type": "float", "low": 0.5, "high": 1.0, "default": 1.0}}, "width is new"),
    ],
    ids=str,
)
def test_a_space_goes_on_as_a_wider_one_and_as_no_other(change: dict[str, Any], reason: str | None) -> None:
    changed = {name: {**values, **(change.get(name) or {})} for name, values in NARROW.items()}
    changed |= {name: values for name, values in change.items() if name not in NARROW and values}
    changed = {name: values for name, values in changed.items() if change.get(name, values) is not None}
    reasons = SearchSpace.model_validate(NARROW).breaks(SearchSpace.model_validate(changed))
    assert (not reasons) if reason is None else any(found.startswith(reason) for found in reasons)


def test_a_parameter_that_only_counts_under_an_added_choice_may_be_added() -> None:
    changed: dict[str, Any] = {**NARROW, "optimizer": {**NARROW["optimizer"], "choices": ["adam", "lion", "sgd"]}}
    changed["momentum"] = {"type": "float", "low": 0.5, "high": 0.9, "default": 0.9, "when": {"optimizer": "sgd"}}
    assert not SearchSpace.model_validate(NARROW).breaks(SearchSpace.model_validate(changed))
