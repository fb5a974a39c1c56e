"""Clusters that would break a study: each is told in one clear line with exit code 2, and nothing is begun."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.fixtures_study import lines, run_here, write_study_file
from tests.support.own_models import OWN_MODEL
from tests.support.two_nodes import TwoNodes, two_nodes
from tune.errors import ExportError
from tune.export.formats import FORMATS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, faces: Path) -> Path:
    """Folders that the two nodes see alike or not; each says how by its name."""
    folder = tmp_path_factory.mktemp("two")
    for name in ("shared", "apart", "read-only", "small", "site"):
        (folder / name).mkdir()
    for name in ("faces", "faces-here-only", "faces-changed", "changed"):
        shutil.copytree(faces, folder / name)
    info = folder / "changed/dataset.json"
    info.write_text(re.sub(r'("fingerprint": ")\w{6}', r"\1abcdef", info.read_text()))
    return folder


@pytest.fixture(scope="module")
def cluster(place: Path) -> Iterator[TwoNodes]:
    there = f"""
mount -t tmpfs tmpfs {place}/apart
mount -t tmpfs tmpfs {place}/faces-here-only
mount --bind {place}/changed {place}/faces-changed
mount --bind {place}/read-only {place}/read-only
mount -o remount,ro,bind {place}/read-only
"""
    here = f"mount -t tmpfs -o size=64k tmpfs {place}/small"
    environment = {"PYTHONPATH": os.pathsep.join([str(place / "site"), os.environ.get("PYTHONPATH", os.getcwd())])}
    with two_nodes(place, there, here, environment) as nodes:
        yield nodes


def refusal(
    cluster: TwoNodes, place: Path, *overrides: str, address: str | None = None, storage: str = "shared"
) -> str:
    """Runs a study that is in order but for these changes; returns the one line it is refused with."""
    file = write_study_file(place, place / "faces", storage=str(place / storage))
    options = [word for value in overrides for word in ("--set", value)]
    said = cluster.emotune("run", file, *options, address=address)
    assert said["code"] == 2, said
    [line] = said["err"].splitlines()
    assert line.startswith("error: ") and "Traceback" not in said["out"]
    left = [path for path in (place / storage).rglob("*") if path.exists()]
    assert not left, "nothing may be begun"
    return str(line)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["resources.gpus_per_trial=2"], r"gpus_per_trial=2 and Ray found 1 GPUs.*emotune doctor.*--set"),
        (["resources.gpus_per_trial=0.5"], r"Ray counts 1 GPUs on \S+ and the driver sees 0.*check_gpus=false"),
        (["resources.cpus_per_trial=3"], "takes 3 CPUs of one node and Ray has 2, on the largest node. Lower"),
        (["resources.feed_workers=9"], "takes 10 CPUs with its feed workers and Ray has 3. Lower"),
        (["resources.gpus_per_trial=1", "resources.cpus_per_trial=2"], "no node has both. Lower one of them"),
        (["data={place}/faces-here-only"], r"data must be a folder that every node sees. Received: .*here-only"),
        (["data={place}/faces-changed"], r"data must be the same on every node. .*fingerprint abcdef.*Copy the right"),
        (["resources.gpu_per_trial=1"], "resources.gpu_per_trial is no key.*Did you mean 'gpus_per_trial'"),
    ],
    ids=lambda value: value[0].replace("{place}/", "") if isinstance(value, list) else "",
)
def test_a_study_that_the_cluster_cannot_run_is_refused(
    cluster: TwoNodes, place: Path, overrides: list[str], message: str
) -> None:
    assert re.search(message, refusal(cluster, place, *(o.format(place=place) for o in overrides)))


def test_storage_that_only_one_node_sees_is_refused_also_where_gpus_are_counted_on_purpose(
    cluster: TwoNodes, place: Path
) -> None:
    counted = ("resources.gpus_per_trial=0.5", "resources.check_gpus=false")
    line = refusal(cluster, place, *counted, storage="apart")
    assert re.search("storage must be one that all nodes share. .*does not see what another node has written", line)


def test_storage_that_a_node_cannot_write_is_refused(cluster: TwoNodes, place: Path) -> None:
    line = refusal(cluster, place, storage="read-only")
    assert re.search("storage must be writable on every node. .*Read-only file system", line)


def test_an_almost_full_disk_is_refused(cluster: TwoNodes, place: Path) -> None:
    line = refusal(cluster, place, storage="small")
    assert re.search(r"almost full on \S+ Received: 0.\d MiB free, and one checkpoint .* about 1.\d", line)


def test_another_emotune_on_one_node_is_refused(cluster: TwoNodes, place: Path) -> None:
    other = place / "site/emotune-9.9.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: emotune\nVersion: 9.9\n")
    try:
        line = refusal(cluster, place)
    finally:
        shutil.rmtree(other)
    assert re.search(r"emotune must be the same on all nodes. Received: \S+ on \S+, 9.9 on .*Install one version", line)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (
            "127.0.0.1:1",
            "no Ray cluster can be joined at the address. Received: 127.0.0.1:1: Connection refused. Check",
        ),
        ("http://127.0.0.1:8265", r"the address of a cluster is HOST:6379, ray://HOST:10001 or auto. Received: http"),
    ],
)
def test_an_address_without_a_cluster_is_refused(cluster: TwoNodes, place: Path, address: str, message: str) -> None:
    assert message in refusal(cluster, place, address=address)


def test_the_doctor_shows_each_nodes_three_counts_of_gpus_and_a_remedy(cluster: TwoNodes, place: Path) -> None:
    said = cluster.emotune("doctor", "--address", cluster.address, "--storage", place / "apart")
    assert said["code"] == 2
    for counts in (r"Python \S+ +0 +0 +0 ", r"Python \S+ +0 +1 +0 ", "head, 2 CPUs", " 1 CPUs"):
        assert re.search(counts, said["out"]), said["out"]
    assert "not shared" in said["out"]
    assert re.search(r"^problem: Ray counts 1 GPUs on \S+ and the driver sees 0. Fix the driver", said["out"], re.M)
    assert re.search("^problem: storage must be one that all nodes share", said["out"], re.M)
    assert not list((place / "apart").iterdir())


def until_three_have_begun(journal: Path) -> str:
    """Returns a model file whose models are built once three trials have begun; at its check no journal is there."""
    begun = f"""
