"""What a study will take, before it begins, from Python."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from trainables.home_folder import expand_home
from tune.api.runs import StudyFile, check_own, only_one, spec_with_options

if TYPE_CHECKING:
    from trainables.dataset.reader import Dataset
    from tune.session.study_plan import StudyPlan
    from tune.study.studies import StudyFiles


def plan_study(
    study: StudyFile,
    *,
    data: str | PathLike[str] | Dataset | None = None,
    trials: int | None = None,
    time: str | float | None = None,
    max_cost: float | None = None,
    overrides: Mapping[str, Any] | Sequence[str] | None = None,
    calibrate: bool = True,
    cluster: str | PathLike[str] | None = None,
    on_progress: Callable[[str], None] | None = None,
) -> StudyPlan:
    """Tells what a study will take: trials, epochs, time, GPU hours, money, memory, disk. Begins nothing.

    Measures a few configurations here, or on the cluster that RAY_ADDRESS names, and simulates the study with its own
    rungs and budgets. Of a study that has begun, what is left counts.

    Args:
        study: a study file's path, or a mapping of what one holds; `data` to `overrides` are as in `run`.
        calibrate: measure; without it no time is known.
        cluster: a file for `ray up`, whose machines and prices are reckoned with; nothing is measured then.
        on_progress: called with a line about what takes time, in place of printing it.

    Returns:
        The plan: `print` it, or take `as_dict()`.

    Raises:
        EmotuneError: the study file or the cluster's breaks a rule, or there is no data set.
    """
    from tune.session.create_or_resume import check_folder, locate_study
    from tune.session.own_models import has_tried
    from tune.session.study_data import prepare_data

    say = on_progress or _print
    with only_one():
        spec = spec_with_options(study, data, trials, time, max_cost, overrides)
        dataset = prepare_data(spec, say, only_check=True)
        files = locate_study(spec)
        check_folder(files, dataset.info.fingerprint)
        if not has_tried(files, files.spec):
            check_own(files.spec, dataset, say)
        if cluster is None:
            return _plan_here(files, dataset, calibrate, say)
        from tune.api.cluster_machine import machine_of
        from tune.session.study_plan import make_study_plan

        return make_study_plan(files, dataset, machine_of(Path(expand_home(cluster))), measure=calibrate, say=say)


def _plan_here(files: StudyFiles, dataset: Dataset, calibrate: bool, say: Callable[[str], None]) -> StudyPlan:
    began = monotonic()
    from tune.nodes.import_ray import import_ray

    import_ray()
    from tune.nodes.autoscaler import find_capacity
    from tune.nodes.join import joined_ray
    from tune.nodes.output_redirect import heard_outside, redirect_output
    from tune.session.study_plan import Machine, make_study_plan

    def heard(line: str) -> None:
        with heard_outside():
            say(line)

    with tempfile.TemporaryDirectory(prefix="emotune-plan-") as folder, redirect_output(Path(folder) / "ray.log"):
        heard("starting Ray")
        with joined_ray():
            machine = Machine(find_capacity(), ray_s=monotonic() - began)
            return make_study_plan(files, dataset, machine, measure=calibrate, say=heard)


def _print(line: str) -> None:
    print(line, flush=True)
