"""How many configurations of `space: alexnet` never begin to learn, and what wakes them.

    python -m benchmarks.starts DATA [--study FOLDER] [--configurations 40] [--epochs 2] [--images 6000] [--only NAME]

The same random configurations, without `face`, are trained as they are and with one thing changed, the same seeds each
time; with `--study` those of a study's trials. `--images 0` takes all images. One that answers with a single class
after its epochs has not begun. Scores are those of the weights' average with its mirror on the selection fold; the
sealed test has no part in it. Results go to `benchmarks/results/starts.jsonl`, a line a run; what is there is not run
again. Two processes of one thread run side by side.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.results_file import read_lines
from benchmarks.trial_training import open_training, run_in_parts
from search_spaces import SearchSpace, builtin_spaces
from trainables.training.metrics import wilson_interval
from tune.study.feasible import RandomSuggester
from tune.study.studies import load_study_folder

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
    parser.add_argument("--study", type=Path, help="a study's folder, whose trials' configurations are taken")
    parser.add_argument("--part", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part is not None:
        run_part(given)
        return
    run_in_parts("benchmarks.starts", _AT_ONCE)
    same = {"epochs": given.epochs, "images": given.images, "study": study_name(given)}
    print(table([r for r in read_results() if same.items() <= r.items() and r["configuration"] < given.configurations]))


def study_name(given: argparse.Namespace) -> str | None:
    """Returns the name of the study whose trials are taken, None for random configurations."""
    return given.study and given.study.name


def configurations(count: int, study: Path | None = None) -> list[dict[str, Any]]:
    """Returns random configurations, without `face`, the first of them the default; or those of a study's trials."""
    if study is not None:
        trials = load_study_folder(study).state().trials
        return [dict(trials[number].values) for number in sorted(trials)][:count]
    raw = yaml.safe_load(builtin_spaces()["alexnet"].read_text())
    raw["preprocessing"]["choices"].remove("face")
    del raw["face_margin"]
    space = SearchSpace.model_validate(raw)
    return [space.defaults(), *(dict(space.suggest(RandomSuggester(seed))) for seed in range(1, count))]


def run_part(given: argparse.Namespace) -> None:
    """Trains every second of the runs that are not there yet."""
    of = study_name(given)
    done = {(r["study"], r["configuration"], r["variant"], r["epochs"], r["images"]) for r in read_results()}
    wanted = configurations(given.configurations, given.study)
    jobs = [(place, name) for place in range(len(wanted)) for name in given.only]
    for place, name in jobs[given.part :: _AT_ONCE]:
        if (of, place, name, given.epochs, given.images) not in done:
            result = run(given.data, wanted[place], name, place, given.epochs, given.images)
            with RESULTS.open("a") as file:
                file.write(json.dumps({"study": of, **result}) + "\n")


def run(data: Path, values: dict[str, Any], variant: str, place: int, epochs: int, images: int) -> dict[str, Any]:
    """Trains one configuration; returns its scores, and whether it answers with one class only."""
    from trainables.models.compiled import release
    from trainables.training.epochs import TrialTraining

    context = {"max_epochs": epochs, "max_images_per_fold": images or None}
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
    return [{"study": None, **run} for run in read_lines(RESULTS)]


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
