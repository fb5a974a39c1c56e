"""A chart of parameters in pairs: the score that a model of the trials expects for two values together. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tune.report.parameter_charts import MIN_TRIALS
from tune.report.parameter_scale import Scale, scored_trials, short
from tune.report.theme import INK, PAPER, Chart, plain_axes
from tune.study.spec import StudySpec
from tune.study.study_state import StudyState
from tune.study.trial_record import TrialRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_PARAMETERS = 3
_STEPS = 20
"""Places along the axis of a number at which a score is expected."""

_TREES, _LEAST_IN_LEAF = 64, 2
_BACKGROUND_TRIALS = 50
"""Trials over whose other parameters an expectation is averaged."""


def pairs(spec: StudySpec, state: StudyState, names: Sequence[str]) -> Chart | None:
    """Returns the expected score over each two of the parameters that matter most; None where too little is known.

    A random forest is fitted to the trials that ran to their end. A score expected of two values is the mean of its
    predictions with these two, the other parameters as those trials have them: partial dependence, Friedman, Greedy
    Function Approximation, Annals of Statistics 29 (2001), section 8.2.

    Args:
        spec: the study.
        state: its trials.
        names: parameters, what matters most first; those that not every such trial has are passed over.
    """
    ended = [(trial, value) for trial, value in scored_trials(spec, state) if trial.state == "complete"]
    known = [name for name in spec.space.parameters if ended and all(name in trial.values for trial, _ in ended)]
    chosen = [name for name in names if name in known][:_MOST_PARAMETERS]
    if len(ended) < MIN_TRIALS or len(chosen) < 2:
        return None
    scales = {name: Scale(spec, name, [trial.values[name] for trial, _ in ended]) for name in known}
    places = np.array([[scales[name](trial.values[name]) for name in known] for trial, _ in ended])
    steps = {name: np.linspace(0, 1, max(2, len(scales[name].choices) or _STEPS)) for name in chosen}
    duos = list(itertools.combinations(chosen, 2))
    fields = [
        _expected(places, [value for _, value in ended], [(known.index(n), steps[n]) for n in duo]) for duo in duos
    ]

    def draw(figure: Figure) -> Mapping[str, Sequence[str]]:
        panels, tips = figure.subplots(1, len(duos), squeeze=False)[0], {}
        low, high = min(field.min() for field in fields), max(field.max() for field in fields)
        for i, (axes, (first, second), field) in enumerate(zip(panels, duos, fields, strict=True)):
            plain_axes(axes)
            shades = axes.imshow(
                field.T,
                origin="lower",
                extent=(*_edges(steps[first]), *_edges(steps[second])),
                aspect="auto",
                cmap="viridis" if spec.mode == "max" else "viridis_r",
                vmin=low,
                vmax=high,
            )
            at = [[scales[name](trial.values[name]) for trial, _ in ended] for name in (first, second)]
            dots = axes.scatter(*at, s=14, color=INK, edgecolors=PAPER, linewidths=0.8)
            dots.set_gid(f"pair-{i}")
            _label(axes.xaxis, scales[first], first)
            _label(axes.yaxis, scales[second], second)
            tips[f"pair-{i}"] = [_told(trial, value, (first, second)) for trial, value in ended]
        bar = figure.colorbar(shades, ax=list(panels), pad=0.01, aspect=28)
        bar.set_label(f"expected {spec.objective}")
        bar.outline.set_visible(False)
        return tips

    rows = [
        (first, second, scales[first].value_at(a), scales[second].value_at(b), float(field[i, j]))
        for (first, second), field in zip(duos, fields, strict=True)
        for i, a in enumerate(steps[first])
        for j, b in enumerate(steps[second])
    ]
    sign = 1 if spec.mode == "max" else -1
    first, second, one, other, best = max((row for row in rows if row[:2] == duos[0]), key=lambda row: sign * row[4])
    return Chart(
        "pairs",
        "Parameters in pairs",
        f"A random forest over the {len(ended)} trials that ran to their end (dots) expects the best {spec.objective}, "
        f"{best:.4f}, of {first} {short(one)} with {second} {short(other)}, the other parameters as these trials have "
        "them. Where there are no dots it guesses.",
        ("parameter", "other_parameter", "value", "other_value", f"expected_{spec.objective}"),
        rows,
        (3.4 * len(duos) if len(duos) > 1 else 5.0, 3.3),
        draw,
        trials={f"pair-{i}": [trial.number for trial, _ in ended] for i in range(len(duos))},
    )


def _expected(
    places: npt.NDArray[Any], scores: Sequence[float], axes: Sequence[tuple[int, npt.NDArray[Any]]]
) -> npt.NDArray[Any]:
    """Returns the score expected at each crossing of two axes' steps, (steps of the first, steps of the second).

    Args:
        places: of every trial in every parameter, (trials, parameters).
        scores: of every trial.
        axes: two columns of `places`, each with its steps.
    """
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(_TREES, min_samples_leaf=_LEAST_IN_LEAF, random_state=0).fit(places, scores)
    (first, ones), (second, others) = axes
    background = places[np.linspace(0, len(places) - 1, min(len(places), _BACKGROUND_TRIALS)).astype(int)]
    asked = np.tile(background, (len(ones) * len(others), 1, 1))
    asked[:, :, first] = np.repeat(ones, len(others))[:, None]
    asked[:, :, second] = np.tile(others, len(ones))[:, None]
    answers = forest.predict(asked.reshape(-1, places.shape[1]))
    means: npt.NDArray[Any] = answers.reshape(len(ones), len(others), -1).mean(axis=2)
    return means


def _edges(steps: npt.NDArray[Any]) -> tuple[float, float]:
    """Returns where the first cell begins and the last one ends, so that their middles are the first and last step."""
    half = (steps[1] - steps[0]) / 2
    return float(steps[0] - half), float(steps[-1] + half)


def _label(axis: Any, scale: Scale, name: str) -> None:
    ticks = scale.ticks()
    axis.set_ticks([place for place, _ in ticks], [text for _, text in ticks])
    axis.set_label_text(name)


def _told(trial: TrialRecord, value: float, names: tuple[str, str]) -> str:
    values = ", ".join(f"{name} {short(trial.values[name])}" for name in names)
    return f"trial {trial.number}: {values}, {value:.4f}"
