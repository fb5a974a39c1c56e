"""Looks at studies: the report, which gathers what folder, data set and export know; several compared; live."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from trainables.home_folder import expand_home
from tune.api.studies import Study, as_study
from tune.errors import EmotuneError

if TYPE_CHECKING:
    from tune.report.comparison_page import Comparison
    from tune.report.report import DataDescription


def write_report(
    study: str | PathLike[str] | Study, to: str | PathLike[str] | None = None, *, storage: str | PathLike[str] = "runs"
) -> Path:
    """Writes a study's report, also while it runs: `report.html`, which needs no network, and PNGs and CSVs.

    Args:
        study: its name in the storage, folder or address, or a `Study`.
        to: folder to write, None for `report` in the study's folder; an earlier report there gives way.
        storage: folder or bucket of all studies.

    Returns:
        The HTML file.

    Raises:
        StudyError: there is no such study, no trial has begun, or the folder cannot be written.
    """
    from tune.report.report import write_report as write
    from tune.session.study_text import best_line, confirmation_lines, export_lines, front_line, stopped_higher_line
    from tune.study.bucket_study import EXPORT_FOLDER

    found = as_study(study, storage)
    files, state = found.files, found.state
    details = [best_line(files, state), stopped_higher_line(files, state), front_line(files, state)]
    details += confirmation_lines(files, state)
    if files.export.exists():
        details.append(export_lines(files.place.child(EXPORT_FOLDER)))
    folder = files.directory / "report" if to is None else Path(expand_home(to))
    return write(files, _describe_data(found), folder, details)


def compare_studies(
    studies: Sequence[str | PathLike[str] | Study],
    to: str | PathLike[str] = "comparison",
    *,
    storage: str | PathLike[str] = "runs",
) -> Comparison:
    """Compares studies, also while they run: who is ahead, with its interval, what differed, progress over time.

    Args:
        studies: two or more, as in `write_report`; the others are compared with the first.
        to: folder to write; an earlier comparison there gives way.
        storage: folder or bucket of all studies.

    Returns:
        The HTML file under `page`, and the same in words: `rows`, `gaps`.

    Raises:
        StudyError: there is no such study, one has no trial, fewer than two are named, or the folder cannot be written.
    """
    from tune.report.comparison_page import write_comparison

    found = [as_study(study, storage) for study in studies]
    return write_comparison([study.files for study in found], Path(expand_home(to)))


def watch_study(study: str | PathLike[str] | Study, *, storage: str | PathLike[str] = "runs") -> None:
    """Shows a study that another process runs as `run` does, until nobody runs it; an interrupt leaves it alone.

    Args:
        study: its name in the storage, folder or address, or a `Study`.
        storage: folder or bucket of all studies.

    Raises:
        StudyError: there is no such study, or its journal is damaged.
        PlaceError: the bucket cannot be reached.
    """
    from tune.session.watch import watch_study as watch

    watch(as_study(study, storage).files, sys.stdout)


def serve_board(
    studies: Sequence[str | PathLike[str] | Study],
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    storage: str | PathLike[str] = "runs",
    ready: Callable[[str], None] = print,
    tensorboard: bool = False,
    optuna: bool = False,
    beside: Callable[[str, str], None] = lambda name, url: None,
) -> None:
    """Shows studies on a web page, which follows those that run, until the process gets Ctrl-C or SIGTERM.

    Args:
        studies: names in the storage, folders or addresses, or `Study`s.
        host: address to listen at; whoever reaches it may look.
        port: a free port of it, 0 for any.
        storage: folder or bucket of all studies.
        ready: called with the page's URL when it answers.
        tensorboard: start TensorBoard over the same studies too, for this machine only.
        optuna: start Optuna Dashboard likewise; the extra `optuna` installs it.
        beside: called with the name and the URL of each of these when it answers.

    Raises:
        StudyError: there is no such study, or its journal is damaged.
        ServeError: the address is taken, Optuna Dashboard is not installed, or TensorBoard does not start.
        PlaceError: the bucket cannot be reached.
        KeyboardInterrupt: after a signal.
    """
    from tune.board.server import serve_board as serve

    found = [as_study(study, storage) for study in studies]
    files = [study.files for study in found]
    serve(files, host, port, ready, tensorboard=tensorboard, optuna=optuna, beside=beside)


def _describe_data(study: Study) -> DataDescription:
    """Returns what the report tells of the data set, if it is still the one that the study was begun on."""
    from tune.api.data import load_data
    from tune.dataset.quality_report import find_duplicates
    from tune.report.report import DataDescription

    exported: list[str] = []
    if study.exported is not None:
        exported = json.loads((study.exported / "labels.json").read_text(encoding="utf-8"))["classes"]
    if study.spec.data == "synthetic":
        return DataDescription(exported, note="The drawn faces that come with emotune.")
    try:
        dataset = load_data(study.spec.data)
        if dataset.info.fingerprint != study.state.fingerprint:
            return DataDescription(exported, note="Another data set lies there now, so nothing is told of it.")
        duplicates = find_duplicates(dataset.groups, dataset.labels, dataset.splits)
        return DataDescription(list(dataset.info.classes), dataset.info.counts, duplicates, dataset=dataset)
    except (EmotuneError, OSError):
        return DataDescription(exported, note="It cannot be read from here, so nothing is told of its images.")
