"""Files of the user's own in a study file: read beside it, carried in it, their parameters checked against it."""

from __future__ import annotations

import sys
from contextlib import closing
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import Any

import albumentations as A
import pytest
import yaml

import tune
from tests.support.own_models import OWN_MODEL
from tests.support.own_pipelines import OWN_PIPELINE, saved_pipeline
from tests.support.own_training import OPTIMIZER, OWN_TRAINING, SCHEDULE
from trainables.dataset.reader import open_dataset
from tune.errors import EmotuneError, StudyError
from tune.session.create_or_resume import open_or_create, reopen, write_study_file
from tune.session.own_models import has_tried
from tune.study.journal import Journal
from tune.study.own_files import application_models, defaults_with, with_code
from tune.study.resolved_spec import read_spec
from tune.study.spec import StudySpec, load_spec

OWN, AUG = "my_models.py:build", "my_aug.py:training"


@pytest.fixture
def write(tmp_path: Path) -> Any:
    """Writes the model file and a study file beside it."""
    (tmp_path / "my_models.py").write_text(OWN_MODEL)

    def written(fixed: dict[str, Any], space: dict[str, Any] | None = None, **more: Any) -> Path:
        path = tmp_path / "study.yaml"
        given = {
            "name": "own",
            "data": "synthetic",
            "storage": str(tmp_path / "runs"),
            "space": {"batch_size": {"type": "int", "low": 8, "high": 64, "default": 32}, **(space or {})},
            "fixed": fixed,
        }
        path.write_text(yaml.safe_dump({**given, **more}, sort_keys=False))
        return path

    return written


DEPTH = {"type": "int", "low": 1, "high": 4, "default": 2}


def test_a_trial_gets_the_file_and_its_parameters(write: Any) -> None:
    spec = load_spec(write({"model": OWN, "model.act": "gelu"}, {"model.depth": DEPTH}))
    config = spec.trial_config({"batch_size": 8, "model.depth": 3})
    assert config.model_parameters == {"act": "gelu", "depth": 3}
    assert config.code["my_models.py"].text == OWN_MODEL
    assert load_spec(write({"model": "vgg_small"})).trial_config({}).code == {}


def test_an_own_model_may_be_one_of_several_with_parameters_of_its_own(write: Any) -> None:
    space = {
        "model": {"type": "categorical", "choices": ["resnet_small", OWN], "default": "resnet_small"},
        "model.depth": {**DEPTH, "when": {"model": OWN}},
        "dropout": {"type": "float", "low": 0.0, "high": 0.5, "default": 0.3, "when": {"model": "resnet_small"}},
    }
    spec = load_spec(write({}, space))
    assert spec.space.defaults().keys() == {"batch_size", "model", "dropout"}
    assert spec.trial_config({"model": OWN, "model.depth": 3}).code
    assert not spec.trial_config(spec.space.defaults()).code


def test_code_is_tried_with_the_defaults_that_the_space_has_beside_it(write: Any) -> None:
    space = {
        "model": {"type": "categorical", "choices": ["resnet_small", OWN], "default": "resnet_small"},
        "model.depth": {**DEPTH, "default": 3, "when": {"model": OWN}},
    }
    spec = load_spec(write({}, space))
    assert defaults_with(spec.space, "model", OWN)["model.depth"] == 3
    assert defaults_with(load_spec(write({"model": OWN})).space, "model", OWN) == {"batch_size": 32, "model": OWN}


def test_a_function_that_is_added_from_the_same_file_is_tried(write: Any, tmp_path: Path) -> None:
    another = OWN_MODEL[OWN_MODEL.index("\ndef build") :].replace("build", "b2")
    (tmp_path / "my_models.py").write_text(OWN_MODEL + another)
    choices = {"type": "categorical", "choices": ["resnet_small", OWN], "default": OWN}
    spec = load_spec(write({}, {"model": choices}))
    study = open_or_create(spec, "abc")
    with closing(Journal(study.journal)) as journal:
        journal.append("session", number=1, pid=1, fingerprint="abc")
    assert has_tried(study, spec)
    more = {**choices, "choices": [*choices["choices"], "my_models.py:b2"]}
    assert not has_tried(study, load_spec(write({}, {"model": more})))


def test_the_mark_that_editors_leave_at_a_files_beginning_does_not_count(write: Any, tmp_path: Path) -> None:
    plain = load_spec(write({"model": OWN}))
    (tmp_path / "my_models.py").write_text(OWN_MODEL, encoding="utf-8-sig")
    assert load_spec(write({"model": OWN})).code["my_models.py"].text == plain.code["my_models.py"].text


