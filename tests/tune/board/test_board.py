"""`emotune board`: a real server over recorded studies, asked over HTTP and looked at in a real browser."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from tests import ROOT
from tests.support.accessibility import grave_violations_in_light_and_dark
from tests.support.browser_tab import opened_tab
from tests.support.recorded_study import EVIL, record_study
from tests.tune.cli.test_cli import refused
from tune.study.journal import Journal
from tune.study.studies import StudyFiles


@dataclass(frozen=True)
class Board:
    """A running `emotune board` over one study that goes on and one that has ended."""

    url: str
    process: subprocess.Popen[str]
    going_on: StudyFiles

    def get(self, path: str, **options: Any) -> requests.Response:
        return requests.get(f"{self.url}{path}", timeout=30, **options)


@contextmanager
def started_board(*studies: StudyFiles) -> Iterator[Board]:
    command = [sys.executable, "-m", "tune.cli", "board", *(str(study.directory) for study in studies)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None and process.stderr is not None
        said = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", said)
        assert found is not None, process.stderr.read()
        try:
            yield Board(found[0], process, studies[0])
        finally:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=30)
        assert (process.returncode, errors) == (130, "")


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    folder = tmp_path_factory.mktemp("studies")
    going_on = record_study(folder / "going-on", 30, finished=False)
    with started_board(going_on, record_study(folder / "ended", 12, seed=1)) as board:
        yield board


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200),
        ("/board.js", 200),
        ("/studies", 200),
        ("/studies?chosen=1", 200),
        ("/studies/1/trials/0", 200),
        ("/studies?chosen=2", 404),
        ("/studies?chosen=-1", 404),
        ("/studies?chosen=x", 404),
        ("/studies/1/trials/99", 404),
        ("/studies/0/trials/../../../etc/passwd", 404),
        ("/page/board.html", 404),
        ("/../study.yaml", 404),
        ("/%2e%2e/study.yaml", 404),
        ("//etc/passwd", 404),
        ("/journal.jsonl", 404),
    ],
)
def test_every_answer_is_guarded_and_only_the_studies_that_were_named_are_told(
    board: Board, path: str, status: int
) -> None:
    connection = HTTPConnection(board.url.removeprefix("http://"), timeout=30)  # asks for the path as it stands
    with closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.status == status
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_done_but_looking(board: Board, method: str) -> None:
    assert requests.request(method, f"{board.url}/studies", timeout=30).status_code == 405


@pytest.mark.parametrize(
    ("host", "status"),
    [("evil.example", 403), ("evil.example:80", 403), ("", 403), ("localhost:1", 200), ("[::1]:9", 200)],
)
def test_a_page_of_another_site_cannot_read_it_by_its_own_name(board: Board, host: str, status: int) -> None:
    assert board.get("/studies", headers={"Host": host}).status_code == status


def test_it_listens_at_loopback_alone(board: Board) -> None:
    listening = [c for c in psutil.Process(board.process.pid).net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    assert [connection.laddr.ip for connection in listening] == ["127.0.0.1"]


def test_a_study_that_is_not_there_and_a_port_that_is_taken_are_refused(
    board: Board, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study, port = board.going_on.directory, board.url.rpartition(":")[2]
    said = refused("board", study, study.parent / "nosuch", monkeypatch=monkeypatch, capsys=capsys)
    assert "holds no study" in said
    said = refused("board", study, "--port", port, monkeypatch=monkeypatch, capsys=capsys)
    assert f"--host and --port must be a free address of this machine. Received: 127.0.0.1, {port}" in said


@pytest.fixture(scope="module")
def opened(board: Board, chromium: Path) -> Iterator[Any]:
    with opened_tab(chromium, board.url, (board.url, "data:"), viewport={"width": 1200, "height": 900}) as tab:
        yield tab


@pytest.fixture
def tab(opened: Any, board: Board) -> Iterator[Any]:
    opened.goto(board.url)
    opened.locator("#trials tbody tr").first.wait_for()
    yield opened
    assert not opened.problems


def first_cells(tab: Any) -> list[str]:
    return [text.split("\t")[0] for text in tab.locator("#trials tbody tr").all_inner_texts()]


@pytest.mark.browser
def test_in_a_browser_trials_sort_filter_and_tell_their_story(tab: Any, board: Board) -> None:
    state = board.going_on.state()
    best = max(t.best_value("selection_accuracy", "max") or 0.0 for t in state.trials.values())
    assert tab.locator("#trials tbody tr").first.locator("td").nth(1).inner_text() == f"{round(best, 5):.4g}"
    tab.get_by_role("button", name="trial", exact=True).focus()
    tab.keyboard.press("Enter")
    assert first_cells(tab)[:3] == ["0", "1", "2"]
    tab.keyboard.press("Enter")
    assert int(first_cells(tab)[0]) == len(state.trials) - 1
    assert tab.locator("th[aria-sort=descending]").inner_text().startswith("trial")
    tab.get_by_label("Filter trials").fill("crop pruned")
    shown = tab.locator("#trials tbody tr").all_inner_texts()
    assert shown and all("crop" in text and "pruned" in text for text in shown)
    assert tab.locator("#trial-count").inner_text() == f"{len(shown)} of {len(state.trials)}"

    tab.get_by_label("Filter trials").fill("")
    tab.get_by_role("button", name="trial 3: its story").click()
    tab.locator("#story-lines li").first.wait_for()
    assert EVIL in tab.locator("#story-lines").inner_text()  # as text: a script would be a problem of the tab
    assert tab.locator("#curves path.chosen").count() == 1
    tab.get_by_label("Filter decisions").fill("rung stopped")
    decisions = tab.locator("#log li").all_inner_texts()
    assert decisions and all("stopped" in line for line in decisions)


@pytest.mark.browser
def test_in_a_browser_charts_answer_the_pointer(tab: Any) -> None:
    for chart, mark, words in [
        ("curves", "path.best", r"trial \d+, epoch \d+: 0\."),
        ("timeline", "rect", r"trial \d+"),
    ]:
        tab.locator(f"#{chart}").scroll_into_view_if_needed()
        box = tab.locator(f"#{chart} {mark}").first.bounding_box()
        tab.mouse.move(box["x"] + min(box["width"], 4) / 2, box["y"] + box["height"] - 1)
        assert re.match(words, tab.locator("#tip").inner_text())
        assert tab.locator(f"#{chart} .lit").count() >= 1
    tab.mouse.click(box["x"] + 1, box["y"] + box["height"] - 1)
    tab.locator("#story-title").wait_for()


@pytest.mark.browser
def test_in_a_browser_a_study_that_goes_on_moves_by_itself(tab: Any, board: Board) -> None:
    tab.evaluate("window.notReloaded = true")
    assert "Unfinished" in tab.locator("#status").inner_text()
    number = len(board.going_on.state().trials)
    with closing(Journal(board.going_on.journal)) as journal:
        journal.append("trial", trial=number, values={"dropout": 0.125, "optimizer": EVIL})
        journal.append("started", trial=number)
        row = tab.locator("#trials tbody tr", has=tab.get_by_role("button", name=f"trial {number}: its story"))
        row.get_by_text("running").wait_for()
        assert EVIL in row.inner_text()
        tab.locator("#status", has_text="Running").wait_for()
        for epoch, value in enumerate((0.5, 0.875), 1):
            metrics = {"selection_accuracy": value, "validation_accuracy": value}
            journal.append("epoch", trial=number, epoch=epoch, metrics=metrics)
        row.get_by_text("0.875").wait_for()
        journal.append("rung", trial=number, epoch=2, value=0.875, cutoff=0.5, rank=1, among=9, stopped=False)
        tab.locator("#log li", has_text=f"trial {number}, rung 2: 0.8750, above the cutoff 0.5000").wait_for()
        assert tab.locator("#timeline rect.running").count() == 1
        journal.append("end", trial=number, state="complete", reason="ran to its end")
        tab.locator("#status", has_text=f"Trial {number} is the best so far: selection_accuracy 0.8750").wait_for()
        assert tab.locator("#curves path.best").get_attribute("d") == "M1 0.5L2 0.875"
    tab.locator("#status", has_text="Unfinished").wait_for()
    assert tab.evaluate("window.notReloaded")


@pytest.mark.browser
def test_in_a_browser_another_study_can_be_chosen(tab: Any) -> None:
    tab.get_by_role("button", name=re.compile("^ended: finished, 12 of 12")).click()
    tab.locator("h1", has_text="ended").wait_for()
    assert len(first_cells(tab)) == 12
    assert "the best that was confirmed: selection_accuracy 0." in tab.locator("#status").inner_text()
    assert "the mean of " in tab.locator("#status").inner_text()
    assert tab.url.endswith("#1")


@pytest.mark.browser
def test_in_a_browser_the_page_fits_a_phone_and_the_dark(tab: Any) -> None:
    tab.set_viewport_size({"width": 360, "height": 740})
    tab.emulate_media(color_scheme="dark")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(19, 23, 28)"
    tab.emulate_media(color_scheme="light")
    tab.set_viewport_size({"width": 1200, "height": 900})


@pytest.mark.browser
def test_axe_finds_nothing_grave_in_the_board(tab: Any) -> None:
    tab.get_by_role("button", name="trial 3: its story").click()
    tab.locator("#story-lines li").first.wait_for()
    assert not grave_violations_in_light_and_dark(tab)
    tab.get_by_role("button", name="Close").click()


def repeated(study: StudyFiles, trials: int) -> StudyFiles:
    """Writes a study's journal anew with its trials again and again, under new numbers, until there are so many."""
    first, *events = [json.loads(line) for line in study.journal.read_text().splitlines()]
    events = [event for event in events if event.get("trial", trials) < trials]
    each, span = len(study.state().trials), events[-1]["time"] - first["time"]
    lines = [first]
    for copy in range(trials // each):
        for event in events:
            lines.append({**event, "trial": event["trial"] + copy * each, "time": event["time"] + copy * span})
    study.journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return study


@pytest.mark.browser
@pytest.mark.slow
def test_in_a_browser_two_thousand_trials_answer_at_once(tmp_path: Path, chromium: Path) -> None:
    study = repeated(record_study(tmp_path / "large", 100, finished=False), 2000)
    with started_board(study) as board, opened_tab(chromium, board.url, (board.url, "data:")) as tab:
        tab.locator("#trial-count", has_text="2000 of 2000").wait_for()
        tab.locator("#trials th button").first.click()
        tab.get_by_label("Filter trials").fill("crop complete")
        tab.locator("#trial-count", has_text=re.compile(r"^\d{1,3} of 2000")).wait_for()
        # What makes it quick: however many there are, so many rows and lines are drawn.
        assert 0 < tab.locator("#trials tbody tr").count() <= 100
        assert 0 < tab.locator("#log li").count() <= 30
        assert not tab.problems


CELL = """
import asyncio, os, signal, sys, threading, urllib.request
import tune

def ready(url):
    def look_and_interrupt():
        print(urllib.request.urlopen(url + "/studies", timeout=30).status, flush=True)
        os.kill(os.getpid(), signal.SIGINT)
    threading.Thread(target=look_and_interrupt).start()

async def cell():
    tune.serve_board([sys.argv[1]], ready=ready)

kernel = asyncio.new_event_loop()  # which waits for the cell
try:
    kernel.run_until_complete(cell())
except KeyboardInterrupt:
    print("interrupted")
"""


def test_in_a_notebooks_cell_it_serves_until_it_is_interrupted(tmp_path: Path) -> None:
    study = record_study(tmp_path / "study", 3)
    command = [sys.executable, "-c", CELL, str(study.directory)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, "200\ninterrupted\n"), done.stderr
