"""Has the optimizers and schedules of the user's own tried once, before anything of a study starts.

Each is tried in a process of its own.

What is looked at is in `trainables/models/own_optimizer_check.py`.
"""

from __future__ import annotations

from collections.abc import Callable

from trainables.models import own_optimizer_check
from tune.session.check_process import LIMIT_S, run_check
from tune.study.own_files import defaults_with, own_optimizers, own_schedules
from tune.study.spec import StudySpec


def check_own_optimizers(spec: StudySpec, say: Callable[[str], None]) -> None:
    """Tries every optimizer and every schedule of the user's own that the study may choose.

    Args:
        spec: the study.
        say: called with a line before each check, which takes some seconds, and after it.

    Raises:
        OwnCodeError: one breaks its contract, dies or takes too long.
    """
    names = [("schedule", name) for name in own_schedules(spec.space, spec.fixed)]
    names += [("optimizer", name) for name in own_optimizers(spec.space, spec.fixed)]
    longer = spec.confirm.refit_epochs if spec.confirm.refit else None
    lengths = [spec.asha.max_epochs, *([longer] if longer else [])]
    for what, name in names:
        say(f"trying {name}")
        config = spec.trial_config(defaults_with(spec.space, what, name)).model_dump()
        request = {"config": config, "what": what, "lengths": lengths}
        found = run_check(own_optimizer_check.__name__, request, name, LIMIT_S)
        if what == "optimizer":
            say(f"{name} is in order: {found['kind']}")
        else:
            say(f"{name} is in order: {found['least']:g} to {found['most']:g} of learning_rate")
