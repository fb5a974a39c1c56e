"""A study's best model: scores it on the sealed test split, once, and exports it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainables.config import TrialContext
from trainables.dataset.node_cache import open_data
from trainables.dataset.reader import Dataset
from trainables.local_copies import local_folder, written_folder
from trainables.places import Place
from tune.export.destination import check_destination
from tune.export.import_tensorflow import import_tensorflow
from tune.search.confirmation import confirmation_numbers
from tune.session.create_or_resume import check_data
from tune.session.study_data import open_study_data, trial_context
from tune.study.best_run import run_to_export
from tune.study.bucket_study import EXPORT_FOLDER, download_export
from tune.study.journal import Journal
from tune.study.studies import StudyFiles, opened_journal
from tune.study.study_state import StudyState
from tune.study.trial_record import SEED_STRIDE, TrialRecord, is_final_fit


def export_study(study: StudyFiles, dataset: Dataset, journal: Journal) -> Path | None:
    """Exports a study's best trial into the study's folder; returns that folder, None when no trial has a checkpoint.

    A process like a trial's does it, so that a GPU is used where trials use one.

    Raises:
        StudyError: the best trial's checkpoint is gone; another is never taken in its place.
        ExportError: the checkpoint is damaged.
    """
    from tune.nodes.join import trial_process

    if study.best_run(journal.state) is None:
        return None
    best = run_to_export(study, journal.state)
    context = trial_context(study.spec, dataset)
    with trial_process(study.spec) as call:
        _open_sealed_test(study, context, journal, best, call)
        study_yaml = study.study_file.read_text(encoding="utf-8")
        there = replace(study, directory=study.directory.resolve())  # its process may have another current folder
        call(export_run, there, study_yaml, journal.state, best, context, study.place.at(EXPORT_FOLDER))
    if study.bucket:
        download_export(study.bucket, study.directory)
    journal.append("export", path=str(study.export.relative_to(study.directory)))
    return study.export


def export_to(study: StudyFiles, destination: str, trial: int | None = None) -> None:
    """Exports a study's best checkpoint in this process; the test split of an unfinished study stays sealed.

    Args:
        study: the study.
        destination: folder or address of a bucket's prefix; may hold an earlier export.
        trial: number of another trial or confirmation to export; None for the best.

    Raises:
        StudyError: there is no checkpoint of it, the study is being run, or its data set is another.
        ExportError: the destination is in the way or the checkpoint is damaged.
    """
    from tune.export.export import EXPORT_FILES, EXPORT_PARTS

    check_destination(Place(destination), EXPORT_FILES, EXPORT_PARTS)
    run_to_export(study, study.state(), trial)  # before anything is opened
    dataset = open_study_data(study.spec)
    context = trial_context(study.spec, dataset)
    with opened_journal(study) as journal:
        check_data(study, journal.state, dataset.info.fingerprint)
        chosen = run_to_export(study, journal.state, trial)
        if study.settled(journal.state):
            _open_sealed_test(study, context, journal, chosen, lambda function, *arguments: function(*arguments))
        study_yaml = study.study_file.read_text(encoding="utf-8")
        export_run(study, study_yaml, journal.state, chosen, context, destination)


def _open_sealed_test(
    study: StudyFiles,
    context: TrialContext,
    journal: Journal,
    chosen: tuple[TrialRecord, str],
    call: Callable[..., Any],
) -> None:
    """Scores the run that is exported, and its sister runs, on the test split, unless the journal has that already."""
    run, checkpoint = chosen
    if checkpoint in journal.state.sealed:
        return
    refitted = is_final_fit(run.number)
    checkpoints = [study.place.at(name) for name in (checkpoint, *_other_seeds(study, journal.state, run))]
    metrics = call(score_sealed, checkpoints, context, refitted)
    if metrics is not None:
        opening = len(journal.state.sealed) + 1
        journal.append("sealed", checkpoint=checkpoint, metrics={**metrics, "opening": opening})


def _other_seeds(study: StudyFiles, state: StudyState, run: TrialRecord) -> list[str]:
    """Returns the checkpoints of the same configuration's other confirmations."""
    spec, seed = study.spec, run.number // SEED_STRIDE
    if not seed:
        return []
    others = (
        state.confirmations.get(number)
        for number in confirmation_numbers(spec, [run.number % SEED_STRIDE])
        if number != run.number
    )
    found = (study.checkpoint(other) for other in others if other is not None)
    return [checkpoint for checkpoint in found if checkpoint is not None]


def score_sealed(checkpoints: Sequence[str], context: TrialContext, refitted: bool = False) -> dict[str, Any] | None:
    """Returns the first checkpoint's figures on the sealed test split; None for a data set that has no test split.

    With further checkpoints of the same configuration, `by_seed` holds the accuracy of each, in the same order, on all
    images and on those without a twin in training. A first one that was fitted on all training images is no seed.
    """
    from trainables.training.process import prepare_process

    import_tensorflow()  # in a caller's own process its greetings would be seen
    prepare_process(context)
    from trainables.dataset.folds import test_rows
    from tune.export.export import evaluate_sealed

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


def export_run(
    study: StudyFiles,
    study_yaml: str,
    state: StudyState,
    chosen: tuple[TrialRecord, str],
    context: TrialContext,
    destination: str,
) -> None:
    """Exports a run's checkpoint with what the journal says of the sealed test and of its configuration's confirmation.

    Args:
        study: the study; its folder may be another machine's.
        study_yaml: its resolved study file's text.
        state: what the journal adds up to.
        chosen: the run and its checkpoint in the study's place.
        context: what its trials are told.
        destination: a folder, or a bucket's address.

    Raises:
        ExportError: the destination is in the way or the checkpoint is damaged.
    """
    from trainables.training.process import prepare_process

    import_tensorflow()  # in a caller's own process its greetings would be seen
    prepare_process(context)
    from tune.export.export import export_checkpoint

    trial, checkpoint = chosen
    epoch = trial.best_epoch(study.spec.objective, study.spec.mode)
    refitted = is_final_fit(trial.number)  # its selection fold is among what it was trained on
    metrics = {} if refitted else trial.epochs[epoch or 0]
    with local_folder(study.place.at(checkpoint)) as folder, written_folder(destination) as target:
        export_checkpoint(
            folder,
            open_data(context.dataset, fingerprint=context.fingerprint),
            target,
            study_yaml=study_yaml,
            selection={name: value for name, value in metrics.items() if name.startswith("selection_")},
            confirmation=state.confirmed if _belongs_to_winner(state, trial) else None,
            sealed=state.sealed.get(checkpoint),
        )


def _belongs_to_winner(state: StudyState, run: TrialRecord) -> bool:
    """Says whether a confirmation, if there was one, was about this run's configuration, or had no winner."""
    winner = (state.confirmed or {}).get("winner")
    return winner is None or run.number % SEED_STRIDE == winner
