"""TensorBoard and Optuna Dashboard beside the board: the real servers, over two studies whose spaces differ."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import optuna
import psutil
import pytest
import requests

from tests import ROOT
from tests.support.browser_tab import opened_tab
from tests.support.recorded_study import SPACE, record_study
from tests.tune.cli.test_cli import refused
from tune.board.optuna_view import JournalStorageView
from tune.errors import DatasetError
from tune.report.event_files import read_events
from tune.report.tensorboard import TrialLogs
from tune.report.tensorboard_union import TensorBoardUnion, unite
from tune.session.contact_sheets import write_contact_sheets
from tune.study.journal import Journal
from tune.study.journal import read_events as read_journal
from tune.study.studies import StudyFiles
from tune.study.trial_record import SEED_STRIDE

OWN = {
    "label_smoothing": {"type": "float", "low": 0.0, "high": 0.3, "default": 0.125},
    "learning_rate": {"type": "float", "low": 1e-6, "high": 1e-2, "log": True, "default": 1e-3},
    "preprocessing": {"type": "categorical", "choices": ["crop", "equalize"], "default": "crop"},
}


def record_with_logs(folder: Path, trials: int, **changes: Any) -> StudyFiles:
    """Records a study, and writes its trials for TensorBoard as a session does."""
    study = record_study(folder, trials, **changes)
    with TrialLogs(study.tensorboard) as logs:
        logs.experiment(study.spec.space)
        for trial in study.state().trials.values():
            log(logs, trial.number, trial.values, trial.epochs)
    return study


def log(logs: TrialLogs, number: int, values: Any, epochs: Any) -> None:
    logs.start(number, values)
    for epoch, metrics in epochs.items():
        logs.epoch(number, epoch, metrics)
    logs.end(number, "SUCCESS")


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> list[StudyFiles]:
    folder = tmp_path_factory.mktemp("studies")
    space = {**{name: SPACE[name] for name in ("optimizer", "batch_size")}, **OWN}
    return [
        record_with_logs(folder / "first", 4, finished=False),
        record_with_logs(folder / "second", 5, seed=1, space=space),
    ]


@dataclass(frozen=True)
class Beside:
    """A running board, and where its two others answer."""

    process: subprocess.Popen[str]
    tensorboard: str
    optuna: str


@pytest.fixture(scope="module")
def beside(studies: list[StudyFiles]) -> Iterator[Beside]:
    words = [*(str(study.directory) for study in studies), "--tensorboard", "--optuna"]
    command = [sys.executable, "-m", "tune.cli", "board", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None and process.stderr is not None
        found: dict[str, str] = {}
        for _ in ("board", "optuna", "tensorboard"):
            name, _, url = process.stdout.readline().strip().partition(" ")
            assert name, process.stderr.read()
            found[name] = url.strip()
        assert "Ctrl-C ends it" in found.pop("board")
        try:
            yield Beside(process, **found)
        finally:
            started = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (130, "")
        assert started and not [child for child in started if child.is_running() and child.status() != "zombie"]


def asked_of_hparams(beside: Beside, what: str, **options: Any) -> Any:
    """Asks TensorBoard's HParams tab what its page asks; it reads its logs in the background at first."""
    until = time.monotonic() + 60
    while True:
        asked = {"experimentName": "", **options}
        answer = requests.post(f"{beside.tensorboard}/data/plugin/hparams/{what}", json=asked, timeout=30).json()
        if answer.get("hparamInfos") or answer.get("sessionGroups") or time.monotonic() > until:
            return answer
        time.sleep(0.5)


