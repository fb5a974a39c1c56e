"""Several studies side by side: whether their scores may be compared, what differed, who is ahead and by how much.

What a page needs is worked out here; `comparison_page.py` draws and writes it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainables.training.metrics import wilson_interval
from tune.search.confirmation import CONFIDENCE
from tune.study.journal import read_events
from tune.study.studies import StudyFiles
from tune.study.study_state import StudyState
from tune.study.trial_record import WHOLE, TrialRecord
from tune.study.wording import unique_names

_NOT_SETTINGS = ("name", "storage", "code", "optuna_storage", "notify")  # the last two may hold secrets
_UNITS = {"hours": "hours of search", "epochs": "epochs trained", "gpu_hours": "GPU hours", "cost": "money"}


@dataclass(frozen=True)
class Progress:
    """How far a study was after an epoch: what it had used, and the best score of its search until then."""

    hours: float
    epochs: float
    gpu_hours: float
    cost: float
    best: float


@dataclass(frozen=True)
class Compared:
    """One of the studies.

    Attributes:
        label: its name, with a number where two have the same.
        best: its best trial, after a confirmation the winner; None while none has a score.
        score: that trial's in the search.
        confirmed: the scores of its repeated trainings; empty without a confirmation.
        sealed: figures of the sealed test, for what it exported; None before it was opened.
        progress: after each epoch of its search.
    """

    label: str
    files: StudyFiles
    state: StudyState
    best: TrialRecord | None
    score: float | None
    confirmed: tuple[float, ...]
    sealed: Mapping[str, Any] | None
    progress: Sequence[Progress]


@dataclass(frozen=True)
class Gap:
    """By how much a study is ahead of the first one: `of` what, the difference in the better direction, 95 %."""

    label: str
    of: str
    difference: float
    interval: tuple[float, float]

    @property
    def verdict(self) -> str:
        """What the interval says."""
        low, high = self.interval
        return "better" if low > 0 else "worse" if high < 0 else "chance alone can explain it"


def read_compared(studies: Sequence[StudyFiles]) -> list[Compared]:
    """Reads studies; a name that several have is followed by a number."""
    return [
        _read(study, label)
        for study, label in zip(studies, unique_names([study.spec.name for study in studies]), strict=True)
    ]


def _read(study: StudyFiles, label: str) -> Compared:
    state, spec = study.state(), study.spec
    best, run = study.best_trial(state), study.best_run(state)
    found = state.confirmed or {}
    row = next((row for row in found.get("repeated", ()) if row["trial"] == found.get("winner")), None)
    checkpoint = None if run is None else study.journalled_checkpoint(run)
    return Compared(
        label,
        study,
        state,
        best,
        None if best is None else best.best_value(spec.objective, spec.mode),
        tuple(row["scores"]) if row else (),
        None if checkpoint is None else state.sealed_scores(state.exported_checkpoints(checkpoint)),
        list(_progress(study)),
    )


def _progress(study: StudyFiles) -> Iterator[Progress]:
    """Yields what would have been exported after each epoch; inner validation may change its mind, and so may that."""
    spec, state, scores = study.spec, StudyState(), dict[int, float]()
    best = max if spec.mode == "max" else min
    ranked = study.ranked(study.state())  # those that ran to their end come before those that were stopped
    judged = {trial.number: (trial.state in WHOLE) == (ranked[0].state in WHOLE) for trial in ranked}
    for event in read_events(study.journal):
        state.apply(event)
        number = event.get("trial", -1)
        if event["event"] != "epoch" or number not in judged:
            continue
        value = state.trials[number].best_value(spec.objective, spec.mode)
        if value is not None and judged[number]:
            scores[number] = value
        if scores:
            spent = state.spent(state.last_event)
            yield Progress(state.search_s / 3600, spent.epochs, spent.gpu_hours, spent.cost, best(scores.values()))


def incomparable(studies: Sequence[Compared]) -> list[str]:
    """Returns why the studies' selection scores say nothing about each other; empty where they may be compared."""
    first, found = studies[0], []
    for other in studies[1:]:
        mine, theirs = first.files.spec, other.files.spec
        pairs = {
            "objective": (mine.objective, theirs.objective),
            "weights of the objective": (mine.objective_weights, theirs.objective_weights),
            "data set": (first.state.fingerprint, other.state.fingerprint),
            "share of the selection fold": (mine.folds.selection_share, theirs.folds.selection_share),
            "images of each fold": (mine.folds.max_images_per_fold, theirs.folds.max_images_per_fold),
            "seed, which draws the folds": (mine.seed, theirs.seed),
        }
        for what, (one, another) in pairs.items():
            if one != another:
                found.append(
                    f"{first.label} and {other.label} differ in their {what}: {_shown(one)}, {_shown(another)}"
                )
    return found


