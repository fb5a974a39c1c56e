"""Draws and writes the comparison of several studies: one HTML file, and each chart as PNG and CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune.errors import StudyError
from tune.report.comparison import (
    Compared,
    Gap,
    best_values,
    differing_settings,
    gaps,
    incomparable,
    read_compared,
    used_units,
)
from tune.report.page import render_page
from tune.report.report import check_folder, write_page
from tune.report.theme import ACCENT, BAD, GOOD, INK, MUTED, STOP, Chart
from tune.study.studies import StudyFiles
from tune.study.wording import duration, trial_counts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = (ACCENT, STOP, GOOD, BAD, INK, MUTED)
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)))


@dataclass(frozen=True)
class Comparison:
    """What was found.

    Attributes:
        page: the HTML file.
        rows: the same in words, pairs of a label and a text.
        gaps: by how much each study is ahead of the first, where that can be told with an interval.
    """

    page: Path
    rows: Sequence[tuple[str, str]]
    gaps: Sequence[Gap]


def write_comparison(studies: Sequence[StudyFiles], to: Path) -> Comparison:
    """Writes the comparison of two studies or more.

    Args:
        studies: the studies; the others are compared with the first.
        to: folder to write; an earlier comparison there gives way.

    Raises:
        StudyError: fewer than two studies, one has no trial, or the folder cannot be written.
    """
    if len({study.name for study in studies}) < 2:
        raise StudyError(
            f"two studies or more must be named to be compared. Received: {', '.join(s.name for s in studies)}. Add one"
        )
    check_folder(to)
    compared = read_compared(studies)
    for study in compared:
        if not study.state.trials:
            raise StudyError(f"study {study.label!r} has no trial to compare yet. Let it run, or leave it out")
    reasons, differences = incomparable(compared), gaps(compared)
    charts = [
        progress_chart(alike, unit, words, number).render()
        for unit, words in used_units(compared).items()
        for number, alike in enumerate(by_objective(compared))
    ]
    page = render_page(
        "comparison.html",
        charts,
        title=" · ".join(study.label for study in compared),
        answer=answer(compared, differences, reasons),
        reasons=reasons,
        studies=compared,
        rows=[(label, values) for label, values in _facts(compared).items()],
        gaps=differences,
        settings=differing_settings(compared),
        values=best_values(compared),
    )
    return Comparison(write_page(to, page, charts), told(compared, differences, reasons), differences)


def answer(studies: Sequence[Compared], differences: Sequence[Gap], reasons: Sequence[str]) -> str:
    """Returns in a sentence who is ahead, and whether that is more than chance."""
    if not differences:
        if reasons:
            return "The scores of these studies cannot be compared: " + reasons[0] + "."
        return (
            f"Which of these studies is ahead cannot be told with an interval: that needs {studies[0].label} and "
            "another one to have trained their best again (confirm.top), or to have opened their sealed test. The best "
            "of a search is the largest of many noisy scores."
        )
    first = studies[0].label
    best_known = [gap for gap in differences if gap.of == differences[0].of]  # confirmed scores, if there are any
    lead = max(best_known, key=lambda gap: gap.difference)
    ahead, low, high = f"{lead.label} is ahead of {first}", *lead.interval
    if lead.difference <= 0:
        ahead, low, high = f"{first} is ahead of {lead.label}", -high, -low
        lead = replace(lead, difference=-lead.difference, interval=(low, high))
    return f"{ahead} in {lead.of}: {lead.difference:+.4f} (95 % interval {low:+.4f} to {high:+.4f}), {lead.verdict}."


def told(studies: Sequence[Compared], differences: Sequence[Gap], reasons: Sequence[str]) -> list[tuple[str, str]]:
    """Returns the comparison in words: pairs of a label and a text."""
    facts = _facts(studies)
    lines = [
        (study.label, "; ".join(f"{name} {values[place]}" for name, values in facts.items()))
        for place, study in enumerate(studies)
    ]
    lines += [("different", reason) for reason in reasons]
    lines += [
        (
            gap.label,
            f"{gap.of} {gap.difference:+.4f} (95 % interval {gap.interval[0]:+.4f} to {gap.interval[1]:+.4f}) beside "
            f"{studies[0].label}: {gap.verdict}",
        )
        for gap in differences
    ]
    return lines


def _facts(studies: Sequence[Compared]) -> dict[str, list[str]]:
    """Returns what each study did and found, by name."""
    rows: dict[str, list[str]] = {}
    for study in studies:
        spec, state = study.files.spec, study.state
        spent = state.spent(state.last_event)
        confirmed = study.confirmed
        sealed = study.sealed
        row = {
            "trials": trial_counts(state),
            "search": duration(state.search_s),
            "epochs": str(spent.epochs),
            "GPU hours": f"{spent.gpu_hours:.2f}" if spent.gpu_hours else "none",
            "cost": "no price given" if spec.budget.node_hour_price is None else f"{spent.cost:.2f}",
            f"best {spec.objective}": "none" if study.score is None else f"{study.score:.4f}",
            "confirmed": f"{sum(confirmed) / len(confirmed):.4f} over {len(confirmed)} seeds" if confirmed else "no",
            "sealed test": "not opened"
            if sealed is None
            else "{:.4f} ({:.4f} to {:.4f})".format(sealed["accuracy"], *sealed["accuracy_interval"]),
        }
        for name, value in row.items():
            rows.setdefault(name, ["–"] * len(studies))[studies.index(study)] = value
    return rows


def by_objective(studies: Sequence[Compared]) -> list[list[Compared]]:
    """Returns the studies in groups whose scores may stand on one axis."""
    groups: dict[tuple[Any, ...], list[Compared]] = {}
    for study in studies:
        spec = study.files.spec
        groups.setdefault((spec.objective, spec.mode, *sorted(spec.objective_weights.items())), []).append(study)
    return list(groups.values())


def progress_chart(studies: Sequence[Compared], unit: str, words: str, number: int = 0) -> Chart:
    """Returns the best score so far of every study over what it had used by then.

    Args:
        studies: the studies, of one objective.
        unit: attribute of `Progress`.
        words: what it is, for the axis.
        number: of the group among those of other objectives, from 0.
    """
    lines = [(study.label, [(getattr(point, unit), point.best) for point in study.progress]) for study in studies]
    objective = studies[0].files.spec.objective

    def draw(figure: Figure) -> Mapping[str, Sequence[str]]:
        axes = figure.add_subplot()
        for place, (label, points) in enumerate(lines):
            if points:
                axes.step(
                    *zip(*points, strict=True),
                    where="post",
                    label=label,
                    linewidth=1.8,
                    color=_COLOURS[place % len(_COLOURS)],
                    linestyle=_DASHES[place // len(_COLOURS) % len(_DASHES)],
                )
        axes.set_xlabel(words)
        axes.set_ylabel(f"best {objective} so far")
        axes.legend(loc="lower right")
        return {}

    ends = ", ".join(f"{label} {points[-1][1]:.4f} after {points[-1][0]:.4g}" for label, points in lines if points)
    return Chart(
        f"best-over-{unit.replace('_', '-')}" + (f"-{number + 1}" if number else ""),
        f"Best so far over {words}",
        f"The best {objective} of each search, epoch by epoch, over {words}. At the end: {ends or 'no score yet'}.",
        ("study", words.replace(" ", "_"), "best_so_far"),
        [(label, at, value) for label, points in lines for at, value in points],
        (9.2, 4.0),
        draw,
    )
