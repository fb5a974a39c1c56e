"""`notify:` against a real HTTP server: what is posted, in which form, and that a URL that is dead costs nothing."""

from __future__ import annotations

import http.server
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.fixtures_study import run_here, write_study_file
from tests.support.recorded_study import record_study
from tune.errors import StudyError, StudyFileError
from tune.session.notify import Notifier
from tune.study.journal import Journal
from tune.study.spec import load_spec
from tune.study.studies import StudyFiles

EXIT = {"event": "exit", "time": 1.0, "ended_by": "finished", "exit_code": 0, "export": None}


@contextmanager
def listening(pause_s: float = 0.0, status: int = 200) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server that keeps what is posted to it. Yields its URL and what it has got."""
    got: list[dict[str, Any]] = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            time.sleep(pause_s)
            assert self.headers["Content-Type"] == "application/json"
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/hook", got
        finally:
            server.shutdown()


def drive(study: StudyFiles, *events: dict[str, Any]) -> None:
    """Journals events as a driver does, then ends."""
    with Notifier(study) as notifier:
        with closing(Journal(study.journal)) as journal:
            notifier.follow(journal)
            for event in events:
                journal.append(event["event"], **{name: value for name, value in event.items() if name != "event"})
        notifier.tell_exit(EXIT)


def fault(kind: str = "exception", **more: Any) -> dict[str, Any]:
    return {"event": "fault", "trial": 0, "kind": kind, "reason": "ValueError: <b> & co", "retried": True, **more}


END = {"event": "session_end", "search_s": 9.0, "finished": True, "ended_by": "epochs"}


def test_a_fault_of_each_kind_a_spent_budget_and_the_end_are_posted(tmp_path: Path) -> None:
    with listening() as (url, got):
        study = record_study(tmp_path / "study", 3, finished=False, notify={"url": url})
        drive(study, fault(), fault(), fault("hung"), END)
    assert [(message["study"], message["kind"]) for message in got] == [
        ("study", kind) for kind in ("fault", "fault", "budget", "end")
    ]
    assert got[0]["text"] == "trial 0 starts again (exception): ValueError: <b> & co"
    assert got[0]["event"]["event"] == "fault" and got[0]["event"]["time"] > 0
    assert got[2]["text"] == "the session ends: its epochs were used up"
    assert re.match(r"ended \(finished\): trial \d is the best, selection_accuracy 0\.\d{4}; ", got[3]["text"])


def test_slack_gets_text_that_it_does_not_take_for_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with listening() as (url, got):
        monkeypatch.setenv("HOOK", url)
        study = record_study(tmp_path / "study", 1, finished=False, notify={"url": "$HOOK", "format": "slack"})
        drive(study, fault())
    assert got[0] == {"text": "*study*: trial 0 starts again (exception): ValueError: &lt;b&gt; &amp; co"}
    assert set(got[1]) == {"text"}


def test_a_url_that_is_dead_slow_or_unwilling_costs_nothing_and_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with listening(status=404) as (url, _):
        drive(record_study(tmp_path / "unwilling", 1, finished=False, notify={"url": url}), fault())
    assert "2 of 2 messages did not arrive: " in capsys.readouterr().out
    drive(record_study(tmp_path / "dead", 1, finished=False, notify={"url": "http://127.0.0.1:9/x"}), fault())
    assert "2 of 2 messages did not arrive: [Errno 111]" in capsys.readouterr().out
    monkeypatch.setattr("tune.session.notify._TIMEOUT_S", 0.5)
    with listening(pause_s=1) as (url, _):
        study = record_study(tmp_path / "slow", 1, finished=False, notify={"url": url})
        began = time.monotonic()
        with Notifier(study) as notifier, closing(Journal(study.journal)) as journal:
            notifier.follow(journal)
            for number in range(200):
                journal.append("fault", trial=0, kind=f"kind {number}", reason="r", retried=True)
        assert time.monotonic() - began < 60  # waiting for each answer would take 200 s
    for thread in threading.enumerate():
        if thread.name == "notify":
            thread.join(20)
    assert "messages did not arrive: " in capsys.readouterr().out


def test_a_study_without_a_url_starts_no_thread_and_one_where_nothing_happened_tells_nothing(tmp_path: Path) -> None:
    drive(record_study(tmp_path / "study", 1, finished=False), fault())
    assert "notify" not in [thread.name for thread in threading.enumerate()]
    with listening() as (url, got):
        drive(record_study(tmp_path / "idle", 1, finished=False, notify={"url": url}))
    assert not got


@pytest.mark.parametrize("url", ["ftp://host/x", "host/x", "file:///etc/passwd", "$9", "http://", "http://["])
def test_what_is_no_address_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(StudyFileError, match="url must be http://... or https://..., or \\$NAME"):
        load_spec(write_study_file(tmp_path, "faces", notify={"url": url}))


@pytest.mark.parametrize(
    ("held", "words"),
    [(None, "is not set"), ("", "is not set"), ("hooks.example/secret", "holds something else"), ("http://[", "holds")],
)
def test_a_variable_that_holds_no_address_is_told_before_anything_begins_and_what_it_holds_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: str | None, words: str
) -> None:
    if held is not None:
        monkeypatch.setenv("SOME_HOOK", held)
    study = record_study(tmp_path / "study", 1, finished=False, notify={"url": "$SOME_HOOK"})
    with pytest.raises(StudyError, match=rf"Received: \$SOME_HOOK, which {words}") as refused:
        Notifier(study)
    assert "secret" not in str(refused.value)


@pytest.mark.slow
def test_a_real_study_tells_its_budget_and_its_end(ray_cluster: str, faces: Path, tmp_path: Path) -> None:
    with listening() as (url, got):
        file = write_study_file(tmp_path, faces, notify={"url": url}, budget={"epochs": 1}, asha={"max_epochs": 1})
        run_here(file)
    assert [message["kind"] for message in got] == ["budget", "end"]
    assert "its epochs were used up" in got[1]["text"] and "trial 0 is the best" in got[1]["text"]
    assert got[1]["event"]["export"]
