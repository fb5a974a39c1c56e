"""Runs a study: checks, plans, searches, exports the best. `run` and `resume` are this one path."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from trainables.config import TrialContext
from trainables.dataset.reader import Dataset
from trainables.training.fault_kinds import is_disk_full
from tune.errors import EveryTrialFailed, disk_full
from tune.nodes.output_redirect import redirect_output
from tune.session.best_model import export_study
from tune.session.confirm_best import confirm_best
from tune.session.create_or_resume import remove_unstarted_study, write_study_file
from tune.session.event_stream import Events, EventStream
from tune.session.live_display import LiveStudy
from tune.session.notify import Notifier
from tune.session.plan import Plan, make_plan, may_search, spent_budget, trials_left
from tune.session.study_data import trial_context
from tune.session.study_text import precision_line
from tune.study.budget import exit_code
from tune.study.journal import Journal
from tune.study.spec import StudySpec
from tune.study.studies import StudyFiles, opened_journal
from tune.study.study_state import StudyState


@dataclass(frozen=True)
class Outcome:
    """How a session ended: `finished`, `interrupted` or a budget's name; `export` is None when there is nothing."""

    ended_by: str
    export: Path | None

    @property
    def exit_code(self) -> int:
        """What the command exits with."""
        return exit_code(self.ended_by)


def run_study(
    study: StudyFiles,
    dataset: Dataset,
    *,
    calibrate: bool,
    announce: Callable[[Plan], str],
    events: Events | None = None,
) -> Outcome:
    """Runs or continues a study to its end, confirms the search's best, and exports it.

    Args:
        study: the study; its journal says what was done before.
        dataset: its data set.
        calibrate: whether to measure an epoch's time first.
        announce: turns the plan into the lines that are printed before the first trial.
        events: a file that gets a JSON line per event, `-` is standard output; or a function that gets each event.

    Raises:
        StudyError: no trial can be placed, or the best one's checkpoint is gone at the end.
        DiskFull: no space is left for the study; it can be resumed.
        EveryTrialFailed: no trial has a score at the end.
    """
    try:
        with (
            Notifier(study) as notifier,
            EventStream(events, notifier.tell_exit) as stream,
            opened_journal(study) as journal,
        ):
            write_study_file(study)  # now: a second driver was refused, a bucket's earlier one was fetched
            stream.write_history(journal.path)
            journal.listeners.append(stream.write)
            notifier.follow(journal)
            outcome = _run_or_done(study, dataset, journal, calibrate, announce)
            stream.set_exit(outcome.ended_by, outcome.exit_code, outcome.export)
            return outcome
    except BaseException as error:
        remove_unstarted_study(study)
        if isinstance(error, OSError) and is_disk_full(error):
            raise disk_full(study.name) from None
        raise


def _run_or_done(
    study: StudyFiles, dataset: Dataset, journal: Journal, calibrate: bool, announce: Callable[[Plan], str]
) -> Outcome:
    from tune.export.formats import FORMATS
    from tune.nodes.join import joined_ray, refuse_client

    exported = journal.state.export and study.export.exists()
    if exported and (study.export / FORMATS["keras"].file).exists():  # formats may have been added since
        exported = all((study.export / FORMATS[name].file).exists() for name in study.spec.export.formats)
    if study.settled(journal.state) and exported and not may_search(study, journal.state):
        return Outcome(_ended_by(study, journal.state), study.export)
    with redirect_output(study.ray_log) as terminal:
        print("starting Ray", file=terminal, flush=True)
        with joined_ray():
            refuse_client()
            outcome = _run(study, dataset, journal, terminal, calibrate, announce)
            if outcome.export is None and outcome.ended_by != "interrupted":  # here, so that Ray's logs are kept
                raise EveryTrialFailed(
                    f"no trial of study {study.spec.name!r} ended with a score. See why: emotune show "
                    f"{study.shell_name}; Ray's own words are in {study.ray_log}"
                )
            return outcome


