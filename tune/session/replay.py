"""Trains a trial again from its seeds and compares every epoch with the journal.

Writes nothing to the study, but for a lost checkpoint that is asked back, when every epoch is identical.
"""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainables.local_copies import written_folder
from tune.errors import StudyError
from tune.search.trial_queue import micro_batches
from tune.session.create_or_resume import check_data
from tune.session.study_data import open_study_data, trial_context
from tune.study.provenance import differences, provenance
from tune.study.studies import StudyFiles, opened_journal
from tune.study.study_state import StudyState
from tune.study.trial_record import SEED_STRIDE, TrialRecord, is_final_fit, run_label

_NOT_COMPARED = ("images_per_s", "wait_s", "epoch_s", "process_memory_mib", "process", "node_ip")
"""What is measured on the machine and differs every time."""


@dataclass(frozen=True)
class Replay:
    """A trial trained again.

    Attributes:
        trial: its number.
        epochs: how many were trained again.
        mismatches: what is not as it was when the trial ran: versions, code, machine.
        different: epoch -> name of the metric -> (then, now), where they are not equal to the last digit.
        restored: where its checkpoint was put back, empty when it was not, None when nobody asked.
    """

    trial: int
    epochs: int
    mismatches: tuple[str, ...]
    different: Mapping[int, Mapping[str, tuple[Any, Any]]]
    restored: str | None = None


def replay_trial(study: StudyFiles, number: int, epochs: int | None = None, *, restore: bool = False) -> Replay:
    """Trains a trial again, in a process with a trial's resources.

    Args:
        study: the study.
        number: the trial's.
        epochs: only so many, None for all it trained.
        restore: put the checkpoint that it is exported from back, if it is gone and every epoch is identical.

    Raises:
        StudyError: there is no such trial, it reported nothing, nothing is to be put back, or its data set is another.
    """
    import ray

    from tune.nodes.join import joined_ray
    from tune.nodes.output_redirect import redirect_output
    from tune.nodes.trial_process import trial_process

    dataset, state = open_study_data(study.spec), study.state()
    check_data(study, state, dataset.info.fingerprint)
    trial = _find(state, number)
    known = sorted(trial.epochs)
    wanted = len(known) if epochs is None else min(epochs, len(known))
    context = trial_context(study.spec, dataset, state, session=trial.session)
    config = {
        "trial": number,
        "parameters": study.spec.trial_config(trial.values).model_dump(),
        "study": context.model_dump(),
        "resume_from": [],
        "micro_batches": micro_batches(trial, study.spec.trial_config(trial.values)),
        "refit_epochs": len(known) if is_final_fit(number) else None,
        "schedule_epochs": trial.schedule_epochs,
    }
    workers = state.workers.get(trial.session, study.spec.confirm.workers) if number >= SEED_STRIDE else 1
    if workers > 1 and restore:
        raise StudyError(
            f"--restore puts back what is equal to the last digit. Received: {run_label(number)}, which {workers} "
            "workers trained: one process repeats it in other last digits. Export another run"
        )
    lost = _lost_checkpoint(study, trial, wanted) if restore else None
    taken = opened_journal(study) if lost else nullcontext()  # nobody else writes there meanwhile
    with (
        taken,
        redirect_output(study.ray_log) as terminal,
        joined_ray(),
        trial_process(study.spec, functools.partial(print, file=terminal, flush=True)) as call,
    ):
        found = call(train_again, config, wanted, lost and lost[0])
        now = provenance(study.directory, ray.cluster_resources(), study.spec.code, onednn=context.onednn or "")
        different = {
            epoch: changed for epoch, new in enumerate(found, 1) if (changed := _compare(trial.epochs[epoch], new))
        }
        restored = study.place.at(lost[1]) if lost and not different else ""
        if lost:
            call(_restore_checkpoint, restored, study.checkpoint_files(trial))
    then = state.provenance.get(trial.session, {})
    others = differences(then, now)
    if workers > 1:
        others.append(f"confirm.workers: trained by {workers} processes, replayed by one")
    return Replay(number, wanted, tuple(others), different, restored if lost else None)


def train_again(config: dict[str, Any], epochs: int, kept: int | None = None) -> list[dict[str, Any]]:
    """Returns what a trial reports for each of its first epochs; one checkpoint is kept for `_restore_checkpoint`."""
    from trainables.training.classifier import Classifier

    classifier, reports = Classifier(config), []
    try:
        for epoch in range(1, epochs + 1):
            reports.append(classifier.step())
            if epoch == kept:
                classifier.save_checkpoint(str(_kept_folder()))
    finally:
        classifier.cleanup()
    return reports


@functools.cache
def _kept_folder() -> Path:
    """Returns the folder, of this process alone, that keeps a checkpoint from one call to the next."""
    return Path(tempfile.mkdtemp(prefix="emotune-replay-"))


def _restore_checkpoint(destination: str, names: Sequence[str]) -> None:
    """Puts the checkpoint that `train_again` kept in this process where it was; without a destination, drops it."""
    try:
        if destination:
            with written_folder(destination) as folder:
                folder.mkdir(parents=True, exist_ok=True)
                for name in names:  # in this order: what has the last is whole
                    shutil.copy2(_kept_folder() / name, folder / f".{name}")
                    (folder / f".{name}").replace(folder / name)
    finally:
        shutil.rmtree(_kept_folder(), ignore_errors=True)


def _lost_checkpoint(study: StudyFiles, trial: TrialRecord, epochs: int) -> tuple[int, str]:
    """Returns the epoch and the folder of the checkpoint to put back."""
    folder = study.journalled_checkpoint(trial)
    if folder is None:
        raise StudyError(
            f"--restore needs a checkpoint that the trial once had. Received: trial {trial.number}. Leave it out"
        )
    if study.checkpoint(trial) is not None:
        raise StudyError(
            f"--restore needs a checkpoint that is gone. Received: {study.place.at(folder)}, which is there"
        )
    epoch = next(epoch for epoch, path in trial.checkpoints.items() if path == folder)
    if epoch > epochs:
        raise StudyError(
            f"--restore needs the epochs up to {epoch}, the best one. Received: --epochs {epochs}. Leave it out"
        )
    return epoch, folder


def _find(state: StudyState, number: int) -> TrialRecord:
    trial = state.find_run(number)
    if not trial.epochs:
        raise StudyError(f"trial {number} reported no epoch, so there is nothing to compare. Name another")
    return trial


def _compare(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {
        name: (value, now.get(name))
        for name, value in then.items()
        if name not in _NOT_COMPARED and not _same(value, now.get(name))
    }


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) or (one != one and other != other)  # NaN is the same as NaN
