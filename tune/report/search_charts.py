"""Charts of how a search went: learning curves with rungs, and the best so far against random draws. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tune.report.theme import ACCENT, INK, MUTED, STATE_COLOURS, Chart
from tune.search.near_points import near_points
from tune.study.spec import StudySpec
from tune.study.study_state import StudyState
from tune.study.trial_record import TrialRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def learning_curves(spec: StudySpec, state: StudyState, best: int | None) -> Chart | None:
    """Returns every trial's objective by epoch, the rungs, and where trials were stopped; None without epochs."""
    curves = {t.number: _finite_curve(t, spec.objective) for t in state.trials.values()}
    curves = {number: points for number, points in curves.items() if points}
    if not curves:
        return None
    stopped = [(d.epoch, d.value, t.number) for t in state.trials.values() for d in t.rungs if d.stopped]
    order = sorted(curves, key=lambda number: number == best)  # the best is drawn last, on top

    def draw(figure: Figure) -> Mapping[str, Sequence[str]]:
        from matplotlib.collections import LineCollection
        from matplotlib.ticker import MaxNLocator

        axes = figure.add_subplot()
        faint = 0.75 if len(curves) < 40 else 0.35
        colours = [ACCENT if n == best else STATE_COLOURS[state.trials[n].state] for n in order]
        lines = LineCollection(
            [curves[n] * 2 if len(curves[n]) == 1 else curves[n] for n in order],  # one epoch is a dot
            colors=colours,
            linewidths=[(2.6 if n == best else 1.0) * (3 if len(curves[n]) == 1 else 1) for n in order],
            alpha=[1.0 if n == best else faint for n in order],
            capstyle="round",
        )
        lines.set_gid("curves")
        axes.add_collection(lines)
        for rung in spec.asha.rungs:
            axes.axvline(rung, color=MUTED, linewidth=0.8, linestyle=(0, (2, 3)))
        if spec.asha.rungs:
            axes.text(spec.asha.rungs[0], 0.98, " rungs", transform=axes.get_xaxis_transform(), va="top", color=MUTED)
        if stopped:
            marks = axes.scatter(
                [e for e, *_ in stopped], [v for _, v, _ in stopped], s=16, marker="x", color=STATE_COLOURS["pruned"]
            )
            marks.set_gid("stops")
        axes.autoscale_view()
        axes.set_xlabel("epoch")
        axes.set_ylabel(spec.objective)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return {
            "curves": [_trial_tip(spec, state.trials[n]) for n in order],
            "stops": [f"trial {n} stopped at rung {e} with {v:.4f}" for e, v, n in stopped],
        }

    rungs = ", ".join(map(str, spec.asha.rungs)) or "none"
    return Chart(
        "learning-curves",
        "Learning curves",
        f"{spec.objective} on the selection fold after each epoch, one line a trial; "
        f"{len({n for *_, n in stopped})} of {len(state.trials)} trials were stopped (×) at a rung (after {rungs} "
        "epochs)" + (f". The thick line is the best, trial {best}." if best in curves else "."),
        ("trial", "epoch", spec.objective),
        [(number, epoch, value) for number, points in sorted(curves.items()) for epoch, value in points],
        (9.2, 4.4),
        draw,
        trials={"curves": order, "stops": [n for *_, n in stopped]},
    )


def history(spec: StudySpec, state: StudyState) -> Chart | None:
    """Returns each trial's score in the order of the trials, the best so far, and what random draws would expect."""
    scored = _scored(spec, state)
    if not scored:
        return None
    numbers, values = [n for n, _ in scored], np.array([v for _, v in scored])
    best = np.maximum.accumulate(values) if spec.mode == "max" else np.minimum.accumulate(values)
    random = random_scores(spec, state)
    expected = expected_best(random, len(scored), spec.mode) if len(random) > 1 else None

    def draw(figure: Figure) -> Mapping[str, Sequence[str]]:
        from matplotlib.ticker import MaxNLocator

        axes = figure.add_subplot()
        colours = [STATE_COLOURS[state.trials[n].state] for n in numbers]
        marks = axes.scatter(numbers, values, s=22 if len(numbers) < 100 else 9, c=colours, alpha=0.8, linewidths=0)
        marks.set_gid("scores")
        axes.step(numbers, best, where="post", color=ACCENT, linewidth=2, label="best so far")
        if expected is not None:
            axes.plot(numbers, expected, color=INK, linewidth=1.2, linestyle="--", label="expected of random draws")
        axes.set_xlabel("trial")
        axes.set_ylabel(spec.objective)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0)
        return {"scores": [_trial_tip(spec, state.trials[n]) for n in numbers]}

    first = next(n for n, v in zip(numbers, values, strict=True) if v == best[-1])
    takeaway = f"The best score, {best[-1]:.4f}, came with trial {first} of {len(state.trials)}"
    if expected is not None:
        ahead = (best[-1] - expected[-1]) * (1 if spec.mode == "max" else -1)
        takeaway += (
            f": {abs(ahead):.4f} {'better' if ahead > 0 else 'worse'} than as many random draws are expected to find, "
            f"judged by the {len(random)} random trials at the start (Dodge et al., 2019; a low estimate, since their "
            "own best is the most it can say)"
        )
    return Chart(
        "history",
        "Best so far",
        takeaway + ".",
        ("trial", spec.objective, "best_so_far", "expected_of_random_draws", "state"),
        [
            (n, v, b, "" if expected is None else expected[i], state.trials[n].state)
            for i, (n, v, b) in enumerate(zip(numbers, values.tolist(), best.tolist(), strict=True))
        ],
        (9.2, 3.8),
        draw,
        trials={"scores": numbers},
    )


def random_scores(spec: StudySpec, state: StudyState) -> list[float]:
    """Returns the scores of the random trials at the start: after the default configuration, before TPE, not chosen."""
    return [
        value
        for number, value in _scored(spec, state)
        if 1 <= number < spec.startup_trials and not state.trials[number].chosen and near_points(spec, number) is None
    ]


def expected_best(scores: Sequence[float], draws: int, mode: str) -> list[float]:
    """Returns the expected best of 1, 2, ... draws with the empirical distribution of some scores.

    Dodge et al., Show Your Work: Improved Reporting of Experimental Results, EMNLP 2019, equation 7.
    """
    worst_first = np.sort(np.asarray(scores, float))
    if mode == "min":
        worst_first = worst_first[::-1]
    n = len(worst_first)
    at_most = np.arange(n + 1) / n  # P(one draw is at most the i-th worst)
    return [float((worst_first * np.diff(at_most**k)).sum()) for k in range(1, draws + 1)]


def _scored(spec: StudySpec, state: StudyState) -> list[tuple[int, float]]:
    ended = [state.trials[n] for n in sorted(state.trials) if state.trials[n].state != "failed"]  # never the best
    found = ((trial.number, trial.best_value(spec.objective, spec.mode)) for trial in ended)
    return [(number, value) for number, value in found if value is not None]


def _finite_curve(trial: TrialRecord, objective: str) -> list[tuple[int, float]]:
    points = ((epoch, float(trial.epochs[epoch][objective])) for epoch in sorted(trial.epochs))
    return [(epoch, value) for epoch, value in points if math.isfinite(value)]


def _trial_tip(spec: StudySpec, trial: TrialRecord) -> str:
    value = trial.best_value(spec.objective, spec.mode)
    score = "no score" if value is None else f"{value:.4f}"
    return f"trial {trial.number}: {score}, {trial.state} after {max(trial.epochs, default=0)} epochs"
