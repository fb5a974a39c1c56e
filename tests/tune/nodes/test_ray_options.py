"""How many cores Ray is started with: those that this process may use, not those of the machine."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from trainables.node_probe import usable_cores
from tune.nodes.ray_options import starting_options


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no process to cores")
def test_a_process_that_is_pinned_to_a_core_starts_ray_with_one() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from tune.nodes.ray_options import starting_options; print(starting_options()['num_cpus'])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "1\n"


def test_slurms_allocation_counts_where_it_does_not_pin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_CPUS_ON_NODE", raising=False)
    all_of_them = usable_cores()
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "1")
    assert starting_options()["num_cpus"] == 1 <= all_of_them
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "4096")
    assert usable_cores() == all_of_them


@pytest.mark.parametrize(("quota", "cores"), [(0.5, 1), (1.9, 1), (None, usable_cores())])
def test_a_quota_below_one_core_leaves_one(quota: float | None, cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray._private.utils._get_docker_cpus", lambda: quota)
    assert usable_cores() == cores
