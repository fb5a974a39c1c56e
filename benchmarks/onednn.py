"""What TensorFlow's oneDNN kernels are worth on this processor: training steps and evaluation with and without them.

    python -m benchmarks.onednn DATA [--repeats 3]

TensorFlow 2.21 switches them on by itself only where the processor has AVX-512 or VNNI; emotune's processes do on every
x86 machine (`trainables.keras_setup`). Every figure is from a process of its own with one thread, in processor time,
the two sides in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.trial_training import ONE_THREAD, open_training

SMALL: dict[str, Any] = {"image_size_px": 48, "width": 0.25, "batch_norm": True, "batch_size": 64}
MODELS: dict[str, dict[str, Any]] = {
    "alexnet, 48 px, width 0.25": SMALL,
    "the same, batch 32": {**SMALL, "batch_size": 32},
    "the same, local response normalisation": {**SMALL, "batch_norm": False},
    "alexnet, fine stem, 48 px, width 0.25": {**SMALL, "stem": "fine"},
    "resnet_small, 48 px": {"image_size_px": 48, "model": "resnet_small", "batch_size": 64},
    "vgg_small, 48 px": {"image_size_px": 48, "model": "vgg_small", "batch_size": 64},
    "alexnet, 227 px, width 1": {"image_size_px": 227, "batch_size": 32},
}


def main() -> None:
    """Prints a row for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--run", metavar="MODEL", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        print(json.dumps(rates(given.data, MODELS[given.run])))
        return
    print("| model | training: images/s without | with | ratio | evaluation: ratio |", "|---" * 5 + "|", sep="\n")
    for name in MODELS:
        found: dict[str, list[dict[str, float]]] = {"0": [], "1": []}
        for _ in range(given.repeats):
            for switch, runs in found.items():
                command = [sys.executable, "-m", "benchmarks.onednn", str(given.data), "--run", name]
                environment = {**os.environ, **ONE_THREAD, "TF_ENABLE_ONEDNN_OPTS": switch}
                done = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True)
                runs.append(json.loads(done.stdout.splitlines()[-1]))
        ratios = {
            kind: [w[kind] / without[kind] for without, w in zip(found["0"], found["1"], strict=True)]
            for kind in ("training", "evaluation")
        }
        before, after = (mean(run["training"] for run in found[switch]) for switch in ("0", "1"))
        cells = [f"{mean(r):.2f} ({min(r):.2f} to {max(r):.2f})" for r in ratios.values()]
        print(f"| {name} | {before:.0f} | {after:.0f} | {cells[0]} | {cells[1]} |", flush=True)


def rates(data: Path, parameters: dict[str, Any]) -> dict[str, float]:
    """Returns images per second of processor time, of training steps and of evaluation."""
    from trainables.training.epochs import TrialTraining

    training = open_training(TrialTraining(), data, parameters)
    batch = training._config.batch_size
    rows = training._fit[: batch * (4 if training._config.image_size_px > 100 else 24)]
    found = {}
    for kind, work in {
        "training": lambda rows: training._train(rows, 1e-3),
        "evaluation": lambda rows: training._evaluate(rows),
    }.items():
        work(rows[:batch])  # traces the graph
        best = float("inf")
        for _ in range(3):
            started = time.process_time()
            work(rows)
            best = min(best, time.process_time() - started)
        found[kind] = len(rows) / best
    return found


if __name__ == "__main__":
    main()
