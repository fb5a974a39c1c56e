"""What is asked of nodes, and what their answers mean: shares of a GPU, sizes, problems and their remedies."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from trainables import node_probe as machine
from trainables.config import TrialConfig, TrialContext
from trainables.gpu import memory_limit_mib
from trainables.models.alexnet import parameters_of_alexnet
from trainables.models.size import checkpoint_mib
from trainables.training.fault_kinds import TrialFault
from tune.nodes.inspection import NodeReport, inspect_nodes, inspect_this_node
from tune.nodes.problems import Needs, NodeProblem, find_problems

HEALTHY = NodeReport(
    address="10.0.0.1",
    head=True,
    here=True,
    cpus=4,
    gpus_ray=1,
    python="3.11.7",
    packages={"ray": "2.60.0", "emotune": "0.1.0", "tensorflow": "2.21.0", "keras": "3.15.1"},
    gpus_driver=(("Tesla T4", 15360.0),),
    gpus_tensorflow=1,
    temporary="/tmp/ray",
    temporary_free_mib=50_000.0,
    storage_free_mib=50_000.0,
    storage_shared=True,
    fingerprint="f1",
)
NEEDS = Needs(storage="runs", data="data", fingerprint="f1")


def found(needs: Needs = NEEDS, **changes: object) -> list[NodeProblem]:
    other = replace(HEALTHY, address="10.0.0.2", here=False, head=False, clock_skew_s=0.01, **changes)  # type: ignore[arg-type]
    return find_problems([HEALTHY, other], needs)


def test_healthy_nodes_have_no_problem() -> None:
    assert found() == []


@pytest.mark.parametrize(
    ("changes", "words", "stops"),
    [
        ({"silent": "it did not answer"}, "10.0.0.2 is part of the cluster and it did not answer. Restart it", True),
        ({"python": "3.12.1"}, "Python must be the same on all nodes. Received: 3.11.7 on 10.0.0.1, 3.12.1 on", True),
        ({"packages": {"ray": "2.60.0"}}, "emotune must be the same .* 0.1.0 on 10.0.0.1, none on 10.0.0.2", True),
        ({"gpus_driver": (), "gpus_tensorflow": 0}, "Ray counts 1 GPUs on 10.0.0.2 and the driver sees 0", True),
        (
            {
                "gpus_driver": (),
                "gpus_ray": 0,
                "gpus_tensorflow": 0,
                "driver_message": "the driver does not answer: off",
            },
            "10.0.0.2: the driver does not answer: off. Install the driver anew, or reboot",
            True,
        ),
        ({"gpus_ray": 0}, "10.0.0.2 has 1 GPUs and Ray hands out 0 of them. Restart Ray there", False),
        (
            {"gpus_tensorflow": 0},
            "the driver sees 1 GPUs on 10.0.0.2 and TensorFlow 0. Install TensorFlow's CUDA",
            True,
        ),
        (
            {"gpus_tensorflow": 0, "tensorflow_message": "CUDA_VISIBLE_DEVICES hides them"},
            "and TensorFlow 0: CUDA_VISIBLE_DEVICES hides them. Unset it there",
            True,
        ),
        (
            {"gpus_tensorflow": None, "tensorflow_message": "No module named 'tensorflow'"},
            "TensorFlow does not start on 10.0.0.2: No module",
            True,
        ),
        ({"storage_free_mib": 100.0}, "disk of runs is almost full on 10.0.0.2. Received: 100.0 MiB free", True),
        ({"temporary_free_mib": 100.0}, "disk of /tmp/ray is almost full on 10.0.0.2: 100 MiB free", False),
        ({"clock_skew_s": -70.0}, "the clock of 10.0.0.2 is 70 s behind. Let NTP", False),
    ],
)
def test_every_problem_has_its_line_and_remedy(changes: dict[str, object], words: str, stops: bool) -> None:
    if "clock_skew_s" in changes:
        [problem] = find_problems([replace(HEALTHY, address="10.0.0.2", clock_skew_s=-70.0)], NEEDS)
    else:
        [problem] = found(**changes)
    assert re.search(words, problem.message)
    assert problem.is_fatal is stops


def test_gpus_that_are_left_to_others_are_no_problem_and_neither_is_a_head_that_trains_nothing() -> None:
    four = (("Tesla T4", 15360.0),) * 4
    [problem] = found(gpus_driver=four)  # CUDA_VISIBLE_DEVICES=0: Ray and TensorFlow see one
    assert not problem.is_fatal and "has 4 GPUs and Ray hands out 1 of them" in problem.message
    assert found(cpus=0, gpus_ray=0, gpus_tensorflow=0) == []


def test_where_gpus_may_come_their_absence_is_not_told() -> None:
    without = replace(HEALTHY, gpus_ray=0, gpus_driver=(), gpus_tensorflow=0)
    assert [p.message[:17] for p in find_problems([without], NEEDS)] == ["no node has a GPU"]
    assert find_problems([without], replace(NEEDS, gpus_may_come=True)) == []


def test_a_trial_that_has_a_gpu_never_trains_on_the_processor_unnoticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from trainables.training import process

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("tensorflow.config.list_physical_devices", lambda kind: [])
    monkeypatch.setattr(process, "prepare_process", lambda context: None)
    given = {"dataset": "d", "seed": 0, "objective": "selection_accuracy", "mode": "max", "max_epochs": 1, "rungs": ()}
    context = TrialContext.model_validate({**given, "selection_share": 0.1, "gpus": 0.5})
    process.prepare_training(context)  # no driver: Ray only counts
    monkeypatch.setattr(process, "driver_gpus", lambda: ([("Tesla T4", 15360.0)], ""))
    with pytest.raises(TrialFault, match="sees 1 GPUs and TensorFlow none. Install TensorFlow's CUDA libraries there"):
        process.prepare_training(context)
    process.prepare_training(context.model_copy(update={"gpus": 0}))


@pytest.mark.parametrize(("others", "rule"), [(True, "be one that all nodes share"), (False, "be writable on every")])
def test_storage_that_is_missing_on_a_node_is_unshared_only_where_another_has_written(others: bool, rule: str) -> None:
    missing = {"storage_shared": False, "storage_refused": "No such file or directory"}
    told = find_problems(
        [replace(HEALTHY, **({} if others else missing)), replace(HEALTHY, address="other", **missing)], NEEDS
    )  # type: ignore[arg-type]
    assert len(told) == (1 if others else 2) and all(rule in problem.message for problem in told)


def test_a_share_of_a_gpu_must_leave_tensorflow_something() -> None:
    [problem, _] = found(replace(NEEDS, gpus_per_trial=0.03))
    assert (
        "resources.gpus_per_trial=0.03 of Tesla T4 with 15360 MiB on 10.0.0.1 leaves less than 256" in problem.message
    )
    assert found(replace(NEEDS, gpus_per_trial=0.05)) == []


def test_shares_of_a_gpu_fit_beside_one_another() -> None:
    for share in (0.5, 0.25, 0.1):
        trials = round(1 / share)
        assert trials * (memory_limit_mib(16384, share) + 400) <= 16384
    assert memory_limit_mib(16384, 0.25) == 3696


def test_without_a_gpu_tensorflow_is_not_even_imported() -> None:
    code = """
