"""One run that a user sets by hand, for as long as a study took: `benchmarks.live` calls it as one of its sides.

    python -m benchmarks.hand_set DATA SECONDS [--seed 0] [--precision bfloat16]

A fresh process with all cores trains on every image but the sealed test's, as a study's final fits do; its rate falls
over as many epochs as fit, and the last one is scored, with averaged weights and the mirror image. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from benchmarks.trial_training import open_training
from tune.study.trial_parameters import NEW_STUDY

RESIDUAL_NET: dict[str, Any] = {
    "model": "resnet_small",
    "learning_rate": 1e-3,
    "batch_size": 64,
    "dropout": 0.0,
    "optimizer": "adam",
    "schedule": "cosine",
    "preprocessing": "augment",
    "augment_strength": 0.4,
    "normalization": "per_image",
    "image_size_px": 48,
    "batch_norm": True,
    **NEW_STUDY,
}
"""Adam's usual rate and batch, augmentation that holds for faces, and what every new study has: averaged weights, the
mirror image, warm-up. Nobody searched for anything."""


def train(data: Path, budget_s: float, **setup: Any) -> dict[str, Any]:
    """Trains for about so many seconds.

    Args:
        data: The data set's folder.
        budget_s: Seconds, from the call on, the scoring of the sealed test included.
        setup: As `benchmarks.trial_training.trial_setup`.

    Returns:
        Seconds, epochs, values and the sealed test's accuracy.
    """
    from trainables.dataset.folds import test_rows
    from trainables.training.epochs import TrialTraining

    started = time.monotonic()
    setup = {"cpus": os.cpu_count() or 1, **setup}
    measured = open_training(TrialTraining(), data, RESIDUAL_NET, refit_epochs=1, **setup)
    seconds = []
    for _ in range(2):  # the first traces the graphs
        began = time.monotonic()
        measured._train_epoch()
        seconds.append(time.monotonic() - began)
    left_s = budget_s - (time.monotonic() - started)
    epochs = max(1, int(left_s / seconds[1] - 0.5))
    training = open_training(TrialTraining(), data, RESIDUAL_NET, refit_epochs=epochs, max_epochs=epochs, **setup)
    for _ in range(epochs):
        training._train_epoch()
    with training._average.in_place() if training._average else nullcontext():
        sealed = training._evaluate(test_rows(training._dataset), mirror=training._mirror)
    return {
        "wall_s": round(time.monotonic() - started),
        "trials": 1,
        "epochs": epochs,
        "values": RESIDUAL_NET,
        "selection": None,
        "sealed": float(sealed["accuracy"]),
    }


def main() -> None:
    """Trains and prints what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="bfloat16")
    given = parser.parse_args()
    print(json.dumps(train(given.data, given.seconds, seed=given.seed, precision=given.precision)))


if __name__ == "__main__":
    main()
