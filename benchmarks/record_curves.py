"""Records whole learning curves of the mission's space on a small part of FER-2013: what a search has to choose from.

    python -m benchmarks.record_curves DATA [--trials 400] [--at-once 2] [--work DIR] [--minutes N]
    python -m benchmarks.record_curves DATA --pack          # the Parquet file from what has been recorded

The whole of `recorded_space.yaml`, an eighth of AlexNet's width at 48 px, 4,000 training images and 1,200 of a holdout,
both from the train split: the sealed test has no part in this. Trial 0 is the default configuration, every third draw
is near it, the others are random (SGD's learning rates 30 times as large, Lion's a tenth); trials 400 to 429 are trials
0 to 29 with another seed. Nobody is stopped. After each epoch, and after the quarters of the first, the selection fold
is scored with the last weights and with their moving average, plain and (where training mirrors images) as the mean
over image and mirror; the trial's own validation and the holdout with the average, and at the end the holdout in every
way.

Every trial is a line of `DIR/curves.jsonl`, written when it is whole: break it off and begin again at any time.
`--pack` adds them to `benchmarks/results/curves.parquet`, a row for each trial and epoch. What is in either is not
trained again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results_file import read_lines
from benchmarks.trial_training import open_training

PARQUET = Path(__file__).parent / "results/curves.parquet"
SPACE = Path(__file__).parent / "recorded_space.yaml"
TRAIN_IMAGES, HOLDOUT_IMAGES = 4000, 1200
EPOCHS = 15
FIXED: dict[str, Any] = {"image_size_px": 48, "width": 0.125, "batch_norm": True, "weight_average": 0.98}
REPEATED, REPEATS_FROM = 30, 400
NEAR_SPREAD = 0.2
"""Standard deviation of a draw near the default, as a share of the parameter's range (of its logarithm)."""
RATE_SCALE = {"sgd": 30.0, "lion": 0.1}
"""By how much a learning rate is multiplied: the curves are to cover what each optimizer could be given."""
KEPT_CHOICE = 0.6
"""How likely a draw near the default keeps a choice."""


class Draw:
    """Draws a trial's parameters, at random or near the defaults; has the three methods of a `Suggester`."""

    def __init__(self, number: int, defaults: dict[str, Any]) -> None:
        self._rng = np.random.default_rng((20261128, number))
        self._defaults = defaults if number % 3 == 0 else None

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float:
        """Draws a float in [low, high]."""
        first, last = (np.log(low), np.log(high)) if log else (low, high)
        share = float(self._rng.random())
        if self._defaults is not None:
            default = np.log(self._defaults[name]) if log else self._defaults[name]
            share = float(np.clip((default - first) / (last - first) + NEAR_SPREAD * self._rng.normal(), 0, 1))
        value = float(np.exp(first + share * (last - first)) if log else first + share * (last - first))
        return min(high, low + round((value - low) / step) * step) if step else min(high, max(low, value))

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        """Draws an int in [low, high]."""
        return round(self.suggest_float(name, low, high, step=step, log=log))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Draws one of the choices."""
        if self._defaults is not None and self._rng.random() < KEPT_CHOICE:
            return self._defaults[name]
        return choices[int(self._rng.integers(len(choices)))]


def parameters(number: int) -> dict[str, Any]:
    """Returns the values of a trial's parameters; a repeat has those of the trial that it repeats."""
    import yaml

    from search_spaces import SearchSpace

    space = SearchSpace.model_validate(yaml.safe_load(SPACE.read_text()))
    number = number - REPEATS_FROM if number >= REPEATS_FROM else number
    if number == 0:
        return dict(space.defaults())
    values = dict(space.suggest(Draw(number, {name: p.default for name, p in space.parameters.items()})))
    return {**values, "learning_rate": values["learning_rate"] * RATE_SCALE.get(values["optimizer"], 1.0)}


def make_dataset(source: Path, target: Path) -> None:
    """Writes the small data set: its test split is the holdout. No duplicate stands on both sides."""
    from trainables.dataset.face_boxes import find_faces
    from trainables.dataset.folds import usable_rows
    from trainables.dataset.reader import TEST, TRAIN, open_dataset
    from trainables.dataset.writer import DatasetWriter

    if not (target / "dataset.json").exists():
        dataset = open_dataset(source)
        _, first = np.unique(dataset.groups[usable_rows(dataset)], return_index=True)  # one image of each group
        rows = np.random.default_rng(1).permutation(usable_rows(dataset)[first])[: TRAIN_IMAGES + HOLDOUT_IMAGES]
        with DatasetWriter(target, dataset.info.classes) as writer:
            for place, row in enumerate(rows):
                split = TRAIN if place < TRAIN_IMAGES else TEST
                writer.append(dataset.image(int(row)), int(dataset.labels[row]), split, dataset.paths[int(row)])
            writer.finish(source="a part of FER-2013's train split", source_fingerprint=f"{len(rows)} images")
    find_faces(open_dataset(target))