import sys
from trainables.gpu import limit_gpu_memory
for share in (0.0, 0.25, 1.0, 2.0):
    limit_gpu_memory(share)
print("loaded" if "tensorflow" in sys.modules else "left alone")
"""
    environment = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
    if machine.driver_gpus()[0]:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "left alone"


@pytest.mark.gpu
def test_tensorflow_takes_no_more_of_a_gpu_than_its_trial_has() -> None:
    code = """
from trainables.gpu import limit_gpu_memory
limit_gpu_memory(0.25)
limit_gpu_memory(0.25)
import tensorflow as tf
print("limit:", tf.config.get_logical_device_configuration(tf.config.list_physical_devices("GPU")[0])[0].memory_limit)
try:
    tf.zeros([200 * 2**30 // 4])
except tf.errors.ResourceExhaustedError:
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    memory_mib = machine.driver_gpus()[0][0][1]
    assert f"limit: {memory_limit_mib(memory_mib, 0.25)}" in done.stdout and "refused" in done.stdout


def test_sizes_are_those_of_the_table() -> None:
    published = TrialConfig(image_size_px=227, width=1.0)
    assert parameters_of_alexnet(published, channels=3, classes=1000) == 62_378_344
    assert checkpoint_mib(published, 3, 1000) == pytest.approx(62_378_344 * 12 / 2**20)


@pytest.mark.slow
@pytest.mark.parametrize("size_px", [48, 128])
def test_sizes_are_those_of_keras(size_px: int) -> None:
    from trainables.models.alexnet import build_alexnet

    config = TrialConfig(image_size_px=size_px, width=0.0625)
    model = build_alexnet(height_px=48, width_px=48, channels=1, classes=7, config=config)
    assert parameters_of_alexnet(config, channels=1, classes=7) == model.count_params()


def test_this_machine_says_what_it_has(ray_cluster: str, faces: Path, tmp_path: Path) -> None:
    storage = tmp_path / "not/there"
    [report] = inspect_this_node(str(storage), str(faces))
    assert (report.here, report.head, report.cpus, report.silent) == (True, True, 4, "")
    assert report.fingerprint and report.storage_shared and not report.storage_refused
    assert report.storage_free_mib and report.storage_free_mib > 0 and report.gpus_tensorflow is None
    assert not storage.parent.exists(), "looking leaves nothing behind"
    [same] = inspect_nodes(str(storage), str(faces))
    assert replace(same, temporary_free_mib=0, storage_free_mib=0) == replace(
        report, temporary_free_mib=0, storage_free_mib=0
    )
    (tmp_path / "file").touch()
    [blocked] = inspect_this_node(str(tmp_path / "file/runs"), str(faces))
    assert blocked.storage_refused == "Not a directory" and blocked.fingerprint == report.fingerprint


@pytest.fixture(params=["bucket", "google_bucket"])
def storage(request: pytest.FixtureRequest) -> str:
    """A place in a bucket of each kind."""
    return str(request.getfixturevalue(request.param).format("deep"))


def test_a_bucket_is_written_read_and_left_empty(storage: str) -> None:
    from pyarrow.fs import FileSelector, FileSystem

    assert machine.place_token(storage, "token") == ""
    assert machine.probe_storage(storage, "token") == (None, "", True)
    assert machine.remove_token(storage, "token") == ""
    assert machine.probe_storage(storage, "token") == (None, "", False)
    files, root = FileSystem.from_uri(storage)
    assert [info for info in files.get_file_info(FileSelector(root, allow_not_found=True)) if info.is_file] == []


def test_a_storage_that_does_not_let_files_be_deleted_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    _, refused, _ = machine.probe_storage(str(tmp_path), "token")
    assert refused == "files cannot be deleted: Permission denied"


def test_a_bucket_that_does_not_exist_is_refused_not_called_unshared(storage: str) -> None:
    missing = storage.replace("studies", "no-such-bucket")
    free, refused, shared = machine.probe_storage(missing, "token")
    assert (free, shared) == (None, False) and refused
