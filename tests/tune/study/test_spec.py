"""The study file: overrides, units, lines, and the studies that come with emotune."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import yaml

from search_spaces import WRITTEN
from tests import ROOT
from tune.errors import StudyFileError
from tune.study.resolved_spec import read_spec
from tune.study.spec import StudySpec, load_spec
from tune.study.spec_sections import Section, seconds
from tune.study.trial_parameters import NEW_STUDY
from tune.study.yaml_source import write_yaml

STUDIES = sorted((ROOT / "studies").glob("*.yaml"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda p: p.stem)
def test_every_study_that_comes_with_emotune_is_in_order(path: Path) -> None:
    spec = load_spec(path)
    assert spec.name == path.stem
    assert f"emotune run studies/{path.name}" in path.read_text()
    spec.trial_config(spec.space.defaults())


def test_the_missions_study_is_the_full_alexnet_at_227_on_shared_gpus() -> None:
    spec = load_spec(ROOT / "studies/fer2013.yaml")
    config = spec.trial_config(spec.space.defaults())
    assert (config.image_size_px, config.width) == (227, 1.0)
    assert 0 < spec.resources.gpus_per_trial < 1


@pytest.mark.parametrize(
    ("text", "expected"), [("90", 90), ("90s", 90), ("30m", 1800), ("1h30m", 5400), ("1.5h", 5400), ("2d", 172800)]
)
def test_times_have_units(text: str, expected: float) -> None:
    assert seconds(text) == expected


def test_a_new_study_fixes_todays_defaults_unless_its_file_says_otherwise(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("name: a\ndata: d\nspace: quickstart\n")
    assert load_spec(file).fixed == NEW_STUDY
    varied = "space.weight_average={type: categorical, choices: [0, 0.9], default: 0}"
    given = load_spec(file, ["fixed.mirror=false", varied])
    assert given.fixed == {"mirror": False, "precision": "auto", "warmup_epochs": 0.25}
    now_and_then = "space.weight_average={type: float, low: 0.9, high: 0.95, default: 0.9, when: {optimizer: adam}}"
    given = load_spec(file, [now_and_then])
    assert given.trial_config({"optimizer": "nadam"}).weight_average == 0.995
    assert given.trial_config({"optimizer": "adam", "weight_average": 0.9}).weight_average == 0.9
    assert StudySpec.model_validate(given.model_dump(mode="json"), context=WRITTEN) == given
    assert given.possible_values("weight_average") == [0.9, 0.95, 0.995]
    written = {"name": "a", "data": "d", "space": load_spec(file).space.model_dump()}
    older = StudySpec.model_validate(written, context=WRITTEN)
    assert older.fixed == {} and older.trial_config({}).weight_average == 0


def test_overrides_reach_into_the_file_and_into_a_builtin_space(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("name: a\ndata: d\nspace: quickstart\n")
    changed = ["space.dropout.low=0.1", "asha.max_epochs=7", "fixed={width: 0.5}", "space.split_ratio=null", "name=b"]
    spec = load_spec(file, changed)
    assert spec.space.parameters["dropout"].model_dump()["low"] == 0.1
    assert (spec.asha.max_epochs, spec.fixed["width"], spec.name) == (7, 0.5, "b")
    assert "split_ratio" not in spec.space.parameters


def test_numbers_written_as_text_count_as_numbers_and_whole_floats_as_integers(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(
        "name: a\ndata: d\ntrials: '8'\nfixed: {image_size_px: '64', plateau_patience: 3.0}\nspace:\n"
        "  batch_size: {type: categorical, choices: ['32', 64.0], default: '32'}\n"
        "  split_ratio: {type: categorical, choices: [8e-1, 0.9], default: 0.9}\n"
        "  dropout: {type: float, low: '0', high: 5e-1, default: '1e-1'}\n"
        "  momentum: {type: float, low: 0.5, high: 0.9, default: 0.9, when: {batch_size: '32'}}\n"
    )
    spec = load_spec(file)
    assert (spec.trials, spec.fixed) == (8, {"image_size_px": 64, "plateau_patience": 3, **NEW_STUDY})
    assert spec.space.defaults() == {"batch_size": 32, "split_ratio": 0.9, "dropout": 0.1, "momentum": 0.9}
    choices = [spec.space.parameters[name].model_dump()["choices"] for name in ("batch_size", "split_ratio")]
    assert repr(choices) == "[[32, 64], [0.8, 0.9]]"


OLD_STUDY: dict[str, object] = {
    "name": "1e5",
    "data": "d",
    "fixed": {"image_size_px": "32", "batch_norm": "yes"},
    "space": {
        "batch_size": {"type": "float", "low": 16.0, "high": 64.0, "step": 16.0, "default": 32.0},
        "dropout": {"type": "categorical", "choices": ["8e-1", 0.5], "default": "8e-1"},
        "width": {"type": "categorical", "choices": [1, 1.0], "default": 1.0},
        "label_smoothing": {"type": "float", "low": 0.0, "high": 0.33333334, "step": 0.11111111, "default": 0.0},
        "momentum": {"type": "float", "low": 0.5, "high": 0.9, "default": 0.9, "when": {"label_smoothing": 0.1}},
    },
}


def test_the_study_file_that_an_earlier_version_wrote_still_opens(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(OLD_STUDY, sort_keys=False))  # writes 8e-1 and 1e5 without quotes
    assert "name: 1e5" in file.read_text() and "- 8e-1" in file.read_text()
    spec = read_spec(file)
    assert (spec.name, spec.space.defaults()["dropout"]) == ("1e5", 0.8)
    config = spec.trial_config(spec.space.defaults())
    assert (config.batch_size, config.image_size_px, config.batch_norm, config.dropout) == (32, 32, True, 0.8)
    write_yaml(file, spec.model_dump(mode="json"))
    assert read_spec(file) == spec
    with pytest.raises(StudyFileError, match="choices must differ"):  # a new study must not be like that
        load_spec(file)


def test_a_space_beside_the_study_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("dropout: {type: float, low: 0, high: 0.5, default: 0.1}\n")
    (tmp_path / "s.yaml").write_text("name: a\ndata: d\nspace: mine.yaml\n")
    assert list(load_spec(tmp_path / "s.yaml").space.parameters) == ["dropout"]


def test_an_error_names_the_line(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("name: a\ndata: d\nspace: quickstart\nasha:\n  max_epochs: 3\n  grace_epoch: 2\n")
    with pytest.raises(StudyFileError, match=r"asha.grace_epoch .*s.yaml, line 6\). Did you mean 'grace_epochs'"):
        load_spec(file)


def test_a_spec_written_out_and_read_again_is_the_same(tmp_path: Path) -> None:
    spec = load_spec(ROOT / "studies/fer2013-cpu.yaml")
    file = tmp_path / "again.yaml"
    file.write_text(yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False))
    assert load_spec(file) == spec


def test_every_key_of_a_study_file_is_on_its_page() -> None:
    text = "".join((ROOT / f"docs/{page}.md").read_text() for page in ("study-file", "long-runs"))
    derived = {"objective_weights", "second_objective"}  # written by emotune, from `objective`
    keys = set(StudySpec.model_fields) - derived
    for name, field in StudySpec.model_fields.items():
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, Section):
                keys.discard(name)
                keys |= {f"{name}.{inside}" for inside in kind.model_fields}
    missing = [key for key in sorted(keys) if f"`{key}`" not in text and f"`.{key.rpartition('.')[2]}`" not in text]
    assert not missing and len(keys) > 50


def test_a_scale_that_names_every_choice_is_checked_as_it_is_multiplied() -> None:
    decay = {"type": "float", "low": 1, "high": 100, "default": 10, "log": True}
    factors = {"adamw": 1e-3, "lion": 1e-2}
    space = {
        "optimizer": {"type": "categorical", "choices": ["adamw", "lion"], "default": "adamw"},
        "weight_decay": {**decay, "scale_by": {"optimizer": factors}},
    }
    spec = load_spec({"name": "a", "data": "d", "space": space})
    assert spec.space.defaults()["weight_decay"] == pytest.approx(0.01)
    space["optimizer"] = {"type": "categorical", "choices": ["adamw", "lion", "sgd"], "default": "adamw"}
    with pytest.raises(StudyFileError, match=r"space.weight_decay: .*less than or equal to 1. Received: 100"):
        load_spec({"name": "a", "data": "d", "space": space})
