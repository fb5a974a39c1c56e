"""Gathers a study's report: the answer first, then its charts and tables. Writes it as one HTML file, PNGs and CSVs."""

from __future__ import annotations

import errno
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search_spaces import FloatParameter
from trainables.atomic_folder import HARMLESS, AtomicFolder
from tune.errors import StudyError
from tune.report.classes_chart import classes_chart
from tune.report.mistakes_chart import mistakes_chart
from tune.report.page import render_page
from tune.report.pairs_chart import pairs
from tune.report.parameter_charts import importance, parallel_coordinates, preprocessing, slices
from tune.report.search_charts import history, learning_curves
from tune.report.size_chart import size_chart
from tune.report.theme import Chart, RenderedChart
from tune.report.timeline import read_timeline, timeline_chart
from tune.search.why import why_study
from tune.study.journal import read_events
from tune.study.studies import StudyFiles
from tune.study.study_state import StudyState
from tune.study.trial_record import TrialRecord
from tune.study.wording import duration, spent_text, trial_counts
from tune.yaml_values import dump

if TYPE_CHECKING:
    from trainables.dataset.reader import Dataset
    from tune.dataset.quality_report import Duplicates

REPORT_FILE = "report.html"
_FIGURES = "figures"
_OURS = frozenset({REPORT_FILE, _FIGURES})
_SUFFIX = "reporting"
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/")


@dataclass(frozen=True)
class DataDescription:
    """What is known of the study's data set.

    Attributes:
        classes: names of the classes, in order; empty where nobody knows them any more.
        counts: images of each class, by split; empty where the data set cannot be read.
        duplicates: how many images are in it twice, None there.
        note: why nobody can tell.
        dataset: the data set, None where it cannot be read.
    """

    classes: Sequence[str] = ()
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    duplicates: Duplicates | None = None
    note: str = ""
    dataset: Dataset | None = None


def write_report(study: StudyFiles, data: DataDescription, to: Path, details: Sequence[str]) -> Path:
    """Writes a study's report.

    Args:
        study: the study.
        data: what is known of its data set.
        to: folder to write; an earlier report there gives way.
        details: what the terminal says of its best, its confirmation and its export, a line each.

    Returns:
        The HTML file.

    Raises:
        StudyError: no trial has begun, or the folder cannot be written.
    """
    state = study.state()
    if not state.trials:
        raise StudyError(f"study {study.spec.name!r} has no trial to report yet. Let it run: emotune run STUDY.yaml")
    check_folder(to)
    charts = [chart.render() for chart in study_charts(study, state, data)]
    page = render_page("report.html", charts, **report_content(study, state, data, details))
    return write_page(to, page, charts)


def check_folder(to: Path) -> None:
    """Refuses a bucket's address, and a folder that holds anything but an earlier report.

    Raises:
        StudyError: it does.
    """
    if _ADDRESS.match(str(to)):
        raise StudyError(f"--to must be a folder of this machine. Received: {to}, an address. Copy the folder there")
    known = _OURS | HARMLESS | {f".{_SUFFIX}"}
    strange = sorted(p.name for p in to.iterdir() if p.name not in known) if to.is_dir() else []
    if strange:
        raise StudyError(f"--to must be a new folder or an earlier report. Received: {to}, which holds {strange[0]}")


def write_page(to: Path, page: str, charts: Iterable[RenderedChart]) -> Path:
    """Writes a page and its charts' PNGs and CSVs into a folder, whole or not at all; returns the page's file.

    Raises:
        StudyError: the folder cannot be written.
    """
    try:
        with AtomicFolder(
            to.absolute(), suffix=_SUFFIX, known_by=REPORT_FILE, replaceable=_OURS.__contains__
        ) as folder:
            (folder.path / _FIGURES).mkdir()
            for rendered in charts:
                chart = rendered.chart
                (folder.path / _FIGURES / f"{chart.name}.png").write_bytes(rendered.png)
                (folder.path / _FIGURES / f"{chart.name}.csv").write_text(chart.csv(), encoding="utf-8")
            (folder.path / REPORT_FILE).write_text(page, encoding="utf-8")
            folder.put_in_place()
    except BlockingIOError:
        raise StudyError(f"{to} is being written by another process. Wait for it") from None
    except OSError as error:
        what = "is a file" if error.errno in (errno.ENOTDIR, errno.EEXIST) else error.strerror
        raise StudyError(f"the report cannot be written to {to}: {what}. Name another folder: --to FOLDER") from None
    return to / REPORT_FILE


