"""What each option of a trial is worth: the same processor time for a hand-set run and for it with one option changed.

    python -m benchmarks.trial_options DATA [--seconds 840] [--seeds 3] [--only NAME ...] [--sealed]

Every run is a process with one thread and trains as many epochs as fit in `--seconds` of processor time, evaluations
included, so what runs beside it matters little; 840 s are seven minutes of two cores. The score is the last epoch's on
the selection fold: nobody chose an epoch. With `--sealed` the test split is scored too, once, by runs begun with it.
Results go to `benchmarks/results/trial-options.jsonl`, a line a run; what is there is not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.results_file import processor, read_lines
from benchmarks.trial_training import ONE_THREAD, open_training

RESULTS = Path(__file__).parent / "results/trial-options.jsonl"

HAND_SET: dict[str, Any] = {
    "learning_rate": 5e-4,
    "batch_size": 64,
    "dropout": 0.3,
    "split_ratio": 0.95,
    "optimizer": "adam",
    "schedule": "cosine",
    "preprocessing": "crop",
    "normalization": "per_image",
    "image_size_px": 48,
    "width": 0.25,
    "batch_norm": True,
    "weight_average": 0.995,  # both the last weights and the average are scored, and both with and without the mirror
}
VARIANTS: dict[str, dict[str, Any]] = {
    "hand-set": {},
    "constant rate": {"schedule": "constant"},
    "fine stem": {"stem": "fine"},
    "fine stem, width 0.125": {"stem": "fine", "width": 0.125},
    "mixup 0.2": {"mixup": 0.2},
    "class weights sqrt": {"class_weights": "sqrt"},
    "class weights balanced": {"class_weights": "balanced"},
    "warm-up 1 epoch": {"warmup_epochs": 1.0},
    "label smoothing 0.1": {"label_smoothing": 0.1},
    "augment 0.3": {"preprocessing": "augment", "augment_strength": 0.3},
    "learning rate 1e-3": {"learning_rate": 1e-3},
    "batch 32": {"batch_size": 32},
    "constant rate 1e-3": {"schedule": "constant", "learning_rate": 1e-3},
    "constant rate, batch 32": {"schedule": "constant", "batch_size": 32},
    "constant rate, dropout 0.1": {"schedule": "constant", "dropout": 0.1},
    "adamw, shifts": {
        "optimizer": "adamw",
        "learning_rate": 9e-4,
        "weight_decay": 4e-3,
        "dropout": 0.0,
        "preprocessing": "shifts",
        "shift_limit": 0.067,
    },
    "rmsprop, smoothed labels": {
        "optimizer": "rmsprop",
        "learning_rate": 7e-4,
        "batch_size": 128,
        "momentum": 0.57,
        "rho": 0.86,
        "label_smoothing": 0.15,
        "normalization": "standardize",
    },
    "resnet_small": {"model": "resnet_small", "width": 1.0, "schedule": "constant", "learning_rate": 1e-3},
}
PLAIN = ", without oneDNN"
"""Behind the name of a configuration that trains with the kernels that TensorFlow takes by itself without AVX-512."""

KINDS = ("last", "last, mirror", "average", "average, mirror")


def main() -> None:
    """Runs what is still to be run, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seconds", type=float, default=840.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=["hand-set" + PLAIN, *VARIANTS])
    parser.add_argument("--sealed", action="store_true")
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--run", nargs=2, metavar=("NAME", "SEED"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        result = run(given.data, given.run[0], int(given.run[1]), given.seconds, given.sealed)
        with RESULTS.open("a") as file:
            file.write(json.dumps(result) + "\n")
        return
    done = {(r["name"], r["seed"], r["budget_s"]) for r in read_lines(RESULTS)}
    wanted = [
        (name, seed)
        for seed in range(given.first_seed, given.first_seed + given.seeds)
        for name in given.only
        if (name, seed, given.seconds) not in done
    ]
    with ThreadPoolExecutor(given.at_once) as executor:
        list(executor.map(lambda job: start(given, *job), wanted))
    print(table([r for r in read_lines(RESULTS) if r["budget_s"] == given.seconds]))


