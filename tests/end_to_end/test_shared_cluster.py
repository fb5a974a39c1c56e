"""Two who work on one cluster: the later study waits for room, and goes on when it is there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.fixtures_study import write_study_file

pytestmark = pytest.mark.slow

HOLDER = """
import sys
from tune.nodes.join import joined_ray

class Work:
    def begin(self):
        pass

with joined_ray():
    import ray
    work = ray.remote(Work).options(num_cpus=ray.cluster_resources()["CPU"]).remote()
    ray.get(work.begin.remote())
    print(ray.get_runtime_context().gcs_address, int(ray.cluster_resources()["CPU"]), flush=True)
    sys.stdin.readline()
    ray.kill(work)
    sys.stdin.readline()
"""
WAITING = "no room for a trial now: waiting until other work on the cluster ends, or for nodes that come"
IMPATIENT = (
    "from tune.cli.main import main; from tune.nodes import process_start; process_start.REPORT_AFTER_S = 2.0; main()"
)


def test_a_study_on_a_full_cluster_waits_beyond_the_start_limit_and_then_trains(faces: Path, tmp_path: Path) -> None:
    file = write_study_file(tmp_path, faces, trials=1, asha={"max_epochs": 1})
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "RAY_ADDRESS": ""},
        text=True,
    )
    assert holder.stdin is not None and holder.stdout is not None
    try:
        address, cpus = holder.stdout.readline().split()
        settings = ["--set", "faults.start_limit_s=60s", "--set", f"resources.cpus_per_trial={cpus}"]
        study = subprocess.Popen(
            [sys.executable, "-c", IMPATIENT, "run", str(file), "--calibrate", *settings],
            env={**os.environ, "RAY_ADDRESS": address},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert study.stdout is not None
        said, waited = [], False
        for line in study.stdout:
            said.append(line)
            if WAITING in line and not waited:
                waited = True
                with pytest.raises(subprocess.TimeoutExpired):
                    study.wait(62)  # longer than the limit
                holder.stdin.write("\n")
                holder.stdin.flush()
        study.stdout.close()
        text = "".join(said)
        assert study.wait(60) == 0, text
        assert waited and "trial 0 complete" in text
    finally:
        holder.communicate("\n\n", timeout=60)
