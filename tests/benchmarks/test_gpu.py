"""The ladder of a GPU, small and on the processor."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import run_at_once
from tests import ROOT


@pytest.mark.slow
def test_the_ladder_runs_small_without_a_gpu(tmp_path: Path) -> None:
    output = tmp_path / "gpu.md"
    words = "--sizes 48 --batches 32 --precisions float32 --at-once 1 2 --width 0.0625 --seconds 0.2 --output"
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "benchmarks.gpu", *words.split(), str(output)]
    subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    text = output.read_text()
    assert "no GPU: " in text
    alone = re.search(r"^\| 48 \| 32 \| float32 \| (\d+) \| (\d+) \| (\d+\.\d\d) \| (\d+\.\d\d) \|$", text, re.M)
    assert alone is not None and all(float(figure) > 0 for figure in alone.groups()), text
    together = re.findall(r"^\| 48 \| 32 \| float32 \| ([12]) \| \d+ \| (\d+\.\d\d) \|$", text, re.M)
    assert [count for count, _ in together] == ["1", "2"] and together[0][1] == "1.00"


@pytest.mark.slow
def test_what_a_measurement_died_of_stands_in_its_row(tmp_path: Path) -> None:
    job = {"data": str(tmp_path / "none"), "parameters": {}, "gpus": 0, "cpus": 1, "seconds": 1, "loop": "trial"}
    found = run_at_once(job, 1)
    assert isinstance(found, str) and "DatasetError" in found
