"""Which run of a study is exported, and what can be done where its checkpoint is gone. Writes nothing."""

from __future__ import annotations

from tune.errors import StudyError
from tune.study.bucket_study import EXPORT_FOLDER
from tune.study.studies import StudyFiles
from tune.study.study_state import StudyState
from tune.study.trial_record import TrialRecord, is_final_fit, run_label

_MOST_NAMED = 10


def run_to_export(study: StudyFiles, state: StudyState, number: int | None = None) -> tuple[TrialRecord, str]:
    """Returns the best run, or the one that is asked for, and its checkpoint in the study's place.

    Args:
        study: the study.
        state: what its journal adds up to.
        number: a trial's or a confirmation's; None for the best.

    Raises:
        StudyError: no run has a score, there is none of that number, or its checkpoint is not there.
    """
    if number is None:
        run = study.best_run(state)
        if run is None:
            raise StudyError(_without_score(study, state))
    else:
        found = state.trials.get(number) or state.confirmations.get(number)
        if found is None:
            raise StudyError(
                f"--trial must be a trial of the study, 0 to {max(state.trials, default=-1)}, or a confirmation. "
                f"Received: {number}"
            )
        run = found
    checkpoint = study.checkpoint(run)
    if checkpoint is None:
        raise StudyError(_without_checkpoint(study, state, run, asked=number is not None))
    return run, checkpoint


def missing_checkpoint_line(study: StudyFiles, state: StudyState) -> str:
    """Returns what can be done where the best run's checkpoint is gone and nothing was exported; else nothing."""
    run = study.best_run(state)
    if run is None or state.export or not study.is_checkpoint_missing(run):
        return ""
    return f"no export    {_remedies(study, state, run)}"


def _without_score(study: StudyFiles, state: StudyState) -> str:
    if not state.finished:
        return (
            f"study {study.spec.name!r} has no checkpoint to export yet. Let it run: emotune resume {study.shell_name}"
        )
    return f"no trial of study {study.spec.name!r} has a score to export. See why: emotune show {study.shell_name}"


def _without_checkpoint(study: StudyFiles, state: StudyState, run: TrialRecord, *, asked: bool) -> str:
    spec, path = study.spec, study.journalled_checkpoint(run)
    if run.repeats is not None:
        return (
            f"{run_label(run.number)} has the configuration of trial {run.repeats}, and was not trained again. Take "
            f"that one: --trial {run.repeats}"
        )
    value = run.best_value(spec.objective, spec.mode)
    scored = f", with {spec.objective} {value:.4f}," if value is not None and not is_final_fit(run.number) else ""
    where = f"its checkpoint is gone ({study.place.at(path)})" if path else "it saved no checkpoint of its best epoch"
    return f"{run_label(run.number)}{scored} is {'asked for' if asked else 'the best'} and {where}. " + _remedies(
        study, state, run
    )


def _remedies(study: StudyFiles, state: StudyState, run: TrialRecord) -> str:
    """Returns what can be done: train it again, take the next best, use the export of the study's end."""
    name, remedies = study.shell_name, []
    if study.journalled_checkpoint(run):
        remedies.append(f"train it again: emotune replay {name} {run.number} --restore")
    others = [other for other in study.ranking(state) if other is not run and study.checkpoint(other) is not None]
    if others:
        remedies.append(
            f"export the next best on purpose, {run_label(others[0].number)}: "
            f"emotune export {name} --trial {others[0].number} --to FOLDER"
        )
    if state.export and study.place.exists(f"{EXPORT_FOLDER}/model.keras"):
        remedies.append(f"use what was exported at the study's end, {study.place.at(EXPORT_FOLDER)}")
    numbers = ", ".join(str(other.number) for other in others[:_MOST_NAMED]) or "none"
    more = f" and {len(others) - _MOST_NAMED} more" if len(others) > _MOST_NAMED else ""
    with_one = f"Runs with a checkpoint: {numbers}{more}"
    text = "; or ".join(remedies)
    return f"{text[:1].upper()}{text[1:]}. {with_one}" if text else with_one
