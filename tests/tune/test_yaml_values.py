"""Text to values and back: one reading everywhere, and nothing that another reader takes for something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import typer
import yaml
from typer.models import ParameterInfo

from tune.cli.main import app
from tune.errors import StudyFileError
from tune.study.spec import load_spec
from tune.study.trial_parameters import NEW_STUDY
from tune.yaml_values import UnclearValue, WrittenLoader, Yaml12Loader, dump, parse, parse_number

READ: dict[str, Any] = {
    "1e-3": 0.001,
    "1E5": 100000.0,
    "8e-1": 0.8,
    "1.5e+3": 1500.0,
    ".5": 0.5,
    "+.5": 0.5,
    "5.": 5.0,
    "01.5": 1.5,
    "0": 0,
    "-0": 0,
    "+7": 7,
    "0x1F": 31,
    "0o10": 8,
    "-.inf": float("-inf"),
    "0e-400": 0.0,
    "true": True,
    "False": False,
    "~": None,
    "null": None,
    "": None,
    "yes": "yes",
    "no": "no",
    "On": "On",
    "off": "off",
    "y": "y",
    "inf": "inf",
    "nan": "nan",
    "None": "None",
    "none": "none",
    "=": "=",
    "1:99": "1:99",
    "1.2.3": "1.2.3",
    "1__a": "1__a",
    "1h30m": "1h30m",
    "\u0661\u0662": "\u0661\u0662",
}

REFUSED = {
    "1:30": "is 90 in YAML 1.1 and text in YAML 1.2. Write 90, a time as 90s",
    "-1:30": "is -90 in YAML 1.1",
    "190:20:30": "is 685230 in YAML 1.1",
    "1:30.5": "is 90.5 in YAML 1.1",
    "010": "is 8 in YAML 1.1 and 10 in YAML 1.2. Write 10, or quote it: '010'",
    "-017": "is -15 in YAML 1.1 and -17 in YAML 1.2",
    "08": "begins with 0, as an octal number of YAML 1.1 does. Write 8",
    "007": "begins with 0",
    "000": "begins with 0",
    "1_000": "is 1000 in YAML 1.1 and text in YAML 1.2. Write 1000",
    "1_0.5": "is 10.5 in YAML 1.1",
    "0b11": "is 3 in YAML 1.1",
    "-0x10": "is -16 in YAML 1.1",
    "2024-01-01": "is a date in YAML 1.1 and text in YAML 1.2. Quote it: '2024-01-01'",
    "2024-99-99": "is a date",
    "2001-12-14t21:59:43.10-05:00": "is a date",
    "1e400": "beyond what a float holds",
    "1e-400": "beyond what a float holds",
    "99999999999999999999": "beyond what 64 bits hold",
    "9" * 5000: "beyond what 64 bits hold",
}


@pytest.mark.parametrize("text", READ)
def test_a_plain_value_is_what_yaml_1_2_says(text: str) -> None:
    found = parse(f"a: {text}")["a"]
    assert (type(found), found) == (type(READ[text]), READ[text])


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:30])
def test_what_readers_of_yaml_take_for_different_numbers_is_refused_and_quoted_it_is_text(text: str) -> None:
    with pytest.raises(UnclearValue) as refused:
        parse(f"a: {text}")
    assert REFUSED[text] in str(refused.value.problem)
    assert parse(f"a: '{text}'")["a"] == text
    with pytest.raises(ValueError, match="YAML 1.*Write|beyond what"):
        parse_number(text)


def test_a_date_where_a_number_is_wanted_is_told_in_words() -> None:
    with pytest.raises(ValueError, match=r"is a date in YAML 1.1 and text in YAML 1.2. Write a number$"):
        parse_number("2024-01-01")


@pytest.mark.parametrize("text", ["!!int 010", "!!float '1:30'", "!!int 1_0", "!!bool yes", "!!int x", "!!bool x"])
def test_a_tag_does_not_bring_the_old_rules_back(text: str) -> None:
    with pytest.raises(yaml.YAMLError, match="YAML 1.1|is not true or false|is no number"):
        parse(text)


@pytest.mark.parametrize("tag", ["timestamp 2024-01-01", "timestamp x", "binary aGk=", "set {a}", "omap [a: 1]"])
def test_other_kinds_of_values_are_no_part_of_a_study(tag: str) -> None:
    with pytest.raises(yaml.YAMLError, match="could not determine a constructor"):
        parse(f"!!{tag}")


TEXTS = [
    *READ,
    *REFUSED,
    "<<",
    "a: b",
    "#x",
    " x ",
    "\n",
    "'",
    '"',
    "\x85",
    "- a",
    "{}",
    "!x",
    "&a",
    "*a",
    "%a",
    "@",
    "`",
]
NUMBERS = [
    1e-5,
    1e20,
    1.0,
    0.1,
    5e-324,
    1.7e308,
    2**62,
    -3,
    0,
    float("inf"),
    -0.0,
    True,
    False,
    None,
    0.30000000000000004,
]


@pytest.mark.parametrize("loader", [Yaml12Loader, WrittenLoader, yaml.SafeLoader], ids=lambda loader: loader.__name__)
def test_what_is_written_is_read_back_by_every_reader(loader: Any) -> None:
    values = {"texts": TEXTS, "numbers": NUMBERS, **{f"{text} ": text for text in TEXTS}}
    written = dump(values)
    again = yaml.load(written, Loader=loader)
    assert again == values
    assert [type(one) for one in again["numbers"]] == [type(one) for one in NUMBERS]


@pytest.mark.parametrize("text", TEXTS)
def test_what_an_earlier_version_wrote_is_still_what_it_was(text: str) -> None:
    assert parse(yaml.safe_dump({"a": text, "b": [text], "c": 1e-5}), WrittenLoader) == {
        "a": text,
        "b": [text],
        "c": 1e-5,
    }


@pytest.mark.parametrize(
    "text", ["10", "1e1", "010", "1_0", "0x0A", "10.0", "ten", "1:30", ".inf", "1.5", "\u0661\u0660"]
)
def test_a_number_is_the_same_in_the_file_in_set_and_as_an_option(text: str, tmp_path: Path) -> None:
    def trials(line: str, *overrides: str) -> int | None:
        (tmp_path / "s.yaml").write_text(f"name: a\ndata: d\nspace: quickstart\n{line}", encoding="utf-8")
        try:
            return load_spec(tmp_path / "s.yaml", overrides).trials
        except StudyFileError:
            return None

    resume = typer.main.get_command(app).commands["resume"]  # type: ignore[attr-defined]
    try:
        option = resume.make_context("resume", ["s", "--trials", text]).params["trials"]
    except typer.BadParameter:
        option = None
    assert trials(f"trials: {text}") == trials("", f"trials={text}") == option


def test_every_number_among_the_options_is_read_by_the_same_rules() -> None:
    def commands(group: typer.Typer) -> list[Any]:
        inner = [g.typer_instance for g in group.registered_groups if g.typer_instance is not None]
        return [c.callback for c in group.registered_commands] + [c for i in inner for c in commands(i)]

    seen = 0
    for callback in commands(app):
        for annotation in get_type_hints(callback, include_extras=True).values():
            wanted, *extras = get_args(annotation) or (annotation,)
            infos = [extra for extra in extras if isinstance(extra, ParameterInfo)]
            if infos and {int, float} & {wanted, *get_args(wanted)}:
                seen += 1
                assert infos[0].parser is not None
    assert seen > 10


def test_an_alias_is_a_copy_so_that_an_override_changes_one_place(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(
        "x-range: &range {type: float, low: 0.1, high: 0.5, default: 0.2}\n"
        "name: a\ndata: d\nspace: {dropout: *range, label_smoothing: *range}\n"
    )
    parameters = load_spec(tmp_path / "s.yaml", ["space.dropout.low=0.2"]).space.parameters
    assert [p.model_dump()["low"] for p in parameters.values()] == [0.2, 0.1]


def test_aliases_of_aliases_cannot_fill_the_memory(tmp_path: Path) -> None:
    lines = ["x-0: &a0 [1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"x-{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 8)}]" for n in range(1, 12)]
    (tmp_path / "s.yaml").write_text("\n".join(lines))
    with pytest.raises(StudyFileError, match="its aliases make more than 100,000 values"):
        load_spec(tmp_path / "s.yaml")


def test_empty_sections_are_as_if_they_were_not_there(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("name: a\ndata: d\nspace: quickstart\nfixed:\nasha:\n  # max_epochs: 3\n")
    spec = load_spec(tmp_path / "s.yaml")
    assert (spec.fixed, spec.asha.max_epochs) == (NEW_STUDY, 20)
    assert load_spec(tmp_path / "s.yaml", ["asha.max_epochs=3"]).asha.max_epochs == 3