def _run(
    study: StudyFiles,
    dataset: Dataset,
    journal: Journal,
    terminal: TextIO,
    calibrate: bool,
    announce: Callable[[Plan], str],
) -> Outcome:
    from tune.export.formats import FORMATS, check_formats, missing_packages
    from tune.nodes.autoscaler import capacity_with_room, find_capacity
    from tune.nodes.capacity import fits_now
    from tune.nodes.preflight import check_nodes
    from tune.nodes.trial_process import trial_process
    from tune.session.session import close_killed_search, search
    from tune.session.session_context import SessionContext

    spec, state = study.spec, journal.state
    context = trial_context(spec, dataset, state)
    left = trials_left(study, state)
    live = LiveStudy(terminal, spec, state, max(spec.most_trials, state.tried))
    capacity = capacity_with_room(spec.resources, live.line)
    plan = make_plan(spec, capacity, left, state=state)
    for warning in check_nodes(study, dataset, capacity):
        live.line(warning)
    ready = fits_now(spec.resources, capacity)
    if ready and any(FORMATS[name].packages for name in spec.export.formats):  # now, not after the search
        with trial_process(spec, live.line) as call:
            check_formats(spec.export.formats, lambda packages: call(missing_packages, packages))
    if not ready:  # measuring an epoch first would ask for one node, and for the others only after it
        live.line("no node has room for a trial yet: all are asked for at once, no epoch is measured first")
    ended_by = _ended_by(study, state)
    epoch_s: float | None = None
    if may_search(study, state):
        if calibrate and ready:
            context, plan, epoch_s = _calibrated(spec, context, state, plan, left, live)
        live.line(announce(plan))
        ended_by = search(SessionContext(study, dataset, journal, live, context, plan.at_once, epoch_s))
    elif not state.finished:  # a driver died between the last trial and this
        close_killed_search(SessionContext(study, dataset, journal, live, context, plan.at_once), ended_by)
    if ended_by == "interrupted":
        return Outcome(ended_by, None)
    if study.owes_confirmation(state) and study.best_run(state) is not None:
        confirming = LiveStudy(terminal, spec, state, 0, confirming=True)
        at_once = make_plan(spec, find_capacity(), spec.confirm.most_trainings, state=state).at_once
        if not confirm_best(SessionContext(study, dataset, journal, confirming, context, at_once, epoch_s)):
            return Outcome("interrupted", None)
    live.line("exporting the best model")
    return Outcome(ended_by, export_study(study, dataset, journal, live.line))


def _calibrated(
    spec: StudySpec, context: TrialContext, state: StudyState, plan: Plan, left: int, live: LiveStudy
) -> tuple[TrialContext, Plan, float | None]:
    """Measures an epoch, and at first what `precision: auto` stands for, which never changes.

    Returns:
        What trials are told, the plan, and the seconds of an epoch: as they were, and None, where none can be measured.
    """
    from tune.nodes.autoscaler import find_capacity
    from tune.session.calibrate import calibrate

    live.line("measuring an epoch's time on the default configuration")
    found = calibrate(spec, context, choose=spec.may_choose_precision and not state.sessions, say=live.line)
    if isinstance(found, str):
        live.line(f"no epoch could be measured: {found}")
        return context, plan, None
    if found.precision is not None:
        context = context.model_copy(update={"precision": found.precision.chosen})
        if found.precision.bfloat16_images_per_s:
            live.line(precision_line(found.precision))
    return context, make_plan(spec, find_capacity(), left, found, state), found.default.epoch_s


def _ended_by(study: StudyFiles, state: StudyState) -> str:
    """Returns how the search ended, if it goes on no further: by a budget as it is now, while trials are left."""
    before = "" if state.ended_by == "interrupted" else state.ended_by
    return (spent_budget(study, state) if trials_left(study, state) else before) or before or "finished"
