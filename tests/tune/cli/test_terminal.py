"""What the commands that tell of studies look like: in terminals of 80 and 200 columns, and in pipes."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests import ROOT
from tests.support.fixtures_study import write_study_file
from tests.support.recorded_study import EVIL, record_study
from tests.support.terminal import in_a_terminal, through_a_pipe, without_colours
from tests.tune.cli.test_cli import Terminal
from tests.tune.nodes.test_nodes import HEALTHY, NEEDS
from tune.line_width import fitted, line_width
from tune.nodes.doctor import print_report
from tune.nodes.problems import find_problems
from tune.session.live_display import LiveStudy
from tune.study.spec import load_spec
from tune.study.study_state import StudyState

MAY_BE_LONGER = re.compile(r"(\S+\s{2,}|\s*)(emotune|tensorboard) \S.*|(\S+\s{2,}|\s*)\S+|.*: ?(/|file:)\S+")
"""Commands and paths stay on a line, so that they can be copied."""

SHOWN = ("show", "why", "why a trial", "watch one that has ended", "watch one that goes on", "plan", "check")


@pytest.fixture(scope="module")
def commands(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> list[list[object]]:
    folder = tmp_path_factory.mktemp("studies")
    ended = record_study(folder / "ended", 20).directory
    going_on = record_study(folder / "going-on", 6, finished=False, seed=1).directory
    file = write_study_file(folder, faces, trials=100, resources={"gpus_per_trial": 0.25})
    return [
        ["show", ended],
        ["why", ended],
        ["why", ended, 3],
        ["watch", ended],
        ["watch", going_on],
        ["plan", file, "--cluster", ROOT / "cluster.yaml"],
        ["run", file, "--check"],
    ]


def too_long(text: str, columns: int) -> list[str]:
    lines = without_colours(text).splitlines()
    return [line for line in lines if len(line.rstrip()) > columns and not MAY_BE_LONGER.fullmatch(line)]


@pytest.mark.slow
@pytest.mark.parametrize("columns", [80, 200])
def test_lines_fit_a_terminal_which_has_colours(commands: list[list[object]], columns: int) -> None:
    seen = dict(zip(SHOWN, in_a_terminal(commands, columns), strict=True))
    assert not [line for text in seen.values() for line in too_long(text, columns)]
    coloured = {name for name, text in seen.items() if re.search(r"\x1b\[[0-9;]*3[0-9]m", text)}
    assert {"show", "watch one that goes on"} <= coloured
    table = without_colours(seen["show"])
    assert "ran to its end" in table and EVIL in table


@pytest.mark.slow
def test_a_pipe_obeys_columns_and_has_no_colours(commands: list[list[object]]) -> None:
    narrow, whole = (dict(zip(SHOWN, through_a_pipe(commands, columns), strict=True)) for columns in (80, None))
    for text in (*narrow.values(), *whole.values()):
        assert "\x1b" not in text
    assert not [line for text in narrow.values() for line in too_long(text, 80)]
    for name in ("why", "why a trial", "watch one that has ended"):
        assert narrow[name].split() == whole[name].split()
        assert narrow[name].count("\n") > whole[name].count("\n")  # in a pipe without COLUMNS a line is whole, for grep
    assert max(map(len, whole["show"].splitlines())) > 80


@pytest.mark.parametrize("columns", [80, 200])
def test_what_doctor_finds_fits_too(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    reports = [HEALTHY, replace(HEALTHY, address="10.0.0.2", here=False, head=False, gpus_ray=0.0)]
    found = find_problems(reports, NEEDS)
    print_report(reports, found)
    said = capsys.readouterr().out
    assert not too_long(said, columns) and "\x1b" not in said
    assert " ".join(found[0].message.split()) in " ".join(said.split())


def test_long_lines_go_on_under_their_text_and_commands_stay_whole() -> None:
    lines = fitted(
        "best         trial 4 with many words\n"
        "unfinished   stopped. Go on with: emotune resume /a/long/path/to/it\n"
        "compare      tensorboard --logdir /a/long/path/to/it\n"
        "one two three four five six seven",
        30,
    )
    assert lines.splitlines() == [
        "best         trial 4 with many",
        "             words",
        "unfinished   stopped. Go on",
        "             with:",
        "             emotune resume /a/long/path/to/it",
        "compare      tensorboard --logdir /a/long/path/to/it",
        "one two three four five six",
        "  seven",
    ]
    assert fitted("one two three", None) == "one two three"


def test_columns_is_the_width_wherever_text_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "72")
    assert line_width(io.StringIO()) == 72
    for unset in ("", "0", "wide"):
        monkeypatch.setenv("COLUMNS", unset)
        assert line_width(io.StringIO()) is None


def test_the_live_table_is_ordered_by_score_tells_what_is_alike_once_and_who_rises(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    state = StudyState()

    def epoch(trial: int, number: int, value: float) -> None:
        metrics = {"selection_accuracy": value, "validation_accuracy": value}
        state.apply({"event": "epoch", "time": 0, "trial": trial, "epoch": number, "metrics": metrics})

    for trial, value in enumerate((0.5, 0.75, 0.25)):
        values = {"dropout": 0.1 * trial, "optimizer": "adam"}
        state.apply({"event": "trial", "time": 0, "trial": trial, "values": values})
        state.apply({"event": "started", "time": 0, "trial": trial})
        epoch(trial, 1, value)
    live = LiveStudy(Terminal(), load_spec(write_study_file(tmp_path, faces)), state, 6)
    assert rows(live) == [("1", "0.7500"), ("0", "0.5000"), ("2", "0.2500")]
    epoch(2, 2, 0.625)
    assert rows(live) == [("1", "0.7500"), ("2", "↑ 0.6250"), ("0", "0.5000")]
    assert drawn(live).count("optimizer") == 1 and "the same in all: optimizer adam" in drawn(live)


def drawn(live: LiveStudy) -> str:
    from rich.console import Console

    console = Console(file=io.StringIO(), width=160)
    console.print(live._render())
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def rows(live: LiveStudy) -> list[tuple[str, str]]:
    found = re.findall(r"^ +(\d) .*? (↑ 0\.\d{4}|0\.\d{4}) ", drawn(live), re.M)
    return [(number, score) for number, score in found]
