"""All that `emotune plan` tells of a study before it begins: measures, simulates, adds up. Begins nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import psutil

from search_spaces import Value
from trainables.dataset.face_boxes import expected_s, load_faces
from trainables.dataset.reader import Dataset
from trainables.models.size import checkpoint_mib
from tune.errors import ClusterError
from tune.nodes.capacity import ClusterCapacity, fits_now, trials_at_once
from tune.session.calibrate import DEFAULT_S, Calibration, calibrate, drawn_configurations
from tune.session.plan import (
    Plan,
    Range,
    make_plan,
    may_search,
    plan_without_machine,
    trainings_left,
    trials_left,
)
from tune.session.plan_text import cluster_text, plan_dict, plan_rows, size_text
from tune.session.study_data import trial_context
from tune.session.study_text import nodes_text
from tune.session.study_warnings import epoch_warnings, machine_warnings, memory_warning, study_warnings
from tune.study.spec import StudySpec
from tune.study.studies import StudyFiles

_DRAWN = 4
"""Configurations that are measured beside the default one."""

_SIZED = 50
"""Configurations whose checkpoints are worked out."""

_KEPT = 2
"""Checkpoints of a trial that stay: its best epoch's and its latest."""


_RAY_ENDS = 0.25
"""How long Ray takes to end, as a share of how long it took to start: 7 of 36 s and 5.5 of 21 s were measured."""


@dataclass(frozen=True)
class StudyPlan:
    """A study before it begins.

    Attributes:
        spec: the study.
        dataset: its data set.
        machine: where it would run, in words.
        plan: machine, trials, epochs, time, money.
        unknown: why no epoch's time is known, "" where it is.
        before_s: seconds from the command to the first trial: Ray, face boxes, calibration.
        export_s: seconds of the export, and of Ray's end.
        wall_s: all of it, None where no epoch was measured.
        memory_mib: of a trial's process, smallest and largest that was measured.
        gpu_memory_mib: of the GPU, likewise.
        checkpoint_mib: smallest and largest checkpoint; None for models of the user's own.
        disk_mib: most that all checkpoints take together.
        free_mib: what is free where the studies lie, None in a bucket.
        warnings: what is odd, a line each.
    """

    spec: StudySpec
    dataset: Dataset
    machine: str
    plan: Plan
    unknown: str
    before_s: float
    export_s: float
    wall_s: Range | None
    memory_mib: tuple[float, float] | None
    gpu_memory_mib: tuple[float, float] | None
    checkpoint_mib: tuple[float, float] | None
    disk_mib: float | None
    free_mib: float | None
    warnings: tuple[str, ...]

    def rows(self) -> list[tuple[str, str]]:
        """Returns it as pairs of a word and what is to be said of it."""
        return plan_rows(self)

    def as_dict(self) -> dict[str, Any]:
        """Returns it for JSON: seconds, MiB, images a second; None for what is not known."""
        return plan_dict(self)

    def __str__(self) -> str:
        """Returns it as `emotune plan` prints it."""
        return "\n".join(f"{word:10}{text}" for word, text in self.rows())


@dataclass(frozen=True)
class Machine:
    """Where the study would run.

    Attributes:
        capacity: what Ray may hand out, or a cluster file promises.
        here: Ray has been joined, so that something can be measured.
        ray_s: seconds that importing and joining it took.
        hour_price: of all machines at work, None where only `budget.node_hour_price` may say it.
        source: the cluster file that promises it.
    """

    capacity: ClusterCapacity
    here: bool = True
    ray_s: float = 0.0
    hour_price: float | None = None
    source: str = ""


