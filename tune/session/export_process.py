"""What scoring and exporting a best model takes in a trial's process: checkpoints fetched, figures, the export written.

`best_model.py` decides what is asked; nothing here touches the journal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from trainables.config import TrialContext
from trainables.dataset.node_cache import open_data
from trainables.local_copies import local_folder, written_folder
from tune.export.import_tensorflow import import_tensorflow
from tune.export.parity import start_fresh_process
from tune.study.studies import StudyFiles
from tune.study.study_state import StudyState
from tune.study.trial_record import SEED_STRIDE, TrialRecord, is_final_fit


def score_sealed(
    checkpoints: Sequence[str], seeds: Sequence[str], context: TrialContext, temperature: float = 1.0
) -> dict[str, Any] | None:
    """Returns the figures of a checkpoint, or of the mean of several, on the sealed test split; None without one.

    With more than one of `seeds`, checkpoints of the same configuration, `by_seed` holds the accuracy of each alone, in
    the same order, on all images and on those without a twin in training.
    """
    _prepare(context)
    from trainables.dataset.folds import test_rows
    from tune.export.sealed_test import evaluate_sealed

    dataset = open_data(context.dataset, fingerprint=context.fingerprint)
    if not len(test_rows(dataset)):
        return None

    def score(several: Sequence[str]) -> dict[str, Any]:
        with _local_folders(several) as folders:
            return evaluate_sealed(folders, dataset, temperature)

    scores = score(checkpoints)
    if len(seeds) < 2:
        return scores
    alone = [scores if [seed] == list(checkpoints) else score([seed]) for seed in seeds]
    by_seed = [
        {"accuracy": one["accuracy"], "untwinned": one["untwinned"] and one["untwinned"]["accuracy"]} for one in alone
    ]
    return {**scores, "by_seed": by_seed}


def score_ensemble(checkpoints: Sequence[str], context: TrialContext, most: int) -> dict[str, Any]:
    """Returns which of several checkpoints the selection fold chooses for a mean, and its score beside the first's."""
    _prepare(context)
    from tune.export.ensemble import judge_ensemble

    def folders() -> Iterator[Path]:  # one at a time: a large model's checkpoint has a gigabyte
        for checkpoint in checkpoints:
            with local_folder(checkpoint) as folder:
                yield folder

    return judge_ensemble(folders(), open_data(context.dataset, fingerprint=context.fingerprint), context, most)


def score_temperature(checkpoints: Sequence[str], context: TrialContext) -> dict[str, Any] | None:
    """Returns what the selection fold says of a temperature for a checkpoint, or for the mean of several."""
    _prepare(context)
    from tune.export.temperature import judge_temperature

    with _local_folders(checkpoints) as folders:
        return judge_temperature(folders, open_data(context.dataset, fingerprint=context.fingerprint), context)


@contextmanager
def _local_folders(checkpoints: Sequence[str]) -> Iterator[list[Path]]:
    with ExitStack() as stack:
        yield [stack.enter_context(local_folder(checkpoint)) for checkpoint in checkpoints]


def _prepare(context: TrialContext) -> None:
    from trainables.training.process import prepare_process, set_environment

    set_environment(context)
    start_fresh_process()  # an export follows on all that is scored here
    import_tensorflow(context.onednn)  # in a caller's own process its greetings would be seen
    prepare_process(context)


def export_run(
    study: StudyFiles,
    study_yaml: str,
    state: StudyState,
    trial: TrialRecord,
    checkpoints: Sequence[str],
    context: TrialContext,
    destination: str,
    formats: Sequence[str] = (),
) -> None:
    """Exports a run's checkpoint, or the mean of it and others, with what the journal says of the sealed test and of
    its configuration's confirmation.

    Args:
        study: the study; its folder may be another machine's.
        study_yaml: its resolved study file's text.
        state: what the journal adds up to.
        trial: the run.
        checkpoints: its checkpoint in the study's place, first, and those of other runs.
        context: what its trials are told.
        destination: a folder, or a bucket's address.
        formats: what to write; none: what the study says.

    Raises:
        ExportError: the destination is in the way or the checkpoint is damaged.
    """
    _prepare(context)
    from tune.export.export import export_checkpoint

    epoch = trial.best_epoch(study.spec.objective, study.spec.mode)
    refitted = is_final_fit(trial.number)  # its selection fold is among what it was trained on
    metrics = {} if refitted else trial.epochs[epoch or 0]
    places = [study.place.at(checkpoint) for checkpoint in checkpoints]
    with _local_folders(places) as folders, written_folder(destination) as target:
        export_checkpoint(
            folders,
            open_data(context.dataset, fingerprint=context.fingerprint),
            target,
            study_yaml=study_yaml,
            selection={name: value for name, value in metrics.items() if name.startswith("selection_")},
            confirmation=state.confirmed if _belongs_to_winner(state, trial) else None,
            sealed=state.sealed_scores(checkpoints),
            ensemble=state.ensemble,
            calibration=state.calibration(checkpoints),
            formats=formats or study.spec.export.formats,
        )


def _belongs_to_winner(state: StudyState, run: TrialRecord) -> bool:
    """Says whether a confirmation, if there was one, was about this run's configuration, or had no winner."""
    winner = (state.confirmed or {}).get("winner")
    return winner is None or run.number % SEED_STRIDE == winner
