"""What the mean of several trials of one search gains over its best trial, before anything is built on it.

    python -m benchmarks.ensembles STUDY [--splits 500] [--most 8]

The checkpoints of a study's trials answer for the selection fold. The fold is halved at random, many times: one half
chooses (the best single trial; so many of the best; or members one after another, as `tune.export.ensemble_selection`
does), the other half scores. The sealed test has no part in it. The
answers are kept in `answers.npz` beside the study, so that more can be asked of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tune.export.ensemble_selection import select_members

Answers = NDArray[np.float64]


def main() -> None:
    """Prints the accuracy of each way to choose on images that did not choose, and its gain over the best trial."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--splits", type=int, default=500)
    parser.add_argument("--most", type=int, default=8)
    given = parser.parse_args()
    file = given.study / "answers.npz"
    if not file.exists():
        np.savez(file, **ask_trials(given.study))
    with np.load(file) as saved:
        answers, labels = saved["answers"], saved["labels"]
    print(f"{len(answers)} trials with a checkpoint, {len(labels)} images of the selection fold")
    alone = np.sort((answers.argmax(2) == labels).mean(1))[::-1]
    print("each alone, best first: " + " ".join(f"{score:.4f}" for score in alone))
    ways: dict[str, Callable[[Answers, Any], Sequence[int]]] = {"the best trial": lambda a, y: ranked(a, y)[:1]}
    for n in (2, 3, 5, given.most):
        ways[f"the mean of the best {n}"] = lambda a, y, n=n: ranked(a, y)[:n]
    for n in (2, 3, 5, given.most):
        ways[f"the best and others while the loss falls, at most {n}"] = lambda a, y, n=n: chosen(a, y, n)
    rows = compare(answers, labels, ways, given.splits)
    print("| exported | accuracy | gain over the best trial (95 % interval) | models |", "|---" * 4 + "|", sep="\n")
    for name, (score, gain, low, high, models) in rows.items():
        print(f"| {name} | {score:.4f} | {gain:+.4f} ({low:+.4f} to {high:+.4f}) | {models:.1f} |")


def ask_trials(folder: Path) -> dict[str, Any]:
    """Returns the probabilities of each trial's best checkpoint, (trials, images, classes), and the labels."""
    from scipy.special import softmax

    from tune.export.checkpoints import load_checkpoints, logits_of, release_members, selection_fold
    from tune.session.study_data import open_study_data, trial_context
    from tune.study.studies import load_study_folder

    study = load_study_folder(folder)
    dataset, state = open_study_data(study.spec), study.state()
    context = trial_context(study.spec, dataset, state)
    answers = []
    for trial in study.ranked(state):
        checkpoint = study.checkpoint(trial)
        if checkpoint is None:
            continue
        members = load_checkpoints([study.directory / checkpoint], dataset)
        rows = selection_fold(members[0].config, dataset, context)
        answers.append(softmax(logits_of(members, dataset, rows).astype(np.float64), axis=1))
        release_members(members)
    return {"answers": np.stack(answers), "labels": dataset.labels[rows]}


def ranked(answers: Answers, labels: Any) -> list[int]:
    """Returns the trials by accuracy, best first."""
    return [int(index) for index in np.argsort(-(answers.argmax(2) == labels).mean(1), kind="stable")]


def chosen(answers: Answers, labels: Any, most: int) -> list[int]:
    """Returns what an export would take: the best trial, and others after it."""
    order = ranked(answers, labels)
    return [order[place] for place in select_members(answers[order], labels, most)]


def compare(
    answers: Answers, labels: Any, ways: dict[str, Callable[[Answers, Any], Sequence[int]]], splits: int
) -> dict[str, tuple[float, float, float, float, float]]:
    """Returns for each way its accuracy, its gain over the first with an interval over images, and its models.

    An image's hit is averaged over the splits in which it scored; the interval is a bootstrap over images.
    """
    rng = np.random.default_rng(0)
    n = len(labels)
    hits, counts, models = {name: np.zeros(n) for name in ways}, np.zeros(n), {name: 0.0 for name in ways}
    for _ in range(splits):
        order = rng.permutation(n)
        chooses, scores = order[: n // 2], order[n // 2 :]
        counts[scores] += 1
        for name, way in ways.items():
            members = way(answers[:, chooses], labels[chooses])
            mean = answers[members][:, scores].mean(0)
            hits[name][scores] += mean.argmax(1) == labels[scores]
            models[name] += len(set(members)) / splits
    rates = {name: hits[name] / np.maximum(counts, 1) for name in ways}
    first = next(iter(rates.values()))
    draws = rng.integers(0, n, (2000, n))
    found = {}
    for name, rate in rates.items():
        low, high = np.percentile((rate - first)[draws].mean(1), [2.5, 97.5])
        found[name] = (float(rate.mean()), float((rate - first).mean()), float(low), float(high), models[name])
    return found


if __name__ == "__main__":
    main()
