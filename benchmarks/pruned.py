"""Does telling Optuna PRUNED pay? Our searcher and rungs against Ray's OptunaSearch and ASHA on simulated curves.

    python -m benchmarks.pruned [--seeds 40] [--epochs 600] [--output FILE]

Nothing is trained: scores come from a formula (see `Curve`), everything that decides is the real object. Four trials
run at once; both sides get the same number of epochs, the same first configuration and the same noise for the same
configuration and epoch. What counts is the noise-free score of the epoch that a side would choose, the best that it
saw. Three sides:

ours       OptunaSearcher and Asha: a trial stopped at a rung is PRUNED with all its values, the others count by their
           best epoch
stock      ray.tune's OptunaSearch with its default sampler, and ASHAScheduler: every trial COMPLETE with its last value
stock-tpe  the same with our sampler, so that only what is told differs
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
import zlib
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.results_file import machine_line
from benchmarks.sides import Emotune, RayTune, be_quiet
from benchmarks.simulation import Side, simulate
from tune.search.optuna_study import make_sampler
from tune.study.spec import StudySpec

AT_ONCE = 4
RUNGS = {"grace_period": 1, "reduction_factor": 3}
FADING = 0.01
"""How much a score falls with each epoch once a trial overfits, in the second of the two worlds."""
SPEC = StudySpec.model_validate(
    {
        "name": "simulated",
        "data": "none",
        "trials": 1_000_000,
        "startup_trials": 10,
        "asha": {"max_epochs": 27, "grace_epochs": 1, "reduction_factor": 3},
        "space": {
            "learning_rate": {"type": "float", "low": 1e-5, "high": 1e-1, "log": True, "default": 1e-3},
            "batch_size": {"type": "categorical", "choices": [16, 32, 64, 128], "default": 32},
            "dropout": {"type": "float", "low": 0.0, "high": 0.8, "default": 0.5},
            "optimizer": {"type": "categorical", "choices": ["sgd", "adam", "adamw", "rmsprop"], "default": "adam"},
            "momentum": {"type": "float", "low": 0.0, "high": 0.99, "default": 0.9, "when": {"optimizer": ["sgd"]}},
            "label_smoothing": {"type": "float", "low": 0.0, "high": 0.5, "default": 0.0},
        },
    }
)


@dataclass(frozen=True)
class Curve:
    """A made-up learning curve: score(e) = final x (1 - exp(-e / pace)), noisy.

    The final score falls off with the distance from an optimum that depends on optimizer and batch size; a small
    learning rate and much dropout are slow, so that what leads at the first rung need not lead at the end. `noise` is
    the spread of one epoch's score, as of a selection fold of some thousand images. With `fading`, a trial overfits:
    past an epoch that dropout puts off, its score falls by so much an epoch.
    """

    world: int
    noise: float = 0.01
    fading: float = 0.0

    def score(self, values: Mapping[str, Any], epoch: int) -> float:
        """Returns the noise-free score after an epoch (from 1)."""
        rng = np.random.default_rng(self.world)
        centre = dict(zip(("sgd", "adam", "adamw", "rmsprop"), rng.uniform(-4.2, -1.8, 4), strict=True))
        worth = dict(zip(("sgd", "adam", "adamw", "rmsprop"), rng.uniform(0.0, 0.06, 4), strict=True))
        dropout, smoothing, momentum = rng.uniform(0.1, 0.6), rng.uniform(0.0, 0.3), rng.uniform(0.5, 0.95)
        shift = 0.3 * math.log2(values["batch_size"] / 32)
        distance = math.log10(values["learning_rate"]) - centre[values["optimizer"]] - 0.3 * shift
        final = 0.70 - worth[values["optimizer"]] - 0.06 * distance**2
        final -= 0.25 * (values["dropout"] - dropout) ** 2 + 0.3 * (values["label_smoothing"] - smoothing) ** 2
        if values["optimizer"] == "sgd":
            final -= 0.1 * (values["momentum"] - momentum) ** 2
        pace = 3.0 * 10 ** (-0.25 * min(distance, 0.0)) * (1 + values["dropout"])
        faded = self.fading * max(0.0, epoch - 4 - 20 * values["dropout"])
        return float(max(0.14, final * (1 - math.exp(-epoch / pace)) - faded))

    def epoch_s(self, values: Mapping[str, Any]) -> float:
        """Returns that every epoch takes a second."""
        return 1.0

    def observed(self, values: Mapping[str, Any], epoch: int) -> float:
        """Returns the score with the noise that this configuration has in this epoch."""
        key = zlib.crc32(repr((self.world, sorted(values.items()), epoch)).encode())
        return self.score(values, epoch) + float(np.random.default_rng(key).normal(0, self.noise))


SIDES: dict[str, Callable[[int, Path], Side]] = {
    "ours": lambda seed, folder: Emotune(seed, folder, SPEC),
    "stock": lambda seed, folder: RayTune(seed, SPEC, scheduler=RUNGS),
    "stock-tpe": lambda seed, folder: RayTune(
        seed, SPEC, lambda s: make_sampler(SPEC.model_copy(update={"seed": s}), 0), RUNGS
    ),
}


def compare(seeds: int, epochs: int, fading: float) -> dict[str, list[float]]:
    """Returns each side's score for each seed; every seed is another world."""
    found: dict[str, list[float]] = {name: [] for name in SIDES}
    for seed in range(seeds):
        for name, make in SIDES.items():
            with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
                with closing(make(seed, Path(folder))) as side:
                    history = simulate(side, Curve(seed, fading=fading), workers=AT_ONCE, budget_s=epochs / AT_ONCE)
                    found[name].append(history[-1].score)
    return found


def mean_interval(values: list[float]) -> tuple[float, float, float]:
    """Returns the mean and its 95 % interval (Student)."""
    mean, error = statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values))
    half = float(stats.t.ppf(0.975, len(values) - 1)) * error
    return mean, mean - half, mean + half


def table(found: dict[str, list[float]]) -> str:
    """Returns scores and paired differences with their intervals."""
    seeds = len(found["ours"])
    lines = [
        "| side | mean score | 95 % interval |",
        "|---|---|---|",
    ]
    for name, values in found.items():
        mean, low, high = mean_interval(values)
        lines.append(f"| {name} | {mean:.4f} | {low:.4f} to {high:.4f} |")
    lines += ["", "| ours minus | mean difference | 95 % interval | seeds won |", "|---|---|---|---|"]
    for name in list(found)[1:]:
        gaps = [a - b for a, b in zip(found["ours"], found[name], strict=True)]
        mean, low, high = mean_interval(gaps)
        lines.append(f"| {name} | {mean:+.4f} | {low:+.4f} to {high:+.4f} | {sum(g > 0 for g in gaps)} of {seeds} |")
    return "\n".join(lines)


def main() -> None:
    """Runs the comparison and prints it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=600)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    be_quiet()
    text = "\n\n".join(
        [
            "# PRUNED or COMPLETE",
            f"`python -m benchmarks.pruned --seeds {arguments.seeds} --epochs {arguments.epochs}`: "
            f"{machine_line('ray', 'optuna')}; {AT_ONCE} trials at once.",
            "## Curves that rise",
            table(compare(arguments.seeds, arguments.epochs, 0.0)),
            "## Curves that fade: trials overfit",
            table(compare(arguments.seeds, arguments.epochs, FADING)),
        ]
    )
    sys.stdout.write(text + "\n")
    if arguments.output:
        arguments.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