import pathlib, time


def three_have_begun():
    journal, until = pathlib.Path({str(journal)!r}), time.monotonic() + 300
    return not journal.exists() or journal.read_text().count('"event":"started"') >= 3 or time.monotonic() > until


def build("""
    waiting = "    while not three_have_begun():\n        time.sleep(0.1)\n    x = image.input()"
    return OWN_MODEL.replace("\ndef build(", begun).replace("    x = image.input()", waiting)


def test_both_nodes_train_the_shipped_model_and_not_a_file_of_that_name_that_lies_there(
    cluster: TwoNodes, place: Path, tmp_path: Path
) -> None:
    (tmp_path / "my_models.py").write_text(until_three_have_begun(place / "shared/tiny/journal.jsonl"))
    (place / "site/my_models.py").write_text("raise SystemExit('not this file')")  # on the second node's Python path
    small = {"type": "int", "low": 8, "high": 64, "default": 32}
    file = write_study_file(
        tmp_path,
        place / "faces",
        storage=str(place / "shared"),
        space={"batch_size": small},
        fixed={"model": "my_models.py:build", "model.depth": 1},
        trials=3,
        asha={"max_epochs": 1},
        resources={"max_concurrent": 3, "cpus_per_trial": 1},
    )
    try:
        said = cluster.emotune("run", file, "--no-calibrate")
        assert said["code"] == 0, said
        events = lines(place / "shared/tiny/journal.jsonl")
        shutil.rmtree(place / "shared/tiny")
    finally:
        (place / "site/my_models.py").unlink()
    assert [event["state"] for event in events if event["event"] == "end"] == ["complete"] * 3
    order = [event["event"] for event in events if event["event"] in ("started", "end")]
    assert order[:3] == ["started"] * 3  # three at once: the head has two CPUs, so one was on the second node


def test_a_node_that_does_not_answer_is_told_and_nothing_hangs(cluster: TwoNodes) -> None:
    well = cluster.ask(answer_s=30, address=cluster.address)
    assert well["silent"] == ["", ""] and well["skews"][0] is None and abs(well["skews"][1]) < 2
    cluster.raylet.send_signal(signal.SIGSTOP)
    try:
        lost = cluster.ask(answer_s=3, address=cluster.address)
    finally:
        cluster.raylet.send_signal(signal.SIGCONT)
    assert lost["silent"] == ["", "it did not answer"] and lost["took_s"] < 10
    assert re.search("is part of the cluster and it did not answer. Restart it", lost["problems"][0])


def test_a_format_whose_package_a_trials_process_lacks_is_refused_before_anything_is_trained(
    ray_cluster: str, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FORMATS, "onnx", replace(FORMATS["onnx"], packages=("numpy", "no_such_package")))
    file = write_study_file(tmp_path, faces, export={"formats": ["keras", "onnx"]})
    with pytest.raises(ExportError, match=r"onnx needs the package no_such_package.*make setup EXTRAS=onnx"):
        run_here(file)
    assert not (tmp_path / "runs/tiny").exists()
