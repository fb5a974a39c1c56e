"""Every fault that a trial can have, with real processes: its name, its retries, and that the study goes on."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.faulty import FaultyClassifier
from tests.support.fixtures_study import run_here, write_study_file
from tune.study.studies import load_study_folder
from tune.study.study_state import StudyState
from tune.study.trial_record import TrialRecord

pytestmark = pytest.mark.slow

TABLE: dict[int, tuple[str, int, list[tuple[str, bool]], str]] = {
    0: ("killed", 1, [("process_died", True)], "complete"),
    1: ("bug", 9, [("exception", True), ("exception", False)], "failed"),
    2: ("too_large", 1, [("model_memory", True)], "complete"),
    3: ("nan", 9, [("not_finite", False)], "failed"),
    4: ("sleeping", 1, [("hung", True)], "complete"),
    5: ("stopped", 9, [("hung", True), ("hung", False)], "failed"),
    6: ("torn_checkpoint", 1, [("process_died", True), ("checkpoint", True)], "complete"),
    7: ("none", 0, [], "complete"),
}
"""By trial: what it does in its third epoch and how often; each fault to expect, and whether it is tried again; end."""


def plan(kinds: dict[int, tuple[str, int]], epoch: int = 3) -> str:
    return json.dumps({trial: {"kind": kind, "epoch": epoch, "times": n} for trial, (kind, n) in kinds.items()})


@pytest.fixture(scope="module")
def table(ray_cluster: str, faces: Path, tmp_path_factory: pytest.TempPathFactory) -> StudyState:
    """One study in which every trial but the last has a fault of its own."""
    folder = tmp_path_factory.mktemp("table")
    data = folder / "faces"
    shutil.copytree(faces, data)
    (data / "fault.json").write_text(plan({n: (kind, times) for n, (kind, times, _, _) in TABLE.items()}))
    asha = {"max_epochs": 4, "grace_epochs": 4}
    space = {"dropout": {"type": "float", "low": 0.1, "high": 0.5, "default": 0.1}}
    file = write_study_file(
        folder, data, trials=len(TABLE), asha=asha, space=space, faults={"silence_factor": 2, "silence_min_s": 30}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tune.session.tuner.Classifier", FaultyClassifier)
        return run_here(file).state()


def faults(trial: TrialRecord) -> list[tuple[str, bool]]:
    return [(fault.kind, fault.retried) for fault in trial.faults]


@pytest.mark.parametrize("number", TABLE, ids=lambda number: TABLE[number][0])
def test_a_fault_is_named_tried_again_as_often_as_its_kind_allows_and_no_epoch_is_lost(
    table: StudyState, number: int
) -> None:
    kind, _, expected, state = TABLE[number]
    trial = table.trials[number]
    assert (faults(trial), trial.state) == (expected, state)
    last = 4 if state == "complete" else 3 if kind == "nan" else 2
    assert sorted(trial.epochs) == list(range(1, last + 1))


def test_the_study_goes_on_through_all_of_them(table: StudyState) -> None:
    assert table.finished and table.export == "export"
    assert "ResourceExhaustedError" in table.trials[2].faults[0].reason
    assert "cannot be read" in table.trials[6].faults[1].reason
    assert table.trials[1].reason == "ValueError: a bug in the model (2 times)"


def command(file: Path, module: str = "tests.support.faulty", **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the command line, with faulty trials unless it is emotune's own, with a Ray of its own."""
    return subprocess.run(
        [sys.executable, "-m", module, "run", str(file), "--no-calibrate"],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
        env={**os.environ, "RAY_ADDRESS": "local", **environment},
    )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 28 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=28m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def memory_threshold() -> float:
    """Returns the share of the machine's memory in use from which on Ray is to end processes: more than is used now."""
    memory = psutil.virtual_memory()
    return 1 - memory.available / memory.total + max(0.25, 3 * 2**30 / memory.total)


def test_a_full_disk_stops_the_study_and_nothing_is_lost_nor_where_a_trial_takes_the_machines_memory(
    faces: Path, tmp_path: Path, small_disk: Path
) -> None:
    data = tmp_path / "faces"
    shutil.copytree(faces, data)
    asha = {"max_epochs": 4, "grace_epochs": 4}
    file = write_study_file(tmp_path, data, storage=str(small_disk / "runs"), trials=3, asha=asha)
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * (24 * 2**20))
    full = command(file, "tune.cli")
    assert full.returncode == 2, full.stdout + full.stderr
    assert re.search(r"error: no space is left on the disk of .*emotune resume", full.stderr), full.stderr
    assert "Traceback" not in full.stdout + full.stderr
    before = load_study_folder(small_disk / "runs/tiny").state()
    assert not before.finished
    done = {n: sorted(t.epochs) for n, t in before.trials.items()}

    ballast.unlink()
    threshold = memory_threshold()
    roomy = threshold < 0.95
    (data / "fault.json").write_text(plan({2: ("greedy", 1)} if roomy else {}))
    limits = {"RAY_memory_usage_threshold": f"{threshold:.3f}", "RAY_memory_monitor_refresh_ms": "100"}
    again = command(file, **limits if roomy else {})
    assert again.returncode == 0, again.stdout + again.stderr
    record = load_study_folder(small_disk / "runs/tiny").state()
    assert [t.state for t in record.trials.values()] == ["complete"] * 3
    assert all(set(epochs) <= set(record.trials[n].epochs) for n, epochs in done.items())
    if not roomy:
        pytest.skip("this machine's memory is too full to try what happens when it is full")
    assert faults(record.trials[2]) == [("host_memory", True)]
    assert "starts again (host memory): the machine ran out of memory" in again.stdout
