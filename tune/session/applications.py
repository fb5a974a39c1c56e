"""Has Keras' applications built once, before anything of a study starts, each in a process of its own.

That fetches ImageNet's weights into this machine's cache; what is looked at is in
`trainables/models/application_check.py`.
"""

from __future__ import annotations

from collections.abc import Callable

from trainables.dataset.reader import Dataset
from trainables.models import application_check
from tune.errors import ApplicationError
from tune.session.check_process import run_check
from tune.study.own_files import application_models
from tune.study.spec import StudySpec

_LIMIT_S = 900.0
"""For building one and fetching its weights, up to half a gigabyte."""


def check_applications(spec: StudySpec, dataset: Dataset, say: Callable[[str], None]) -> None:
    """Builds every application that the study may choose, with ImageNet's weights if a trial may want them.

    Args:
        spec: the study.
        dataset: its data set.
        say: called with a line before each, which takes some seconds, and after it.

    Raises:
        ApplicationError: one cannot be built, or its weights cannot be had.
    """
    info = dataset.info
    for name in application_models(spec.space, spec.fixed):
        say(f"building {name}")
        values = {**spec.space.defaults(), "model": name}
        if "imagenet" in spec.possible_values("weights"):
            values["weights"] = "imagenet"
        config = spec.trial_config(values)
        request = {"config": config.model_dump(), "shape": info.shape, "classes": len(info.classes)}
        parameters = run_check(application_check.__name__, request, name, _LIMIT_S, ApplicationError)["parameters"]
        of = " with ImageNet's weights" if config.weights == "imagenet" else ""
        say(f"{name} is in order{of}: {parameters:,} parameters")
