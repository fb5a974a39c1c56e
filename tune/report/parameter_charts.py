"""Charts of what the parameters did: importance, parallel coordinates, slices, preprocessing methods. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from search_spaces import CategoricalParameter
from tune.report.parameter_scale import Scale, scored_trials, short
from tune.report.theme import ACCENT, GRID, INK, MUTED, PAPER, Chart, plain_axes
from tune.study.spec import StudySpec
from tune.study.study_state import StudyState
from tune.study.trial_record import TrialRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MIN_TRIALS = 10
"""Trials that must have run to their end before their parameters' importance is told."""
_FORESTS, _TREES = 8, 24
_MOST_TRIALS, _MOST_CHOICES = 500, 10
"""fANOVA's time grows with the square of the trials, and doubles with each choice of a categorical parameter."""
_MISSING = -0.12
_LABEL_BOX: Any = {"facecolor": PAPER, "edgecolor": "none", "pad": 1.2, "alpha": 0.85}


def importance(spec: StudySpec, state: StudyState) -> Chart | None:
    """Returns the share of the score's variance that each parameter explains: fANOVA, mean and spread over forests.

    Hutter et al., An Efficient Approach for Assessing Hyperparameter Importance, ICML 2014, as Optuna has it. Only
    trials that ran to their end, 500 of them at most, and only parameters that all of them have; None where there are
    too few, or no parameter explains anything on its own.
    """
    import optuna
    from optuna.distributions import CategoricalDistribution
    from optuna.importance import FanovaImportanceEvaluator
    from optuna.search_space import intersection_search_space

    from tune.search.optuna_study import frozen_trial

    ended = [t for t in state.trials.values() if t.state == "complete"]
    values = {t.best_value(spec.objective, spec.mode) for t in ended} - {None}
    if len(ended) < MIN_TRIALS or len(values) < 2:
        return None
    complete = len(ended)
    ended = [ended[i] for i in np.linspace(0, complete - 1, min(complete, _MOST_TRIALS)).round().astype(int)]
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize" if spec.mode == "max" else "minimize")
    alone = spec.model_copy(update={"second_objective": None})
    study.add_trials([frozen_trial(trial, alone) for trial in ended])
    names = [
        name
        for name, distribution in intersection_search_space(study.trials).items()
        if not (isinstance(distribution, CategoricalDistribution) and len(distribution.choices) > _MOST_CHOICES)
    ]
    found: dict[str, list[float]] = {}
    for seed in range(_FORESTS):
        evaluator = FanovaImportanceEvaluator(n_trees=_TREES, seed=seed)
        for name, share in evaluator.evaluate(study, params=names).items():  # not normalized: their sum is below 1
            found.setdefault(name, []).append(share)
    if not any(map(any, found.values())):
        return None
    rows = sorted(((n, float(np.mean(s)), float(np.std(s, ddof=1))) for n, s in found.items()), key=lambda row: row[1])

    def draw(figure: Figure) -> Mapping[str, Sequence[str]]:
        axes = figure.add_subplot()
        names, means, spreads = zip(*rows, strict=True)
        axes.hlines(range(len(names)), 0, means, color=ACCENT, linewidth=8)
        axes.errorbar(means, range(len(names)), xerr=spreads, fmt="none", ecolor=INK, elinewidth=1.2, capsize=3)
        points = axes.scatter(means, range(len(names)), s=30, color=ACCENT)
        points.set_gid("importance")
        axes.set_yticks(range(len(names)), names)
        axes.set_xlim(left=0)
        axes.set_xlabel("share of the variance explained")
        axes.grid(axis="y", visible=False)
        return {"importance": [f"{n}: {m:.2f} ± {s:.2f}" for n, m, s in rows]}

    top, left_out = rows[-1], [n for n in spec.space.parameters if n not in found and f"{n}_base" not in found]
    among = f"{len(ended)} of the {complete:,}" if len(ended) < complete else f"the {complete}"
    takeaway = (
        f"{top[0]} matters most: on its own it explains {top[1]:.0%} of the score's variance (± {top[2]:.0%}, one "
        f"standard deviation over {_FORESTS} random forests of fANOVA) among {among} trials that ran to their end."
    )
    if left_out:
        takeaway += (
            f" Not judged, because not every trial has them in one range, or for their more than {_MOST_CHOICES} "
            f"choices: {', '.join(left_out)}."
        )
    columns = ("parameter", "importance", "standard_deviation")
    height = 1.2 + 0.36 * len(rows)
    return Chart("importance", "What mattered", takeaway, columns, rows[::-1], (9.2, height), draw, table=True)