def same_test(studies: Sequence[Compared]) -> bool:
    """Says whether all studies have the same sealed test: that of one data set."""
    return len({study.state.fingerprint for study in studies}) == 1


def gaps(studies: Sequence[Compared]) -> list[Gap]:
    """Returns by how much each study is ahead of the first, where that can be told with an interval.

    Confirmed scores are compared by a t interval with one spread for both. Those of the sealed test by Newcombe's
    interval for independent shares (Statistics in Medicine 1998, method 10): both saw the same images, which makes the
    difference surer than it says.
    """
    first, found = studies[0], []
    comparable = not incomparable(studies)
    for other in studies[1:]:
        if comparable and len(first.confirmed) > 1 and len(other.confirmed) > 1:
            found.append(_confirmed_gap(first, other))
        if same_test(studies) and first.sealed and other.sealed:
            difference, interval = share_gap(_hits(other.sealed), _hits(first.sealed))
            found.append(Gap(other.label, "accuracy on the sealed test", difference, interval))
    return found


def _hits(sealed: Mapping[str, Any]) -> tuple[int, int]:
    return round(sealed["accuracy"] * sealed["images"]), sealed["images"]


def _confirmed_gap(first: Compared, other: Compared) -> Gap:
    from scipy.stats import ttest_ind

    spec = first.files.spec
    sign = 1.0 if spec.mode == "max" else -1.0
    scores = [sign * np.asarray(study.confirmed) for study in (other, first)]
    difference = float(scores[0].mean() - scores[1].mean())
    if all(values.std() == 0 for values in scores):
        interval = (difference, difference)
    else:
        low, high = ttest_ind(*scores).confidence_interval(CONFIDENCE)
        interval = (float(low), float(high))
    return Gap(other.label, f"confirmed {spec.objective}", difference, interval)


def share_gap(one: tuple[int, int], other: tuple[int, int]) -> tuple[float, tuple[float, float]]:
    """Returns the difference of two shares of successes, each as (successes, n), and its 95 % interval."""
    (p, (low, high)), (q, (q_low, q_high)) = (
        (hits / n, wilson_interval(hits, n, CONFIDENCE)) for hits, n in (one, other)
    )
    below, above = math.hypot(p - low, q_high - q), math.hypot(high - p, q - q_low)
    return p - q, (p - q - below, p - q + above)


def differing_settings(studies: Sequence[Compared]) -> list[tuple[str, list[str]]]:
    """Returns the settings that are not the same in all studies, by dotted name, and what each has."""
    plain = [_flat(study.files.spec.model_dump(mode="json", exclude=set(_NOT_SETTINGS))) for study in studies]
    names = dict.fromkeys(name for settings in plain for name in settings)
    rows = [(name, [_shown(settings.get(name)) for settings in plain]) for name in names]
    return [(name, values) for name, values in rows if len(set(values)) > 1]


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested settings by dotted names; a parameter of the space stays one setting."""
    found: dict[str, Any] = {}
    for name, inner in value.items():
        if isinstance(inner, Mapping) and prefix != "space.":
            found |= _flat(inner, f"{prefix}{name}.")
        else:
            found[prefix + name] = inner
    return found


def best_values(studies: Sequence[Compared]) -> list[tuple[str, list[str], bool]]:
    """Returns each parameter with its value in every study's best trial, and whether those differ."""
    chosen = [{} if study.best is None else {**study.files.spec.fixed, **study.best.values} for study in studies]
    names = dict.fromkeys(name for values in chosen for name in values)
    rows = [(name, [_shown(values.get(name)) for values in chosen]) for name in names]
    return [(name, values, len(set(values)) > 1) for name, values in rows]


def used_units(studies: Sequence[Compared]) -> dict[str, str]:
    """Returns the units over which progress is told, those that any study has used: attribute and words."""
    return {
        unit: words
        for unit, words in _UNITS.items()
        if any(getattr(point, unit) > 0 for study in studies for point in study.progress[-1:])
    }


def _shown(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        kind = {"low": "from", "high": "to"}
        words = [
            f"{kind.get(name, name)} {_shown(inner)}" for name, inner in value.items() if inner not in (None, False)
        ]
        return ", ".join(words)
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value)) or "none"
    return str(value)