def record(number: int, data: Path) -> dict[str, Any]:
    """Trains a trial to its end and returns its curve."""
    from trainables.dataset.folds import test_rows
    from trainables.models.compiled import release
    from trainables.models.optimizers import learning_rate_at
    from trainables.training.epochs import TrialTraining

    class Recorder(TrialTraining):
        """A trial that is scored after the quarters of its first epoch too."""

        batches = 0

        def _train_batch(self, *batch: Any) -> tuple[float, float]:
            done = super()._train_batch(*batch)
            self.batches += 1
            steps = max(1, len(self._fit) // self._config.batch_size)
            if self._epoch == 0 and self.batches in {steps // 4, steps // 2, 3 * steps // 4}:
                quarters.append({"epoch": round(self.batches / steps, 2), **self.scores()})
            return done

        def scores(self, *, whole: bool = False) -> dict[str, float]:
            """Scores what a search may look at, and the holdout; `whole`: the holdout in every way."""
            folds = {"validation": self._validation, "selection": self._selection, "holdout": test_rows(self._dataset)}
            wanted = [("selection", "last"), ("validation", "average"), ("selection", "average")]
            wanted += [("holdout", "average"), ("holdout", "last")] if whole else [("holdout", "average")]
            found = {}
            for fold, weights in wanted:
                with self._average.in_place() if weights == "average" else nullcontext():
                    both = self._mirror and weights == "average" and (fold == "selection" or whole)
                    for mirror in (False, True) if both and fold != "validation" else (False,):
                        scored = self._evaluate(folds[fold], mirror=mirror)
                        name = f"{fold}_{weights}{'_mirror' if mirror else ''}"
                        found[name], found[f"{name}_loss"] = scored["accuracy"], scored["loss"]
            return {name: round(value, 5) for name, value in found.items()}

    values, quarters, epochs = parameters(number), [], []
    trial = open_training(Recorder(), data, {**FIXED, **values, "mirror": True}, trial=number, max_epochs=EPOCHS)
    began = time.process_time()
    for epoch in range(1, EPOCHS + 1):
        started = time.process_time()
        rate = learning_rate_at(trial._config, trial._epoch, EPOCHS, trial._plateau)
        training = trial._train(trial._fit, rate)
        train_s = round(time.process_time() - started, 2)
        trial._epoch += 1
        scores = trial.scores(whole=epoch == EPOCHS)
        trial._plateau = trial._plateau.update(scores["validation_average_loss"], trial._config.plateau_patience)
        loss = training["training_loss"]
        epochs.append({"epoch": epoch, "training_loss": round(loss, 5), "train_s": train_s, **scores})
        if not np.isfinite(loss):
            break
    release(trial._model)
    return {
        "trial": number,
        "values": values,
        "mirrors": bool(trial._mirror),
        "quarters": quarters,
        "epochs": epochs,
        "processor_s": round(time.process_time() - began, 1),
    }


def work(data: Path, file: Path, numbers: list[int], until: float) -> None:
    """Records trials one after another in this process."""
    for number in numbers:
        if time.time() > until:
            return
        found = record(number, data)
        with file.open("a") as lines:
            lines.write(json.dumps(found) + "\n")


def packed() -> list[dict[str, Any]]:
    """Returns the rows of the Parquet file."""
    import pyarrow.parquet as pq

    return list(pq.read_table(PARQUET).to_pylist()) if PARQUET.exists() else []


def pack(file: Path) -> None:
    """Adds what is recorded to the Parquet file: a row for each trial and epoch, fractions of the first among them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    fresh = read_lines(file)
    rows = [row for row in packed() if row["trial"] not in {trial["trial"] for trial in fresh}]
    rows += [
        {"trial": trial["trial"], "mirrors": trial["mirrors"], "values": json.dumps(trial["values"]), **epoch}
        for trial in fresh
        for epoch in (*trial["quarters"], *trial["epochs"])
    ]
    rows.sort(key=lambda row: (row["trial"], row["epoch"]))
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = pa.table({name: [row.get(name) for row in rows] for name in names})
    pq.write_table(table, PARQUET, compression="zstd")
    print(f"{len({row['trial'] for row in rows})} trials, {len(rows)} rows, {PARQUET.stat().st_size / 1e6:.1f} MB")


def main() -> None:
    """Records what is still to be recorded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache/emotune/curves")
    parser.add_argument("--minutes", type=float, default=1e6)
    parser.add_argument("--pack", action="store_true")
    parser.add_argument("--numbers", help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    file, data = given.work / "curves.jsonl", given.work / "data"
    until = time.time() + 60 * given.minutes
    if given.pack:
        return pack(file)
    if given.numbers:
        return work(data, file, json.loads(given.numbers), until)
    make_dataset(given.data, data)
    done = {trial["trial"] for trial in (*read_lines(file), *packed())}
    repeats = range(REPEATS_FROM, REPEATS_FROM + REPEATED)
    wanted = [number for number in (*range(given.trials), *repeats) if number not in done]
    environment = {**os.environ, "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.record_curves", str(given.data), "--work", str(given.work)]
    command += ["--minutes", str(given.minutes)]
    workers = [
        subprocess.Popen([*command, "--numbers", json.dumps(wanted[first :: given.at_once])], env=environment)
        for first in range(given.at_once)
    ]
    for worker in workers:
        worker.wait()
    print(f"{len(read_lines(file))} trials are recorded in {file}")
    return None


if __name__ == "__main__":
    main()
