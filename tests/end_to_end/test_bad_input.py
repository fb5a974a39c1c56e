"""Malformed input of every kind: one clear line, exit code 2, no traceback, nothing half-written."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from tune.cli.main import command_line as main

GOOD: dict[str, object] = {"name": "tiny", "data": "faces", "space": "quickstart", "trials": 2}

GOOD_TEXT = yaml.safe_dump(GOOD, sort_keys=False)


def study(**changes: object) -> Callable[[Path], list[str]]:
    """Returns a case: a study file that is in order but for `changes` (None removes a key)."""

    def arrange(folder: Path) -> list[str]:
        values = {k: v for k, v in {**GOOD, **changes}.items() if v is not None}
        (folder / "s.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
        return ["run", "s.yaml"]

    return arrange


def text(content: str | bytes, *arguments: str) -> Callable[[Path], list[str]]:
    """Returns a case: a study file with this text."""

    def arrange(folder: Path) -> list[str]:
        data = content if isinstance(content, bytes) else content.encode()
        (folder / "s.yaml").write_bytes(data)
        return ["run", "s.yaml", *arguments]

    return arrange


def override(*values: str) -> Callable[[Path], list[str]]:
    """Returns a case: a good study file and `--set` options."""

    def arrange(folder: Path) -> list[str]:
        return [*study()(folder), *[part for value in values for part in ("--set", value)]]

    return arrange


def arguments(*words: str) -> Callable[[Path], list[str]]:
    """Returns a case: a command line."""
    return lambda folder: list(words)


def parameter(**fields: object) -> Callable[[Path], list[str]]:
    """Returns a case: a space of one parameter, `dropout`."""
    return study(space={"dropout": fields})


def source(make: Callable[[Path], object], *options: str) -> Callable[[Path], list[str]]:
    """Returns a case: an import of what `make` leaves at `source`."""

    def arrange(folder: Path) -> list[str]:
        make(folder / "source")
        return ["data", "import", "source", "--to", "out", *options]

    return arrange


def zip_of(*entries: tuple[str, bytes]) -> Callable[[Path], object]:
    """Returns a maker of a zip with these entries."""

    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, data in entries:
                file.writestr(name, data)

    return make


def png(side: int = 48, value: int = 7, channels: int = 1) -> bytes:
    return bytes(cv2.imencode(".png", np.full((side, side, channels), value, np.uint8))[1])


def two_classes(*extra: tuple[str, bytes]) -> Callable[[Path], object]:
    good = [(f"train/{c}/{i}.png", png(value=i + 10 * j)) for j, c in enumerate("ab") for i in range(4)]
    return zip_of(*good, *extra)


def target_of_the_users(folder: Path) -> list[str]:
    two_classes()(folder / "source")
    shutil.copytree(folder / "faces", folder / "out")
    (folder / "out/notes.json").write_text("{}")
    return ["data", "import", "source", "--to", "out", "--replace"]


def target_that_cannot_be(folder: Path) -> list[str]:
    two_classes()(folder / "source")
    return ["data", "import", "source", "--to", "/proc/x"]


def broken_data_set(folder: Path) -> list[str]:
    (folder / "broken").mkdir()
    (folder / "broken/dataset.json").write_text("{}")
    return study(data="broken")(folder)


def export_of_nothing(folder: Path) -> list[str]:
    (folder / "export").mkdir()
    (folder / "face.png").write_bytes(png())
    return ["predict", "export", "face.png"]


def no_export(folder: Path) -> list[str]:
    (folder / "face.png").write_bytes(png())
    return ["predict", "nowhere", "face.png"]


def damaged_study(folder: Path) -> list[str]:
    (folder / "runs/old").mkdir(parents=True)
    (folder / "runs/old/study.yaml").write_text("name: old\ntrials: many\n")
    (folder / "runs/old/journal.jsonl").touch()
    return ["show", "old"]


def image_pipe(folder: Path) -> list[str]:
    os.mkfifo(folder / "face.png")
    return ["predict", "nowhere", "face.png"]


def foreign_folder(folder: Path) -> list[str]:
    (folder / "runs/tiny").mkdir(parents=True)
    (folder / "runs/tiny/thesis.tex").write_text("mine")
    return [*study()(folder), "--check"]


def classes_edited(folder: Path) -> list[str]:
    shutil.copytree(folder / "faces", folder / "edited")
    info = json.loads((folder / "edited/dataset.json").read_text())
    info["classes"] = info["classes"][:2]
    (folder / "edited/dataset.json").write_text(json.dumps(info))
    return study(data="edited")(folder)


def resume_for(time: str) -> Callable[[Path], list[str]]:
    def arrange(folder: Path) -> list[str]:
        space = {"dropout": {"type": "float", "low": 0, "high": 0.5, "default": 0}}
        (folder / "runs/old").mkdir(parents=True)
        (folder / "runs/old/study.yaml").write_text(yaml.safe_dump({"name": "old", "data": "faces", "space": space}))
        (folder / "runs/old/journal.jsonl").touch()
        return ["resume", "old", "--time", time]

    return arrange


def damaged_journal(folder: Path) -> list[str]:
    values = {
        "name": "old",
        "data": "faces",
        "space": {"dropout": {"type": "float", "low": 0, "high": 0.5, "default": 0}},
    }
    (folder / "runs/old").mkdir(parents=True)
    (folder / "runs/old/study.yaml").write_text(yaml.safe_dump(values))
    (folder / "runs/old/journal.jsonl").write_text("no event\n")
    return ["show", "old"]


CASES: dict[str, tuple[Callable[[Path], list[str]], str]] = {
    # study files
    "missing file": (arguments("run", "nowhere.yaml"), "nowhere.yaml does not exist"),
    "a folder": (arguments("run", "."), "must be a YAML file"),
    "empty file": (text(""), "must be a mapping"),
    "a list": (text("- a\n- b\n"), "must be a mapping.*Received: list"),
    "broken yaml": (text("name: [a\ndata: b"), r"valid YAML \(s.yaml, line \d"),
    "a tab": (text("name: a\n\tdata: b"), "valid YAML"),
    "binary": (text(b"\xff\xfe\x00binary"), "UTF-8"),
    "a key twice": (text("name: a\nname: b\n"), "'name' stands here twice"),
    "python object": (text("name: !!python/object/apply:os.system [echo]\n"), "valid YAML"),
    "unknown key": (study(trails=3), "Did you mean 'trials'"),
    "no name": (study(name=None), "name is missing"),
    "name climbs": (study(name="../x"), "letters, digits"),
    "name too long": (study(name="x" * 200), "at most 80"),
    "no data": (study(data=None), "data is missing"),
    "data not there": (study(data="elsewhere"), "elsewhere"),
    "data damaged": (broken_data_set, "broken"),
    "no trials": (study(trials=0), "trials:.*Received: 0"),
    "trials a word": (study(trials="many"), "trials:.*Received: 'many'"),
    "trials true": (study(trials=True), "trials: must be a number.*Received: True"),
    "workers true": (study(confirm={"workers": True}), "confirm.workers: must be a number.*Received: True"),
    "trials half": (study(trials=1.5), "trials:.*Received: 1.5"),
    "time nonsense": (study(time="soon"), "30m or 1h30m.*Received: 'soon'"),
    "time negative": (study(time=-5), "time:.*greater than 0"),
    "objective unknown": (study(objective="accuracy"), "selection_accuracy"),
    "grace above max": (study(asha={"max_epochs": 2, "grace_epochs": 5}), "grace_epochs=5 must be <= max_epochs=2"),
    "reduction factor 1": (study(asha={"reduction_factor": 1}), "greater than 1"),
    "asha a number": (study(asha=3), "asha:"),
    "half a gpu too many": (study(resources={"gpus_per_trial": 1.5}), "must be whole"),
    "gpu asked, none there": (study(resources={"gpus_per_trial": -1}), "greater than or equal to 0"),
    "selection share 1": (study(folds={"selection_share": 1}), "less than 0.9"),
    "fixed unknown": (study(fixed={"widht": 1}), "Did you mean 'width'"),
    "fixed out of range": (study(fixed={"image_size_px": 8}), "image_size_px.*greater than or equal to 32"),
    "fixed true": (study(fixed={"width": True}), "fixed.width: must not be true or false. Received: True"),
    "reduction factor almost 1": (
        study(asha={"reduction_factor": 1.0000001}),
        "reduction_factor must be at least 1.1. Received: 1.0000001. Raise it",
    ),
    "fixed and searched": (study(fixed={"dropout": 0.1}), "both fixed and space"),
    "seed negative": (study(seed=-1), "seed:"),
    "nan in yaml": (study(folds={"selection_share": float("nan")}), "selection_share"),
    # search spaces
    "no space": (study(space=None), "space is missing"),
    "space unknown": (study(space="alexnett"), "Did you mean 'alexnet'"),
    "space file missing": (study(space="mine.yaml"), "mine.yaml does not exist"),
    "space empty": (study(space={}), "at least one parameter"),
    "space of strangers": (study(space={"colour": {"type": "int", "low": 1, "high": 2, "default": 1}}), "no parameter"),
    "no type": (parameter(low=0, high=0.5, default=0), "float, int or categorical"),
    "type unknown": (parameter(type="real", low=0, high=0.5, default=0), "float, int or categorical"),
    "low above high": (parameter(type="float", low=0.5, high=0.1, default=0.2), "low=0.5 must be <= high=0.1"),
    "default outside": (parameter(type="float", low=0.1, high=0.5, default=0.9), "default must be in"),
    "default missing": (parameter(type="float", low=0.1, high=0.5), "dropout.*default is missing"),
    "log of zero": (parameter(type="float", low=0.0, high=0.5, default=0.1, log=True), "needs low > 0"),
    "beyond what a trial takes": (parameter(type="float", low=0.0, high=1.5, default=0.1), "dropout.*less than 1"),
    "condition on nothing": (
        parameter(type="float", low=0.0, high=0.5, default=0.1, when={"optimizer": "adam"}),
        "parameter above it",
    ),
    # values of the wrong kind
    "a float where an integer is wanted": (
        study(space={"batch_size": {"type": "float", "low": 16, "high": 64, "default": 32}}),
        "space.batch_size: is a whole number, and its type must be int. Received: float. Write type: int .s.yaml, line",
    ),
    "a range where true or false is wanted": (
        study(space={"batch_norm": {"type": "int", "low": 0, "high": 1, "default": 0}}),
        "space.batch_norm: .*must be categorical. Received: int. Write .*true, false",
    ),
    "a range where a name is wanted": (
        study(space={"optimizer": {"type": "int", "low": 0, "high": 1, "default": 0}}),
        "space.optimizer: is a name, and its type must be categorical. Received: int",
    ),
    "text where numbers are wanted": (
        study(space={"batch_size": {"type": "categorical", "choices": ["32", "many"], "default": "32"}}),
        "space.batch_size: must be a number. Received: 'many'",
    ),
    "a number twice, once as text": (
        study(space={"batch_size": {"type": "categorical", "choices": ["32", 32], "default": 32}}),
        "choices must differ. Received: 32 and 32",
    ),
    "half a batch": (
        study(space={"batch_size": {"type": "categorical", "choices": [16, 16.5], "default": 16}}),
        "space.batch_size: .*valid integer.*Received: 16.5",
    ),
    "yes for true": (study(fixed={"batch_norm": "yes"}), "fixed.batch_norm: must be true or false. Received: 'yes'"),
    "1 for true": (study(fixed={"batch_norm": 1}), "fixed.batch_norm: must be true or false. Received: 1"),
    "default 1 for true": (
        study(space={"nesterov": {"type": "categorical", "choices": [True, False], "default": 1}}),
        "space.nesterov.default: must be true or false. Received: 1",
    ),
    "yes for a switch": (text(f"{GOOD_TEXT}asha: {{stop: yes}}"), "asha.stop: must be true or false.*'yes'"),
    "half a final fit": (text(f"{GOOD_TEXT}confirm: {{refit: 1.5}}"), "confirm.refit: .*valid integer.*Received: 1.5"),
    "a word for a log": (
        parameter(type="float", low=0.1, high=0.5, default=0.2, log="yes"),
        "log: must be true or false",
    ),
    "a list in fixed": (
        study(fixed={"width": [0.1, 0.2]}),
        r"fixed.width: must be one value. Received: \[0.1, 0.2\]. A list belongs in space: width: {type: categorical",
    ),
    "a range in fixed": (
        study(fixed={"width": {"type": "float", "low": 0.1}}),
        "fixed.width: .*A range belongs in space",
    ),
    "nothing in fixed": (text(f"{GOOD_TEXT}fixed: {{width: }}"), "fixed.width: must be one value. Received: none"),
    "one value in space": (
        study(space={"width": 0.5}),
        "space.width: must be a parameter .*one value belongs in fixed",
    ),
    "a list of lists": (
        study(space={"width": {"type": "categorical", "choices": [[0.1], 0.2], "default": 0.2}}),
        "space.width.choices.0: must be one number",
    ),
    "a step that misses": (
        parameter(type="float", low=0, high=0.33333334, step=0.11111111, default=0.33333334),
        "space.dropout: high must be low plus a whole number of steps. .*Write high: 0.33333333",
    ),
    "a step without end": (parameter(type="float", low=0, high=0.5, step=float("inf"), default=0), "step: .*finite"),
    "a step of almost nothing": (parameter(type="float", low=0, high=0.5, step=1e-320, default=0), "at most 1,000,000"),
    "base 60": (
        text(f"{GOOD_TEXT}time: 1:30"),
        r"s.yaml, line 5\): 1:30 is 90 in YAML 1.1 and text in YAML 1.2. Write 90",
    ),
    "base 60, quoted": (text(f"{GOOD_TEXT}time: '1:30'"), "time: .*30m or 1h30m.*Received: '1:30'"),
    "octal": (text("name: a\ntrials: 010\n"), r"s.yaml, line 2\): 010 is 8 in YAML 1.1 and 10 in YAML 1.2. Write 10"),
    "a date for a name": (text("name: 2024-01-01\n"), "2024-01-01 is a date .* Quote it: '2024-01-01'"),
    "a number for a name": (
        text(f"{GOOD_TEXT}".replace("tiny", "1e5")),
        "name: must be text. Received: 100000.0. Quote it",
    ),
    "infinite patience": (study(faults={"silence_factor": float("inf")}), "faults.silence_factor: .*finite"),
    "NUL in a path": (study(storage="a\0b"), "storage: must hold no NUL character"),
    "a number of two lines": (
        text("name: a\ndata: faces\nspace: quickstart\ntrials: |\n  5\n"),
        "trials: must be a valid integer",
    ),
    "true for a key": (text(f"{GOOD_TEXT}true: 3\n"), "a key of a study file must be text .*Received: True. Quote it"),
    "an alias of itself": (text("name: &a [*a]\n"), "valid YAML"),
    # overrides and options
    "set octal": (override("trials=010"), "--set trials: 010 is 8 in YAML 1.1 and 10 in YAML 1.2. Write 10"),
    "set base 60": (override("time=1:30"), "--set time: 1:30 is 90 in YAML 1.1"),
    "set no space": (override("space=null"), "space is missing .--set space=null.. Add it"),
    "set a wrong value": (override("asha.max_epochs=0"), r"asha.max_epochs: .*Received: 0 \(--set asha.max_epochs=0\)"),
    "set a wrong space": (
        override("space={batch_size: {type: float, low: 16, high: 64, default: 32}}"),
        r"Write type: int \(--set space=",
    ),
    "trials option octal": (arguments("run", "s.yaml", "--trials", "010"), "'--trials': 010 is 8 in YAML 1.1"),
    "trials option with underscores": (
        arguments("run", "s.yaml", "--trials", "1_0"),
        "'--trials': 1_0 is 10 in YAML 1.1",
    ),
    "time option base 60": (
        lambda folder: [*study()(folder), "--time", "1:30"],
        r"time: .*30m or 1h30m.*Received: '1:30' \(--time\)",
    ),
    "cost option negative": (
        lambda folder: [*study(budget={"node_hour_price": 1})(folder), "--max-cost", "-1"],
        r"budget.cost: .*greater than 0. Received: -1.0 \(--max-cost\)",
    ),
    "resume with octal trials": (arguments("resume", "old", "--trials", "010"), "'--trials': 010 is 8 in YAML 1.1"),
    "a strength with underscores": (
        arguments("data", "preview", "faces", "--method", "augment", "--set", "augment_strength=1_0"),
        "A strength must be a number. Received: 'augment_strength=1_0': 1_0 is 10 in YAML 1.1",
    ),
    "a trial's number in base 60": (arguments("why", "old", "1:30"), "1:30 is 90 in YAML 1.1"),
    "set without value": (override("trials"), "path=value"),
    "set unknown": (override("asha.max_epoch=3"), "Did you mean 'max_epochs'"),
    "set into a number": (override("trials.x=3"), "cannot reach into 'trials'"),
    "set broken yaml": (override("asha=[1"), "YAML value"),
    "unknown option": (arguments("run", "s.yaml", "--trails", "3"), "No such option.*--trails"),
    "unknown command": (arguments("rnu"), "No such command 'rnu'"),
    "trials option a word": (arguments("run", "s.yaml", "--trials", "x"), "must be a valid integer|be a valid integer"),
    # data sets
    "no source": (arguments("data", "import", "nowhere", "--to", "out"), "nowhere"),
    "not a zip": (source(lambda p: p.with_name("source").write_bytes(b"PK no zip")), "source"),
    "zip climbs": (source(two_classes(("../../evil.png", png()))), "evil"),
    "zip absolute": (source(two_classes(("/etc/evil.png", png()))), "evil"),
    "zip bomb": (source(two_classes(("train/a/bomb.png", b"\0" * (64 << 20)))), "at most 200 times its size"),
    "no images": (source(zip_of(("train/a/readme.txt", b"x"))), "image"),
    "one class": (source(zip_of(*[(f"train/a/{i}.png", png(value=i)) for i in range(4)])), "class"),
    "empty folder": (source(Path.mkdir), "image"),
    "sizes differ": (source(two_classes(("train/a/big.png", png(64)))), "--store-size"),
    "mostly unreadable": (source(two_classes(*[(f"train/a/x{i}.png", b"no") for i in range(9)])), "--max-bad"),
    "folders like splits": (
        source(zip_of(*[(f"{f}/{c}/{i}.png", png(value=i)) for f in ("s1", "s2") for c in "ab" for i in range(3)])),
        "s1/ and s2/ hold folders of the same names.*--split s1=train",
    ),
    "split decides nothing": (source(two_classes(), "--split", "train"), "--split must be FOLDER="),
    "split of no folder": (source(two_classes(), "--split", "x=test"), "--split must name a folder.*Received: 'x'"),
    "validation that is not there": (source(two_classes(), "--validation", "test"), "needs a validation folder"),
    "target with the user's files": (target_of_the_users, "with notes.json; it stays"),
    "target that cannot be": (target_that_cannot_be, "/proc/x must be writable"),
    "max-bad a word": (source(two_classes(), "--max-bad", "x"), "be a valid number"),
    "csv without columns": (source(lambda p: p.with_name("source").write_text("a,b\n1,2\n")), "source"),
    "show what is no data set": (arguments("data", "show", "."), "data set"),
    # studies, exports, images
    "no such study": (arguments("show", "nothing"), "holds no study"),
    "resume a study file": (arguments("resume", "s.yaml"), "emotune run"),
    "storage is a file": (study(storage="s.yaml"), "storage must be a folder"),
    "storage below a file": (study(storage="s.yaml/runs"), "storage must be a folder"),
    "time infinite": (study(time=float("inf")), "time: .*finite"),
    "resume with bad time": (resume_for("soon"), "--time: .*30m or 1h30m"),
    "study damaged": (damaged_study, "damaged|missing"),
    "journal damaged": (damaged_journal, "line 1 is damaged"),
    "a name too long": (arguments("show", "n" * 300), "too long"),
    "a pipe as source": (source(os.mkfifo), "regular file"),
    "a pipe as image": (image_pipe, "regular file"),
    "check on another study's folder": (foreign_folder, "is no study"),
    "set nothing": (override("trials="), "takes a value after the ="),
    "classes that do not fit": (classes_edited, "counts must be of its classes. Received: .*; import it again"),
    "export nothing": (arguments("export", "nothing", "--to", "x"), "holds no study"),
    "predict without export": (no_export, "nowhere"),
    "predict without image": (arguments("predict", "nowhere", "face.png"), "face.png, which does not"),
    "predict with an empty export": (export_of_nothing, "export"),
}


@pytest.fixture
def workplace(tmp_path: Path, faces: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "faces").symlink_to(faces)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    return tmp_path


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_one_clear_line_and_exit_code_2(
    name: str, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arrange, expected = CASES[name]
    words = arrange(workplace)
    if words[-1] == "s.yaml" and not (workplace / "s.yaml").exists():
        study()(workplace)
    monkeypatch.setattr(sys, "argv", ["emotune", *words])
    before = {p.relative_to(workplace) for p in workplace.rglob("*")}
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr().err
    assert end.value.code == 2, said
    lines = said.strip().splitlines()
    assert len([line for line in lines if line.startswith("error: ")]) == 1 == len(lines), said
    assert re.search(expected, said), said
    assert "Traceback" not in said and "pydantic" not in said
    assert {p.relative_to(workplace) for p in workplace.rglob("*")} == before


def test_there_are_more_than_fifty_of_them() -> None:
    assert len(CASES) >= 50


@pytest.mark.slow
def test_a_gpu_that_is_not_there_is_refused_before_any_trial(
    ray_cluster: str, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study(resources={"gpus_per_trial": 0.5})(workplace)
    monkeypatch.setattr(sys, "argv", ["emotune", "run", "s.yaml"])
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr()
    assert end.value.code == 2
    assert re.search(r"error: .*gpus_per_trial=0.5 and Ray found 0 GPUs.*--set resources.gpus_per_trial=0", said.err)
    assert "Traceback" not in said.err + said.out
    assert not (workplace / "runs/tiny").exists()