def test_a_type_that_is_quoted_text_is_told(write: Any, tmp_path: Path) -> None:
    (tmp_path / "my_models.py").write_text(OWN_MODEL.replace("depth: int", 'depth: "layers per stage"'))
    with pytest.raises(EmotuneError, match=r"the type of depth must be int, float"):
        load_spec(write({"model": OWN}))


def test_a_module_of_an_editable_installation_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "elsewhere/edited"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "nets.py").write_text(OWN_MODEL)

    class Finder:  # as setuptools' editable installations leave one
        @staticmethod
        def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
            if name == "edited":
                return spec_from_file_location(name, package / "__init__.py", submodule_search_locations=[str(package)])
            return None

    monkeypatch.setattr("sys.meta_path", [*sys.meta_path, Finder])
    code = with_code({"fixed": {"model": "edited.nets:build"}}, tmp_path)["code"]
    with pytest.raises(EmotuneError, match="__main__, which is not installed"):
        with_code({"fixed": {"model": "__main__:build"}}, tmp_path)
    assert code["edited.nets"]["text"] == OWN_MODEL and "edited" not in sys.modules


def test_set_reaches_parameters_with_a_dot(write: Any) -> None:
    file = write({"model": OWN}, {"model.depth": DEPTH})
    spec = load_spec(file, ["fixed.model.act=gelu", "space.model.depth.high=3"])
    assert spec.fixed["model.act"] == "gelu"
    assert spec.space.parameters["model.depth"].bounds() == (1, 3)


def test_the_resolved_study_file_holds_the_code_and_is_what_counts(write: Any, tmp_path: Path) -> None:
    spec = load_spec(write({"model": OWN}))
    study = open_or_create(spec, "abc")
    assert "\n      def build(\n" in study.study_file.read_text()  # as a person reads it
    assert read_spec(study.study_file).code == spec.code
    (study.directory / "my_models.py").write_text("raise SystemExit\n")  # another file of that name, beside it
    assert load_spec(study.study_file).code == spec.code


