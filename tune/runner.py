"""Runs a study: checks, plans, searches, exports the best. `run` and `resume` are this one path."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from trainables.config import TrialContext
from trainables.records import Dataset, open_dataset
from tune.errors import EveryTrialFailed, StudyError
from tune.ledger import ENDED, Ledger, StudyRecord, TrialRecord
from tune.live import LiveStudy
from tune.plan import Plan, make_plan
from tune.studies import Study, check_data
from tune.study_data import open_study_data, trial_context
from tune.terminal import quiet_terminal


@dataclass(frozen=True)
class Outcome:
    """How a session ended: `finished`, `time` or `interrupted`; `export` is None when nothing could be exported."""

    ended_by: str
    export: Path | None


def run_study(study: Study, dataset: Dataset, *, calibrate: bool, announce: Callable[[Plan], str]) -> Outcome:
    """Runs or continues a study to its end, and exports the best model.

    Args:
        study: the study; its journal says what was done before.
        dataset: its data set.
        calibrate: whether to measure an epoch's time first.
        announce: turns the plan into the lines that are printed before the first trial.

    Raises:
        StudyError: no trial can be placed.
        EveryTrialFailed: no trial has a score at the end.
    """
    from tune.compute import joined_ray

    ledger = Ledger(study.journal)
    try:
        if ledger.record.finished and study.export.exists() and not _left(study, ledger.record):
            return Outcome(ledger.record.ended_by, study.export)
        with quiet_terminal(study.ray_log) as terminal:
            print("starting Ray", file=terminal, flush=True)
            with joined_ray():
                outcome = _run(study, dataset, ledger, terminal, calibrate, announce)
    except StudyError:
        if not ledger.record.sessions:  # refused before anything was run: leave nothing behind
            for path in (study.journal, study.ray_log, study.study_file):
                path.unlink(missing_ok=True)
            with suppress(OSError):
                study.directory.rmdir()
        raise
    finally:
        ledger.close()
    if outcome.export is None and outcome.ended_by != "interrupted":
        raise EveryTrialFailed(
            f"no trial of study {study.spec.name!r} ended with a score. See why: emotune show {study.directory}; "
            f"Ray's own words are in {study.ray_log}"
        )
    return outcome


def _run(
    study: Study,
    dataset: Dataset,
    ledger: Ledger,
    terminal: TextIO,
    calibrate: bool,
    announce: Callable[[Plan], str],
) -> Outcome:
    import ray

    from trainables.calibrate import measure_speed
    from tune.compute import run_like_a_trial
    from tune.session import search

    spec, record = study.spec, ledger.record
    context = trial_context(spec, dataset)
    left = _left(study, record)
    time_left_s = None if spec.time is None else spec.time - record.search_s
    live = LiveStudy(terminal, spec, record, max(spec.trials, len(record.trials)))
    plan = make_plan(spec, ray.cluster_resources(), len(ray.nodes()), left, None)
    ended_by = "finished"
    if left and (time_left_s is None or time_left_s > 0):
        if calibrate:
            live.line("measuring an epoch's time on the default configuration")
            config = {
                "parameters": spec.trial_config(spec.space.defaults()).model_dump(),
                "study": context.model_dump(),
            }
            speed = run_like_a_trial(spec, measure_speed, config)
            plan = make_plan(spec, ray.cluster_resources(), len(ray.nodes()), left, speed)
        live.line(announce(plan))
        ended_by = search(study, dataset, ledger, live, context, at_once=plan.at_once, time_left_s=time_left_s)
    elif left:
        ended_by = "time"
    if not record.finished and ended_by != "interrupted":  # a driver died between the last trial and this
        ledger.append("session_end", search_s=0.0, finished=True, ended_by=ended_by)
    export = None
    if ended_by != "interrupted":
        live.line("exporting the best model")
        export = _export(study, dataset, ledger)
    return Outcome(ended_by, export)


def _left(study: Study, record: StudyRecord) -> int:
    """Returns how many trials are still to be ended."""
    return max(study.spec.trials, len(record.trials)) - sum(t.state in ENDED for t in record.trials.values())


def _export(study: Study, dataset: Dataset, ledger: Ledger) -> Path | None:
    """Exports the best trial in a process like a trial's, so that a GPU is used where trials use one."""
    from tune.compute import run_like_a_trial

    if study.best(ledger.record) is None:
        return None
    context = trial_context(study.spec, dataset)
    _open_sealed_test(study, context, ledger, lambda *arguments: run_like_a_trial(study.spec, *arguments))
    run_like_a_trial(study.spec, export_best, study, ledger.record, context, study.export)
    ledger.append("export", path=str(study.export.relative_to(study.directory)))
    return study.export


def export_to(study: Study, destination: Path) -> None:
    """Exports a study's best checkpoint in this process; the test split of an unfinished study stays sealed.

    Raises:
        StudyError: no trial has a checkpoint, the study is being run, or its data set is another.
        ExportError: the destination is in the way or the checkpoint is damaged.
    """
    dataset = open_study_data(study.spec)
    context = trial_context(study.spec, dataset)
    ledger = Ledger(study.journal)
    try:
        check_data(study, ledger.record, dataset.info.fingerprint)
        if ledger.record.finished:
            _open_sealed_test(study, context, ledger, lambda function, *arguments: function(*arguments))
        export_best(study, ledger.record, context, destination)
    finally:
        ledger.close()


def _open_sealed_test(study: Study, context: TrialContext, ledger: Ledger, call: Callable[..., Any]) -> None:
    """Scores the best checkpoint on the test split, unless the journal has that score, and notes it at once."""
    _, checkpoint = _best(study, ledger.record)
    name = str(checkpoint.relative_to(study.directory))
    if name not in ledger.record.sealed:
        metrics = call(score_sealed, checkpoint, context)
        if metrics is not None:
            opening = len(ledger.record.sealed) + 1
            ledger.append("sealed", checkpoint=name, metrics={**metrics, "opening": opening})


def score_sealed(checkpoint: Path, context: TrialContext) -> dict[str, Any] | None:
    """Returns a checkpoint's figures on the sealed test split; None for a data set that has no test split."""
    from trainables.classifier import prepare_process

    prepare_process(context)
    from trainables.folds import test_rows
    from tune.export import evaluate_sealed

    dataset = open_dataset(Path(context.dataset))
    return evaluate_sealed(checkpoint, dataset) if len(test_rows(dataset)) else None


def export_best(study: Study, record: StudyRecord, context: TrialContext, destination: Path) -> None:
    """Exports the best trial's checkpoint with what the journal says of the sealed test.

    Raises:
        StudyError: no trial has a checkpoint.
        ExportError: the destination is in the way or the checkpoint is damaged.
    """
    from trainables.classifier import prepare_process

    prepare_process(context)
    from tune.export import export_checkpoint

    trial, checkpoint = _best(study, record)
    epoch = trial.best_epoch(study.spec.objective, study.spec.mode)
    export_checkpoint(
        checkpoint,
        open_dataset(Path(context.dataset)),
        destination,
        study_yaml=study.study_file.read_text(encoding="utf-8"),
        selection={name: value for name, value in trial.epochs[epoch or 0].items() if name.startswith("selection_")},
        sealed=record.sealed.get(str(checkpoint.relative_to(study.directory))),
    )


def _best(study: Study, record: StudyRecord) -> tuple[TrialRecord, Path]:
    found = study.best(record)
    if found is None:
        raise StudyError(
            f"study {study.spec.name!r} has no checkpoint to export yet. Let it run: emotune resume {study.directory}"
        )
    return found
