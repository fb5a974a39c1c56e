"""What the board's page is told of a study: everything at first, then what has changed, and never anything twice."""

from __future__ import annotations

import io
import re
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.support.recorded_study import EVIL, record_study
from tune.board.study_feed import StudyFeed
from tune.session.trial_table import trial_table
from tune.study.journal import Journal
from tune.study.studies import StudyFiles
from tune.study.trial_record import REFIT_SEED, SEED_STRIDE


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tune.board.study_feed._LOOK_EVERY_S", 0.0)


class Page:
    """Adds up the answers as the page does."""

    def __init__(self) -> None:
        self.version, self.answers = "", 0
        self.trials: dict[int, dict[str, Any]] = {}
        self.bars: dict[int, list[Any]] = {}
        self.log: list[list[Any]] = []

    def take(self, changes: dict[str, Any]) -> None:
        if changes["full"]:
            self.trials, self.bars, self.log = {}, {}, []
        self.version = changes["version"]
        self.trials |= {row["number"]: row for row in changes["trials"]}
        self.bars |= {bar[0]: bar for bar in changes["timeline"]}
        self.log += changes["log"]

    def same_as(self, other: Page) -> bool:
        return (self.trials, self.bars, self.log) == (other.trials, other.bars, other.log)


def test_a_bucket_that_does_not_answer_keeps_nobody_from_what_is_known(
    tmp_path: Path, no_pause: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed, asked, answer = StudyFeed(record_study(tmp_path / "a", 4)), threading.Event(), threading.Event()

    def hang(follower: object) -> None:
        asked.set()
        assert answer.wait(60)

    monkeypatch.setattr("tune.board.study_feed.StudyFollower.fetch", hang)
    looking = threading.Thread(target=feed.refresh)
    looking.start()
    assert asked.wait(30)
    feed.refresh()  # leaves it to the one that waits
    assert feed.summary() and feed.changes("")["trials"]
    answer.set()
    looking.join(30)
    assert not looking.is_alive()


def test_answers_to_a_page_that_was_there_from_the_start_add_up_to_what_a_new_one_gets(
    tmp_path: Path, no_pause: None
) -> None:
    whole = record_study(tmp_path / "whole", 30)
    lines = whole.journal.read_bytes().splitlines(keepends=True)
    growing = record_study(tmp_path / "growing", 0, finished=False)
    growing.journal.write_bytes(b"".join(lines[:3]))
    feed, page = StudyFeed(growing), Page()
    for begin in range(3, len(lines), 17):
        page.take(feed.changes(page.version))
        with growing.journal.open("ab") as file:
            file.write(b"".join(lines[begin : begin + 17]))
        feed.refresh()
    last = feed.changes(page.version)
    assert not last["full"] and len(last["trials"]) < 10
    page.take(last)
    late = Page()
    late.take(StudyFeed(growing).changes(""))
    assert page.same_as(late) and len(late.trials) == 30
    assert feed.changes(page.version)["trials"] == []
    assert len({bar[4] for bar in late.bars.values()}) == 4  # workers


def test_what_is_told_is_the_journals(tmp_path: Path) -> None:
    study = record_study(tmp_path / "study", 12)
    state, feed = study.state(), StudyFeed(study)
    changes, summary = feed.changes(""), feed.summary()
    rows = {row["number"]: row for row in changes["trials"]}
    for number, trial in state.trials.items():
        value = trial.best_value("selection_accuracy", "max")
        assert value is not None and rows[number]["score"] == pytest.approx(value, abs=1e-5)
        assert (rows[number]["state"], rows[number]["values"]) == (trial.state, trial.values)
        assert [epoch for epoch, _ in rows[number]["curve"]] == sorted(trial.epochs)
    assert f"ValueError: {EVIL}" in rows[3]["why"]
    assert state.confirmed is not None and summary["best"] == state.confirmed["winner"]
    [winner] = [row for row in state.confirmed["repeated"] if row["trial"] == summary["best"]]
    assert summary["score"] == pytest.approx(winner["mean"], abs=1e-5)  # not the search's, the largest of many
    assert summary["seeds"] == len(winner["scores"]) > 1
    assert summary["status"] == "finished" and not summary["left"]
    told = [line[3] for line in changes["log"]]
    assert told[0] == "session 1 begins: the search" and told[-1].startswith("confirmed: trial ")
    assert any(line.startswith("trial 3 starts again (exception)") for line in told)
    assert sum("; stopped" in line for line in told) == sum(t.state == "pruned" for t in state.trials.values())
    story = feed.trial(3)
    assert story is not None and any(EVIL in line for line in story)
    assert feed.trial(12) is None


def test_a_final_fit_has_no_score_nor_curve_on_the_board_nor_in_the_table(tmp_path: Path) -> None:
    study = record_study(tmp_path / "study", 3, finished=False)
    number, epochs = 1 + REFIT_SEED * SEED_STRIDE, study.state().trials[1].epochs
    with closing(Journal(study.journal)) as journal:
        journal.append("session", number=2, phase="confirm", pid=1, fingerprint="f")
        journal.append("trial", trial=number, values=study.state().trials[1].values)
        journal.append("started", trial=number)
        journal.append("epoch", trial=number, epoch=1, metrics=epochs[1])
    [row] = [row for row in StudyFeed(study).changes("")["trials"] if row["number"] == number]
    assert (row["score"], row["curve"], row["epochs"]) == (None, [], 1)
    shown = io.StringIO()
    Console(width=200, file=shown).print(trial_table([study.state().run(number)], study.spec))
    assert re.search(r"1 final fit .* 1/12 +- +- +running", shown.getvalue())


def test_another_journal_begins_the_page_anew_and_a_problem_is_told(tmp_path: Path, no_pause: None) -> None:
    study, other = record_study(tmp_path / "study", 3), record_study(tmp_path / "other", 2, seed=1)
    feed = StudyFeed(study)
    version = feed.changes("")["version"]
    other.journal.replace(study.journal)
    feed.refresh()
    changes = feed.changes(version)
    assert changes["full"] and len(changes["trials"]) == 2 and not feed.summary()["problem"]
    study.journal.unlink()
    feed.refresh()
    assert "journal.jsonl is gone" in feed.summary()["problem"]
    assert len(feed.changes("")["trials"]) == 2


def test_a_study_that_is_run_again_is_another_one_before_its_first_event(tmp_path: Path, no_pause: None) -> None:
    study = record_study(tmp_path / "study", 3)
    again = record_study(tmp_path / "again", 1, finished=False, objective="selection_loss")
    feed = StudyFeed(study)
    version = feed.changes("")["version"]
    study.journal.write_bytes(b"")
    study.study_file.write_bytes(again.study_file.read_bytes())
    feed.refresh()
    changes = feed.changes(version)
    assert changes["full"] and changes["trials"] == changes["timeline"] == changes["log"] == []
    study.journal.write_bytes(again.journal.read_bytes())
    feed.refresh()
    changes = feed.changes(changes["version"])
    assert [row["number"] for row in changes["trials"]] == [0]
    assert (changes["objective"], changes["mode"]) == ("selection_loss", "min")


def test_a_running_study_says_how_long_it_still_takes(tmp_path: Path, no_pause: None) -> None:
    study: StudyFiles = record_study(tmp_path / "study", 8, finished=False)
    feed = StudyFeed(study)
    assert feed.summary()["status"] == "unfinished"
    with closing(Journal(study.journal)) as journal:
        journal.append("trial", trial=8, values={"dropout": 0.5})
        journal.append("started", trial=8)
        feed.refresh()
        summary = feed.summary()
        assert summary["status"] == "running" and summary["left"].startswith("about ")
        assert feed.changes("")["timeline"][-1][3] is None  # it goes on


def test_values_in_brackets_are_text_in_the_table(tmp_path: Path) -> None:
    study = record_study(tmp_path / "study", 2, finished=False)
    state = study.state()
    state.trials[0].values, state.trials[1].values = {"model.head": "[/x]"}, {"model.head": "[gap]"}
    shown = io.StringIO()
    Console(width=200, file=shown).print(trial_table(list(state.trials.values()), study.spec))
    assert "model.head [/x]" in shown.getvalue() and "model.head [gap]" in shown.getvalue()
