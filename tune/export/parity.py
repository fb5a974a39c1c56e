"""Runs every written format in a process without emotune, and compares it with training's own evaluation."""

from __future__ import annotations

import atexit
import json
import math
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.dataset.reader import Pixels
from trainables.models.compiled import Floats
from tune.errors import ExportError
from tune.export.formats import FORMATS

TOLERANCE = 1e-4
"""How far a probability of a float format may be from training's."""

LIMIT_S = 600.0
"""Seconds in which a batch must have run; importing TensorFlow takes some of the first batch's."""

_BATCH = 128
_MAIN = """
import json, os, sys
import numpy as np
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what libraries print is no answer
try:
    import keras  # before it is asked: TensorFlow takes seconds
except Exception:
    pass  # a format that needs it says so
for line in sys.stdin:
    job = json.loads(line)
    try:
        images, size = np.load(job["images"]), job["batch"]
        for number, (code, path) in enumerate(job["formats"]):
            scope = {}
            exec(code, scope)
            parts = []
            for at in range(0, len(images), size):
                parts.append(np.array(scope["run"](path, images[at : at + size])))
                print("null", file=answers, flush=True)  # it is alive
            np.save(f"{job['images']}.{number}.npy", np.concatenate(parts))
        path = "the process"
        assert not {"tune", "trainables"} & set(sys.modules), "emotune was imported"
        said = ""
    except Exception as error:
        said = f"{path}: {type(error).__name__}: {error}"
    print(json.dumps(said), file=answers, flush=True)
"""


def start_fresh_process() -> None:
    """Starts the process that will run the formats, so that it loads TensorFlow while they are written."""
    _fresh_process()


@cache
def _fresh_process() -> subprocess.Popen[str]:
    """Starts a process without emotune; it ends with this one. Used again: TensorFlow takes seconds."""
    # It leaves GPUs to this process, and Keras to the settings that are in the files.
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "KERAS_BACKEND": "tensorflow"}
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", _MAIN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )
    atexit.register(_end, process)
    return process


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def _ask(job: Mapping[str, Any]) -> str:
    """Returns what went wrong, or nothing."""
    if _fresh_process().poll() is not None:  # an earlier job has killed it
        _fresh_process.cache_clear()
    process = _fresh_process()
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the process was started without pipes")
    try:
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        answer = _last_line(process.stdout.fileno())
    except BrokenPipeError:
        answer = ""
    if answer is None:
        process.kill()
        process.wait()
        return f"no answer in {LIMIT_S:g} s"
    return str(json.loads(answer)) if answer else f"a format ended its process, exit code {process.wait()}"


def _last_line(pipe: int) -> str | None:
    """Returns the first line that is not `null`, "" where the pipe is closed, None where no line comes in time."""
    text = b""
    while select.select([pipe], [], [], LIMIT_S)[0]:
        block = os.read(pipe, 2**16)
        if not block:
            return ""
        *lines, text = (text + block).split(b"\n")
        if said := [line for line in lines if line != b"null"]:
            return said[0].decode()
    return None


def run_formats(folder: Path, names: Sequence[str], images: Pixels) -> dict[str, Floats]:
    """Returns what each format in an export's folder says of some images, in a process without emotune.

    Args:
        folder: The export.
        names: Keys of `FORMATS`.
        images: uint8, (n, height, width, channels), as they are put into the models; n at least 1.

    Returns:
        Probabilities, float32, (n, classes), by format.

    Raises:
        ExportError: A format does not load or run.
    """
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "images.npy"
        np.save(file, images)
        formats = [(FORMATS[name].code, str((folder / FORMATS[name].file).resolve())) for name in names]
        said = _ask({"images": str(file), "batch": _BATCH, "formats": formats})
        if said:
            raise ExportError(
                f"Every format must run without emotune. Received: {' '.join(said.split())[:500]} "
                "Leave the format out of export.formats, or evaluate without --every-format."
            )
        return {name: np.load(f"{file}.{number}.npy") for number, name in enumerate(names)}


def check_parity(found: Mapping[str, Floats], expected: Floats) -> dict[str, float]:
    """Returns the largest difference of a probability by format.

    Args:
        found: Probabilities by format, float32, (n, classes).
        expected: Training's own.

    Raises:
        ExportError: A float format is further away than `TOLERANCE`.
    """
    finite = np.isfinite(expected)  # a trial that diverged has probabilities that are no numbers
    differences = {name: float(np.abs(one - expected)[finite].max(initial=0)) for name, one in found.items()}
    for name, difference in differences.items():
        if FORMATS[name].exact and not difference <= TOLERANCE:  # NaN is none
            raise ExportError(
                f"The format {name} must give the probabilities of training to {TOLERANCE:g}. Received: a difference "
                f"of {difference:.2g}. Nothing was exported; leave {name} out of export.formats."
            )
    return differences


def accuracy_difference(probabilities: Floats, expected: Floats, labels: npt.NDArray[np.int32]) -> dict[str, Any]:
    """Returns by how much accuracy changes, and its 95 % interval for paired answers (Newcombe 1998, method 1).

    Args:
        probabilities: Of the format, (n, classes).
        expected: Training's own.
        labels: (n,).
    """
    ours, theirs = probabilities.argmax(1) == labels, expected.argmax(1) == labels
    n, gained, lost = len(labels), int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    difference = (gained - lost) / n
    half = 1.96 * math.sqrt(gained + lost - (gained - lost) ** 2 / n) / n
    return {"accuracy_difference": difference, "interval": [difference - half, difference + half], "images": n}