def start(given: argparse.Namespace, name: str, seed: int) -> None:
    """Runs one configuration in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.trial_options", str(given.data), "--seconds", str(given.seconds)]
    if given.sealed:
        command.append("--sealed")
    settings = {"TF_ENABLE_ONEDNN_OPTS": "0" if name.endswith(PLAIN) else "1", **ONE_THREAD}
    subprocess.run([*command, "--run", name, str(seed)], check=True, env={**os.environ, **settings})


def run(data: Path, name: str, seed: int, budget_s: float, sealed: bool) -> dict[str, Any]:
    """Trains one configuration for so much processor time; returns its scores."""
    from trainables.dataset.folds import test_rows
    from trainables.training.epochs import TrialTraining

    parameters = {**HAND_SET, **VARIANTS[name.removesuffix(PLAIN)]}
    epoch_s = processor_s_of_an_epoch(open_training(TrialTraining(), data, parameters, seed=seed))
    epochs = max(1, round(budget_s / epoch_s))
    training = open_training(TrialTraining(), data, parameters, seed=seed, max_epochs=epochs)
    started, began = time.process_time(), time.perf_counter()
    curve = [training._train_epoch() for _ in range(epochs)]
    used_s = time.process_time() - started

    def scores(rows: Any) -> dict[str, float]:
        found = {}
        for kind in KINDS:
            with training._average.in_place() if "average" in kind else nullcontext():
                found[kind] = training._evaluate(rows, mirror="mirror" in kind)["accuracy"]
        return found

    return {
        "name": name,
        "seed": seed,
        "budget_s": budget_s,
        "used_s": round(used_s),
        "wall_s": round(time.perf_counter() - began),
        "epochs": epochs,
        "images_per_s": round(mean(e["images_per_s"] for e in curve)),
        "curve": [round(e["selection_accuracy"], 4) for e in curve],
        "selection": scores(training._selection),
        "test": scores(test_rows(training._dataset)) if sealed else None,
        "config": parameters,
        "machine": processor(),
        "date": time.strftime("%Y-%m-%d"),
    }


def processor_s_of_an_epoch(training: Any, batches: int = 40) -> float:
    """Returns about how much processor time an epoch takes, evaluations included, measured on some of it."""
    fit, config = training._fit, training._config
    few = fit[: config.batch_size * batches]
    for rows in (few[: config.batch_size * 4], few):  # the first traces the graph
        started = time.process_time()
        training._train(rows, config.learning_rate)
        train_s = (time.process_time() - started) / len(rows)
    some = training._selection[:1024]
    for _ in range(2):
        started = time.process_time()
        training._evaluate(some)
        evaluate_s = (time.process_time() - started) / len(some)
    return float(train_s * len(fit) + evaluate_s * (len(training._validation) + len(training._selection)))


def table(results: list[dict[str, Any]]) -> str:
    """Returns the table: mean, spread and number of seeds for each configuration and kind of score."""
    by_name = defaultdict(list)
    for result in results:
        by_name[result["name"]].append(result)
    lines = ["| configuration | seeds | epochs | " + " | ".join(KINDS) + " |", "|---" * (3 + len(KINDS)) + "|"]
    for fold in ("selection", "test"):
        lines.append(f"| **{fold}** " + "| " * (2 + len(KINDS)) + "|")
        for name, runs in by_name.items():
            runs = [r for r in runs if r[fold]]
            if runs:
                cells = [spread([r[fold][kind] for r in runs]) for kind in KINDS]
                epochs = round(mean(r["epochs"] for r in runs), 1)
                lines.append(f"| {name} | {len(runs)} | {epochs:g} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    """Returns mean and standard deviation."""
    return f"{mean(values):.4f}" + (f" ± {stdev(values):.4f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
