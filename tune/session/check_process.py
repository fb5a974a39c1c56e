"""Runs a check in a process of its own: the user's code in it may print, hang or die.

What the two say to each other is in `trainables/own_check_process.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainables import own_check_process
from tune.errors import EmotuneError, OwnCodeError

LIMIT_S = 60.0
"""For importing the file and building what it builds; layers alone take less than a second."""

_WHOLE_LIMIT_S = 900.0
"""For all of a check: a busy machine imports TensorFlow in a minute, twice."""

_ROOT = Path(own_check_process.__file__).parents[1]


def run_check(
    module: str,
    request: Mapping[str, Any],
    name: str,
    limit_s: float,
    error: type[EmotuneError] = OwnCodeError,
) -> dict[str, Any]:
    """Returns what a check answered.

    Args:
        module: the check, run with `python -m`.
        request: what it is asked.
        name: what it looks at, for messages.
        limit_s: for importing the file and building what it builds.

        error: what is raised where it found something wrong.

    Raises:
        EmotuneError: `error`, or `OwnCodeError` where it died or took too long.
    """
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
            [sys.executable, "-m", module, str(file)],
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
        answered = json.loads(file.read_text(encoding="utf-8"))
    if "error" in answered:
        raise error(answered["error"])
    if process.returncode or "answer" not in answered:
        last = (said.strip().splitlines() or ["it said nothing"])[-1][:300]
        raise OwnCodeError(
            f"{name} must leave its process running. Received: exit code {process.returncode}: {last}. Fix it"
        )
    return dict(answered["answer"])


def _wait(process: subprocess.Popen[str], folder: Path, name: str, limit_s: float) -> str:
    """Returns what the process said, when it has ended."""
    started, ready = time.monotonic(), None
    while True:
        try:
            return process.communicate(timeout=0.2)[1]
        except subprocess.TimeoutExpired:
            now = time.monotonic()
        if ready is None and (folder / own_check_process.READY).exists():
            ready = now
        building = ready is not None and not (folder / own_check_process.BUILT).exists()
        if building and now - (ready or now) > limit_s or now - started > _WHOLE_LIMIT_S:
            raise OwnCodeError(
                f"{name} must be built in {limit_s:.0f} s. Received: none after {now - (ready or started):.0f} "
                "s. Load no data there"
            )


def _end(process: subprocess.Popen[str]) -> None:
    """Ends the process and what it has started, which are a group of their own."""
    if process.poll() is None:
        os.killpg(process.pid, 9)
        process.communicate()
