"""Trains a trial again from its seeds and compares every epoch with the journal. Writes nothing to the study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainables.records import Dataset
from tune.errors import StudyError
from tune.provenance import differences, provenance
from tune.record import StudyRecord, TrialRecord, is_final_fit
from tune.studies import Study
from tune.study_data import trial_context
from tune.trial_queue import micro_batches

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
    """

    trial: int
    epochs: int
    mismatches: tuple[str, ...]
    different: Mapping[int, Mapping[str, tuple[Any, Any]]]


def replay_trial(study: Study, dataset: Dataset, number: int, epochs: int | None = None) -> Replay:
    """Trains a trial again, in a process with a trial's resources.

    Args:
        study: the study.
        dataset: its data set.
        number: the trial's.
        epochs: only so many, None for all it trained.

    Raises:
        StudyError: there is no such trial, or it reported nothing.
    """
    import ray

    from tune.compute import joined_ray, trial_process
    from tune.terminal import quiet_terminal

    record = study.record()
    trial = _find(record, number)
    known = sorted(trial.epochs)
    wanted = len(known) if epochs is None else min(epochs, len(known))
    config = {
        "trial": number,
        "parameters": study.spec.trial_config(trial.values).model_dump(),
        "study": trial_context(study.spec, dataset).model_dump(),
        "resume_from": [],
        "micro_batches": micro_batches(trial, study.spec.trial_config(trial.values)),
        "refit_epochs": len(known) if is_final_fit(number) else None,
    }
    with quiet_terminal(study.ray_log), joined_ray(), trial_process(study.spec) as call:
        found = call(train_again, config, wanted)
        now = provenance(study.directory, ray.cluster_resources())
    different = {
        epoch: changed for epoch, now in enumerate(found, 1) if (changed := _compare(trial.epochs[epoch], now))
    }
    then = record.provenance.get(trial.session, {})
    return Replay(number, wanted, tuple(differences(then, now)), different)


def train_again(config: dict[str, Any], epochs: int) -> list[dict[str, Any]]:
    """Returns what a trial reports for each of its first epochs."""
    from trainables.classifier import Classifier

    classifier = Classifier(config)
    try:
        return [classifier.step() for _ in range(epochs)]
    finally:
        classifier.cleanup()


def _find(record: StudyRecord, number: int) -> TrialRecord:
    trial = {**record.trials, **record.confirmations}.get(number)
    if trial is None:
        raise StudyError(
            f"the study has no trial {number}. Received: {number}, with trials 0 to {max(record.trials, default=-1)}"
        )
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