def parallel_coordinates(spec: StudySpec, state: StudyState) -> Chart | None:
    """Returns a line a trial through all its parameters, coloured by score; best on top. None below two trials."""
    scored = scored_trials(spec, state)
    if len(scored) < 2:
        return None
    names = _varied(spec, scored)
    scales = {name: Scale(spec, name, [t.values[name] for t, _ in scored if name in t.values]) for name in names}
    sign = 1 if spec.mode == "max" else -1
    scored.sort(key=lambda pair: sign * pair[1])

    def draw(figure: Figure) -> Mapping[str, Sequence[str]]:
        from matplotlib.collections import LineCollection

        axes = figure.add_subplot()
        paths = [
            [(i, scales[n](t.values[n]) if n in t.values else _MISSING) for i, n in enumerate(names)] for t, _ in scored
        ]
        lines = LineCollection(paths, cmap="viridis", alpha=0.85 if len(paths) < 40 else 0.45, linewidths=1.3)
        lines.set_array(np.linspace(0, 1, len(scored)))
        lines.set_gid("parallel")
        axes.add_collection(lines)
        for i, name in enumerate(names):
            axes.axvline(i, color=GRID, linewidth=1.2)
            for place, text in scales[name].ticks():
                axes.text(i + 0.03, place, text, fontsize=8, color=INK, va="center", bbox=_LABEL_BOX)
        if any(n not in t.values for t, _ in scored for n in names):
            axes.text(-0.05, _MISSING, "not active", fontsize=8, color=MUTED, ha="right", va="center")
        axes.set_xlim(-0.45, len(names) - 0.5)
        axes.set_ylim(_MISSING - 0.06, 1.06)
        axes.set_xticks(range(len(names)), names, rotation=25, ha="right", rotation_mode="anchor")
        axes.set_yticks([])
        plain_axes(axes)
        bar = figure.colorbar(lines, ax=axes, pad=0.01, aspect=28)
        bar.set_label("rank of the score")
        bar.set_ticks([0, 1], labels=["worst", "best"])
        bar.outline.set_visible(False)
        return {"parallel": [f"trial {t.number}: {value:.4f}" for t, value in scored]}

    return Chart(
        "parallel-coordinates",
        "All parameters at once",
        f"One line a trial through its value of each parameter, brighter for a better {spec.objective}. Where bright "
        "lines bundle, good configurations agree.",
        ("trial", *names, spec.objective),
        [(t.number, *(t.values.get(n, "") for n in names), value) for t, value in scored],
        (max(9.2, 1.15 * len(names)), 4.4),
        draw,
        trials={"parallel": [t.number for t, _ in scored]},
    )


