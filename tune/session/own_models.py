"""Has the models of the user's own tried once, before anything of a study starts, each in a process of its own.

What they are asked, and what is looked at, is in `trainables/models/own_check.py`.
"""

from __future__ import annotations

from collections.abc import Callable

from trainables.dataset.reader import Dataset
from trainables.models import own_check
from tune.session.check_process import LIMIT_S, run_check
from tune.study.own_files import defaults_with, own_models
from tune.study.resolved_spec import read_spec
from tune.study.spec import StudySpec
from tune.study.studies import StudyFiles


def has_tried(study: StudyFiles, spec: StudySpec) -> bool:
    """Says whether a study has begun with the code, and the names, that a study file brings: they were tried then."""
    if not study.study_file.exists() or not study.state().sessions:
        return False
    begun = read_spec(study.study_file)
    named = ("model", "preprocessing", "optimizer", "schedule")
    return begun.code == spec.code and all(
        set(spec.possible_values(name)) <= set(begun.possible_values(name)) for name in named
    )


def check_own_models(
    spec: StudySpec, dataset: Dataset, say: Callable[[str], None], *, limit_s: float = LIMIT_S
) -> None:
    """Builds every model of the user's own that the study may choose, and tries it on images of the data set's shape.

    Args:
        spec: the study.
        dataset: its data set.
        say: called with a line before each check, which takes some seconds, and after it.
        limit_s: for importing a file and building a model.

    Raises:
        OwnCodeError: one breaks its contract, dies or takes too long.
    """
    info = dataset.info
    for name in own_models(spec.space, spec.fixed):
        say(f"trying {name}")
        request = {
            "config": spec.trial_config(defaults_with(spec.space, "model", name)).model_dump(),
            "bfloat16": not {"auto", "bfloat16"}.isdisjoint(spec.possible_values("precision")),
            "shape": info.shape,
            "classes": len(info.classes),
            "mean": info.train_mean,
            "std": info.train_std,
        }
        parameters = run_check(own_check.__name__, request, name, limit_s)["parameters"]
        say(f"{name} is in order: {parameters:,} parameters")
