"""Scores over the size of the models, where trials' sizes differ, and the best for each size. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tune.report.theme import ACCENT, STATE_COLOURS, Chart
from tune.study.spec import StudySpec
from tune.study.study_state import StudyState
from tune.study.trade_off import size_front, sized_trials

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def size_chart(spec: StudySpec, state: StudyState) -> Chart | None:
    """Returns every trial's score over its model's parameters, and the Pareto front; None where all are of one size."""
    trials = sized_trials(spec, state)
    if not trials:
        return None
    front = size_front(trials, spec.mode)

    def draw(figure: Figure) -> Mapping[str, Sequence[str]]:
        from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter

        axes = figure.add_subplot()
        colours = [STATE_COLOURS[state.trials[one.trial].state] for one in trials]
        sizes, scores = [one.parameters for one in trials], [one.score for one in trials]
        axes.step(
            [*(one.parameters for one in front), max(sizes)],
            [*(one.score for one in front), front[-1].score],
            where="post",
            color=ACCENT,
            linewidth=1.6,
            label="best of this size or smaller",
        )
        marks = axes.scatter(sizes, scores, s=24, c=colours, alpha=0.85, linewidths=0)
        marks.set_gid("sizes")
        axes.set_xscale("log")
        few = max(sizes) < 20 * min(sizes)  # powers of ten alone would be one label, or none
        axes.xaxis.set_major_locator(MaxNLocator(6) if few else LogLocator(numticks=6))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("parameters of the model")
        axes.set_ylabel(spec.objective)
        axes.legend(loc="lower right")
        return {"sizes": [f"trial {one.trial}: {one.score:.4f}, {one.parameters:,} parameters" for one in trials]}

    told = ", ".join(f"trial {one.trial} ({one.score:.4f} with {one.parameters:,})" for one in reversed(front))
    on_front = {one.trial for one in front}
    return Chart(
        "size",
        "Score and size",
        f"No model of fewer parameters is as good as these: {told}. emotune export STUDY --trial N takes one of them.",
        ("trial", "parameters", spec.objective, "best_of_its_size"),
        [(one.trial, one.parameters, one.score, one.trial in on_front) for one in trials],
        (9.2, 3.8),
        draw,
        trials={"sizes": [one.trial for one in trials]},
    )
