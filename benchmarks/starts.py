"""How many configurations of `space: alexnet` never begin to learn, and what wakes them.

    python -m benchmarks.starts DATA [--configurations 40] [--epochs 2] [--images 6000] [--only NAME ...]

The same random configurations, without `face`, are trained as they are and with one thing changed, the same seeds each
time. One that answers with a single class after its epochs has not begun. Scores are those of the weights' average with
its mirror on the selection fold; the sealed test has no part in it. Results go to `benchmarks/results/starts.jsonl`, a
line a run; what is there is not run again. Two processes of one thread run side by side.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.trial_training import ONE_THREAD, open_training
from search_spaces import SearchSpace, builtin_spaces
from trainables.training.metrics import wilson_interval
from tune.study.feasible import RandomSuggester

RESULTS = Path(__file__).parent / "results/starts.jsonl"
FIXED: dict[str, Any] = {
    "image_size_px": 48,
    "width": 0.25,
    "batch_norm": True,
    "weight_average": 0.995,
    "mirror": True,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "warm-up 1 epoch": {"warmup_epochs": 1.0},
    "warm-up 0.25 epochs": {"warmup_epochs": 0.25},
    "gradients clipped to norm 1": {},
}
_CLIPPED = "gradients clipped to norm 1"
_AT_ONCE = 2


def main() -> None:
    """Runs what is still to be run, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--configurations", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--images", type=int, default=6000)
    parser.add_argument("--only", nargs="*", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--part", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part is not None:
        run_part(given)
        return
    command = [sys.executable, "-m", "benchmarks.starts", *sys.argv[1:]]
    environment = {**os.environ, **ONE_THREAD, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    parts = [subprocess.Popen([*command, "--part", str(part)], env=environment) for part in range(_AT_ONCE)]
    if any(part.wait() for part in parts):
        raise SystemExit("a process ended with an error")
    same = {"epochs": given.epochs, "images": given.images}
    print(table([r for r in read_results() if same.items() <= r.items() and r["configuration"] < given.configurations]))


def configurations(count: int) -> list[dict[str, Any]]:
    """Returns random configurations of the space, without `face`; the first of them is the default one."""
    raw = yaml.safe_load(builtin_spaces()["alexnet"].read_text())
    raw["preprocessing"]["choices"].remove("face")
    del raw["face_margin"]
    space = SearchSpace.model_validate(raw)
    return [space.defaults(), *(dict(space.suggest(RandomSuggester(seed))) for seed in range(1, count))]


def run_part(given: argparse.Namespace) -> None:
    """Trains every second of the runs that are not there yet."""
    done = {(r["configuration"], r["variant"], r["epochs"], r["images"]) for r in read_results()}
    jobs = [(place, name) for place in range(given.configurations) for name in given.only]
    for place, name in jobs[given.part :: _AT_ONCE]:
        if (place, name, given.epochs, given.images) not in done:
            values = configurations(given.configurations)[place]
            result = run(given.data, values, name, place, given.epochs, given.images)
            with RESULTS.open("a") as file:
                file.write(json.dumps(result) + "\n")


def run(data: Path, values: dict[str, Any], variant: str, place: int, epochs: int, images: int) -> dict[str, Any]:
    """Trains one configuration; returns its scores, and whether it answers with one class only."""
    from trainables.models.compiled import release
    from trainables.training.epochs import TrialTraining

    context = {"max_epochs": epochs, "max_images_per_fold": images}
    training = open_training(TrialTraining(), data, {**FIXED, **values, **VARIANTS[variant]}, trial=place, **context)
    if variant == _CLIPPED:
        training._model.optimizer.global_clipnorm = 1.0
    results = [training._train_epoch() for _ in range(epochs)]
    release(training._model)
    training._feed.close()
    columns = np.array(results[-1]["selection_confusion"]).sum(axis=0)
    return {
        "configuration": place,
        "variant": variant,
        "epochs": epochs,
        "images": images,
        "scores": [round(result["selection_accuracy"], 4) for result in results],
        "asleep": bool((columns > 0).sum() <= 1),
        "training_loss": round(float(results[-1]["training_loss"]), 4),
        "values": values,
        "date": time.strftime("%Y-%m-%d"),
    }


def read_results() -> list[dict[str, Any]]:
    """Returns the runs so far."""
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def table(results: list[dict[str, Any]]) -> str:
    """Returns a row for each variant: how many have not begun, the gain over the same configurations as they are."""
    by_variant: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for result in results:
        by_variant[result["variant"]][result["configuration"]] = result
    plain = by_variant["as it is"]
    lines = [
        "| variant | configurations | not begun (95 % interval) | mean accuracy | gain (95 % interval) | best fifth |",
        "|---" * 6 + "|",
    ]
    rng = np.random.default_rng(0)
    for name, runs in by_variant.items():
        scores = np.array([run["scores"][-1] for run in runs.values()])
        asleep = sum(run["asleep"] for run in runs.values())
        low, high = wilson_interval(asleep, len(runs))
        gains = np.array(
            [run["scores"][-1] - plain[place]["scores"][-1] for place, run in runs.items() if place in plain]
        )
        below, above = np.percentile(gains[rng.integers(0, len(gains), (4000, len(gains)))].mean(axis=1), [2.5, 97.5])
        best = np.sort(scores)[-max(1, len(scores) // 5) :].mean()
        lines.append(
            f"| {name} | {len(runs)} | {asleep} ({low:.2f} to {high:.2f}) | {scores.mean():.4f} | "
            f"{gains.mean():+.4f} ({below:+.4f} to {above:+.4f}) | {best:.4f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
