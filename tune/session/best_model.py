"""A study's best model: scores it on the sealed test split, once, and exports it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainables.config import TrialContext
from trainables.dataset.reader import Dataset
from trainables.places import Place
from tune.errors import StudyError
from tune.export.destination import check_destination
from tune.search.confirmation import confirmation_numbers
from tune.session.create_or_resume import check_data
from tune.session.export_process import export_run, score_ensemble, score_sealed, score_temperature
from tune.session.study_data import open_study_data, trial_context
from tune.study.best_run import run_to_export
from tune.study.bucket_study import EXPORT_FOLDER, download_export
from tune.study.journal import Journal
from tune.study.studies import StudyFiles, opened_journal
from tune.study.study_state import StudyState
from tune.study.trial_record import SEED_STRIDE, TrialRecord, is_final_fit
from tune.study.yaml_source import read_yaml
from tune.yaml_values import WrittenLoader, dump

_MOST_CANDIDATES = 12
"""Each answers for the whole selection fold, as in an epoch."""


def export_study(
    study: StudyFiles, dataset: Dataset, journal: Journal, say: Callable[[str], None] = lambda line: None
) -> Path | None:
    """Exports a study's best trial into the study's folder; returns that folder, None when no trial has a checkpoint.

    A process like a trial's does it, so that a GPU is used where trials use one; `say` hears if it has to wait for one.

    Raises:
        StudyError: the best trial's checkpoint is gone; another is never taken in its place.
        ExportError: the checkpoint is damaged.
    """
    from tune.nodes.trial_process import trial_process

    if study.best_run(journal.state) is None:
        return None
    best = run_to_export(study, journal.state)
    context = trial_context(study.spec, dataset, journal.state)
    with trial_process(study.spec, say) as call:
        checkpoints = _choose_checkpoints(study, context, journal, best, call)
        _check_members(study, journal.state, best[0], checkpoints)
        _judge_temperature(study, context, journal, best[0], checkpoints, call)
        _open_sealed_test(study, context, journal, best[0], checkpoints, call)
        study_yaml = _study_yaml(study)
        own = Path(os.path.abspath(study.directory))  # the process may have another current folder
        there = replace(study, directory=own)
        target = study.place.at(EXPORT_FOLDER)
        call(export_run, there, study_yaml, journal.state, best[0], checkpoints, context, target)
    if study.bucket:
        download_export(study.bucket, study.directory)
    journal.append("export", path=str(study.export.relative_to(study.directory)))
    return study.export


def export_to(study: StudyFiles, destination: str, trial: int | None = None, formats: Sequence[str] = ()) -> None:
    """Exports a study's best checkpoint in this process; the test split of an unfinished study stays sealed.

    Args:
        study: the study.
        destination: folder or address of a bucket's prefix; may hold an earlier export.
        trial: number of another trial or confirmation to export; None for the best.
        formats: what to write beside the Keras model; none: what the study says.

    Raises:
        StudyError: there is no checkpoint of it, the study is being run, or its data set is another.
        ExportError: the destination is in the way or the checkpoint is damaged.
    """
    from tune.export.export import EXPORT_FILES, EXPORT_PARTS
    from tune.export.formats import check_formats

    if formats:
        formats = [formats] if isinstance(formats, str) else formats
        formats = list(dict.fromkeys(["keras", *formats]))
    check_formats(formats or study.spec.export.formats)
    check_destination(Place(destination), EXPORT_FILES, EXPORT_PARTS)
    run_to_export(study, study.state(), trial)  # before anything is opened
    dataset = open_study_data(study.spec)
    with opened_journal(study) as journal:
        context = trial_context(study.spec, dataset, journal.state)
        check_data(study, journal.state, dataset.info.fingerprint)
        run, checkpoint = run_to_export(study, journal.state, trial)
        checkpoints = [checkpoint]
        if trial is None and study.settled(journal.state):
            checkpoints = _choose_checkpoints(study, context, journal, (run, checkpoint), _call_here)
        _check_members(study, journal.state, run, checkpoints)
        _judge_temperature(study, context, journal, run, checkpoints, _call_here)
        if study.settled(journal.state):
            _open_sealed_test(study, context, journal, run, checkpoints, _call_here)
        study_yaml = _study_yaml(study)
        export_run(study, study_yaml, journal.state, run, checkpoints, context, destination, formats)


def _study_yaml(study: StudyFiles) -> str:
    """Returns the study file as an export holds it: without addresses of the team's own, which are often secret."""
    plain = read_yaml(study.study_file, "a study file", WrittenLoader)
    return dump({name: value for name, value in plain.items() if name not in ("notify", "optuna_storage")})


