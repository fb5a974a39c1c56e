"""What fits on more images, and the mean of several of them, gain over the training that the search has judged.

    python -m benchmarks.final_fits STUDY [--seeds 3]

The best trial of a study is trained again for its best number of epochs, with fresh seeds: on the images that it had
in the search, and on these and its inner validation fold. (A final fit, `confirm.refit`, has the selection fold too,
which is needed here to score.) The selection fold answers with the mirror, on the average of the weights; it has chosen
the configuration, which is the same on both sides. The sealed test has no part in it. Answers are kept in the folder
`final-fits` of the study; what is there is not trained again. Two processes of one thread run side by side.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.trial_training import open_training, run_in_parts
from tune.study.studies import load_study_folder
from tune.study.trial_record import REFIT_SEED, SEED_STRIDE

SIDES = ("as in the search", "with the inner validation fold")
_AT_ONCE = 2


def main() -> None:
    """Trains what is not there yet, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--part", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    jobs = [(side, seed) for seed in range(given.seeds) for side in SIDES]
    if given.part is not None:
        for side, seed in jobs[given.part :: _AT_ONCE]:
            if not answer_file(given.study, side, seed).exists():
                train(given.study, side, seed)
        return
    run_in_parts("benchmarks.final_fits", _AT_ONCE)
    answers: dict[str, list[NDArray[np.float64]]] = {side: [] for side in SIDES}
    for side, seed in jobs:
        with np.load(answer_file(given.study, side, seed)) as saved:
            answers[side].append(saved["probabilities"])
            labels = saved["labels"]
    print(table(answers, labels))


def answer_file(study: Path, side: str, seed: int) -> Path:
    """Returns where one training's answers are kept."""
    return study / "final-fits" / f"{side.replace(' ', '-')}-{seed}.npz"


def train(folder: Path, side: str, seed: int) -> None:
    """Trains the study's best trial with a fresh seed, and keeps what it says of the selection fold."""
    from scipy.special import softmax

    from trainables.models.compiled import mirrored, predict_logits, release
    from trainables.training.epochs import EVALUATION_BATCH, TrialTraining
    from tune.session.study_data import open_study_data, trial_context

    study = load_study_folder(folder)
    spec, state = study.spec, study.state()
    best = study.ranked(state)[0]
    context = trial_context(spec, open_study_data(spec), state)
    training = open_training(
        TrialTraining(),
        context.dataset,
        spec.trial_config(best.values).model_dump(),
        trial=best.number + (REFIT_SEED + seed) * SEED_STRIDE,
        **context.model_dump(exclude={"dataset"}),
    )
    if side != SIDES[0]:
        training._fit = np.sort(np.concatenate([training._fit, training._validation]))
        training._targets = type(training._targets)(
            training._config, training._dataset.labels[training._fit], len(training._dataset.info.classes)
        )
    for _ in range(best.best_epoch(spec.objective, spec.mode) or 1):
        result = training._train_epoch()
        print(f"{side}, seed {seed}, epoch {result['epoch']}: {result['selection_accuracy']:.4f}", flush=True)
    rows = training._selection
    with training._average.in_place():
        predict = mirrored(training._predict) if training._mirror else training._predict
        logits = predict_logits(predict, training._feed.evaluation_batches(rows, EVALUATION_BATCH), EVALUATION_BATCH)
    file = answer_file(folder, side, seed)
    file.parent.mkdir(exist_ok=True)
    probabilities = softmax(logits.astype(np.float64), axis=1)
    np.savez(file, probabilities=probabilities, labels=training._dataset.labels[rows])
    release(training._model)
    training._feed.close()


def table(answers: dict[str, list[NDArray[np.float64]]], labels: NDArray[Any]) -> str:
    """Returns a row for each side and number of models: accuracy, and the gain over one model as in the search.

    All sets of so many seeds count alike; the interval is a bootstrap over images.
    """
    rows = [(side, count, rates) for side, all_seeds in answers.items() for count, rates in _rates(all_seeds, labels)]
    first = rows[0][2]
    draws = np.random.default_rng(0).integers(0, len(labels), (2000, len(labels)))
    lines = ["| trained on | models | accuracy | gain over one as in the search (95 % interval) |", "|---" * 4 + "|"]
    for side, count, rates in rows:
        low, high = np.percentile((rates - first)[draws].mean(1), [2.5, 97.5])
        gain = f"{(rates - first).mean():+.4f} ({low:+.4f} to {high:+.4f})" if rates is not first else ""
        lines.append(f"| {side} | {count} | {rates.mean():.4f} | {gain} |")
    return "\n".join(lines)


def _rates(answers: list[NDArray[np.float64]], labels: NDArray[Any]) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Yields for 1, 2... models how often their mean is right about each image, over all sets of so many."""
    for count in range(1, len(answers) + 1):
        sets = itertools.combinations(answers, count)
        yield count, np.mean([np.mean(chosen, axis=0).argmax(1) == labels for chosen in sets], axis=0)


if __name__ == "__main__":
    main()