def study_charts(study: StudyFiles, state: StudyState, data: DataDescription) -> list[Chart]:
    """Returns the charts that a study has something to show in, in the report's order."""
    spec, best = study.spec, study.best_trial(state)
    mattered = importance(spec, state)
    most_first = [] if mattered is None else [str(name).removesuffix("_base") for name, *_ in mattered.rows]
    found = [
        learning_curves(spec, state, best.number if best else None),
        history(spec, state),
        mattered,
        parallel_coordinates(spec, state),
        slices(spec, state),
        pairs(spec, state, most_first),
        preprocessing(spec, state),
        size_chart(spec, state),
        timeline_chart(read_timeline(read_events(study.journal))),
        classes_chart(*_confusion(study, state), data.classes),
        _mistakes(study, state, data),
    ]
    return [chart for chart in found if chart is not None]


def answer(study: StudyFiles, state: StudyState) -> str:
    """Returns in some sentences what the study found: the best, its confirmed score, what tuning gained, what the
    sealed test said."""
    best = study.best_trial(state)
    if best is None:
        return "No trial has a score yet."
    sealed = _sealed(study, state)
    if sealed is None:
        return _gain(study, state, best)
    low, high = sealed["accuracy_interval"]
    return (
        f"{_gain(study, state, best)} The exported model's accuracy on the sealed test is {sealed['accuracy']:.4f} "
        f"(95 % interval {low:.4f} to {high:.4f}, {sealed['images']} images)."
    )


def _gain(study: StudyFiles, state: StudyState, best: TrialRecord) -> str:
    spec, found, name = study.spec, state.confirmed, f"Trial {best.number}"
    if found is None or found.get("winner") is None:
        value, first = best.best_value(spec.objective, spec.mode), state.trials.get(0)
        default = None if first is None or not best.number else first.best_value(spec.objective, spec.mode)
        ahead = "" if default is None else f", against {default:.4f} of the default configuration"
        if first is not None and default is not None and first.state == "pruned":
            ahead += f", which was stopped after epoch {max(first.epochs)}"
        return (
            f"{name} has the best {spec.objective}, {value:.4f}{ahead}. It is the best of many noisy scores and "
            "was not confirmed with fresh seeds, so expect less."
        )
    row = next(r for r in found["repeated"] if r["trial"] == found["winner"])
    low, high = row["interval"]
    text = (
        f"{name} has the best confirmed {spec.objective}: {row['mean']:.4f} (95 % interval {low:.4f} to {high:.4f}, "
        f"mean of {len(row['scores'])} fresh seeds). "
    )
    if found["gain"] is not None:
        base = next(r for r in found["repeated"] if r["trial"] == 0)
        gain = "{:+.4f} ({:+.4f} to {:+.4f})".format(found["gain"], *found["gain_interval"])
        verdict = "more than chance" if found["verdict"] == "better" else "which chance alone can explain"
        return text + f"Tuning gained {gain} over the default configuration's {base['mean']:.4f}: {verdict}."
    if found["verdict"] == "default":
        return text + "That is the default configuration: tuning found nothing better."
    return text + "What tuning gained is unknown: the default configuration could not be trained again."


