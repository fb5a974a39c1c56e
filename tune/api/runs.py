"""Runs and resumes studies from Python: a study file or its content in, a `Study` out."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.home_folder import expand_home
from trainables.models.own_model import ImageSpec as ImageSpec  # what a model of the user's own is given
from tune.api.data import data_place
from tune.api.studies import Study, as_study, load_study
from tune.errors import StudyError
from tune.line_width import fitted_to
from tune.study.spec import StudySpec, load_spec
from tune.study.studies import StudyFiles

if TYPE_CHECKING:
    from trainables.dataset.reader import Dataset
    from tune.session.plan import Plan

StudyFile = str | PathLike[str] | Mapping[str, Any]
"""A study file's path, or what one holds."""
EventsTarget = str | PathLike[str] | Callable[[dict[str, Any]], object]
"""A file that gets a JSON line per event (`-` is standard output), or a function that is called with each event."""

_running = threading.Lock()


class Interrupted(KeyboardInterrupt):
    """The study was stopped by Ctrl-C or a notebook's interrupt: running trials were saved, it can be resumed.

    Attributes:
        study: the study.
    """

    def __init__(self, study: Study) -> None:
        """Says how to go on."""
        words = f"interrupted; everything is kept. Go on with: tune.resume({study.location!r})"
        super().__init__(words if study.begun else "interrupted before the study began. Start it again")
        self.study = study


def run(
    study: StudyFile,
    *,
    data: str | PathLike[str] | Dataset | None = None,
    trials: int | None = None,
    time: str | float | None = None,
    max_cost: float | None = None,
    overrides: Mapping[str, Any] | Sequence[str] | None = None,
    events: EventsTarget | None = None,
    calibrate: bool = True,
    accept_code_change: bool = False,
) -> Study:
    """Runs a study: searches, stops the losers early, exports the best model. Continues a study of that name.

    Prints the plan, then draws a live table, in a notebook's cell as on a terminal.

    Args:
        study: a study file's path, or a mapping of what one holds.
        data: data set folder, bucket's address or `Dataset`, in place of the study file's.
        trials: number of trials, in place of the study file's.
        time: wall time of the search: seconds, or text as in `90s`, `30m`, `2h`.
        max_cost: money to spend, with `budget.node_hour_price` in the study file.
        overrides: other keys: `{"asha.max_epochs": 8}`, or `["asha.max_epochs=8"]` as `--set` takes them.
        events: a file for a JSON line per event, or a function that is called with each event as a dict.
        calibrate: measure an epoch's time first.
        accept_code_change: go on where a file of your own (`my_models.py`) is not as it was.

    Returns:
        The study, finished or ended by a budget (`ended_by`).

    Raises:
        EmotuneError: the study file breaks a rule, there is no data set, no trial can be placed, every trial failed.
        Interrupted: a KeyboardInterrupt, after running trials have saved what they had; the study can be resumed.
    """
    from tune.session.create_or_resume import check_folder, locate_study, open_or_create
    from tune.session.own_models import has_tried
    from tune.session.study_data import prepare_data
    from tune.study.own_files import application_models

    with only_one():
        spec = spec_with_options(study, data, trials, time, max_cost, overrides)
        dataset = prepare_data(spec, _say)
        fingerprint = dataset.info.fingerprint
        if spec.code or application_models(spec.space, spec.fixed):
            there = locate_study(spec)
            check_folder(there, fingerprint, accept_code_change=accept_code_change)
            if not has_tried(there, spec):
                check_own(spec, dataset, _say)
        files = open_or_create(spec, fingerprint, accept_code_change=accept_code_change)
        return _run(files, dataset, calibrate, events)


def resume(
    study: str | PathLike[str] | Study,
    *,
    storage: str | PathLike[str] = "runs",
    data: str | PathLike[str] | Dataset | None = None,
    trials: int | None = None,
    time: str | float | None = None,
    events: EventsTarget | None = None,
    calibrate: bool = False,
    accept_code_change: bool = False,
) -> Study:
    """Goes on with a study that was interrupted, or extends one that has ended.

    Args:
        study: its name in the storage, folder or address, or a `Study`.
        storage: folder or bucket of all studies.
        data: where its data set lies now; it must be the one that it was begun on.
        trials: extend it to this many trials.
        time: extend it to this wall time of search, counted from its beginning.
        events: as in `run`.
        calibrate: measure an epoch's time first.
        accept_code_change: go on where a file of your own (`my_models.py`) is not as it was.

    Raises:
        EmotuneError: there is no such study, its data set is another, a value is out of range or used up already.
        Interrupted: as in `run`.
    """
    from tune.session.create_or_resume import reopen
    from tune.session.own_models import has_tried
    from tune.session.study_data import prepare_data

    with only_one():
        given = as_study(study, storage).files
        files = load_study(given.name).files  # as it lies there now: others may have extended it
        if data is not None:
            files = files.with_data(data_place(data))
        elif isinstance(study, Study):  # which may have been told where its data lie now
            files = files.with_data(given.spec.data)
        dataset = prepare_data(files.spec, _say)
        time_s = None if time is None else str(time)
        files = reopen(
            files,
            dataset.info.fingerprint,
            trials=trials,
            time=time_s,
            accept_code_change=accept_code_change,
        )
        if not has_tried(files, files.spec):
            check_own(files.spec, dataset, _say)
        return _run(files, dataset, calibrate, events)


