"""A real `ray up`: a study on three machines of network namespaces loses a worker, then the head, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import ROOT
from tests.end_to_end.test_interrupt import assert_whole, epochs_by_trial
from tests.support.fixtures_study import write_study_file
from tests.tune.jobs.test_jobs import events, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

MACHINES = ROOT / "tests/support/machines"
BIN = Path(sys.executable).parent
TOOLS = ("/usr/sbin/sshd", "ssh", "ssh-keygen", "rsync", "ip", "unshare")
ADDRESSES = {"head": "10.77.8.10", "w1": "10.77.8.11", "w2": "10.77.8.12"}
WORKERS = {ADDRESSES["w1"], ADDRESSES["w2"]}
SERVER = f"http://{ADDRESSES['head']}:8265"
TRIALS, MAX_EPOCHS = 12, 40
PATIENCE_S, PAUSE_S = 300, 1.0


class Machines:
    """A head and two workers that share a folder; `tests/support/machines/` says how they are made."""

    def __init__(self, shared: Path) -> None:
        self.shared = shared
        self._environment = {
            **os.environ,
            "SHARED": str(shared),
            "BIN": str(BIN),
            "KEEP": f"{ROOT}:{sys.prefix}:{sys.base_prefix}",
        }

    def script(self, name: str, *arguments: str) -> None:
        command = ["bash", str(MACHINES / name), *arguments]
        subprocess.run(command, env=self._environment, check=True, timeout=60, close_fds=True)

    def crash(self, name: str) -> None:
        os.kill(int((self.shared / "run" / f"{name}.pid").read_text()), signal.SIGKILL)

    def boot(self, name: str) -> None:
        self.script("boot.sh", name, ADDRESSES[name])

    def print_log(self) -> None:
        """Prints the end of the autoscaler's log; pytest shows it when the test has failed."""
        with suppress(OSError):
            root = Path("/proc", (self.shared / "run/head.pid").read_text().strip(), "root")
            for log in root.glob("tmp/ray/session_2*/logs/monitor.*"):
                told = [line for line in log.read_text().splitlines() if "INFO autoscaler.py" not in line]
                print(log.name, *told[-100:], sep="\n")


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    """Three machines that answer on port 22; gone at the end with all that runs on them."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if os.geteuid() != 0 or missing:
        pytest.skip(f"needs root and {', '.join(missing or TOOLS)}: bash tests/support/install_servers.sh")
    made = Machines(tmp_path / "shared")
    made.shared.mkdir()
    made.script("down.sh")
    try:
        made.script("up.sh")
        yield made
    finally:
        made.print_log()
        made.script("down.sh")


def write_cluster_file(machines: Machines) -> Path:
    """Writes a `ray up` file: a head that runs no trial, two workers with two CPUs and one counted GPU each."""
    stop = "if pgrep -x raylet; then ray stop; fi"
    start = yaml.safe_load((ROOT / "clusters/on-premise.yaml").read_text())["worker_start_ray_commands"][-1]
    small = "--object-store-memory=100000000 --disable-usage-stats"
    # A worker that is back is soon noticed; one that starts slowly is not taken for lost and stopped while it starts.
    quick = "AUTOSCALER_HEARTBEAT_TIMEOUT_S=15 AUTOSCALER_UPDATE_INTERVAL_S=2"
    values = {
        "cluster_name": "machines",
        "provider": {"type": "local", "head_ip": ADDRESSES["head"], "worker_ips": [ADDRESSES["w1"], ADDRESSES["w2"]]},
        "auth": {"ssh_user": "root", "ssh_private_key": str(machines.shared / "id")},
        "min_workers": 2,
        "max_workers": 2,
        "head_start_ray_commands": [
            stop,
            f"{quick} ray start --head --port=6379 --num-cpus=0 --dashboard-host=0.0.0.0 {small} "
            "--autoscaling-config=~/ray_bootstrap_config.yaml",
        ],
        "worker_start_ray_commands": [
            stop,
            start.replace(":6379", f":6379 --num-cpus=2 --num-gpus=1 {small}"),
        ],
    }
    path = machines.shared / "cluster.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


def ray(command: str, cluster: Path) -> None:
    options = ["--no-config-cache"] if command == "up" else []
    environment = {**os.environ, "RAY_UP_enable_autoscaler_v2": "0", "RAY_TMPDIR": str(cluster.parent)}
    subprocess.run(
        [sys.executable, "-m", "ray.scripts.scripts", command, "-y", *options, str(cluster)],
        env=environment,
        check=True,
        timeout=PATIENCE_S,
        stdout=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )


FAILS_ONCE = '\nray() { [ "$1" = start ] && [ ! -e ~/failed ] && touch ~/failed && return 1; command ray "$@"; }\n'


def state(what: str) -> list[dict[str, Any]]:
    """Returns what Ray's state API says of nodes or placement groups."""
    with suppress(OSError, ValueError), urllib.request.urlopen(f"{SERVER}/api/v0/{what}?detail=1", timeout=30) as said:
        rows: list[dict[str, Any]] = json.load(said)["data"]["result"]["result"]
        return rows
    return []


