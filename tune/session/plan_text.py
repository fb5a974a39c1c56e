"""A study's plan as rows of text and as JSON. Works nothing out and prints nothing."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tune.nodes.capacity import ClusterCapacity
from tune.session.plan import Range
from tune.session.study_text import at_once_text, data_text, range_text
from tune.study.budget import BUDGETS
from tune.study.spec import StudySpec
from tune.study.wording import duration

if TYPE_CHECKING:
    from tune.session.study_plan import StudyPlan


def plan_rows(found: StudyPlan) -> list[tuple[str, str]]:
    """Returns the plan as pairs of a word and what is to be said of it."""
    spec, plan, expected = found.spec, found.plan, found.plan.forecast
    rows = [
        ("study", f"{spec.name}: {spec.objective}, {spec.mode}imised; {_limits(spec)}"),
        ("data", data_text(found.dataset)),
        ("machine", found.machine),
        ("at once", at_once_text(plan) if plan.at_once else "not known here"),
        ("trials", f"{_counts(expected.trials)}, {_counts(expected.stopped)} of them stopped at a rung"),
        ("rungs", f"after {', '.join(map(str, spec.asha.rungs))} epochs" if spec.asha.rungs else "none"),
        (
            "epochs",
            f"{_counts(expected.epochs)} of the search"
            + (
                f", {_counts(expected.confirm_epochs)} of training the best again"
                if expected.confirm_epochs.high
                else ""
            ),
        ),
    ]
    rows += _speed(found)
    rows += _time(found)
    if expected.gpu_hours is not None:
        rows.append(("GPU hours", _range(expected.gpu_hours, ".2f")))
    if expected.cost is not None:
        rows.append(("cost", _range(expected.cost, ".2f") + f", at {plan.hour_price:.2f} an hour for all machines"))
    elif plan.hour_price is not None:
        rows.append(("cost", f"{plan.hour_price:.2f} an hour for all machines"))
    if found.memory_mib is not None:
        memory = f"{_sizes(found.memory_mib)} of a trial's process"
        if found.gpu_memory_mib is not None:
            memory += f", {_sizes(found.gpu_memory_mib)} of its GPU"
        rows.append(("memory", memory))
    if found.checkpoint_mib is not None and found.disk_mib is not None:
        free = "" if found.free_mib is None else f"; {size_text(found.free_mib)} are free"
        rows.append(
            ("disk", f"at most {size_text(found.disk_mib)} of checkpoints, {_sizes(found.checkpoint_mib)} each{free}")
        )
    return rows + [("warning", line) for line in found.warnings]


def _speed(found: StudyPlan) -> list[tuple[str, str]]:
    calibration = found.plan.calibration
    if calibration is None:
        return [("speed", f"not known: {found.unknown}")]
    default = calibration.default
    rows = [
        (
            "speed",
            f"{default.training_images_per_s:.0f} images/s, {duration(default.epoch_s)} an epoch of the default "
            f"configuration; a trial's process starts in {duration(calibration.process_start_s)}",
        )
    ]
    if calibration.drawn:
        epochs_s = sorted(speed.epoch_s for speed in calibration.drawn)
        rows.append(
            (
                "",
                f"{duration(epochs_s[0])} to {duration(epochs_s[-1])} an epoch of {len(epochs_s)} others of the space"
                + (", measured side by side" if found.plan.at_once > 1 else ""),
            )
        )
    return rows


def _time(found: StudyPlan) -> list[tuple[str, str]]:
    expected = found.plan.forecast
    if found.wall_s is None or expected.search_s is None or expected.confirm_s is None:
        return []
    ends = f", which ends because {BUDGETS[expected.ended_by]}" if expected.ended_by else ""
    parts = [f"{duration(found.before_s)} before the first trial", f"{range_text(expected.search_s)} of search{ends}"]
    if expected.confirm_s.high:
        parts.append(f"{range_text(expected.confirm_s)} of training the best again")
    parts.append(f"{duration(found.export_s)} of export")
    return [("wall time", range_text(found.wall_s)), ("", "; ".join(parts))]


def cluster_text(capacity: ClusterCapacity, source: str) -> str:
    """Returns what machines a cluster file promises: the most of each kind, and of all workers together."""
    kinds = ", ".join(
        f"at most {t.max_nodes} {t.name} of {t.capacity.cpus:g} CPUs and {t.capacity.gpus:g} GPUs"
        for t in capacity.node_types
    )
    return f"{source}: {kinds}; {capacity.max_workers} workers together"


def size_text(mib: float) -> str:
    """Returns `12 MiB`, `1.3 GiB`."""
    return f"{mib:.0f} MiB" if mib < 1000 else f"{mib / 1024:.1f} GiB"


def plan_dict(found: StudyPlan) -> dict[str, Any]:
    """Returns the plan for JSON: seconds, MiB, images a second; None for what is not known."""
    spec, plan = found.spec, found.plan
    return {
        "study": spec.name,
        "machine": found.machine,
        "cpus": plan.cpus,
        "gpus": plan.gpus,
        "nodes": plan.nodes,
        "max_nodes": plan.max_nodes,
        "at_once": plan.at_once or None,
        "rungs": spec.asha.rungs,
        "max_epochs": spec.asha.max_epochs,
        **asdict(plan.forecast),
        "ended_by": plan.forecast.ended_by or "finished",
        "before_s": found.before_s if found.wall_s else None,
        "export_s": found.export_s if found.wall_s else None,
        "wall_s": found.wall_s and asdict(found.wall_s),
        "calibration": None if plan.calibration is None else asdict(plan.calibration),
        "unknown": found.unknown,
        "hour_price": plan.hour_price,
        "memory_mib": found.memory_mib,
        "gpu_memory_mib": found.gpu_memory_mib,
        "checkpoint_mib": found.checkpoint_mib,
        "disk_mib": found.disk_mib,
        "free_mib": found.free_mib,
        "warnings": list(found.warnings),
    }


def _limits(spec: StudySpec) -> str:
    words = [f"{spec.trials} trials of at most {spec.asha.max_epochs} epochs"]
    units = {"gpu_hours": "GPU hours", "epochs": "epochs", "cost": "to spend"}
    for name, limit in spec.limits.items():
        if limit is not None:
            words.append(f"at most {duration(limit) if name == 'time' else f'{limit:g} {units[name]}'}")
    if spec.budget.target is not None or spec.budget.stagnation is not None:
        words.append("perhaps less: budget.target or budget.stagnation may end it before, which is not reckoned with")
    return ", ".join(words)


def _counts(found: Range) -> str:
    low, middle, high = (math.floor(value + 0.5) for value in (found.low, found.middle, found.high))
    return f"{middle}" if low == high else f"{middle} ({low} to {high})"


def _range(found: Range, form: str) -> str:
    return f"{found.middle:{form}} ({found.low:{form}} to {found.high:{form}})"


def _sizes(ends: tuple[float, float]) -> str:
    low, high = map(size_text, ends)
    return low if low == high else f"{low} to {high}"