def check_study(
    study: StudyFile,
    *,
    data: str | PathLike[str] | Dataset | None = None,
    trials: int | None = None,
    time: str | float | None = None,
    max_cost: float | None = None,
    overrides: Mapping[str, Any] | Sequence[str] | None = None,
    events: EventsTarget | None = None,
    accept_code_change: bool = False,
) -> StudySpec:
    """Checks a study file, its data, its storage and the file for events as `run` would; starts nothing.

    Args are those of `run`. What is tried is left as it was: nothing stays in the storage.

    Returns:
        What the study file comes to: defaults, search space, overrides in place.

    Raises:
        EmotuneError: something is wrong.
    """
    from tune.session.create_or_resume import check_folder, check_writable, locate_study
    from tune.session.event_stream import check_events
    from tune.session.study_data import prepare_data
    from tune.session.study_warnings import study_warnings

    spec = spec_with_options(study, data, trials, time, max_cost, overrides)
    dataset = prepare_data(spec, _say, only_check=True)
    files = locate_study(spec)
    check_folder(files, dataset.info.fingerprint, accept_code_change=accept_code_change)
    check_writable(files)
    if events is not None and not callable(events):
        check_events(Path(expand_home(events)))
    check_own(spec, dataset, _say)
    for line in study_warnings(spec, dataset):
        _say(f"warning: {line}")
    return spec


def check_own(spec: StudySpec, dataset: Dataset, say: Callable[[str], None]) -> None:
    """Tries what is the user's own, and builds Keras' applications."""
    from tune.session.applications import check_applications
    from tune.session.own_models import check_own_models
    from tune.session.own_optimizers import check_own_optimizers
    from tune.session.own_pipelines import check_own_pipelines

    check_own_pipelines(spec, dataset, say)  # seconds; what needs Keras takes longer
    check_own_optimizers(spec, say)
    check_own_models(spec, dataset, say)
    check_applications(spec, dataset, say)


def spec_with_options(
    study: StudyFile,
    data: str | PathLike[str] | Dataset | None,
    trials: int | None,
    time: str | float | None,
    max_cost: float | None,
    overrides: Mapping[str, Any] | Sequence[str] | None,
) -> StudySpec:
    """Loads a study file with what options say in its place."""
    place = None if data is None else data_place(data)
    options = {"data": place, "trials": trials, "time": time, "budget.cost": max_cost}
    return load_spec(study if isinstance(study, Mapping) else Path(expand_home(study)), overrides or (), options)


def _run(study: StudyFiles, dataset: Dataset, calibrate: bool, events: EventsTarget | None) -> Study:
    from tune.nodes.import_ray import import_ray

    import_ray()
    from tune.nodes.signals import before_forced_exit
    from tune.session.create_or_resume import remove_unstarted_study
    from tune.session.runner import run_study
    from tune.session.study_text import interrupted_line, plan_lines

    def announce(plan: Plan) -> str:
        return plan_lines(study, dataset, plan)

    def give_up() -> str:
        remove_unstarted_study(study, ours=True)
        return interrupted_line(study)

    before_forced_exit(give_up)
    target = events if events is None or callable(events) else Path(expand_home(events))
    try:
        outcome = run_study(study, dataset, calibrate=calibrate, announce=announce, events=target)
    except KeyboardInterrupt:
        raise Interrupted(Study(study)) from None
    if outcome.ended_by == "interrupted":
        raise Interrupted(Study(study))
    return Study(study, ended_by=outcome.ended_by)


@contextmanager
def only_one() -> Iterator[None]:
    """Ray, and where output goes, belong to the whole process."""
    if not _running.acquire(blocking=False):
        raise StudyError(
            "a process must run one study at a time. Received: a second one, from another thread. Wait for the first, "
            "or use a process of its own"
        )
    try:
        yield
    finally:
        _running.release()


def _say(line: str) -> None:
    print(fitted_to(sys.stdout, line), flush=True)
