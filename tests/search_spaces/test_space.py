"""The search space: what it proposes, what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
import pytest
import yaml
from pydantic import ValidationError

from search_spaces import WRITTEN, SearchSpace, builtin_spaces
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
        (
            {"y": {**PICK, "choices": ["a", "b", 1]}, "x": {**FLOAT, "when": {"y": True}}},
            "must be among that parameter's",
        ),
        ({"y": FLOAT, "x": {**FLOAT, "when": {"y": 0.5}}}, "when y must name values that are proposed again and again"),
        ({"y": {**FLOAT, "step": 0.1}, "x": {**FLOAT, "when": {"y": 0.45}}}, "must be among that parameter's values"),
        ({"x": {**FLOAT, "low": True}}, "must be a number"),
        ({"x": {**FLOAT, "low": "0.1"}}, "must be a number"),
        ({"x": {**FLOAT, "log": "yes"}}, "valid boolean"),
        ({"x": {**FLOAT, "log": 1}}, "valid boolean"),
        ({"x": {**FLOAT, "step": float("inf")}}, "finite"),
        ({"x": {**FLOAT, "step": 1e-320}}, "at most 1,000,000 steps"),
        ({"x": {**FLOAT, "step": 1e-9}}, "at most 1,000,000 steps"),
        ({"x": {**FLOAT, "low": -1e308, "high": 1e308}}, "Optuna must be able to hold the range"),
        ({"x": {**FLOAT, "high": 10**400}}, "at most 64 bits"),
        ({"x": {"type": "int", "low": 0, "high": 2**53 + 1, "default": 0}}, "integers up to 2\\^53"),
        ({"x": {"type": "int", "low": 0, "high": 10**400, "default": 0}}, "at most 64 bits"),
        ({"x": {"type": "int", "low": 1, "high": 10, "step": 4, "default": 5}}, "Write high: 9"),
        ({"x": {"type": "int", "low": 1, "high": 9, "step": 4, "default": 6}}, "Write default: 5"),
        ({"x": {**PICK, "choices": [1, 1.0], "default": 1}}, "1 and 1.0, which are equal. Remove one"),
        ({"x": {**PICK, "choices": [True, 1], "default": 1}}, "True and 1, which are equal"),
        ({"x": {**PICK, "choices": [1e-3, 0.001], "default": 0.001}}, "which are equal"),
        ({"x": {**PICK, "choices": [0.0, -0.0], "default": 0.0}}, "0.0 and -0.0, which are equal"),
        ({"x": {**PICK, "choices": [float("nan"), 0.1], "default": 0.1}}, "choices must be finite"),
        ({"x": {**PICK, "choices": [["a"], "b"], "default": "b"}}, "must be one number, one text, true or false"),
        ({"x": {**PICK, "choices": [None, "b"], "default": "b"}}, "must be one number, one text, true or false"),
    ],
)
def test_a_space_that_breaks_a_rule_is_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SearchSpace.model_validate(parameters)


THIRDS = {"low": 0, "high": 0.33333334, "step": 0.11111111, "default": 0.33333334}


def test_a_range_is_on_its_steps_when_optuna_says_so() -> None:
    with pytest.raises(ValidationError, match=r"Received: .*0.33333334, step=0.11111111. Write high: 0.33333333"):
        space(dropout={"type": "float", **THIRDS})
    with pytest.raises(
        ValidationError, match=r"default must be in \[low, high\] = \[0, 0.33333333\]. Received: 0.33333334"
    ):
        space(dropout={"type": "float", **THIRDS, "high": 0.33333333})
    with pytest.raises(ValidationError, match="Optuna holds.*Round them"):  # it warns at each proposal, to no effect
        space(dropout={"type": "float", "low": 0, "high": 16 / 3, "step": 1 / 3, "default": 0})
    space(dropout={"type": "float", **THIRDS, "high": 0.33333333, "default": 0.33333333})


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_proposed_from_a_space_in_order_can_be_told_again(seed: int) -> None:
    """Random ranges with steps: those that pass are searched, and each trial is added to another study."""
    random = np.random.default_rng(seed)
    passed = 0
    for _ in range(40):
        step = float(random.choice([0.1, 0.05, 1 / 3, 0.11111111, 1e-3, 0.007, 0.1234567]))
        low, steps = float(random.choice([0, 0.1, 0.7, -0.3, 1 / 3])), int(random.integers(0, 30))
        high = float(random.choice([low + steps * step, round(low + steps * step, 8), low + steps * step * 1.0000001]))
        default = low + int(random.integers(0, steps + 1)) * step
        try:
            found = space(x={"type": "float", "low": low, "high": high, "step": step, "default": default})
        except ValidationError:
            continue
        passed += 1
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
        study.enqueue_trial(found.defaults())
        again = optuna.create_study()
        for _ in range(4):
            values = found.suggest(study.ask())
            assert found.parameters["x"].contains(values["x"])
            again.add_trial(
                optuna.trial.create_trial(value=0.0, params=values, distributions=found.distributions(values))
            )
        assert study.trials[0].params == found.defaults()
    assert passed > 10


@pytest.mark.parametrize(
    "parameter",
    [
        {"type": "float", "low": 5e-324, "high": 1e308, "log": True, "default": 1.0},
        {"type": "float", "low": 0.5, "high": 0.5, "default": 0.5},
        {"type": "float", "low": 0.5, "high": 0.5, "step": 0.1, "default": 0.5},
        {"type": "float", "low": -0.0, "high": 0.5, "default": 0},
        {"type": "float", "low": 0, "high": 1, "step": 1e-6, "default": 1},
        {"type": "int", "low": 16.0, "high": 64, "step": 16, "default": 32},
        {"type": "int", "low": 1, "high": 2**53, "log": True, "default": 1},
        {"type": "categorical", "choices": ["1", 1, "true", 0, 0.5], "default": "1"},
    ],
    ids=str,
)
def test_odd_parameters_that_optuna_holds_are_in_order(parameter: dict[str, Any]) -> None:
    found = space(x=parameter)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(5):
        assert found.parameters["x"].contains(found.suggest(study.ask())["x"])


def test_a_condition_on_a_step_holds_whatever_its_last_digit() -> None:
    found = space(
        dropout={"type": "float", "low": 0, "high": 0.5, "step": 0.1, "default": 0.1},
        momentum={"type": "float", "low": 0.5, "high": 0.9, "default": 0.9, "when": {"dropout": 0.3}},
    )
    assert found.parameters["momentum"].active({"dropout": 3 * 0.1})  # 0.30000000000000004
    assert not found.parameters["momentum"].active({"dropout": 0.2})


def test_what_an_earlier_version_took_still_opens() -> None:
    old = {"x": {"type": "float", **THIRDS}, "y": {**PICK, "choices": [1, 1.0], "default": 1}}
    assert SearchSpace.model_validate(old, context=WRITTEN).defaults() == {"x": 0.33333334, "y": 1}


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
        ({"dropout": {"low": 0.2}}, "dropout: its bounds shrink from 0.1-0.4 to 0.2-0.4"),
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
    reasons = SearchSpace.model_validate(NARROW).incompatible_changes(SearchSpace.model_validate(changed))
    assert (not reasons) if reason is None else any(found.startswith(reason) for found in reasons)
    assert sum("its steps fall elsewhere" in found for found in reasons) == ("its steps" in (reason or ""))


def test_a_parameter_that_only_counts_under_an_added_choice_may_be_added() -> None:
    changed: dict[str, Any] = {**NARROW, "optimizer": {**NARROW["optimizer"], "choices": ["adam", "lion", "sgd"]}}
    changed["momentum"] = {"type": "float", "low": 0.5, "high": 0.9, "default": 0.9, "when": {"optimizer": "sgd"}}
    assert not SearchSpace.model_validate(NARROW).incompatible_changes(SearchSpace.model_validate(changed))


SCALED = {
    "optimizer": {"type": "categorical", "choices": ["adam", "sgd", "lion"], "default": "adam"},
    "batch_size": {"type": "categorical", "choices": [32, 128], "default": 128},
    "learning_rate": {
        "type": "float",
        "low": 1e-4,
        "high": 1e-2,
        "log": True,
        "default": 1e-3,
        "scale_by": {"optimizer": {"sgd": 30, "lion": 0.1}, "batch_size": {128: 2}},
    },
}


def test_a_range_is_multiplied_by_what_other_choices_say() -> None:
    loaded = space(**SCALED)
    assert loaded.defaults()["learning_rate"] == 2e-3
    factors = {"adam": 1.0, "sgd": 30.0, "lion": 0.1}
    seen: dict[tuple[str, int], list[float]] = {}
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=3))
    for _ in range(300):
        asked = study.ask()
        values = loaded.suggest(asked)
        factor = factors[values["optimizer"]] * (2 if values["batch_size"] == 128 else 1)
        assert values["learning_rate"] == pytest.approx(asked.params["learning_rate_base"] * factor, rel=1e-12)
        seen.setdefault((values["optimizer"], values["batch_size"]), []).append(values["learning_rate"] / factor)
    assert len(seen) == 6
    for drawn in seen.values():
        assert 1e-4 <= min(drawn) < 3e-4 and 3e-3 < max(drawn) <= 1e-2
    assert loaded.parameters["learning_rate"].bounds() == (pytest.approx(1e-5), pytest.approx(0.6))


def test_optuna_takes_a_multiplied_value_back_at_the_ends_of_its_range_too() -> None:
    loaded = space(**SCALED)
    study = optuna.create_study()
    for base in (1e-4, 1e-3, 7.1e-3, 1e-2):
        for optimizer in ("adam", "sgd", "lion"):
            study.enqueue_trial({"optimizer": optimizer, "batch_size": 128, "learning_rate_base": base})
            values = loaded.suggest(study.ask())
            params = loaded.optuna_params(values)
            assert params["learning_rate_base"] == pytest.approx(base, rel=1e-12)
            optuna.trial.create_trial(value=0.5, params=params, distributions=loaded.distributions(values))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": 0.0001, "log": False}, "scale_by and step exclude each other"),
        (
            {"scale_by": {"momentum": {0.9: 2}}},
            "may only name a parameter above it that has choices. Received: 'momentum'",
        ),
        ({"scale_by": {"learning_rate": {0.9: 2}}}, "may only name a parameter above it"),
        ({"scale_by": {"optimizer": {"sdg": 2}}}, "must name some of its choices, adam, sgd, lion. Received: sdg"),
        ({"scale_by": {"optimizer": {}}}, "must name some of its choices, adam, sgd, lion. Received: none"),
        ({"scale_by": {"optimizer": 30}}, "must have a factor for each value"),
        ({"scale_by": {"optimizer": {"sgd": 0}}}, "greater than 0"),
        ({"scale_by": {"optimizer": {"sgd": True}}}, "must be a number"),
        ({"scale_by": {"optimizer": {"sgd": float("inf")}}}, "finite"),
    ],
)
def test_a_scale_that_cannot_be_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message.replace("(", r"\(")):
        space(**{**SCALED, "learning_rate": {**SCALED["learning_rate"], **change}})


def test_a_study_cannot_go_on_with_another_scale_and_older_spaces_keep_their_digest() -> None:
    other = {**SCALED["learning_rate"], "scale_by": {"optimizer": {"sgd": 10}}}
    changed = space(**{**SCALED, "learning_rate": other})
    assert space(**SCALED).incompatible_changes(changed) == ["learning_rate: its scale_by changes"]
    assert space(**SCALED).digest() != changed.digest()
    assert space(dropout={"type": "float", "low": 0.0, "high": 0.5, "default": 0.1}).digest() == "d33a6ac36b4d"


def test_a_configuration_is_completed_with_the_defaults_that_count_beside_it() -> None:
    loaded = load("alexnet")
    found = loaded.complete({"optimizer": "sgd", "dropout": 0.3})
    assert found["momentum"] == 0.9 and "beta_1" not in found and found["dropout"] == 0.3
    assert space(**SCALED).complete({"optimizer": "sgd"})["learning_rate"] == pytest.approx(0.06)
    assert space(**SCALED).complete({"optimizer": "sgd", "learning_rate": 0.6})["learning_rate"] == 0.6


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lr": 1}, "lr is not in the space. Received: 1. It has "),
        ({"momentum": 0.9}, "momentum does not count where optimizer=adam. Received: 0.9. Leave it out"),
        ({"dropout": 0.72}, "dropout must be from 0 to 0.7 in steps of 0.05. Received: 0.72"),
        (
            {"optimizer": "adagrad"},
            "optimizer must be one of sgd, adam, adamw, rmsprop, nadam, lion. Received: 'adagrad'",
        ),
        ({"learning_rate": 1.0}, "learning_rate must be from 0.0001 to 0.01"),
        ({"dropout": [0.1]}, "dropout must be one value"),
        ({"batch_size": True}, "batch_size must be one of 16, 32, 64, 128. Received: True"),
    ],
)
def test_a_configuration_that_the_space_does_not_have_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        load("alexnet").complete(given)
    assert message in str(error.value)


def test_every_configuration_of_a_small_space_is_known_and_each_is_one_that_optuna_takes() -> None:
    small = space(
        optimizer={"type": "categorical", "choices": ["sgd", "adam"], "default": "adam"},
        momentum={"type": "float", "low": 0.7, "high": 0.9, "step": 0.1, "default": 0.9, "when": {"optimizer": "sgd"}},
        batch_size={"type": "int", "low": 16, "high": 32, "step": 16, "default": 16},
    )
    every = small.configurations(limit=8)
    assert every is not None and len(every) == 8
    assert {"optimizer": "sgd", "momentum": 0.8, "batch_size": 32} in every
    assert {"optimizer": "adam", "batch_size": 16} in every
    for values in every:
        assert small.complete(values) == values
    drawn = {small.key(small.suggest(optuna.create_study().ask())) for _ in range(60)}
    assert drawn <= {small.key(values) for values in every} and len(drawn) > 4
    assert small.configurations(limit=7) is None
    assert space(**SCALED).configurations(limit=10_000) is None


def test_a_multiplied_value_out_of_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match="learning_rate must be from 0.006 to 0.6. Received: 0.7"):
        space(**SCALED).complete({"optimizer": "sgd", "learning_rate": 0.7})