def slices(spec: StudySpec, state: StudyState) -> Chart | None:
    """Returns the score over each parameter alone; None below two trials."""
    scored = scored_trials(spec, state)
    if len(scored) < 2:
        return None
    names = _varied(spec, scored)
    across = 3
    down = math.ceil(len(names) / across)
    groups = {name: [(t, value) for t, value in scored if name in t.values] for name in names}

    def draw(figure: Figure) -> Mapping[str, Sequence[str]]:
        from matplotlib.ticker import LogLocator, NullLocator

        tips = {}
        for i, name in enumerate(names):
            axes = figure.add_subplot(down, across, i + 1)
            parameter, pairs = spec.space.parameters[name], groups[name]
            choices = list(parameter.choices) if isinstance(parameter, CategoricalParameter) else []
            spread = np.random.default_rng(0).uniform(-0.18, 0.18, len(pairs))
            where = [
                choices.index(t.values[name]) + shift if choices and t.values[name] in choices else t.values[name]
                for (t, _), shift in zip(pairs, spread, strict=True)
            ]
            points = axes.scatter(where, [v for _, v in pairs], s=14, color=ACCENT, alpha=0.6, linewidths=0)
            points.set_gid(f"slice-{i}")
            if choices:
                axes.set_xticks(range(len(choices)), [str(c) for c in choices], **_tick_turn(choices))
                axes.set_xlim(-0.5, len(choices) - 0.5)
            elif getattr(parameter, "log", False):
                axes.set_xscale("log")
                axes.xaxis.set_major_locator(LogLocator(numticks=4))
                axes.xaxis.set_major_formatter("{x:g}")
                axes.xaxis.set_minor_locator(NullLocator())
            axes.set_title(name)
            if i % across == 0:
                axes.set_ylabel(spec.objective)
            tips[f"slice-{i}"] = [f"trial {t.number}: {name} {short(t.values[name])}, {v:.4f}" for t, v in pairs]
        return tips

    return Chart(
        "slices",
        "Each parameter alone",
        f"{spec.objective} of every trial over one parameter at a time; the other parameters differ too, so a pattern "
        "here is a hint, and the importance above the judgement.",
        ("parameter", "trial", "value", spec.objective),
        [(name, t.number, t.values[name], value) for name in names for t, value in groups[name]],
        (9.2, 0.5 + 2.4 * down),
        draw,
        trials={f"slice-{i}": [t.number for t, _ in groups[name]] for i, name in enumerate(names)},
    )


def preprocessing(spec: StudySpec, state: StudyState) -> Chart | None:
    """Returns the scores by preprocessing method with mean and spread; None where one method is fixed."""
    if "preprocessing" not in spec.space.parameters:
        return None
    by_method: dict[str, list[tuple[int, float]]] = {}
    for trial, value in scored_trials(spec, state):
        if "preprocessing" not in trial.values:  # it does not count beside the trial's other values
            continue
        by_method.setdefault(str(trial.values["preprocessing"]), []).append((trial.number, value))
    if not by_method:
        return None
    sign = 1 if spec.mode == "max" else -1
    order = sorted(by_method, key=lambda m: sign * float(np.mean([v for _, v in by_method[m]])))
    rows = [_method_row(spec, method, [value for _, value in by_method[method]]) for method in order[::-1]]

    def draw(figure: Figure) -> Mapping[str, Sequence[str]]:
        axes, tips = figure.add_subplot(), {}
        for i, method in enumerate(order):
            values = [v for _, v in by_method[method]]
            points = axes.scatter(values, np.full(len(values), i), s=18, color=ACCENT, alpha=0.45, linewidths=0)
            points.set_gid(f"method-{i}")
            mean, spread = _mean_and_spread(values)
            axes.errorbar(mean, i + 0.24, xerr=spread or 0, fmt="D", color=INK, markersize=4, capsize=3, elinewidth=1.2)
            tips[f"method-{i}"] = [f"trial {n}: {v:.4f}" for n, v in by_method[method]]
        axes.set_yticks(range(len(order)), [f"{m} ({len(by_method[m])})" for m in order])
        axes.set_ylim(-0.5, len(order) - 0.4)
        axes.set_xlabel(spec.objective)
        axes.grid(axis="y", visible=False)
        return tips

    return Chart(
        "preprocessing",
        "Preprocessing methods",
        f"Every trial's score by method, with mean and one standard deviation (diamonds); {rows[0][0]} has the best "
        "mean. Trials stopped early count with the score they had, and other parameters differ between them.",
        ("method", "trials", "mean", "standard_deviation", "best"),
        rows,
        (9.2, 1.1 + 0.5 * len(order)),
        draw,
        table=True,
        trials={f"method-{i}": [n for n, _ in by_method[method]] for i, method in enumerate(order)},
    )


def _varied(spec: StudySpec, scored: Sequence[tuple[TrialRecord, float]]) -> list[str]:
    return [name for name in spec.space.parameters if any(name in trial.values for trial, _ in scored)]


def _mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def _method_row(spec: StudySpec, method: str, values: Sequence[float]) -> tuple[object, ...]:
    best = max(values) if spec.mode == "max" else min(values)
    return (method, len(values), *_mean_and_spread(values), best)


def _tick_turn(choices: Sequence[object]) -> dict[str, Any]:
    return {"rotation": 30, "ha": "right"} if sum(len(str(c)) for c in choices) > 22 else {}
