"""What the machinery costs: images per second of a trial, its waiting for data, and studies of short and long trials.

    python -m benchmarks.step [--data DIR] [--trials 32] [--output FILE]

A study's wall time is set beside the ideal: the seconds that its trials trained and evaluated, over the trials at once.
The peer is stock Ray Tune (`benchmarks.stock_ray`), with the same space, model, feed and folds. All run in turn.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.results_file import machine_line, tell
from benchmarks.stock_ray import Settings, search
from benchmarks.trial_training import open_training
from search_spaces import builtin_spaces

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}

AT_ONCE = 2
SHORT: dict[str, Any] = {"max_epochs": 3, "images": 96}
LONG: dict[str, Any] = {"max_epochs": 12, "images": 1500}
FIXED: dict[str, Any] = {"image_size_px": 48, "width": 0.125, "batch_norm": True}

STUDY = """
name: {name}
data: {data}
space: quickstart
fixed: {{image_size_px: 48, width: 0.125, batch_norm: true}}
trials: {trials}
asha: {{max_epochs: {max_epochs}}}
folds: {{max_images_per_fold: {images}}}
confirm: {{top: 0}}
storage: {storage}
"""


def ours(folder: Path, data: Path, name: str, trials: int, size: dict[str, Any]) -> tuple[float, float]:
    """Runs a study with the command line; returns its search's wall time and the ideal."""
    from tune.study.studies import load_study_folder

    file = folder / f"{name}.yaml"
    file.write_text(STUDY.format(name=name, data=data, trials=trials, storage=folder / "runs", **size))
    command = [sys.executable, "-m", "tune.cli", "run", str(file), "--no-calibrate"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    state = load_study_folder(folder / "runs" / name).state()
    trained_s = sum(metrics["epoch_s"] for trial in state.trials.values() for metrics in trial.epochs.values())
    return state.search_s, trained_s / AT_ONCE


def stock(folder: Path, data: Path, trials: int, size: dict[str, Any]) -> tuple[float, float]:
    """Runs the same with stock Ray Tune; returns wall time and the ideal."""
    found = search(
        Settings(
            data=str(data),
            folder=str(folder / "ray"),
            space=str(builtin_spaces()["quickstart"]),
            fixed=FIXED,
            trials=trials,
            max_epochs=size["max_epochs"],
            context={"selection_share": 0.15, "max_images_per_fold": size["images"]},
            at_once=AT_ONCE,
        )
    )
    return found.wall_s, found.trained_s / AT_ONCE


def steps(data: Path) -> list[str]:
    """Returns rows: images/s and share of waiting of one trial, plain and with what new studies have."""
    from trainables.training.epochs import TrialTraining

    rows = []
    for method in ("none", "crop", "augment"):
        for name, options in (("plain", {}), ("averaged, mirrored", {"weight_average": 0.995, "mirror": True})):
            parameters = {**FIXED, "batch_size": 64, "preprocessing": method, **options}
            training = open_training(TrialTraining(), data, parameters, max_epochs=3, selection_share=0.15)
            epochs = [training._train_epoch() for _ in range(3)][1:]
            speed = sum(epoch["images_per_s"] for epoch in epochs) / len(epochs)
            waited = sum(epoch["wait_s"] for epoch in epochs) / sum(epoch["epoch_s"] for epoch in epochs)
            epoch_s = sum(epoch["epoch_s"] for epoch in epochs) / len(epochs)
            rows.append(f"| {method}, {name} | {speed:.0f} | {100 * waited:.1f} % | {epoch_s:.2f} |")
    return rows


def main() -> None:
    """Runs everything in turn and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--long-trials", type=int, default=8)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    lines = [machine_line("ray", "tensorflow", "keras"), ""]
    with tempfile.TemporaryDirectory() as name:
        from tune.dataset.synth import write_faces

        folder = Path(name)
        data = given.data or write_faces(folder / "faces").directory
        lines += ["| study | side | wall s | ideal s | ratio |", "|---|---|---|---|---|"]
        for kind, size, trials in (("short", SHORT, given.trials), ("long", LONG, given.long_trials)):
            for side, found in (
                ("emotune", ours(folder, data, kind, trials, size)),
                ("stock Ray Tune", stock(folder / kind, data, trials, size)),
            ):
                wall_s, ideal_s = found
                what = f"{trials} trials, at most {size['max_epochs']} epochs of {size['images']} images"
                lines.append(f"| {kind}: {what} | {side} | {wall_s:.1f} | {ideal_s:.1f} | {wall_s / ideal_s:.2f} |")
        lines += ["", "| trial | images/s | waiting | s an epoch |", "|---|---|---|---|", *steps(data)]
    tell("\n".join(lines), given.output)


if __name__ == "__main__":
    main()
