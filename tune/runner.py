"""Runs a study: checks, plans, searches, exports the best. `run` and `resume` are this one path."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from trainables.config import TrialContext
from trainables.data_cache import open_data
from trainables.faults import is_disk_full
from trainables.places import Place, local_folder, written_folder
from trainables.records import Dataset
from tune.bucket_study import EXPORT_FOLDER, bring_export
from tune.budget import BUDGETS, exit_code, fired
from tune.confirm import candidates, judge, numbers, scores
from tune.errors import EveryTrialFailed, StudyError, disk_full
from tune.event_stream import EventStream
from tune.ledger import Ledger
from tune.live import LiveStudy
from tune.plan import Plan, make_plan
from tune.record import ENDED, REFIT_SEED, SEED_STRIDE, StudyRecord, TrialRecord
from tune.studies import Study, check_data, opened_ledger
from tune.study_data import open_study_data, trial_context
from tune.terminal import quiet_terminal
from tune.whole_folder import check_destination

if TYPE_CHECKING:
    from tune.session import Desk


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
    events: Path | None = None,
) -> Outcome:
    """Runs or continues a study to its end, confirms the search's best, and exports it.

    Args:
        study: the study; its journal says what was done before.
        dataset: its data set.
        calibrate: whether to measure an epoch's time first.
        announce: turns the plan into the lines that are printed before the first trial.
        events: a file that gets a JSON line per event; `-` is standard output.

    Raises:
        StudyError: no trial can be placed.
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
    except StudyError:
        _leave_nothing_unbegun(study)
        raise
    except OSError as error:
        if is_disk_full(error):
            raise disk_full(study.name) from None
        raise


def _leave_nothing_unbegun(study: Study) -> None:
    """Removes what a study that was refused before its first session has written."""
    if study.running or study.record().sessions:
        return
    for path in (study.journal, study.ray_log, study.study_file):
        path.unlink(missing_ok=True)
    with suppress(OSError):
        study.directory.rmdir()


def _run_or_done(
    study: Study, dataset: Dataset, ledger: Ledger, calibrate: bool, announce: Callable[[Plan], str]
) -> Outcome:
    from tune.compute import joined_ray

    if study.settled(ledger.record) and study.export.exists() and not _may_search(study, ledger.record):
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
    from trainables.calibrate import measure_speed
    from tune.autoscaler import find_room
    from tune.compute import trial_process
    from tune.placement import fits_now
    from tune.preflight import check_nodes
    from tune.session import Desk, search

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
            with trial_process(spec) as call:
                speed = call(measure_speed, config)
            plan = make_plan(spec, find_room(), left, speed)
        live.line(announce(plan))
        ended_by = search(Desk(study, dataset, ledger, live, context, plan.at_once, speed and speed.epoch_s))
    elif not record.finished:  # a driver died between the last trial and this
        open_s = record.search_s - record.closed_s
        ledger.append("session_end", search_s=round(open_s, 3), finished=True, ended_by=ended_by)
    if ended_by == "interrupted":
        return Outcome(ended_by, None)
    if record.confirmed is None and spec.confirm.top and study.best(record) is not None:
        confirming = LiveStudy(terminal, spec, record.confirmations, 0)
        if not _confirm(Desk(study, dataset, ledger, confirming, context, plan.at_once, speed and speed.epoch_s)):
            return Outcome("interrupted", None)
    live.line("exporting the best model")
    return Outcome(ended_by, _export(study, dataset, ledger))


def _confirm(desk: Desk) -> bool:
    """Trains the search's best again, journals what that showed, and fits the winner; False when interrupted."""
    from tune.session import confirm

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
    return not _spent(study, record) or study.best(record) is None


def _left(study: Study, record: StudyRecord) -> int:
    """Returns how many trials are still to be ended; those that a budget has cut are, should it be raised."""
    ended = sum(trial.state in ENDED and trial.state != "cut" for trial in record.trials.values())
    return max(study.spec.trials, len(record.trials)) - ended


def _export(study: Study, dataset: Dataset, ledger: Ledger) -> Path | None:
    """Exports the best trial in a process like a trial's, so that a GPU is used where trials use one."""
    from tune.compute import trial_process

    if study.best(ledger.record) is None:
        return None
    context = trial_context(study.spec, dataset)
    with trial_process(study.spec) as call:
        _open_sealed_test(study, context, ledger, call)
        study_yaml = study.study_file.read_text(encoding="utf-8")
        call(export_best, study, study_yaml, ledger.record, context, study.place.at(EXPORT_FOLDER))
    if study.bucket:
        bring_export(study.bucket, study.directory)
    ledger.append("export", path=str(study.export.relative_to(study.directory)))
    return study.export


