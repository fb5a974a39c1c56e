"""Ctrl-C, a kill of the driver and a kill of a trial's process, each on a real run: nothing is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests import ROOT
from tests.support.fixtures_study import goes_on, lines, write_study_file
from tune.nodes.signals import LIMIT_S

pytestmark = pytest.mark.slow


def start(study_file: Path, *options: str, module: str = "tune.cli") -> subprocess.Popen[str]:
    """Starts `emotune run` in a session of its own, with a Ray of its own."""
    environment = {**os.environ, "RAY_ADDRESS": "local"}
    environment["PYTHONPATH"] = str(ROOT)  # for tests.support.faulty, from the study's folder
    return subprocess.Popen(
        [sys.executable, "-m", module, "run", str(study_file), "--no-calibrate", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        cwd=study_file.parent,
        start_new_session=True,
    )


def wait_for_line(process: subprocess.Popen[str], wanted: Callable[[str], bool]) -> str:
    """Reads the command's lines until one fits."""
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if wanted(line):
            return line
    pytest.fail("the command ended before the line came:\n" + "".join(seen))


def events(folder: Path) -> list[dict[str, Any]]:
    return lines(folder / "runs/tiny/journal.jsonl")


def epochs_by_trial(events: list[dict[str, Any]]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for event in events:
        if event["event"] == "epoch":
            found.setdefault(event["trial"], []).append(event["epoch"])
    return found


def assert_whole(found: list[dict[str, Any]], trials: int, max_epochs: int) -> None:
    """Every trial ended once, and its epochs came in order without a gap."""
    ends = [event["trial"] for event in found if event["event"] == "end"]
    assert sorted(ends) == list(range(trials))
    for epochs in epochs_by_trial(found).values():
        assert sorted(set(epochs)) == list(range(1, max(epochs) + 1))
        assert max(epochs) <= max_epochs


def test_ctrl_c_saves_the_running_trial_a_second_signal_ends_at_once_and_resume_goes_on_despite_a_lock_of_optunas(
    faces: Path, tmp_path: Path
) -> None:
    data = tmp_path / "faces"
    shutil.copytree(faces, data)
    (data / "fault.json").write_text(json.dumps({1: {"kind": "sleeping", "epoch": 3, "times": 2}}))
    changes = {"trials": 2, "asha": {"max_epochs": 6, "grace_epochs": 6}, "storage": "runs"}  # usually it is relative
    file = write_study_file(tmp_path, data, **changes)
    process = start(file, module="tests.support.faulty")
    wait_for_line(process, lambda line: "epoch 2/6" in line)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 130, said
    assert "emotune resume runs/tiny" in said
    assert "Traceback" not in said

    (tmp_path / "runs/tiny/optuna.log.lock").symlink_to("runs/tiny/optuna.log")  # as a kill leaves Optuna's own
    interrupted = events(tmp_path)
    done = {trial: max(epochs) for trial, epochs in epochs_by_trial(interrupted).items()}

    # An epoch that takes hours: a clean stop gives up after a quarter of a minute, a second signal does not wait.
    begun = data / "fault-1"
    for attempt, signals in enumerate(([signal.SIGHUP], [signal.SIGINT, signal.SIGTERM])):
        process = start(file, module="tests.support.faulty")
        while not begun.exists() or len(begun.read_text()) <= attempt:  # the endless epoch has not begun
            assert goes_on(process, 0.05)
        signalled = time.monotonic()
        for number in signals:
            process.send_signal(number)
        said = process.communicate(timeout=60)[0]
        assert process.returncode == 130, said
        assert time.monotonic() - signalled < LIMIT_S + 20  # the epoch takes an hour
        assert "Go on with: emotune resume" in said and "Traceback" not in said
        assert not [e for e in events(tmp_path) if e["event"] in ("fault", "end") and e["trial"] == 1]

    before = len(events(tmp_path))
    resumed = subprocess.run(
        [sys.executable, "-m", "tune.cli", "resume", "tiny"],
        env={**os.environ, "RAY_ADDRESS": "local"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=tmp_path,
    )
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    found = events(tmp_path)
    assert_whole(found, trials=2, max_epochs=6)
    for trial, epochs in epochs_by_trial(found[len(interrupted) :]).items():
        assert epochs[0] == done.get(trial, 0) + 1  # no epoch that was paid for is trained again
    assert epochs_by_trial(found[before:])[1][0] in (2, 3)  # from its checkpoint, not from the beginning
    assert (tmp_path / "runs/tiny/export/model.keras").exists()
    for trial in range(2):
        assert 1 <= len(list((tmp_path / "runs/tiny/trials").glob(f"*/trial-{trial:04d}/checkpoint_*"))) <= 2


BREAK_OFF = """
import os, signal, sys, threading, time, traceback
import psutil
from tune.nodes.join import joined_ray

def send(times):
    for _ in range(times):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.5)  # two at once are one

threading.Timer(0.3, send, [int(sys.argv[1])]).start()
try:
    with joined_ray():
        print("went on")
except KeyboardInterrupt as error:
    frames = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    print("inside Ray" if any("/ray/_private/" in name for name in frames) else "after Ray's start")
    print("left:", [child.name() for child in psutil.Process().children(recursive=True)])
"""


@pytest.mark.parametrize(("times", "code", "said"), [(1, 0, "after Ray's start\nleft: []\n"), (2, -signal.SIGINT, "")])
def test_ctrl_c_while_ray_starts_never_breaks_it_off_half_made(times: int, code: int, said: str) -> None:
    environment = {**os.environ, "RAY_ADDRESS": "local"}
    done = subprocess.run(
        [sys.executable, "-c", BREAK_OFF, str(times)], capture_output=True, text=True, env=environment, timeout=120
    )
    assert (done.returncode, done.stdout) == (code, said), done.stderr


SWALLOW = """
import ctypes, os, signal, subprocess, sys, threading, time
from tune.nodes import signals

signals.LIMIT_S = 1.0
signals.obey_signals()
signals.before_forced_exit(lambda: "go on with: emotune resume x")
print(subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL).pid, flush=True)
threading.Timer(0.5, os.kill, [os.getpid(), int(sys.argv[2])]).start()
if sys.argv[1] == "swallowed":
    while True:
        try:
            time.sleep(600)
        except KeyboardInterrupt:
            pass
lock, lib = ctypes.create_string_buffer(64), ctypes.CDLL(None)
lib.pthread_mutex_init(lock, None)
while True:
    lib.pthread_mutex_lock(lock)  # the second time it waits for ever, in C code that no signal ends
"""


@pytest.mark.parametrize("where", ["swallowed", "in C"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_that_something_swallows_ends_the_process_and_its_children_all_the_same(
    where: str, number: signal.Signals
) -> None:
    command = [sys.executable, "-c", SWALLOW, where, str(int(number))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stderr) == (130, "go on with: emotune resume x\n")
    child = int(done.stdout)
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_nohup_is_left_alone() -> None:
    code = (
        "import signal; from tune.nodes.signals import obey_signals; obey_signals(); signal.raise_signal(signal.SIGHUP)"
    )
    done = subprocess.run(["nohup", sys.executable, "-c", f"{code}; print('went on')"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "went on\n")


@pytest.mark.parametrize("part", ["gcs_server", "raylet"])
def test_a_study_whose_ray_is_killed_under_it_says_so_in_a_line_and_can_be_resumed(
    part: str, faces: Path, tmp_path: Path
) -> None:
    process = start(write_study_file(tmp_path, faces, trials=1, asha={"max_epochs": 500, "grace_epochs": 500}))
    wait_for_line(process, lambda line: "epoch 1/500" in line)
    family = psutil.Process(process.pid).children(recursive=True)
    next(child for child in family if child.name() == part).kill()
    said = process.communicate(timeout=120)[0]
    [line] = [line for line in said.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: Ray must run for as long as its study. Received: its {part} on this machine has ")
    assert "emotune resume" in line and "Traceback" not in said and process.returncode == 1
    assert not psutil.wait_procs(family, timeout=60)[1]
