"""Has the pipelines of the user's own tried once, before anything of a study starts, each in a process of its own.

What is looked at is in `trainables/preprocessing/own_check.py`.
"""

from __future__ import annotations

from collections.abc import Callable

from trainables.dataset.reader import Dataset
from trainables.preprocessing import own_check
from tune.session.check_process import LIMIT_S, run_check
from tune.study.own_files import defaults_with, own_pipelines
from tune.study.spec import StudySpec


def check_own_pipelines(spec: StudySpec, dataset: Dataset, say: Callable[[str], None]) -> None:
    """Builds every pipeline of the user's own that the study may choose; tries it on images of the data set's shape.

    Args:
        spec: the study.
        dataset: its data set.
        say: called with a line before each check, which takes some seconds, and after it.

    Raises:
        OwnCodeError: one breaks its contract, dies or takes too long.
    """
    for name in own_pipelines(spec.space, spec.fixed):
        say(f"trying {name}")
        values = defaults_with(spec.space, "preprocessing", name)
        request = {"config": spec.trial_config(values).model_dump(), "shape": dataset.info.shape}
        found = run_check(own_check.__name__, request, name, LIMIT_S)
        mirror = "mirrors images" if found["mirrors"] else "mirrors no images"
        evaluation = "a pipeline of its own" if found["evaluation"] else "images as they are"
        say(f"{name} is in order: it {mirror}, and evaluation takes {evaluation}")