def _call_here(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


def _choose_checkpoints(
    study: StudyFiles,
    context: TrialContext,
    journal: Journal,
    best: tuple[TrialRecord, str],
    call: Callable[..., Any],
) -> list[str]:
    """Returns the checkpoint of the best run, or several with it if their mean scores better.

    Candidates are its configuration's other seeds and the best other trials. The selection fold decides, once; the
    journal keeps what it said. Of several final fits it is always the mean: they were trained on that fold.
    """
    run, checkpoint = best
    state = journal.state
    most = study.spec.export.most_models
    runs = {checkpoint: run.number}
    if is_final_fit(run.number):
        fits = (other for other in study.ranking(state) if is_final_fit(other.number))
        runs |= {found: fit.number for fit in fits if (found := study.journalled_checkpoint(fit)) is not None}
        names = list(runs)
        if len(names) > 1 and (state.ensemble is None or state.ensemble["checkpoints"] != names):
            chosen = {"checkpoints": names, "runs": list(runs.values()), "unread": [], "kept": True}
            journal.append("ensemble", candidates=names, **chosen)
        return names
    if state.sealed_scores(exported := state.exported_checkpoints(checkpoint)):
        return exported  # the test was opened for it
    if most == 1:
        return [checkpoint]
    for other in [*_other_seeds(study, state, run), *study.ranking(state)]:
        if len(runs) == max(_MOST_CANDIDATES, most):
            break
        if (found := study.checkpoint(other)) is not None:
            runs.setdefault(found, other.number)
    candidates = list(runs)
    if len(candidates) == 1:
        return candidates
    if state.ensemble is None or state.ensemble.get("candidates") != candidates:
        findings = call(score_ensemble, [study.place.at(name) for name in candidates], context, most)
        members, unread = ([candidates[place] for place in findings.pop(name)] for name in ("members", "unread"))
        findings |= {"runs": [runs[name] for name in members], "unread": [runs[name] for name in unread]}
        journal.append("ensemble", candidates=candidates, checkpoints=members, **findings)
    return journal.state.exported_checkpoints(checkpoint)


def _check_members(study: StudyFiles, state: StudyState, run: TrialRecord, checkpoints: Sequence[str]) -> None:
    runs = {
        study.journalled_checkpoint(other): other for other in [*state.confirmations.values(), *state.trials.values()]
    }
    gone = [
        name
        for name in checkpoints
        if not all(study.place.exists(f"{name}/{file}") for file in study.checkpoint_files(runs.get(name, run)))
    ]
    if gone:
        raise StudyError(
            f"all {len(checkpoints)} models of the study's ensemble are needed. Received: {study.place.at(gone[0])} is "
            f"gone. Use the export of the study's end, {study.place.at(EXPORT_FOLDER)}; or export the single model: "
            f"emotune export {study.shell_name} --trial {run.number} --to FOLDER"
        )


def _judge_temperature(
    study: StudyFiles,
    context: TrialContext,
    journal: Journal,
    run: TrialRecord,
    checkpoints: Sequence[str],
    call: Callable[..., Any],
) -> None:
    """Has the selection fold say whether a temperature helps what is exported, unless the journal has that.

    Not for a final fit, which was trained on that fold; nor where the test was opened by a version that knew of no
    temperature: the export stays what was scored.
    """
    state = journal.state
    if is_final_fit(run.number) or state.calibration(checkpoints) or state.sealed_scores(checkpoints):
        return
    findings = call(score_temperature, list(map(study.place.at, checkpoints)), context)
    if findings is not None:
        journal.append("calibration", checkpoint="+".join(checkpoints), findings=findings)


def _open_sealed_test(
    study: StudyFiles,
    context: TrialContext,
    journal: Journal,
    run: TrialRecord,
    checkpoints: Sequence[str],
    call: Callable[..., Any],
) -> None:
    """Scores what is exported, and the run's other seeds one by one, on the test split, unless the journal has that."""
    if journal.state.sealed_scores(checkpoints) is not None:
        return
    seeds = [] if is_final_fit(run.number) else [checkpoints[0]]
    seeds += _checkpoints(study, _other_seeds(study, journal.state, run))
    from tune.export.temperature import kept_temperature

    temperature = kept_temperature(journal.state.calibration(checkpoints))
    places = [list(map(study.place.at, names)) for names in (checkpoints, seeds)]
    metrics = call(score_sealed, *places, context, temperature)
    if metrics is not None:
        opening = len(journal.state.sealed) + 1
        journal.append("sealed", checkpoint="+".join(checkpoints), metrics={**metrics, "opening": opening})


def _other_seeds(study: StudyFiles, state: StudyState, run: TrialRecord) -> list[TrialRecord]:
    """Returns the same configuration's other confirmations that ran to their end."""
    spec, seed = study.spec, run.number // SEED_STRIDE
    if not seed:
        return []
    others = (
        state.confirmations.get(number)
        for number in confirmation_numbers(spec, [run.number % SEED_STRIDE])
        if number != run.number
    )
    return [other for other in others if other is not None and other.state == "complete"]


def _checkpoints(study: StudyFiles, runs: Sequence[TrialRecord]) -> list[str]:
    return [checkpoint for run in runs if (checkpoint := study.checkpoint(run)) is not None]
