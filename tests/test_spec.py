"""The study file: overrides, units, lines, and the studies that come with emotune."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tune.errors import StudyFileError
from tune.spec import load_study, seconds

STUDIES = sorted((Path(__file__).parents[1] / "studies").glob("*.yaml"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda p: p.stem)
def test_every_study_that_comes_with_emotune_is_in_order(path: Path) -> None:
    spec = load_study(path)
    assert spec.name == path.stem
    assert f"emotune run studies/{path.name}" in path.read_text()
    spec.trial_config(spec.space.defaults())


def test_the_missions_study_is_the_full_alexnet_at_227_on_shared_gpus() -> None:
    spec = load_study(Path(__file__).parents[1] / "studies/fer2013.yaml")
    config = spec.trial_config(spec.space.defaults())
    assert (config.image_size_px, config.width) == (227, 1.0)
    assert 0 < spec.resources.gpus_per_trial < 1


@pytest.mark.parametrize(
    ("text", "expected"), [("90", 90), ("90s", 90), ("30m", 1800), ("1h30m", 5400), ("1.5h", 5400), ("2d", 172800)]
)
def test_times_have_units(text: str, expected: float) -> None:
    assert seconds(text) == expected


def test_overrides_reach_into_the_file_and_into_a_builtin_space(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("name: a\ndata: d\nspace: quickstart\n")
    changed = ["space.dropout.low=0.1", "asha.max_epochs=7", "fixed={width: 0.5}", "space.split_ratio=null", "name=b"]
    spec = load_study(file, changed)
    assert spec.space.parameters["dropout"].model_dump()["low"] == 0.1
    assert (spec.asha.max_epochs, spec.fixed, spec.name) == (7, {"width": 0.5}, "b")
    assert "split_ratio" not in spec.space.parameters


def test_a_space_beside_the_study_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("dropout: {type: float, low: 0, high: 0.5, default: 0.1}\n")
    (tmp_path / "s.yaml").write_text("name: a\ndata: d\nspace: mine.yaml\n")
    assert list(load_study(tmp_path / "s.yaml").space.parameters) == ["dropout"]


def test_an_error_names_the_line(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("name: a\ndata: d\nspace: quickstart\nasha:\n  max_epochs: 3\n  grace_epoch: 2\n")
    with pytest.raises(StudyFileError, match=r"asha.grace_epoch .*s.yaml, line 6\). Did you mean 'grace_epochs'"):
        load_study(file)


def test_a_spec_written_out_and_read_again_is_the_same(tmp_path: Path) -> None:
    spec = load_study(Path(__file__).parents[1] / "studies/fer2013-cpu.yaml")
    file = tmp_path / "again.yaml"
    file.write_text(yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False))
    assert load_study(file) == spec
