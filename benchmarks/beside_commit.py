"""AlexNet's training speed and memory beside another commit's, in turn on the same machine.

    git worktree add /tmp/before COMMIT
    python -m benchmarks.beside_commit /tmp/before DATA [--rounds 5] [--output FILE]

Every round starts a process of each tree, in changing order, that trains AlexNet for three epochs on one core; the
first, which traces the graphs, counts for the start alone. Both trees run with this Python's packages. DATA is what the
older of the two has imported.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.results_file import machine_line, tell

_EPOCHS = 3
_FIGURES = {
    "images_per_s": ("training", "images/s"),
    "epoch_s": ("an epoch with its evaluation", "s"),
    "start_s": ("first epoch, graphs traced", "s"),
    "process_memory_mib": ("memory of the process", "MiB"),
}
SIZES: dict[str, dict[str, Any]] = {
    "a quarter of its width, 48 px": {"width": 0.25, "image_size_px": 48, "batch_norm": True, "images": 6000},
    "full width, 227 px": {"width": 1.0, "image_size_px": 227, "batch_norm": False, "images": 320},
}

_TRAIN = """
import json, sys
from benchmarks.trial_training import open_training
from trainables.training.epochs import TrialTraining

parameters, images, epochs = json.loads(sys.argv[2])
training = open_training(TrialTraining(), sys.argv[1], parameters, max_epochs=epochs, max_images_per_fold=images)
print(json.dumps([training._train_epoch() for _ in range(epochs)]))
"""


def train(tree: Path, data: Path, size: dict[str, Any]) -> dict[str, float]:
    """Trains in a fresh process of a tree; returns its figures."""
    images = size["images"]
    parameters = {name: value for name, value in size.items() if name != "images"}
    parameters |= {"batch_size": 64, "learning_rate": 5e-4, "optimizer": "adam", "preprocessing": "crop"}
    command = [sys.executable, "-c", _TRAIN, str(data), json.dumps([parameters, images, _EPOCHS])]
    surroundings = {**os.environ, "PYTHONPATH": str(tree), "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=tree, env=surroundings, check=True, stdout=subprocess.PIPE, text=True)
    first, *others = json.loads(done.stdout.splitlines()[-1])
    figures = {name: statistics.median(epoch[name] for epoch in others) for name in ("images_per_s", "epoch_s")}
    return figures | {"start_s": first["epoch_s"], "process_memory_mib": others[-1]["process_memory_mib"]}


def table(size: str, before: Sequence[dict[str, float]], now: Sequence[dict[str, float]]) -> list[str]:
    """Returns the rows of one size: medians, and the median, lowest and highest ratio of the rounds."""
    rows = []
    for name, (words, unit) in _FIGURES.items():
        ratios = [mine[name] / other[name] for other, mine in zip(before, now, strict=True)]
        medians = [statistics.median(run[name] for run in runs) for runs in (before, now)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        rows.append(f"| {size} | {words} | {medians[0]:,.1f} {unit} | {medians[1]:,.1f} {unit} | {spread} |")
    return rows


def main() -> None:
    """Runs both trees in turn and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, metavar="FOLDER", help="the other commit's tree")
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    trees = (given.before.resolve(), Path(__file__).resolve().parents[1])
    lines = [machine_line("tensorflow", "keras"), "", "| AlexNet | | before | now | now / before |", "|-|-|-:|-:|-:|"]
    for words, size in SIZES.items():
        runs: dict[Path, list[dict[str, float]]] = {tree: [] for tree in trees}
        for number in range(given.rounds):
            for tree in trees if number % 2 == 0 else reversed(trees):
                runs[tree].append(train(tree, given.data.resolve(), size))
        lines += table(words, *runs.values())
    tell("\n".join(lines), given.output)


if __name__ == "__main__":
    main()