@pytest.mark.parametrize(
    ("fixed", "space", "message"),
    [
        ({"model": "my_model.py:build"}, {}, r"must name a file beside the study file.*my_model\.py: No such file"),
        ({"model": "my_models.py:biuld"}, {}, r"must define biuld\. Received: none\. Did you mean 'build'\?"),
        ({"model": "no.such.module:build"}, {}, r"no\.such\.module, which is not installed"),
        ({"model": "resnet"}, {}, r"fixed\.model: must be a name, or a function.*Did you mean 'resnet_small'\?"),
        ({"model": OWN, "model.dept": 3}, {}, r"fixed\.model\.dept is no parameter of my_models\.py:build\. Did you"),
        ({"model": OWN, "model.depth": 2.5}, {}, r"fixed\.model\.depth: must be a whole number, as my_models"),
        ({"model": OWN, "model.act": "tanh"}, {}, r"fixed\.model\.act: must be one of relu, gelu.*'tanh'"),
        ({"model.depth": 3}, {}, r"no parameter of a model of your own, and the study has none"),
        ({"model": OWN, "dropout": 0.5}, {}, r"fixed\.dropout counts for emotune's own models only.*model\.dropout"),
        ({"model": OWN}, {"width": {"type": "float", "low": 0.5, "high": 1, "default": 1}}, r"space\.width counts for"),
        (
            {"model": OWN},
            {"model.depth": {"type": "float", "low": 1, "high": 4, "default": 2}},
            r"space\.model\.depth: type must be int or categorical",
        ),
        (
            {"model": OWN},
            {"model.act": {"type": "categorical", "choices": ["relu", "elu"], "default": "relu"}},
            r"space\.model\.act: must be one of relu, gelu.*'elu'",
        ),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(
    write: Any, fixed: dict[str, Any], space: dict[str, Any], message: str
) -> None:
    with pytest.raises(EmotuneError, match=message) as raised:
        load_spec(write(fixed, space))
    assert "\n" not in str(raised.value) and raised.value.exit_code == 2


def test_a_trial_gets_the_pipeline_and_its_parameters(write: Any, tmp_path: Path) -> None:
    (tmp_path / "my_aug.py").write_text(OWN_PIPELINE)
    (tmp_path / "mine.json").write_text(saved_pipeline())
    space = {
        "preprocessing": {"type": "categorical", "choices": ["shifts", "mine.json", AUG], "default": "shifts"},
        "preprocessing.strength": {
            "type": "float",
            "low": 0,
            "high": 1,
            "default": 0.5,
            "when": {"preprocessing": AUG},
        },
    }
    file = write({"model": OWN}, space, constraints=["preprocessing.strength < 0.9"])
    spec = load_spec(file, ["space.preprocessing.strength.low=0.1"])
    assert spec.space.parameters["preprocessing.strength"].bounds() == (0.1, 1)
    config = spec.trial_config({"preprocessing": AUG, "preprocessing.strength": 0.3})
    assert config.preprocessing_parameters == {"strength": 0.3}
    assert config.code.keys() == {"my_models.py", "my_aug.py"}
    assert spec.trial_config({"preprocessing": "mine.json"}).code.keys() == {"my_models.py", "mine.json"}
    assert spec.trial_config({"preprocessing": "shifts"}).code.keys() == {"my_models.py"}
    study = begun(spec)
    assert read_spec(study.study_file).code == spec.code
    (tmp_path / "mine.json").write_text(saved_pipeline(A.VerticalFlip()))
    with pytest.raises(StudyError, match=r"other code: mine\.json \(\w{12} then, \w{12} now\).*--accept-code"):
        reopen(study, "abc", trials=None, time=None)


@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        ({"preprocessing": "nothere.yaml"}, r"must name a file beside the study file.*nothere\.yaml: No such file"),
        ({"preprocessing": "augmnt"}, r"fixed\.preprocessing: must be a name, or a pipeline of your own.*'augment'\?"),
        ({"preprocessing": AUG, "preprocessing.strngth": 1}, r"no parameter of my_aug\.py:training\. Did you mean"),
        ({"preprocessing": AUG, "preprocessing.flip": 1}, r"fixed\.preprocessing\.flip: must be true or false"),
        ({"preprocessing.strength": 1}, r"no parameter of a pipeline of your own, and the study has none\. Remove it"),
        ({"model": "mine.yaml"}, r"fixed\.model: must be a name, or a function of your own"),
    ],
)
def test_a_pipeline_that_does_not_fit_is_told_in_one_line(
    write: Any, tmp_path: Path, fixed: dict[str, Any], message: str
) -> None:
    (tmp_path / "my_aug.py").write_text(OWN_PIPELINE)
    with pytest.raises(EmotuneError, match=message) as raised:
        load_spec(write(fixed))
    assert "\n" not in str(raised.value) and raised.value.exit_code == 2


def test_a_trial_gets_the_optimizer_and_the_schedule(write: Any, tmp_path: Path) -> None:
    (tmp_path / "my_training.py").write_text(OWN_TRAINING)
    beta = {"type": "float", "low": 0.5, "high": 0.9, "default": 0.9, "when": {"optimizer": OPTIMIZER}}
    choices = {"type": "categorical", "choices": ["adam", OPTIMIZER], "default": "adam"}
    file = write({"schedule": SCHEDULE, "schedule.power": 1}, {"optimizer": choices, "optimizer.beta": beta})
    spec = load_spec(file, ["space.optimizer.beta.high=0.8", "space.optimizer.beta.default=0.8"])
    config = spec.trial_config({"optimizer": OPTIMIZER, "optimizer.beta": 0.6})
    assert config.optimizer_parameters == {"beta": 0.6} and config.schedule_parameters == {"power": 1}
    assert config.code.keys() == {"my_training.py"} == spec.trial_config({"optimizer": "adam"}).code.keys()
    for fixed, message in (
        ({"optimizer": "adma"}, r"fixed\.optimizer: must be a name, or a function of your own.*'adam'\?"),
        ({"schedule": "cosin"}, r"fixed\.schedule: must be a name, or a function of your own.*'cosine'\?"),
        ({"schedule": "my_training.py:make_optimizer"}, r"make_optimizer must take epoch, max_epochs, then keyword"),
        (
            {"optimizer": OPTIMIZER, "optimizer.bta": 1},
            r"no parameter of my_training\.py:make_optimizer\. Did",
        ),
        ({"optimizer.beta": 0.5}, r"no parameter of an optimizer of your own, and the study has none"),
    ):
        with pytest.raises(EmotuneError, match=message) as raised:
            load_spec(write(fixed))
        assert "\n" not in str(raised.value) and raised.value.exit_code == 2


