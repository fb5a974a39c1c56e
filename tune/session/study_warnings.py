"""What is odd about a study that may begin all the same, in plain words. Asks neither Ray nor TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from search_spaces import Value
from trainables.dataset.folds import trial_rows
from trainables.dataset.info import untested_classes_line
from trainables.dataset.reader import Dataset
from trainables.models.optimizers import OPTIMIZERS
from tune.study.feasible import RandomSuggester
from tune.study.spec import StudySpec
from tune.study.wording import duration

if TYPE_CHECKING:
    from tune.session.plan import Plan

_DRAWS = 500
_TRIALS_IN_A_ROW = 3
"""Trials to their end, one after another in each place, that a search should have time for."""


def study_warnings(spec: StudySpec, dataset: Dataset) -> list[str]:
    """Returns what is odd about a study and its data set, a line each; nothing was measured for it.

    Args:
        spec: the study.
        dataset: its data set.
    """
    return [*_search(spec), *_inactive(spec), *_folds(spec, dataset)]


def epoch_warnings(spec: StudySpec, epoch_s: float, start_s: float) -> list[str]:
    """Returns what is odd about a study whose epochs take so long.

    Args:
        spec: the study.
        epoch_s: seconds of an epoch of the default configuration.
        start_s: seconds before a study's first epoch begins.
    """
    asha = spec.asha
    grace_s, whole_s = (start_s + epochs * epoch_s for epochs in (asha.grace_epochs, asha.max_epochs))
    if spec.time is None or whole_s <= spec.time:
        return []
    if grace_s <= spec.time:
        fitting = max(asha.grace_epochs, int((spec.time - start_s) / epoch_s / _TRIALS_IN_A_ROW))
        return [
            f"no trial of the default configuration trains to its end: asha.max_epochs={asha.max_epochs} take "
            f"{duration(whole_s)}, and time is {duration(spec.time)}. {_TRIALS_IN_A_ROW} in a row fit with "
            f"--set asha.max_epochs={fitting}"
        ]
    first = f"{asha.grace_epochs} epochs" if asha.grace_epochs > 1 else "one epoch"
    return [
        f"asha.grace_epochs={asha.grace_epochs} is longer than the study's time: {first} of one trial take "
        f"{duration(grace_s)}, and time is {duration(spec.time)}. No trial is ever compared with another"
    ]


def machine_warnings(spec: StudySpec, plan: Plan) -> list[str]:
    """Returns what is odd about a study on the machines that it has."""
    uses = spec.resources.gpus_per_trial
    if plan.gpus and not uses:
        return [f"{plan.gpus:g} GPUs are there and the study uses none: --set resources.gpus_per_trial=0.25"]
    if plan.gpus or uses:
        return []
    if plan.calibration is None:
        return ["no GPU was found: trials train on the processor, which takes much longer"]
    took = duration(plan.calibration.default.epoch_s)
    return [f"no GPU was found: trials train on the processor, where an epoch takes {took}"]


def memory_warning(trial_mib: float, at_once: int, machine_mib: float) -> list[str]:
    """Returns that a machine's memory does not hold its trials, if so.

    Args:
        trial_mib: of one trial's process.
        at_once: trials at the same time on it.
        machine_mib: all memory of the machine.
    """
    if trial_mib * at_once <= machine_mib:
        return []
    return [
        f"{at_once} trials at once take about {at_once * trial_mib / 1024:.1f} GiB, and this machine has "
        f"{machine_mib / 1024:.1f} GiB: --set resources.max_concurrent={max(1, int(machine_mib / trial_mib))}"
    ]


def small_space_line(spec: StudySpec) -> str:
    """Returns that a space has fewer configurations than the study has trials."""
    return (
        f"the space has {spec.most_trials} configurations: the search ends when each was tried once, before "
        f"{spec.trials} trials"
    )


def _search(spec: StudySpec) -> Iterator[str]:
    asha, budget = spec.asha, spec.budget
    if spec.most_trials < spec.trials:
        yield small_space_line(spec)
    elif spec.sampler == "tpe" and 1 < spec.trials <= spec.startup_trials:
        yield (
            f"the search stays random: the sampler learns after startup_trials={spec.startup_trials}, and there are "
            f"{spec.trials} trials"
        )
    if asha.stop and not asha.rungs and asha.max_epochs > 1:
        yield (
            f"no trial is ever stopped: asha.grace_epochs={asha.grace_epochs} is not below "
            f"asha.max_epochs={asha.max_epochs}. Lower it, or write asha.stop: false to mean it"
        )
    if spec.confirm.refit and "plateau" in spec.possible_values("schedule"):
        yield (
            f"confirm.refit={spec.confirm.refit} with schedule plateau: it lowers the rate when inner validation stops "
            "gaining, and a final fit trains on those images too. Choose another schedule, or confirm.refit: 0"
        )
    if spec.confirm.refit_epochs and not spec.confirm.refit:
        yield f"confirm.refit_epochs={spec.confirm.refit_epochs} changes nothing without confirm.refit: 1 or more"
    if budget.epochs is not None and budget.epochs < asha.grace_epochs:
        yield (
            f"asha.grace_epochs={asha.grace_epochs} is longer than budget.epochs={budget.epochs}: no trial gets to its "
            "first rung"
        )


def _inactive(spec: StudySpec) -> Iterator[str]:
    """Yields the parameters that no trial has, and those that change nothing in any."""
    from trainables.preprocessing.methods import METHODS  # Albumentations takes a second

    seen: set[str] = set(spec.space.defaults())
    for seed in range(_DRAWS):
        if len(seen) == len(spec.space.parameters):
            break
        seen |= spec.space.suggest(RandomSuggester(seed)).keys()
    methods, optimizers = spec.possible_values("preprocessing"), spec.possible_values("optimizer")
    needs: dict[str, tuple[str, list[Value]]] = {}
    for method in METHODS.values():
        for strength in method.strengths:
            needs.setdefault(strength, ("preprocessing", []))[1].append(method.name)
    for optimizer, kind in OPTIMIZERS.items():
        for name in kind.parameters:
            needs.setdefault(name, ("optimizer", []))[1].append(optimizer)
    for name in ("plateau_factor", "plateau_patience"):
        needs[name] = ("schedule", ["plateau"])
    chosen = {"preprocessing": methods, "optimizer": optimizers, "schedule": spec.possible_values("schedule")}
    for name, parameter in spec.space.parameters.items():
        other, wanted = needs.get(name, ("", []))
        if name not in seen:
            conditions = ", ".join(f"{one} {' or '.join(map(str, of))}" for one, of in parameter.conditions().items())
            yield f"{name} is never active: it wants {conditions}, which no configuration has"
        elif other and not set(wanted) & set(chosen[other]):
            yield (
                f"{name} changes nothing: it counts with {other} {' or '.join(map(str, wanted))}, and no trial has "
                "that. Remove it from the space"
            )


def _folds(spec: StudySpec, dataset: Dataset) -> Iterator[str]:
    largest, smallest_ratio = max(spec.possible_values("batch_size")), min(spec.possible_values("split_ratio"))
    limit = spec.folds.max_images_per_fold
    images = len(trial_rows(dataset, spec.folds.selection_share, smallest_ratio, spec.seed, limit).fit)
    if largest > images:
        limited = (
            f", of folds.max_images_per_fold={limit}" if images == limit else f" at split_ratio={smallest_ratio:g}"
        )
        yield (
            f"batch_size={largest} is larger than the {images} images that train{limited}: such a trial makes one step "
            "an epoch"
        )
    if line := untested_classes_line(dataset.info.counts["test"]):
        yield line
