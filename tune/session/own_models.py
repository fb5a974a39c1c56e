"""Has the models of the user's own tried once, before anything of a study starts, each in a process of its own.

What they are asked, and what is looked at, is in `trainables/models/own_check.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from trainables.dataset.reader import Dataset
from trainables.models import own_check
from tune.errors import OwnCodeError
from tune.study.own_files import own_models
from tune.study.spec import StudySpec
from tune.study.studies import StudyFiles, read_spec

LIMIT_S = 60.0
"""For importing the file and building its first model; layers alone take less than a second."""

_WHOLE_LIMIT_S = 900.0
"""For all of a check: a busy machine imports TensorFlow in a minute, twice."""

_ROOT = Path(own_check.__file__).parents[2]


def has_tried(study: StudyFiles, spec: StudySpec) -> bool:
    """Says whether a study has begun with the code that a study file brings: it was tried then."""
    return study.study_file.exists() and read_spec(study.study_file).code == spec.code and study.state().sessions > 0


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
        values = {**spec.space.defaults(), "model": name}
        parameters = _check(
            {
                "config": spec.trial_config(values).model_dump(),
                "shape": info.shape,
                "classes": len(info.classes),
                "mean": info.train_mean,
                "std": info.train_std,
            },
            name,
            limit_s,
        )
        say(f"{name} is in order: {parameters:,} parameters")


def _check(request: dict[str, object], name: str, limit_s: float) -> int:
    with tempfile.TemporaryDirectory(prefix="emotune-check-") as folder:
        file = Path(folder) / "request.json"
        file.write_text(json.dumps(request), encoding="utf-8")
        environment = {
            **os.environ,
            "CUDA_VISIBLE_DEVICES": "",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "PYTHONPATH": os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        }
        # In an empty folder: a keras.py of the user's would be taken for Keras.
        process = subprocess.Popen(
            [sys.executable, "-m", own_check.__name__, str(file)],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            said = _wait(process, Path(folder), name, limit_s)
        finally:
            _end(process)
        answer = json.loads(file.read_text(encoding="utf-8"))
    if "error" in answer:
        raise OwnCodeError(answer["error"])
    if process.returncode or "parameters" not in answer:
        last = (said.strip().splitlines() or ["it said nothing"])[-1][:300]
        raise OwnCodeError(
            f"{name} must leave its process running. Received: exit code {process.returncode}: {last}. Fix it"
        )
    return int(answer["parameters"])


def _wait(process: subprocess.Popen[str], folder: Path, name: str, limit_s: float) -> str:
    """Returns what the process said, when it has ended."""
    started, ready = time.monotonic(), None
    while True:
        try:
            return process.communicate(timeout=0.2)[1]
        except subprocess.TimeoutExpired:
            now = time.monotonic()
        if ready is None and (folder / own_check.READY).exists():
            ready = now
        building = ready is not None and not (folder / own_check.BUILT).exists()
        if building and now - (ready or now) > limit_s or now - started > _WHOLE_LIMIT_S:
            raise OwnCodeError(
                f"{name} must build its model in {limit_s:.0f} s. Received: none after {now - (ready or started):.0f} "
                "s. Build layers only, load no data there"
            )


def _end(process: subprocess.Popen[str]) -> None:
    """Ends the process and what it has started, which are a group of their own."""
    if process.poll() is None:
        os.killpg(process.pid, 9)
        process.communicate()
