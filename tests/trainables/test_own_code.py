"""Functions of the user's own: their parameters are read without running them, their text is what is imported."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainables.config import TrialConfig
from trainables.errors import OwnCodeError
from trainables.own_code import SourceFile, find_pipeline, find_reference, load_function
from trainables.own_signature import OwnParameter, own_parameters, pipeline_parameters, pipeline_signature


def test_keyword_only_arguments_are_the_parameters() -> None:
    text = (
        "import typing as t\n"
        "def build(image, classes: int, *, depth: int = 3, width: 'float' = 1, fast: bool = True,\n"
        "          name: str = 'a', act: t.Literal['relu', 'gelu'] = 'gelu', low: float = -1e-3): ...\n"
    )
    assert own_parameters(text, "m.py", "build") == {
        "depth": OwnParameter("depth", "integer", 3),
        "width": OwnParameter("width", "number", 1),
        "fast": OwnParameter("fast", "boolean", True),
        "name": OwnParameter("name", "text", "a"),
        "act": OwnParameter("act", "text", "gelu", ("relu", "gelu")),
        "low": OwnParameter("low", "number", -0.001),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def build(image, classes:\n", r"m\.py, line 1: must be Python.*Fix that line"),
        ("x = 1\n", r"m\.py must define build\. Received: no function at all"),
        ("def biuld(image, classes): ...\n", r"must define build\. Received: none\. Did you mean 'biuld'\?"),
        ("def build(image): ...\n", r"line 1: build must take image, classes, then keyword-only.*Received: image\."),
        ("def build(image, classes, depth=3): ...\n", r"Received: image, classes, depth\. Write def build\("),
        ("def build(image, classes, **more): ...\n", r"and any keyword"),
        ("def build(image, classes, *, depth: int): ...\n", r"depth must have a default"),
        ("def build(image, classes, *, depth=3): ...\n", r"depth must have a type"),
        ("def build(image, classes, *, depth: list = 3): ...\n", r"type of depth must be int.*Received: list"),
        ("def build(image, classes, *, depth: int = [3]): ...\n", r"default of depth must be one number.*\[3\]"),
        ("def build(image, classes, *, depth: int = 'x'): ...\n", r"default of depth must be a whole number"),
        ("def build(i, c, *, a: Literal['x'] = 'y'): ...\n", r"default of a must be one of x\. Received: 'y'"),
    ],
)
def test_a_function_that_breaks_the_contract_is_told_in_one_line(text: str, message: str) -> None:
    with pytest.raises(OwnCodeError, match=message) as raised:
        own_parameters(text, "m.py", "build")
    assert "\n" not in str(raised.value)


def test_all_arguments_of_a_pipeline_but_its_shape_are_parameters() -> None:
    text = (
        "def training(shape, strength: float = 0.5, *, flip: bool = True): ...\ndef evaluation(flip: bool = False): ..."
    )
    parameters = {"strength": OwnParameter("strength", "number", 0.5), "flip": OwnParameter("flip", "boolean", True)}
    assert pipeline_signature(text, "a.py", "training") == (True, parameters)
    assert pipeline_parameters(text, "a.py", "training") == parameters
    assert pipeline_signature("def training(): ...", "a.py", "training") == (False, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "def training(image): ...\n",
            r"training must take parameters with a default, and before them nothing or shape",
        ),
        ("def training(shape, strength): ...\n", r"Received: shape, strength\. Write def training\(strength: float"),
        ("def training(**more): ...\n", r"Received: \*more"),
        ("def training(strength=0.5): ...\n", r"strength must have a type"),
        ("def train(): ...\n", r"must define training\. Received: none\. Did you mean 'train'\?"),
        (
            "def training(strength: float = 1): ...\ndef evaluation(strngth: float = 1): ...\n",
            r"evaluation must take parameters of training\. Received: strngth\. Did you mean 'strength'\?",
        ),
        ("def training(): ...\ndef evaluation(a: int = 1): ...\n", r"Received: a\. Give training that parameter too"),
    ],
)
def test_a_pipeline_that_breaks_the_contract_is_told_in_one_line(text: str, message: str) -> None:
    with pytest.raises(OwnCodeError, match=message) as raised:
        pipeline_parameters(text, "a.py", "training")
    assert "\n" not in str(raised.value)


def test_a_saved_pipeline_is_a_file_without_a_function() -> None:
    assert find_pipeline("mine.yaml") == ("mine.yaml", "") and find_pipeline("a.json") == ("a.json", "")
    assert find_pipeline("my_aug.py:training") == ("my_aug.py", "training")
    assert find_reference("mine.yaml") is None
    for name in ("augment", "../mine.yaml", "my_aug.py", "mine.txt", "mine.yaml:training"):
        assert find_pipeline(name) is None or not find_pipeline(name).is_file  # type: ignore[union-attr]


@pytest.mark.parametrize("value", [True, 2.5, "2"])
def test_a_whole_number_is_neither_true_nor_a_fraction_nor_text(value: object) -> None:
    assert OwnParameter("depth", "integer", 3).rejects(value) == "a whole number"


def test_the_text_is_imported_and_never_a_file_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_models.py").write_text("def build(): return 'the file here'\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    code = {"my_models.py": SourceFile(text="def build(): return 'what travelled'\n")}
    assert load_function("my_models.py:build", code)() == "what travelled"
    again = {"my_models.py": SourceFile(text="def build(): return 'a later version'\n")}
    assert load_function("my_models.py:build", again)() == "a later version"
    assert load_function("my_models.py:build", code)() == "what travelled"


def test_a_file_is_a_module_once_in_a_process() -> None:
    code = {"once.py": SourceFile(text="made = []\ndef build(): made.append(1); return len(made)\n")}
    assert [load_function("once.py:build", code)() for _ in range(2)] == [1, 2]


def test_of_two_files_whose_layers_have_one_name_each_gets_its_own_back() -> None:
    import keras

    text = (
        "import keras\n"
        "@keras.saving.register_keras_serializable()\n"
        "class AlikeLayer(keras.layers.Layer):\n"
        "    def call(self, x): return x + {}\n"
        "def build(): return AlikeLayer\n"
    )
    one, other = ({f"alike_{n}.py": SourceFile(text=text.format(n))} for n in (1, 2))
    for file, code in (("alike_1", one), ("alike_2", other), ("alike_1", one)):
        made = load_function(f"{file}.py:build", code)()
        assert keras.saving.get_registered_object("Custom>AlikeLayer") is made
        assert type(keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(made()))) is made


def test_a_file_may_be_called_as_a_module_of_python_is() -> None:
    load_function("json.py:build", {"json.py": SourceFile(text="def build(): ...\n")})
    import json

    assert json.dumps([]) == "[]"


def test_what_an_import_raises_is_told_with_its_line() -> None:
    code = {"m.py": SourceFile(text="x = 1\n\nimport no_such_module\n")}
    with pytest.raises(OwnCodeError, match=r"m\.py, line 3: cannot be imported: ModuleNotFoundError.*Install it"):
        load_function("m.py:build", code)


def test_an_installed_module_must_have_the_content_it_had() -> None:
    import calendar

    text = Path(calendar.__file__).read_text()
    same = {"calendar": SourceFile(text=text, installed=True)}
    assert load_function("calendar:isleap", same) is calendar.isleap
    with pytest.raises(OwnCodeError, match=r"module calendar must be the one that the study was begun with"):
        load_function("calendar:isleap", {"calendar": SourceFile(text=text + "#", installed=True)})


@pytest.mark.parametrize("name", ["../my.py:build", "/etc/my.py:build", "a b.py:build", "my.py:", "my.py", "alexnet"])
def test_what_is_no_name_beside_the_study_file_is_no_reference(name: str) -> None:
    assert find_reference(name) is None


def test_a_trials_configuration_gathers_parameters_of_the_users_and_gives_them_back() -> None:
    config = TrialConfig.model_validate({"model": "my.py:build", "model.depth": 4})
    assert config.model_parameters == {"depth": 4}
    assert TrialConfig.model_validate(config.model_dump()) == config