@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        ({"model": "applications:MobilNetV2"}, r"fixed\.model: must be one of Keras' applications.*'MobileNetV2'\?"),
        (
            {"model": "applications:VGG16", "width": 0.5},
            r"fixed\.width counts for emotune's own models only\. Received: appl",
        ),
        (
            {"model": "vgg_small", "weights": "imagenet"},
            r"fixed\.weights counts for Keras' applications only\. Received: vgg",
        ),
        ({"weights": "none"}, r"fixed\.weights counts for Keras' applications only\. Received: none"),
        ({"model": OWN, "weights": "none"}, r"fixed\.weights counts for Keras' applications only"),
    ],
)
def test_what_does_not_count_for_an_application_is_told(write: Any, fixed: dict[str, Any], message: str) -> None:
    with pytest.raises(EmotuneError, match=message) as raised:
        load_spec(write(fixed))
    assert "\n" not in str(raised.value) and raised.value.exit_code == 2


def test_an_application_may_be_one_of_several_models(write: Any) -> None:
    choices = ["vgg_small", "applications:VGG16"]
    space = {
        "model": {"type": "categorical", "choices": choices, "default": "vgg_small"},
        "width": {"type": "float", "low": 0.5, "high": 1, "default": 1, "when": {"model": "vgg_small"}},
        "weights": {
            "type": "categorical",
            "choices": ["none", "imagenet"],
            "default": "none",
            "when": {"model": choices[1]},
        },
    }
    spec = load_spec(write({}, space))
    assert not spec.code and application_models(spec.space, spec.fixed) == ["applications:VGG16"]
    assert spec.trial_config({"model": choices[1], "weights": "imagenet"}).weights == "imagenet"


def begun(spec: StudySpec) -> Any:
    """A study that has a trial."""
    study = open_or_create(spec, "abc")
    with closing(Journal(study.journal)) as journal:
        journal.append("trial", trial=0, values={"batch_size": 32})
    return study


def test_a_changed_file_is_refused_with_the_reason_and_accepted_when_asked(write: Any, tmp_path: Path) -> None:
    file = write({"model": OWN})
    study = begun(load_spec(file))
    (tmp_path / "my_models.py").write_text(OWN_MODEL.replace("0.2", "0.3"))
    for refused in (
        lambda: open_or_create(load_spec(file), "abc"),
        lambda: reopen(study, "abc", trials=None, time=None),
    ):
        with pytest.raises(StudyError, match=r"other code: my_models\.py \(\w{12} then, \w{12} now\).*--accept-code"):
            refused()
    assert read_spec(study.study_file).code["my_models.py"].text == OWN_MODEL
    accepted = reopen(study, "abc", trials=None, time=None, accept_code_change=True)
    assert "0.3" in accepted.spec.code["my_models.py"].text
    assert read_spec(study.study_file).code["my_models.py"].text == OWN_MODEL  # until this process has the study
    write_study_file(accepted)
    assert read_spec(study.study_file).code == accepted.spec.code


def test_a_check_accepts_a_changed_file_where_a_run_would(
    write: Any, tmp_path: Path, faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write({"model": OWN}, data=str(faces))
    study = open_or_create(load_spec(file), open_dataset(faces).info.fingerprint)
    with closing(Journal(study.journal)) as journal:
        journal.append("session", number=1, pid=1, fingerprint=open_dataset(faces).info.fingerprint)
        journal.append("trial", trial=0, values={"batch_size": 32})
    (tmp_path / "my_models.py").write_text(OWN_MODEL.replace("0.2", "0.3"))
    monkeypatch.setattr("tune.api.runs.check_own", lambda *given: None)  # it would build the model
    with pytest.raises(StudyError, match="other code"):
        tune.check_study(file)
    assert "0.3" in tune.check_study(file, accept_code_change=True).code["my_models.py"].text


def test_a_change_that_takes_a_parameter_away_is_not_accepted(write: Any, tmp_path: Path) -> None:
    study = begun(load_spec(write({"model": OWN}, {"model.depth": DEPTH})))
    (tmp_path / "my_models.py").write_text(OWN_MODEL.replace("depth: int = 2", "deep: int = 2"))
    with pytest.raises(StudyError, match=r"space\.model\.depth is no parameter of my_models\.py:build"):
        reopen(study, "abc", trials=None, time=None, accept_code_change=True)
