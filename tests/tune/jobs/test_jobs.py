"""Studies as jobs of a real Ray cluster with its jobs server: submitted, followed, killed, stopped, refused."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests import ROOT
from tests.end_to_end.test_interrupt import assert_whole
from tests.support.fixtures_study import lines, write_study_file
from tests.support.servers import free_port
from tests.tune.cli.test_cli import emotune, refused

pytestmark = pytest.mark.slow

RAY = (sys.executable, "-m", "ray.scripts.scripts")
ONE_AT_A_TIME = {"max_concurrent": 1}


HEAD_PORTS: list[int] = []
"""The port of the module's Ray, once it has one."""


def wait_until(holds: Callable[[], Any], timeout_s: float = 240, pause_s: float = 0.2) -> Any:
    """Returns what `holds` returns once that is true."""
    give_up = time.monotonic() + timeout_s
    while not (result := holds()):
        assert time.monotonic() < give_up, "it did not come true in time"
        time.sleep(pause_s)
    return result


@pytest.fixture(scope="module")
def jobs_server() -> Iterator[str]:
    """A Ray of its own with two CPUs, its jobs server, and a token that it wants to see. Yields the server's URL."""
    folder, port = tempfile.mkdtemp(prefix="ray-"), free_port()
    HEAD_PORTS.append(free_port())
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_ADDRESS")}
    environment["RAY_AUTH_MODE"] = "token"
    token = subprocess.run([*RAY, "get-auth-token", "--generate"], capture_output=True, text=True, check=True).stdout
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    options = {
        "port": HEAD_PORTS[-1],
        "dashboard-port": port,
        "dashboard-agent-listen-port": free_port(),
        "ray-client-server-port": free_port(),
        "temp-dir": folder,
        "num-cpus": 2,
        "num-gpus": 0,
        "object-store-memory": 200 * 2**20,
    }
    process = subprocess.Popen(
        [*RAY, "start", "--head", "--block", "--disable-usage-stats"]
        + [f"--{name}={value}" for name, value in options.items()],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )

    def answers() -> bool:
        headers = {"Authorization": f"Bearer {token}"}
        asked = urllib.request.Request(f"http://127.0.0.1:{port}/api/version", headers=headers)
        with suppress(OSError), urllib.request.urlopen(asked, timeout=5):
            return True
        return False

    wait_until(answers)
    yield f"http://127.0.0.1:{port}"
    family = [process, *psutil.Process(process.pid).children(recursive=True)]
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=15)
    for one in family:
        with suppress(psutil.Error):
            one.kill()
    process.wait()
    shutil.rmtree(folder, ignore_errors=True)


class Line:
    """A way to the jobs server that can be cut: every connection through it breaks."""

    def __init__(self, address: str) -> None:
        self._there = ("127.0.0.1", int(address.rpartition(":")[2]))
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.address = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                here, _ = self._listening.accept()
                there = socket.create_connection(self._there)
                self._open += [here, there]
                for source, target in ((here, there), (there, here)):
                    threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._open.clear()

    def close(self) -> None:
        self._listening.close()
        self.cut()


@contextmanager
def submitted(file: Path, address: str) -> Iterator[subprocess.Popen[bytes]]:
    """Starts `emotune submit`, which follows the study; what it prints goes to a file beside the study's."""
    command = [sys.executable, "-m", "tune.cli", "submit", str(file), "--address", address]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with file.with_suffix(".log").open("w") as log:
        following = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
    try:
        yield following
    finally:
        following.kill()
        following.wait()


def events(folder: Path, name: str) -> list[dict[str, Any]]:
    journal = folder / "runs" / name / "journal.jsonl"
    return lines(journal) if journal.exists() else []


def epochs(folder: Path, name: str, session: int = 1) -> list[dict[str, Any]]:
    """Returns the epochs reported from a session on."""
    found = events(folder, name)
    begun = [i for i, event in enumerate(found) if event["event"] == "session"]
    return [e for e in found[begun[session - 1] :] if e["event"] == "epoch"] if len(begun) >= session else []


