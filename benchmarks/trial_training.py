"""A trial's training in this process, opened as a study's trial process opens it: for benchmarks that need no Ray."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from trainables.training.epochs import TrialTraining

    Training = TypeVar("Training", bound=TrialTraining)


ONE_THREAD = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
"""Environment of a process that is measured in processor time."""


def run_in_parts(module: str, parts: int) -> None:
    """Runs a benchmark again in processes of one thread side by side, each with `--part N` behind its arguments.

    Raises:
        SystemExit: One of them ended with an error.
    """
    command = [sys.executable, "-m", module, *sys.argv[1:]]
    environment = {**os.environ, **ONE_THREAD, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    running = [subprocess.Popen([*command, "--part", str(part)], env=environment) for part in range(parts)]
    if any([process.wait() for process in running]):
        raise SystemExit("a process ended with an error")


def trial_setup(
    data: Path | str,
    parameters: Mapping[str, Any],
    *,
    trial: int = 0,
    micro_batches: int = 1,
    refit_epochs: int | None = None,
    **context: Any,
) -> dict[str, Any]:
    """Returns what a study gives a trial's process.

    Args:
        data: The data set's folder.
        parameters: Of the trial, as in `TrialConfig`; what is missing has its default.
        trial: Its number, a part of its seeds.
        micro_batches: Into how many each batch is cut.
        refit_epochs: As many, on all images but the sealed test's; None leaves a fold to select on.
        context: What differs from one core, seed 0, one epoch, no rungs, and a tenth of the pool to select on.
    """
    from trainables.config import TrialConfig, TrialContext

    given: dict[str, Any] = {
        "dataset": str(data),
        "seed": 0,
        "objective": "selection_accuracy",
        "mode": "max",
        "max_epochs": 1,
        "rungs": (),
        "selection_share": 0.1,
        **context,
    }
    return {
        "study": TrialContext.model_validate(given).model_dump(),
        "trial": trial,
        "parameters": TrialConfig.model_validate(dict(parameters)).model_dump(),
        "micro_batches": micro_batches,
        "refit_epochs": refit_epochs,
    }


def open_training(training: Training, data: Path | str, parameters: Mapping[str, Any], **setup: Any) -> Training:
    """Opens a data set for a fresh training and begins a trial on it.

    Args:
        training: A `TrialTraining`, or a class of the benchmark's own that is one.
        data: As the other arguments, see `trial_setup`.
    """
    from trainables.config import TrialContext

    config = trial_setup(data, parameters, **setup)
    training._prepare(TrialContext.model_validate(config["study"]))
    training._open_data()
    training._start(config)
    return training
