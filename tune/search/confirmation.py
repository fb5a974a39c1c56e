"""Was the search's best luck? Judges repeated trainings of its best configurations; chooses the winner. Pure.

A search reports the largest of many noisy scores, so its best is too good on average. Each of the best configurations
is trained again with fresh seeds; the winner is the one with the best mean, and what it gains over the default
configuration, trained as often, is told with its interval.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from scipy import stats

from tune.study.budget import repetitions_are_owed
from tune.study.spec import StudySpec
from tune.study.study_state import StudyState
from tune.study.trial_record import ENDED, REFIT_SEED, SEED_STRIDE, is_final_fit

CONFIDENCE = 0.95

Verdict = Literal["better", "luck", "default", "unknown"]


@dataclass(frozen=True)
class RepeatedScores:
    """One configuration's repeated scores: mean, spread (standard deviation), 95 % interval of the mean."""

    trial: int
    scores: tuple[float, ...]
    mean: float
    spread: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Findings:
    """What the confirmation found.

    Attributes:
        winner: the trial whose configuration has the best mean.
        repeated: every configuration's scores, best mean first.
        search_best: the trial that the search found best, and the score it had there.
        luck: how much of that score went away when it was trained again, with its 95 % interval; positive is luck. None
            where it could not be trained again twice.
        gain: the winner's mean minus the default configuration's, in the direction that is better; None when that was
            not repeated, or is the winner.
        gain_interval: 95 %, widened (Bonferroni) because the winner was chosen among several.
        verdict: `better` when the interval of the gain is above zero, else `luck`; `default` when nothing beat the
            default configuration; `unknown` when that could not be repeated.
    """

    winner: int
    repeated: tuple[RepeatedScores, ...]
    search_best: tuple[int, float]
    luck: float | None
    luck_interval: tuple[float, float] | None
    gain: float | None
    gain_interval: tuple[float, float] | None
    verdict: Verdict

    def as_dict(self) -> dict[str, Any]:
        """Returns it for JSON."""
        return asdict(self)


def expected_runs(spec: StudySpec, state: StudyState) -> int:
    """Returns how many trials the search will have; while the best are trained again, how many trainings that makes."""
    if state.open_since is None or state.searching:
        return max(spec.most_trials, state.tried)
    runs = confirmation_numbers(spec, confirmation_candidates(spec, state)) if repetitions_are_owed(spec, state) else []
    known = {n for n, run in state.confirmations.items() if is_final_fit(n) and run.session > state.last_search}
    fits = known | set(state.final_fits_with(spec.confirm.refit_epochs))
    return len({*state.confirmations, *runs}) + max(0, spec.confirm.refit - len(fits))


def confirmation_candidates(spec: StudySpec, state: StudyState) -> list[int]:
    """Returns the trials to train again: the search's best, different ones, and trial 0, the default configuration."""
    ranked = state.ranked(spec.objective, spec.mode)
    different: dict[str, int] = {}
    for trial in ranked:
        different.setdefault(repr(sorted(trial.values.items())), trial.number)
    chosen = list(different.values())[: spec.confirm.top]
    return [*chosen, 0] if chosen and 0 not in chosen and 0 in state.trials else chosen


def confirmation_numbers(spec: StudySpec, trials: Sequence[int]) -> list[int]:
    """Returns the numbers of the confirmations: every trial with the first seed, then with the second..."""
    return [trial + seed * SEED_STRIDE for seed in range(1, spec.confirm.seeds + 1) for trial in trials]


def final_fit_numbers(spec: StudySpec, state: StudyState, trial: int, epochs: int) -> list[int]:
    """Returns the numbers of the fits on all training images: earlier ones of so many epochs, then new ones.

    Args:
        spec: the study.
        state: what its journal adds up to.
        trial: the winner.
        epochs: that each of them trains; the schedule of earlier ones must be today's, too.
    """
    numbers = (trial + seed * SEED_STRIDE for seed in itertools.count(REFIT_SEED))

    def fits(number: int) -> bool:
        run = state.confirmations.get(number)
        if run is None or run.schedule_epochs != spec.confirm.refit_epochs:
            return run is None
        if run.state not in ENDED:
            return max(run.epochs, default=0) <= epochs
        return run.state == "complete" and max(run.epochs) == epochs

    return list(itertools.islice(filter(fits, numbers), spec.confirm.refit))


def confirmation_scores(spec: StudySpec, state: StudyState, trials: Sequence[int]) -> dict[int, list[float]]:
    """Returns the best epochs' scores of each configuration's repeated trainings, failed ones left out."""
    found: dict[int, list[float]] = {trial: [] for trial in trials}
    for number in confirmation_numbers(spec, trials):
        run = state.confirmations.get(number)
        value = None if run is None or run.state != "complete" else run.best_value(spec.objective, spec.mode)
        if value is not None:
            found[number % SEED_STRIDE].append(value)
    return found


def judge(
    repeated: Mapping[int, Sequence[float]],
    search_best: tuple[int, float],
    mode: Literal["min", "max"],
    default: int = 0,
) -> Findings | None:
    """Compares repeated scores; None when no configuration has two.

    Args:
        repeated: scores by trial.
        search_best: the trial that the search found best, and its score there.
        mode: whether a score is better when larger.
        default: the trial with the default configuration.
    """
    sign = 1.0 if mode == "max" else -1.0
    samples = {trial: np.asarray(values, float) for trial, values in repeated.items() if len(values) > 1}
    if not samples:
        return None
    # One spread for all: with three seeds each, a configuration's own would leave two degrees of freedom.
    freedom = sum(len(values) - 1 for values in samples.values())
    pooled = math.sqrt(sum(((values - values.mean()) ** 2).sum() for values in samples.values()) / freedom)
    t = float(stats.t.ppf(0.5 + CONFIDENCE / 2, freedom))

    rows = []
    for trial, values in samples.items():
        mean, half = float(values.mean()), t * pooled / math.sqrt(len(values))
        row = RepeatedScores(
            trial, tuple(map(float, values)), mean, float(values.std(ddof=1)), (mean - half, mean + half)
        )
        rows.append(row)
    rows.sort(key=lambda row: (-sign * row.mean, row.trial))
    by_trial, winner = {row.trial: row for row in rows}, rows[0]

    luck: float | None = None
    luck_interval: tuple[float, float] | None = None
    if again := by_trial.get(search_best[0]):
        luck, half = sign * (search_best[1] - again.mean), t * pooled / math.sqrt(len(again.scores))
        luck_interval = (luck - half, luck + half)
    gain: float | None = None
    gain_interval: tuple[float, float] | None = None
    verdict: Verdict = "default" if winner.trial == default else "unknown"
    if default in by_trial and winner.trial != default:
        base = by_trial[default]
        gain = sign * (winner.mean - base.mean)
        wide = float(stats.t.ppf(1 - (1 - CONFIDENCE) / 2 / max(len(rows) - 1, 1), freedom))
        spread = wide * pooled * math.sqrt(1 / len(winner.scores) + 1 / len(base.scores))
        gain_interval = (gain - spread, gain + spread)
        verdict = "better" if gain_interval[0] > 0 else "luck"
    return Findings(winner.trial, tuple(rows), search_best, luck, luck_interval, gain, gain_interval, verdict)
