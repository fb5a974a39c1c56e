"""Runs a study: checks, plans, searches, exports the best. `run` and `resume` are this one path."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from trainables.dataset.reader import Dataset
from trainables.training.fault_kinds import is_disk_full
from tune.errors import EveryTrialFailed, disk_full
from tune.nodes.output_redirect import quiet_terminal
from tune.search.confirmation import candidates, judge, numbers, scores
from tune.session.best_model import export_study
from tune.session.create_or_resume import remove_unbegun
from tune.session.event_stream import Events, EventStream
from tune.session.live_display import LiveStudy
from tune.session.plan import Plan, make_plan
from tune.session.study_data import trial_context
from tune.study.budget import BUDGETS, exit_code, fired
from tune.study.journal import Ledger
from tune.study.studies import Study, opened_ledger
from tune.study.study_state import ENDED, REFIT_SEED, SEED_STRIDE, StudyRecord

if TYPE_CHECKING:
    from tune.session.session import Desk


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
    study: Study,
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
        with EventStream(events) as stream, opened_ledger(study) as ledger:
            stream.past(ledger.path)
            ledger.listeners.append(stream.write)
            outcome = _run_or_done(study, dataset, ledger, calibrate, announce)
            if outcome.export is None and outcome.ended_by != "interrupted":
                raise EveryTrialFailed(
                    f"no trial of study {study.spec.name!r} ended with a score. See why: emotune show "
                    f"{study.shell_name}; Ray's own words are in {study.ray_log}"
                )
            stream.ended(outcome.ended_by, outcome.exit_code, outcome.export)
            return outcome
    except BaseException as error:
        remove_unbegun(study)
        if isinstance(error, OSError) and is_disk_full(error):
            raise disk_full(study.name) from None
        raise


def _run_or_done(
    study: Study, dataset: Dataset, ledger: Ledger, calibrate: bool, announce: Callable[[Plan], str]
) -> Outcome:
    from tune.nodes.join import joined_ray

    exported = ledger.record.export and study.export.exists()
    if study.settled(ledger.record) and exported and not _may_search(study, ledger.record):
        return Outcome(_ended_by(study, ledger.record), study.export)
    with quiet_terminal(study.ray_log) as terminal:
        print("starting Ray", file=terminal, flush=True)
        with joined_ray():
            return _run(study, dataset, ledger, terminal, calibrate, announce)


def _run(
    study: Study,
    dataset: Dataset,
    ledger: Ledger,
    terminal: TextIO,
    calibrate: bool,
    announce: Callable[[Plan], str],
) -> Outcome:
    from trainables.training.calibration import measure_speed
    from tune.nodes.autoscaler import find_room
    from tune.nodes.capacity import fits_now
    from tune.nodes.join import trial_process
    from tune.nodes.preflight import check_nodes
    from tune.session.session import Desk, search

    spec, record = study.spec, ledger.record
    context = trial_context(spec, dataset)
    left = _left(study, record)
    live = LiveStudy(terminal, spec, record.trials, max(spec.trials, len(record.trials)))
    room = find_room()
    plan = make_plan(spec, room, left, None)
    for warning in check_nodes(study, dataset, room):
        live.line(warning)
    ready = fits_now(spec.resources, room)
    if not ready:  # measuring an epoch first would ask for one node, and for the others only after it
        live.line("no node has room for a trial yet: all are asked for at once, no epoch is measured first")
    ended_by, speed = _ended_by(study, record), None
    if _may_search(study, record):
        if calibrate and ready:
            live.line("measuring an epoch's time on the default configuration")
            config = {
                "parameters": spec.trial_config(spec.space.defaults()).model_dump(),
                "study": context.model_dump(),
            }
            with trial_process(spec, live.line) as call:
                speed = call(measure_speed, config)
            plan = make_plan(spec, find_room(), left, speed)
        live.line(announce(plan))
        ended_by = search(Desk(study, dataset, ledger, live, context, plan.at_once, speed and speed.epoch_s))
    elif not record.finished:  # a driver died between the last trial and this
        open_s = record.search_s - record.closed_s
        ledger.append("session_end", search_s=round(open_s, 3), finished=True, ended_by=ended_by)
    if ended_by == "interrupted":
        return Outcome(ended_by, None)
    if record.confirmed is None and spec.confirm.top and study.best_run(record) is not None:
        confirming = LiveStudy(terminal, spec, record.confirmations, 0)
        if not _confirm(Desk(study, dataset, ledger, confirming, context, plan.at_once, speed and speed.epoch_s)):
            return Outcome("interrupted", None)
    live.line("exporting the best model")
    return Outcome(ended_by, export_study(study, dataset, ledger))


def _confirm(desk: Desk) -> bool:
    """Trains the search's best again, journals what that showed, and fits the winner; False when interrupted."""
    from tune.session.session import confirm

    study, ledger, spec, record = desk.study, desk.ledger, desk.study.spec, desk.ledger.record
    spent = _spent(study, record)
    if spent in ("gpu_hours", "epochs", "cost"):
        words = f"the best trials were not trained again: {BUDGETS[spent]}"
        desk.live.line(words)
        ledger.append("confirmed", findings={"winner": None, "skipped": words})
        return True
    trials = candidates(spec, record)
    runs = numbers(spec, trials)
    desk.live.expect(len(runs))
    desk.live.line(
        f"confirming: {len(trials)} configurations (trials {', '.join(map(str, trials))}) with {spec.confirm.seeds} "
        "fresh seeds each"
    )
    if any(n not in record.confirmations or record.confirmations[n].state not in ENDED for n in runs):
        if confirm(desk, runs) == "interrupted":
            return False
    best = study.ranked(record)[0]
    value = best.best_value(spec.objective, spec.mode) or 0.0
    findings = judge(scores(spec, record, trials), (best.number, value), spec.mode)
    if findings is not None and spec.confirm.refit:
        repeats = [record.confirmations[n] for n in numbers(spec, [findings.winner]) if n in record.confirmations]
        epochs = [e for run in repeats if (e := run.best_epoch(spec.objective, spec.mode)) is not None]
        number = findings.winner + REFIT_SEED * SEED_STRIDE
        refit_epochs = max(1, round(sum(epochs) / len(epochs)))
        desk.live.line(f"fitting trial {findings.winner} on all training images for {refit_epochs} epochs")
        if confirm(desk, [number], refit_epochs) == "interrupted":
            return False
    skipped = {"winner": None, "skipped": "no configuration could be trained again twice: see their faults"}
    ledger.append("confirmed", findings=skipped if findings is None else findings.plain())
    return True


def _spent(study: Study, record: StudyRecord) -> str:
    return fired(study.spec, record, time.time(), record.search_s)


def _ended_by(study: Study, record: StudyRecord) -> str:
    """Returns how the search ended, if it goes on no further: by a budget as it is now, while trials are left."""
    before = "" if record.ended_by == "interrupted" else record.ended_by
    return (_spent(study, record) if _left(study, record) else before) or before or "finished"


def _may_search(study: Study, record: StudyRecord) -> bool:
    """Says whether trials are left and no budget is spent; unfinished trials go on even so if none has a score."""
    if not _left(study, record):
        return False
    return not _spent(study, record) or study.best_run(record) is None


def _left(study: Study, record: StudyRecord) -> int:
    """Returns how many trials are still to be ended; those that a budget has cut are, should it be raised."""
    ended = sum(trial.state in ENDED and trial.state != "cut" for trial in record.trials.values())
    return max(study.spec.trials, len(record.trials)) - ended