@pytest.mark.slow
def test_tensorboard_has_the_columns_and_the_rows_of_both_studies(beside: Beside, studies: list[StudyFiles]) -> None:
    infos = {info["name"]: info for info in asked_of_hparams(beside, "experiment", includeMetrics=True)["hparamInfos"]}
    assert set(infos) == {*SPACE, *OWN}
    assert infos["learning_rate"]["domainInterval"] == {"minValue": 1e-6, "maxValue": 1e-1}
    assert set(infos["preprocessing"]["domainDiscrete"]) == {"none", "crop", "augment", "equalize"}
    until, names = time.monotonic() + 60, {}
    while len(names) < 9 and time.monotonic() < until:
        wanted = {"allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]}
        groups = asked_of_hparams(beside, "session_groups", colParams=[], startIndex=0, sliceSize=100, **wanted)
        names = {group["name"]: group["hparams"] for group in groups["sessionGroups"]}
        time.sleep(0.5)
    assert sorted(names) == [
        *(f"first/trial-000{n}" for n in range(4)),
        *(f"second/trial-000{n}" for n in range(5)),
    ]
    assert names["second/trial-0000"]["label_smoothing"] == 0.125
    assert "label_smoothing" not in names["first/trial-0000"]


@pytest.mark.slow
def test_a_trial_that_begins_later_comes_into_tensorboard(beside: Beside, studies: list[StudyFiles]) -> None:
    with TrialLogs(studies[0].tensorboard) as logs:
        log(logs, 77, {"optimizer": "sgd"}, {1: {"selection_accuracy": 0.5}})
    until = time.monotonic() + 90
    while "first/trial-0077" not in (runs := requests.get(f"{beside.tensorboard}/data/runs", timeout=30).json()):
        assert time.monotonic() < until, runs
        time.sleep(1)


@pytest.mark.slow
def test_optuna_dashboard_follows_the_journals_and_changes_nothing(beside: Beside, studies: list[StudyFiles]) -> None:
    def get(path: str, **options: Any) -> requests.Response:
        return requests.get(f"{beside.optuna}{path}", timeout=30, **options)

    found = get("/api/studies").json()["study_summaries"]
    assert [study["study_name"] for study in found] == ["first", "second"]
    trials = get("/api/studies/1?after=0").json()["trials"]
    state = studies[1].state()
    assert [trial["number"] for trial in trials] == sorted(state.trials)
    assert {t["number"]: t["state"].lower() for t in trials} == {
        n: {"complete": "complete", "pruned": "pruned"}[t.state] for n, t in state.trials.items()
    }
    assert len(trials[0]["intermediate_values"]) == len(state.trials[0].epochs)
    with closing(Journal(studies[0].journal)) as journal:
        journal.append("trial", trial=4, values={"optimizer": "adam"})
    time.sleep(2.1)  # Optuna Dashboard 0.21 keeps trials for so long
    assert get("/api/studies/0?after=0").json()["trials"][-1]["number"] == 4

    assert get("/api/studies", headers={"Host": "evil.example"}).status_code == 403
    for method, path in (("DELETE", "/api/studies/0"), ("POST", "/api/studies"), ("PUT", "/api/studies/0/note")):
        assert requests.request(method, f"{beside.optuna}{path}", json={}, timeout=30).status_code == 405
    assert get("/static/../../../../etc/passwd").status_code in (400, 403, 404)


@pytest.mark.slow
def test_both_answer_at_loopback_alone(beside: Beside) -> None:
    own = psutil.Process(beside.process.pid)
    listening = [
        connection.laddr
        for process in (own, *own.children(recursive=True))
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {address.ip for address in listening} <= {"127.0.0.1", "::1"}
    for url in (beside.tensorboard, beside.optuna):
        assert int(url.rpartition(":")[2]) in {address.port for address in listening}


@pytest.mark.slow
@pytest.mark.browser
def test_in_a_browser_optuna_dashboard_draws_a_study(beside: Beside, chromium: Path) -> None:
    with opened_tab(chromium, f"{beside.optuna}/dashboard/studies/1", (beside.optuna, "data:", "blob:")) as tab:
        tab.get_by_text("second").first.wait_for()
        tab.locator(".js-plotly-plot").first.wait_for()
        assert not [problem for problem in tab.problems if "http" in problem]


def test_without_optuna_dashboard_it_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    study = record_study(tmp_path / "study", 2).directory
    said = refused("board", study, "--optuna", monkeypatch=monkeypatch, capsys=capsys)
    assert (
        "--optuna needs Optuna Dashboard. Received: Python without it. Install it with: make setup EXTRAS=opt" in said
    )


def test_optunas_tools_read_the_journals_and_cannot_write(studies: list[StudyFiles]) -> None:
    view = JournalStorageView(studies)
    study, state = optuna.load_study(study_name="second", storage=view), studies[1].state()
    ended = {n: t.best_value("selection_accuracy", "max") for n, t in state.trials.items() if t.state == "complete"}
    assert study.best_value == max(value for value in ended.values() if value is not None)
    assert [view.get_trial(trial._trial_id).number for trial in study.trials] == sorted(state.trials)
    assert all(t.datetime_complete > t.datetime_start for t in study.trials)  # type: ignore[operator]
    with pytest.raises(PermissionError, match="can be looked at only; emotune enqueue"):
        study.ask()
    for asked in (lambda: view.get_trial(2 * SEED_STRIDE), lambda: view.get_study_id_from_name("third")):
        with pytest.raises(KeyError, match="2|third"):
            asked()
    twins = JournalStorageView([studies[0], studies[0]]).get_all_studies()
    assert [twin.study_name for twin in twins] == ["first (1)", "first (2)"]


def test_optunas_tools_forget_a_study_that_another_of_its_name_replaced(tmp_path: Path) -> None:
    study = record_study(tmp_path / "a", 6)
    view = JournalStorageView([study])
    shutil.rmtree(study.directory)
    record_study(tmp_path / "a", 3, seed=1)
    began = {e["trial"]: e["time"] for e in reversed(list(read_journal(study.journal))) if e["event"] == "trial"}
    trials = view.get_all_trials(0)
    assert len(trials) == 3
    for trial in trials:
        assert trial.datetime_start is not None
        assert trial.datetime_start.timestamp() == pytest.approx(began[trial.number], abs=0.01)


def test_columns_are_those_of_all_studies_and_renewed_with_them(studies: list[StudyFiles], tmp_path: Path) -> None:
    from tune.report.tensorboard import experiment_in

    sources = {study.spec.name: study.tensorboard for study in studies}
    union = TensorBoardUnion(tmp_path, {"first": sources["first"], "later": tmp_path / "not-yet"})
    union.refresh()
    first = experiment_in(sources["first"])
    assert experiment_in(tmp_path) == first
    (tmp_path / "not-yet").symlink_to(sources["second"])
    union.refresh()
    assert experiment_in(tmp_path) == unite([first, experiment_in(sources["second"])])
    assert experiment_in(tmp_path) != first
    assert sorted(path.name for path in (tmp_path / "later").iterdir())[:2] == ["trial-0000", "trial-0001"]
    before = sorted(tmp_path.glob("*tfevents*"))
    union.refresh()
    assert sorted(tmp_path.glob("*tfevents*")) == before and len(before) == 1


@pytest.mark.slow
def test_contact_sheets_show_what_each_method_feeds_the_network(finished_study: StudyFiles, tmp_path: Path) -> None:
    write_contact_sheets(finished_study, tmp_path)
    events = read_events(tmp_path / "preprocessing")
    sheets = {value.tag: value.image for event in events for value in event.summary.value}
    methods = finished_study.spec.possible_values("preprocessing")
    assert sorted(sheets) == sorted(f"preprocessing/{method}" for method in methods) and len(methods) > 1
    drawn = {tag: cv2.imdecode(np.frombuffer(s.encoded_image_string, np.uint8), 1) for tag, s in sheets.items()}
    assert all(picture.shape[:2] == (sheets[tag].height, sheets[tag].width) for tag, picture in drawn.items())
    assert len({picture.tobytes() for picture in drawn.values()}) == len(methods)
    other = record_study(tmp_path / "other", 2, data=finished_study.spec.data)  # its journal tells of other data
    with pytest.raises(DatasetError, match="must be the study's. Received: .*, which is another by now"):
        write_contact_sheets(other, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_parameter_that_is_a_number_here_and_a_name_there_may_be_anything() -> None:
    from tensorboard.plugins.hparams import api_pb2

    number = api_pb2.HParamInfo(name="width", type=api_pb2.DATA_TYPE_FLOAT64)
    number.domain_interval.min_value, number.domain_interval.max_value = 0.25, 1.0
    name = api_pb2.HParamInfo(name="width", type=api_pb2.DATA_TYPE_STRING)
    name.domain_discrete.extend(["wide"])
    [both] = unite([api_pb2.Experiment(hparam_infos=[one]) for one in (number, name)]).hparam_infos
    assert both.type == api_pb2.DATA_TYPE_STRING and both.WhichOneof("domain") is None