def test_a_job_goes_on_without_its_terminal_and_after_its_driver_is_killed(
    jobs_server: str,
    faces: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asha = {"max_epochs": 15, "grace_epochs": 15}
    file = write_study_file(tmp_path, faces, name="one", trials=2, asha=asha, resources=ONE_AT_A_TIME)
    with submitted(file, jobs_server) as following:
        wait_until(lambda: epochs(tmp_path, "one"))
        os.kill(events(tmp_path, "one")[0]["pid"], signal.SIGKILL)
        wait_until(lambda: "the driver was killed" in file.with_suffix(".log").read_text())
        following.send_signal(signal.SIGINT)
        assert following.wait(timeout=120) == 130
    shown = file.with_suffix(".log").read_text()
    assert "the study goes on without this terminal" in shown
    assert f"emotune logs one -f --address {jobs_server}" in shown and "Traceback" not in shown

    monkeypatch.setenv("RAY_ADDRESS", jobs_server)  # instead of --address

    def shown_best() -> str:
        status = emotune("status", "one", monkeypatch=monkeypatch, capsys=capsys)
        return status if "best       trial 0" in status else ""  # the new driver's trial 0 may begin anew

    status = wait_until(shown_best)
    assert "running" in status and " of 2 ended (" in status
    said = emotune("logs", "one", "-f", monkeypatch=monkeypatch, capsys=capsys)
    assert "the driver was killed (SIGKILL); starting it again (1 of 5)" in said
    assert "finished: 2 trials (2 complete)" in said and '{"event"' not in said
    assert_whole(events(tmp_path, "one"), trials=2, max_epochs=15)
    assert len({e["pid"] for e in events(tmp_path, "one") if e["event"] == "session"}) == 2
    assert (tmp_path / "runs/one/export/model.keras").exists()

    status = emotune("status", monkeypatch=monkeypatch, capsys=capsys)
    assert "succeeded" in status and "2 of 2 ended (2 complete)" in status and "spent      " in status
    listed = emotune("list", "--address", jobs_server, monkeypatch=monkeypatch, capsys=capsys)
    assert listed.startswith("one ") and "succeeded" in listed and "emotune-one-20" in listed
    assert "nothing to stop" in emotune("stop", "one", monkeypatch=monkeypatch, capsys=capsys)


def test_submit_outlives_a_broken_line_a_killed_supervisor_and_wrapper_and_stop_saves_the_trials(
    jobs_server: str,
    faces: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asha = {"max_epochs": 500, "grace_epochs": 500}
    file = write_study_file(tmp_path, faces, name="two", trials=1, asha=asha, resources=ONE_AT_A_TIME)
    log = file.with_suffix(".log")
    line = Line(jobs_server)
    with submitted(file, line.address) as following:
        wait_until(lambda: "epoch 2/500" in log.read_text())
        line.cut()
        wait_until(lambda: "epoch 4/500" in log.read_text())

        said = refused("submit", file, "--address", jobs_server, monkeypatch=monkeypatch, capsys=capsys)
        assert "study 'two' is being run by job emotune-two-" in said

        above = psutil.Process(events(tmp_path, "two")[0]["pid"]).parents()
        next(process for process in above if process.cmdline()[0].startswith("ray::JobSupervisor")).kill()
        wait_until(lambda: len(epochs(tmp_path, "two", session=2)) > 1)

        driver = psutil.Process([e["pid"] for e in events(tmp_path, "two") if e["event"] == "session"][-1])
        [wrapper] = [process for process in driver.parents() if "tune.jobs.driver" in " ".join(process.cmdline())]
        wrapper.kill()  # Ray would lose sight of the driver, so it goes too
        driver.wait(timeout=30)
        wait_until(lambda: len(epochs(tmp_path, "two", session=3)) > 1)
        reading = subprocess.Popen(
            [sys.executable, "-m", "tune.cli", "logs", "two", "-f", "--address", jobs_server],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert reading.stdout is not None and reading.stdout.readline()
        reading.send_signal(signal.SIGINT)
        assert b"Traceback" not in reading.communicate(timeout=120)[1] and reading.returncode == 130
        stopped = emotune("stop", "two", "--address", jobs_server, monkeypatch=monkeypatch, capsys=capsys)
        assert "everything is kept" in stopped
        assert following.wait(timeout=120) == 130
        line.close()

    shown = log.read_text()
    assert "the job's supervisor died; submitting the study again" in shown and "Traceback" not in shown
    for epoch in (1, 2, 3, 4):  # what came before the line broke is not told again
        assert shown.partition("supervisor died")[0].count(f"trial 0 epoch {epoch}/500") == 1
    found = events(tmp_path, "two")
    assert (found[-1]["event"], found[-1]["ended_by"]) == ("session_end", "interrupted")
    saved = [e["epoch"] for e in found if e["event"] == "checkpoint"]
    assert epochs(tmp_path, "two", session=3)[-1]["epoch"] == saved[-1]  # before it ended
    assert "stopped" in emotune("status", "two", "--address", jobs_server, monkeypatch=monkeypatch, capsys=capsys)


def test_a_cluster_that_wants_a_token_is_shown_the_one_that_lies_ready(jobs_server: str) -> None:
    """As `submit` does; here by `run` and `doctor` with an address, or with RAY_ADDRESS."""
    code = (
        "import sys; from tune.nodes.join import joined_ray\n"
        "with joined_ray(sys.argv[1]): import ray; print(len(ray.nodes()), 'node')"
    )
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("RAY_ADDRESS", "RAY_AUTH"))
    }
    command = [sys.executable, "-c", code, f"127.0.0.1:{HEAD_PORTS[-1]}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.stdout == "1 node\n", done.stderr


@pytest.mark.parametrize(
    "token", [{"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "1" * 64}]
)
def test_a_missing_or_wrong_token_is_refused(token: dict[str, str], jobs_server: str) -> None:
    command = [sys.executable, "-m", "tune.cli", "status", "--address", jobs_server]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **token})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: the cluster at {jobs_server} wants its own token. Set RAY_AUTH_MODE=token")