def alive(*, but: Collection[str] = ()) -> set[str]:
    """Returns the addresses of the nodes that are there, but for the nodes with these IDs."""
    return {node["node_ip"] for node in state("nodes") if node["state"] == "ALIVE" and node["node_id"] not in but}


def emotune(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tune.cli", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=600)


def test_a_study_on_a_ray_up_cluster_survives_the_loss_of_a_worker_and_of_the_head(
    machines: Machines, faces: Path
) -> None:
    shared = machines.shared
    shutil.copytree(faces, shared / "faces")
    file = write_study_file(
        shared,
        shared / "faces",
        trials=TRIALS,
        asha={"max_epochs": MAX_EPOCHS, "grace_epochs": MAX_EPOCHS},
        resources={"cpus_per_trial": 1, "gpus_per_trial": 0.5, "check_gpus": False},
        faults={"process_died": 10},
    )
    cluster = write_cluster_file(machines)

    def told(kind: str) -> list[dict[str, Any]]:
        return [event for event in events(shared, "tiny") if event["event"] == kind]

    with (shared / "run/home-w1/.bashrc").open("a") as settings:
        settings.write(FAILS_ONCE)

    ray("up", cluster)
    wait_until(lambda: alive() == set(ADDRESSES.values()), PATIENCE_S, PAUSE_S)
    assert (shared / "run/home-w1/failed").exists()
    submitted = emotune("submit", file, "--address", SERVER, "--no-wait")
    assert submitted.returncode == 0, submitted.stderr

    wait_until(lambda: {e["metrics"]["node_ip"] for e in told("epoch")} == WORKERS, PATIENCE_S, PAUSE_S)

    def shares() -> list[float]:
        groups = [group for group in state("placement_groups") if group["state"] == "CREATED"]
        return [group["bundles"][0]["unit_resources"]["GPU"] for group in groups]

    wait_until(lambda: shares() == [0.5] * 4, PATIENCE_S, PAUSE_S)  # two trials on each worker's one GPU

    first = [node["node_id"] for node in state("nodes") if node["node_ip"] == ADDRESSES["w1"]]
    machines.crash("w1")
    faults = wait_until(lambda: [e for e in told("fault") if e["retried"]], PATIENCE_S, PAUSE_S)
    assert {fault["kind"] for fault in faults} == {"process_died"}
    machines.boot("w1")
    wait_until(lambda: alive(but=first) == set(ADDRESSES.values()), PATIENCE_S, PAUSE_S)
    returned = time.time()

    assert len(told("end")) < TRIALS
    machines.crash("head")
    before = events(shared, "tiny")
    machines.boot("head")
    ray("up", cluster)
    wait_until(lambda: alive() == set(ADDRESSES.values()), PATIENCE_S, PAUSE_S)
    followed = emotune("submit", file, "--address", SERVER)
    assert followed.returncode == 0, followed.stdout + followed.stderr
    assert f"finished: {TRIALS} trials ({TRIALS} complete)" in followed.stdout

    found = events(shared, "tiny")
    assert_whole(found, trials=TRIALS, max_epochs=MAX_EPOCHS)
    assert [e["trial"] for e in found if e["event"] == "trial"] == list(range(TRIALS))  # no number twice
    ended = {e["trial"] for e in before if e["event"] == "end"}
    assert not [e for e in found[len(before) :] if e["event"] == "started" and e["trial"] in ended]
    for trial, epochs in epochs_by_trial(found[len(before) :]).items():  # from where its checkpoint was, not from 1
        saved = [e["epoch"] for e in before if e["event"] == "checkpoint" and e["trial"] == trial]
        assert epochs == list(range(max(saved, default=0) + 1, MAX_EPOCHS + 1))
    assert {e["metrics"]["node_ip"] for e in found if e["event"] == "epoch" and e["time"] > returned} == WORKERS
    assert (shared / "runs/tiny/export/model.keras").exists()

    ray("down", cluster)
    wait_until(lambda: not alive(), PATIENCE_S, PAUSE_S)
