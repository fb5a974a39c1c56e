"""A cluster that grows, with Ray's fake nodes: asked for all it needs at once, used, and let go of again."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psutil
import pytest

from tests.support.fixtures_study import write_study_file
from tune.study.journal import read_events
from tune.study.studies import load_study_folder

pytestmark = pytest.mark.slow

HEAD = "f" * 51 + "00000"
"""The fake provider's id of the head node."""

WORKERS, CPUS = 3, 2


@dataclass(frozen=True)
class Growing:
    """The cluster's address and where its autoscaler writes what it does."""

    address: str
    logs: Path

    @property
    def launches(self) -> list[tuple[float, int]]:
        """When the autoscaler asked for nodes (seconds since 1970), and for how many."""
        said = (self.logs / "monitor.log").read_text()
        asked = re.findall(r"^(\S+ \S+),\d+\s.*Adding (\d+) node\(s\)", said, re.MULTILINE)
        return [(datetime.strptime(when, "%Y-%m-%d %H:%M:%S").timestamp(), int(count)) for when, count in asked]

    @property
    def alive(self) -> int:
        """Nodes that are up."""
        from ray._private.state import GlobalState
        from ray._raylet import GcsClientOptions

        state = GlobalState()
        options = GcsClientOptions.create(self.address, None, allow_cluster_id_nil=True, fetch_cluster_id_if_nil=False)
        state._initialize_global_state(options)
        return sum(node["Alive"] for node in state.node_table())


def environment(address: str = "") -> dict[str, str]:
    names = {"RAY_AUTH_MODE": "disabled"}  # `ray start` wants a token otherwise (Ray 2.60)
    return {**os.environ, **names, **({"RAY_ADDRESS": address} if address else {})}