def best_study_file(study: StudyFiles, best: TrialRecord) -> str:
    """Returns a study file whose first trial is the best configuration: it is the space's defaults."""
    spec = study.spec
    plain = spec.model_dump(mode="json", exclude_unset=True)
    plain["name"] = f"{spec.name[:74]}-best"
    for address in ("notify", "optuna_storage"):  # often a secret, and pages are passed on
        plain.pop(address, None)
    plain["space"] = spec.space.model_dump(mode="json", exclude_defaults=True)
    values = spec.coerce_values(best.values)
    bases = spec.space.optuna_params(values)
    for name, value in values.items():
        parameter = spec.space.parameters[name]
        scaled = isinstance(parameter, FloatParameter) and parameter.scale_by
        plain["space"][name] |= {"type": parameter.type, "default": bases[f"{name}_base"] if scaled else value}
    return dump(plain)


def report_content(
    study: StudyFiles, state: StudyState, data: DataDescription, details: Sequence[str]
) -> Mapping[str, Any]:
    """Returns what the report's template shows beside the charts."""
    spec, best = study.spec, study.best_trial(state)
    spent = state.spent(state.last_event)
    facts = {
        "Trials": trial_counts(state),
        "Search": duration(state.search_s),
        "Spent": spent_text(spec, state),
        "GPU hours": f"{spent.gpu_hours:.2f}",
        "Cost": "no price given" if spec.budget.node_hour_price is None else f"{spent.cost:.2f}",
    }
    return {
        "title": spec.name,
        "study": study,
        "named": shlex.quote(study.name),  # whole: the page may be read anywhere
        "spec": spec,
        "answer": answer(study, state),
        "best": best,
        "values": {} if best is None else best.values,
        "study_file": "" if best is None else best_study_file(study, best),
        "facts": facts,
        "details": [line for line in details if line],
        "rungs": why_study(spec, state),
        "trials": _trial_rows(study, state),
        "data": data,
        "provenance": state.provenance.get(max(state.provenance, default=0), {}),
        "fingerprint": state.fingerprint,
        "finished": state.finished,
    }


def _trial_rows(study: StudyFiles, state: StudyState) -> list[dict[str, Any]]:
    spec = study.spec
    place = {trial.number: i for i, trial in enumerate(study.ranked(state), 1)}
    return [
        {
            "number": trial.number,
            "place": place.get(trial.number),
            "score": trial.best_value(spec.objective, spec.mode),
            "epochs": max(trial.epochs, default=0),
            "state": trial.state,
            "values": trial.values,
            "reason": trial.reason,
            "faults": [f"{f.kind.replace('_', ' ')} after epoch {f.epoch}: {f.reason}" for f in trial.faults],
        }
        for trial in sorted(state.trials.values(), key=lambda t: (place.get(t.number, 10**9), t.number))
    ]


def _sealed(study: StudyFiles, state: StudyState) -> dict[str, Any] | None:
    """Returns what the sealed test said of what is exported."""
    run = study.best_run(state)
    checkpoint = None if run is None else study.journalled_checkpoint(run)
    return None if checkpoint is None else state.sealed_scores(state.exported_checkpoints(checkpoint))


def _mistakes(study: StudyFiles, state: StudyState, data: DataDescription) -> Chart | None:
    """Returns the surest mistakes, None where the test is sealed, was opened by emotune 0.1, or no image is here."""
    sealed = _sealed(study, state)
    if sealed is None or data.dataset is None:
        return None
    return mistakes_chart(sealed.get("mistakes", []), data.dataset.image, data.classes)


def _confusion(study: StudyFiles, state: StudyState) -> tuple[Sequence[Sequence[int]] | None, str]:
    """Returns the confusion matrix of the sealed test, or that of the best trial on the selection fold; and of what."""
    sealed, best = _sealed(study, state), study.best_trial(state)
    if sealed is not None:
        return sealed["confusion"], "the exported model on the sealed test"
    if best is None:
        return None, ""
    epoch = best.best_epoch(study.spec.objective, study.spec.mode)
    matrix = None if epoch is None else best.epochs[epoch].get("selection_confusion")
    return matrix, f"trial {best.number} on the selection fold"