def export_to(study: Study, destination: str) -> None:
    """Exports a study's best checkpoint in this process; the test split of an unfinished study stays sealed.

    Args:
        study: the study.
        destination: folder or address of a bucket's prefix; may hold an earlier export.

    Raises:
        StudyError: no trial has a checkpoint, the study is being run, or its data set is another.
        ExportError: the destination is in the way or the checkpoint is damaged.
    """
    from tune.export import EXPORT_FILES, EXPORT_PARTS

    check_destination(Place(destination), EXPORT_FILES, EXPORT_PARTS)
    dataset = open_study_data(study.spec)
    context = trial_context(study.spec, dataset)
    with opened_ledger(study) as ledger:
        check_data(study, ledger.record, dataset.info.fingerprint)
        if study.settled(ledger.record):
            _open_sealed_test(study, context, ledger, lambda function, *arguments: function(*arguments))
        study_yaml = study.study_file.read_text(encoding="utf-8")
        export_best(study, study_yaml, ledger.record, context, destination)


def _open_sealed_test(study: Study, context: TrialContext, ledger: Ledger, call: Callable[..., Any]) -> None:
    """Scores the run that is exported, and its sister runs, on the test split, unless the journal has that already."""
    run, checkpoint = _best(study, ledger.record)
    if checkpoint in ledger.record.sealed:
        return
    refitted = run.number // SEED_STRIDE == REFIT_SEED
    checkpoints = [study.place.at(name) for name in (checkpoint, *_sisters(study, ledger.record, run))]
    metrics = call(score_sealed, checkpoints, context, refitted)
    if metrics is not None:
        opening = len(ledger.record.sealed) + 1
        ledger.append("sealed", checkpoint=checkpoint, metrics={**metrics, "opening": opening})


def _sisters(study: Study, record: StudyRecord, run: TrialRecord) -> list[str]:
    """Returns the checkpoints of the same configuration's other confirmations."""
    spec, seed = study.spec, run.number // SEED_STRIDE
    if not seed:
        return []
    others = (
        record.confirmations.get(number) for number in numbers(spec, [run.number % SEED_STRIDE]) if number != run.number
    )
    found = (o.checkpoint(study.place, o.best_epoch(spec.objective, spec.mode)) for o in others if o is not None)
    return [checkpoint for checkpoint in found if checkpoint is not None]


def score_sealed(checkpoints: Sequence[str], context: TrialContext, refitted: bool = False) -> dict[str, Any] | None:
    """Returns the first checkpoint's figures on the sealed test split; None for a data set that has no test split.

    With further checkpoints of the same configuration, `by_seed` holds the accuracy of each, in the same order, on all
    images and on those without a twin in training. A first one that was fitted on all training images is no seed.
    """
    from trainables.training import prepare_process

    prepare_process(context)
    from trainables.folds import test_rows
    from tune.export import evaluate_sealed

    dataset = open_data(context.dataset, fingerprint=context.fingerprint)
    if not len(test_rows(dataset)):
        return None
    every = []
    for checkpoint in checkpoints:
        with local_folder(checkpoint) as folder:
            every.append(evaluate_sealed(folder, dataset))
    by_seed = [
        {"accuracy": one["accuracy"], "untwinned": one["untwinned"] and one["untwinned"]["accuracy"]}
        for one in every[1 if refitted else 0 :]
    ]
    return {**every[0], "by_seed": by_seed} if len(by_seed) > 1 else every[0]


def export_best(study: Study, study_yaml: str, record: StudyRecord, context: TrialContext, destination: str) -> None:
    """Exports the best trial's checkpoint with what the journal says of the sealed test.

    Args:
        study: the study; its folder may be another machine's.
        study_yaml: its resolved study file's text.
        record: what the journal adds up to.
        context: what its trials are told.
        destination: a folder, or a bucket's address.

    Raises:
        StudyError: no trial has a checkpoint.
        ExportError: the destination is in the way or the checkpoint is damaged.
    """
    from trainables.training import prepare_process

    prepare_process(context)
    from tune.export import export_checkpoint

    trial, checkpoint = _best(study, record)
    epoch = trial.best_epoch(study.spec.objective, study.spec.mode)
    refitted = trial.number // SEED_STRIDE == REFIT_SEED  # its selection fold is among what it was trained on
    metrics = {} if refitted else trial.epochs[epoch or 0]
    with local_folder(study.place.at(checkpoint)) as folder, written_folder(destination) as target:
        export_checkpoint(
            folder,
            open_data(context.dataset, fingerprint=context.fingerprint),
            target,
            study_yaml=study_yaml,
            selection={name: value for name, value in metrics.items() if name.startswith("selection_")},
            confirmation=record.confirmed,
            sealed=record.sealed.get(checkpoint),
        )


def _best(study: Study, record: StudyRecord) -> tuple[TrialRecord, str]:
    found = study.best(record)
    if found is None:
        raise StudyError(
            f"study {study.spec.name!r} has no checkpoint to export yet. Let it run: emotune resume {study.shell_name}"
        )
    return found