@pytest.fixture(scope="module")
def growing() -> Iterator[Growing]:
    """A head without CPUs and at most three workers of two CPUs, which leave after three idle seconds.

    Ray's own `AutoscalingCluster` begins and ends with `ray stop`, which would end every other Ray on the machine, and
    needs a file that the wheel leaves out (2.60).
    """
    folder = Path(tempfile.mkdtemp(prefix="grow", dir="/tmp"))  # short: sockets lie in it
    with socket.socket() as one, socket.socket() as other:
        one.bind(("", 0))
        other.bind(("", 0))
        port, client_port = one.getsockname()[1], other.getsockname()[1]
    host = _own_ip()
    provider = {
        "type": "external",
        "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
        "launch_multiple": True,
        "gcs_address": f"{host}:{port}",
        "head_node_id": HEAD,
    }
    kinds = {
        "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "worker": {"resources": {"CPU": CPUS, "object_store_memory": 80_000_000}, "node_config": {}, "min_workers": 0},
    }
    empty = ("setup", "initialization", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
    config = {
        "cluster_name": "growing",
        "max_workers": WORKERS,
        "idle_timeout_minutes": 0.05,
        "upscaling_speed": 1,
        "provider": provider,
        "available_node_types": kinds,
        "head_node_type": "ray.head.default",
        **{name: {} for name in ("auth", "file_mounts")},
        **{f"{name}_commands": [] for name in empty},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
    }
    (folder / "growing.json").write_text(json.dumps(config))
    fake = {
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": HEAD,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD,
    }
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=0"),
        *(f"--port={port}", "--include-dashboard=false", "--disable-usage-stats", "--object-store-memory=80000000"),
        *(
            f"--autoscaling-config={folder / 'growing.json'}",
            f"--temp-dir={folder / 'r'}",
            f"--ray-client-server-port={client_port}",
        ),
    ]
    with (folder / "head.log").open("wb") as log:
        head = subprocess.Popen(command, stdout=log, stderr=log, env={**environment(), **fake})
    try:
        _wait_for_head(head, host, port, folder / "head.log")
        yield Growing(f"{host}:{port}", folder / "r/session_latest/logs")
    finally:
        if head.poll() is None:
            for process in [*psutil.Process(head.pid).children(recursive=True), psutil.Process(head.pid)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        head.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _own_ip() -> str:
    import ray

    return str(ray.util.get_node_ip_address())


def _wait_for_head(head: subprocess.Popen[bytes], host: str, port: int, log: Path) -> None:
    deadline = time.monotonic() + 240
    while "This command will now block" not in log.read_text():
        assert head.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


def emotune(growing: Growing, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tune.cli", *map(str, words)],
        capture_output=True,
        text=True,
        env=environment(growing.address),
        timeout=300,
        check=False,
    )


def test_a_study_with_sixteen_waiting_trials_gets_all_its_nodes_in_one_step_and_leaves_none(
    growing: Growing, faces: Path, tmp_path: Path
) -> None:
    file = write_study_file(
        tmp_path,
        faces,
        trials=16,
        asha={"max_epochs": 2, "grace_epochs": 2},
        preemption="spot",
        budget={"epochs": WORKERS},  # all sixteen would only take longer
        resources={"cpus_per_trial": CPUS},
        folds={"max_images_per_fold": 32},
    )
    done = emotune(growing, "run", file)  # measures no epoch first: no node is there
    assert done.returncode == 3, done.stdout + done.stderr
    assert f"1 node, may grow to {1 + WORKERS}" in done.stdout
    assert f"at once   {WORKERS} trials" in done.stdout
    study = load_study_folder(tmp_path / "runs/tiny")
    begun = next(event["time"] for event in read_events(study.journal) if event["event"] == "started")
    assert sum(count for when, count in growing.launches if when < begun) == WORKERS  # not one after another
    state = study.state()
    nodes = {epochs[1]["process"] for trial in state.trials.values() if (epochs := trial.epochs)}
    assert len(nodes) > 1 and study.export.is_dir()
    events = [json.loads(line) for line in study.journal.read_text().splitlines()]
    trained, saved = (
        {(e["trial"], e["epoch"]) for e in events if e["event"] == word} for word in ("epoch", "checkpoint")
    )
    assert saved == trained and len(trained) >= WORKERS  # spot: after every epoch
    deadline = time.monotonic() + 240
    while growing.alive > 1:
        assert time.monotonic() < deadline, "the workers stayed"
        time.sleep(1)


def test_a_trial_that_no_kind_of_node_can_hold_is_refused_before_any_node_is_started(
    growing: Growing, faces: Path, tmp_path: Path
) -> None:
    before = growing.launches
    done = emotune(growing, "run", write_study_file(tmp_path, faces), "--set", f"resources.cpus_per_trial={CPUS + 1}")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert f"Ray has {CPUS}, on the largest node or kind of node that may be started. Lower" in line
    assert growing.launches == before
    assert not (tmp_path / "runs/tiny").exists()


LATE = """
import json, os, signal, subprocess, sys, threading, time
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from tests.support.fixtures_study import run_here
from tune.session import tune_callback as callback

def processes():
    lines = journal.read_text().split("\\n")[:-1] if journal.exists() else []  # the last may be half written
    return {e["metrics"]["process"] for e in map(json.loads, lines) if e["event"] == "epoch"}

def late():
    while len(processes()) < 1:
        time.sleep(0.1)
    # `cluster.add_node` sets signal handlers, which a thread may not.
    start = f"ray.scripts.scripts start --block --num-cpus=1 --address={cluster.address} --disable-usage-stats"
    nodes.append(subprocess.Popen([sys.executable, "-m", *start.split()], stdout=2))
    while len(processes()) < 2:
        time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGINT)

nodes = []
file = Path(sys.argv[1])
journal = file.parent / "runs/tiny/journal.jsonl"
callback._COUNT_NODES_S = 1.0
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
ray.init(cluster.address, log_to_driver=False)
threading.Thread(target=late, daemon=True).start()
try:
    run_here(file)
    print("processes:", len(processes()))
finally:
    for node in nodes:
        node.terminate()
        node.wait()
    ray.shutdown()
    cluster.shutdown()
"""


def test_a_node_that_joins_late_is_used_on_a_cluster_that_does_not_grow_by_itself(faces: Path, tmp_path: Path) -> None:
    # Trials that end sooner than a process starts are all taken by the process that is there (Ray 2.60).
    asha = {"max_epochs": 9000, "grace_epochs": 9000}
    file = write_study_file(tmp_path, faces, trials=9, asha=asha, resources={})  # as many at once as there is room for
    done = subprocess.run(
        [sys.executable, "-c", LATE, str(file)],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "processes: 2" in done.stdout
    first = json.loads((tmp_path / "runs/tiny/journal.jsonl").read_text().splitlines()[0])
    assert (first["at_once"], first["nodes"]) == (1, 1)