def make_study_plan(
    study: StudyFiles,
    dataset: Dataset,
    machine: Machine,
    *,
    measure: bool,
    say: Callable[[str], None] = lambda line: None,
) -> StudyPlan:
    """Works out what a study will take.

    Args:
        study: the study, begun or not; of a begun one what is left counts.
        dataset: its data set.
        machine: where it would run.
        measure: train some batches of a few configurations first.
        say: called with a line about anything that takes time.
    """
    spec, state = study.spec, study.state()
    left = trials_left(study, state) if may_search(study, state) else 0
    owed = study.owes_confirmation(state)
    if not left and not owed:
        spec = spec.model_copy(update={"confirm": spec.confirm.model_copy(update={"top": 0, "refit": 0})})
    faces_s, refused = _faces_s(spec, dataset), ""
    try:
        plan = make_plan(spec, machine.capacity, left, state=state, hour_price=machine.hour_price)
    except ClusterError as error:
        plan, refused = plan_without_machine(spec, machine.capacity, left, state), str(error)
    anything = left > 0 or owed
    unknown = _why_not_measured(spec, machine, refused, anything=anything, measure=measure, faces_missing=faces_s > 0)
    calibration = None
    if not unknown:
        context = trial_context(spec, dataset, state)
        choose = spec.may_choose_precision and not state.sessions
        at_once = plan.at_once if left else plan.beginning.trainings_at_once
        drawn = _drawn(spec, at_once, faces_missing=faces_s > 0)
        say(f"measuring {1 + len(drawn)} configurations, {at_once} trials would run at once")
        room = trials_at_once(spec.resources, ClusterCapacity(machine.capacity.nodes), at_once)
        found = calibrate(spec, context, choose=choose, drawn=drawn, at_once=room, save=True, say=say)
        if isinstance(found, str):
            unknown = f"the default configuration cannot train: {found}"
        else:
            calibration = found
            plan = make_plan(spec, machine.capacity, left, found, state, machine.hour_price)
    before_s = machine.ray_s + faces_s + (_run_measures_s(calibration) if calibration else 0.0)
    export_s = _RAY_ENDS * machine.ray_s + (_export_s(spec, calibration) if calibration else 0.0)
    sizes, disk_mib, free_mib = _disk(study, spec, dataset, plan)
    speeds = [calibration.default, *calibration.drawn] if calibration else []
    memory = [speed.memory_mib for speed in speeds]
    gpu_memory = [speed.gpu_memory_mib for speed in speeds if speed.gpu_memory_mib is not None]
    warnings = study_warnings(spec, dataset)
    if machine.here:
        warnings += machine_warnings(spec, plan)
    if calibration is not None:
        warnings += epoch_warnings(spec, calibration.default.epoch_s, calibration.process_start_s)
        warnings += [f"a configuration of the space cannot train: {reason}" for reason in calibration.failures]
        if plan.nodes == 1:
            warnings += memory_warning(max(memory), plan.at_once, psutil.virtual_memory().total / 2**20)
    if disk_mib is not None and free_mib is not None and disk_mib > free_mib:
        warnings.append(
            f"checkpoints take up to {size_text(disk_mib)}, and {size_text(free_mib)} are free in {spec.storage}"
        )
    both = plan.forecast.both_s
    wall_s = both and replace(both, **{name: value + before_s + export_s for name, value in vars(both).items()})
    return StudyPlan(
        spec=spec,
        dataset=dataset,
        machine=cluster_text(machine.capacity, machine.source) if machine.source else nodes_text(plan),
        plan=plan,
        unknown=unknown,
        before_s=before_s,
        export_s=export_s,
        wall_s=wall_s,
        memory_mib=(min(memory), max(memory)) if memory else None,
        gpu_memory_mib=(min(gpu_memory), max(gpu_memory)) if gpu_memory else None,
        checkpoint_mib=sizes,
        disk_mib=disk_mib,
        free_mib=free_mib,
        warnings=tuple(warnings),
    )


def _why_not_measured(
    spec: StudySpec, machine: Machine, refused: str, *, anything: bool, measure: bool, faces_missing: bool
) -> str:
    """Returns why no epoch is measured, "" where one can be.

    Args:
        spec: the study.
        machine: where it would run.
        refused: why not one trial fits there, "" where one does.
        anything: whether anything is left to train.
        measure: whether that was asked.
        faces_missing: a method of the space needs face boxes that are not there yet.
    """
    if not anything:
        return "nothing is left to search: emotune resume extends the study"
    if refused or not measure:
        return refused or "nothing was measured"
    if faces_missing and spec.trial_config(spec.space.defaults()).preprocessing == "face":
        return "the default configuration needs face boxes, which emotune run finds first"
    if not machine.here:
        return "the cluster is not joined: measure there, with RAY_ADDRESS set"
    return "" if fits_now(spec.resources, machine.capacity) else "no node has room for a trial yet"


def _drawn(spec: StudySpec, at_once: int, *, faces_missing: bool) -> Sequence[dict[str, Value]]:
    without: dict[str, list[Value]] = {"preprocessing": ["face"]} if faces_missing else {}
    if faces_missing and spec.possible_values("preprocessing") == ["face"]:
        return []
    found = drawn_configurations(spec, _DRAWN, without=without)
    return found or [spec.space.defaults()] * (min(at_once, _DRAWN) - 1)


def _run_measures_s(calibration: Calibration) -> float:
    """Returns about how long `run` measures the default configuration before its first trial."""
    once_s = calibration.default.first_step_s + 2 * DEFAULT_S
    both = calibration.precision is not None and calibration.precision.bfloat16_images_per_s
    return calibration.process_start_s + once_s * (3 if both else 1)


def _export_s(spec: StudySpec, calibration: Calibration) -> float:
    """Returns about how long the export takes: a process that opens each model, scores and writes it, and one for each
    further format that looks at what was written."""
    seeds = spec.confirm.seeds if spec.confirm.top else 1
    models = spec.confirm.refit or max(seeds, spec.export.most_models)
    processes = 1 + max(1, len(spec.export.formats) - 1)
    return processes * calibration.process_start_s + (2 + models) * calibration.default.first_step_s


def _faces_s(spec: StudySpec, dataset: Dataset) -> float:
    needed = "face" in spec.possible_values("preprocessing") and load_faces(dataset) is None
    return expected_s(dataset) if needed else 0.0


def _disk(
    study: StudyFiles, spec: StudySpec, dataset: Dataset, plan: Plan
) -> tuple[tuple[float, float] | None, float | None, float | None]:
    """Returns the smallest and largest checkpoint, what all of them take at most, and what is free, in MiB."""
    info = dataset.info
    configurations = [spec.space.defaults(), *drawn_configurations(spec, _SIZED)]
    found = [checkpoint_mib(spec.trial_config(v), info.channels, len(info.classes)) for v in configurations]
    sizes = [size for size in found if size is not None]
    free = None
    if study.bucket is None:
        there = next(p for p in (study.directory, *study.directory.resolve().parents) if p.exists())
        free = shutil.disk_usage(there).free / 2**20
    if len(sizes) < len(found):
        return None, None, free
    later = trainings_left(spec, plan.beginning) if plan.forecast.confirm_epochs.high else 0
    trainings = plan.forecast.trials.high + later
    return (min(sizes), max(sizes)), _KEPT * trainings * max(sizes), free
