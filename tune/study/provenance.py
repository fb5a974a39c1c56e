"""Says what a session runs on: versions, code, machine. Written to the journal; `emotune replay` compares it."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainables.keras_setup import ONEDNN, SETTINGS
from trainables.own_code import SourceFile
from trainables.places import Place

_PACKAGES = ("emotune", "ray", "tensorflow", "keras", "optuna", "albumentations", "numpy", "opencv-python-headless")
_ENVIRONMENT = (
    "TF_DETERMINISTIC_OPS",
    "TF_CUDNN_DETERMINISTIC",
    "TF_XLA_FLAGS",
    "XLA_FLAGS",
    "NVIDIA_TF32_OVERRIDE",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "OMP_NUM_THREADS",
    "ONEDNN_MAX_CPU_ISA",
)
"""Variables that change the order or the precision of TensorFlow's sums. A trial's process leaves alone what is set."""

_CODE = Path(__file__).parents[2]


def provenance(
    study: Path, resources: Mapping[str, float], code: Mapping[str, SourceFile] | None = None, *, onednn: str
) -> dict[str, Any]:
    """Returns Python, packages, settings, git revision, machine; keeps uncommitted changes as `code-<hash>.diff`.

    Args:
        study: the study's folder.
        resources: the cluster's, as Ray counts them; GPU types are among them.
        code: the study's files of the user's own.
        onednn: what its trials take of TensorFlow's kernels (`TrialContext`).
    """
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    gpus = sorted(name.partition(":")[2] for name in resources if name.startswith("accelerator_type:"))
    found = {
        **_describe(),
        "gpus": ", ".join(gpus),
        "own_files": {name: source.digest for name, source in (code or {}).items()},
        "keras": dict(SETTINGS),
        "environment": {name: value for name, value in ({**environment, ONEDNN: onednn}).items() if value},
    }
    diff = found.pop("_diff")
    if diff:
        path = study / f"code-{found['code_changes']}.diff"
        if not path.exists():
            Place(str(study)).write(path.name, diff.encode())
    return found


@functools.cache
def _describe() -> dict[str, Any]:
    revision, diff = _git("rev-parse", "HEAD").strip(), _git("diff", "HEAD", "--", ".")
    return {
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "code": revision or "installed package",
        "code_changes": hashlib.blake2b(diff.encode(), digest_size=6).hexdigest() if diff else "",
        "system": platform.platform(),
        "processor": _processor(),
        "_diff": diff,
    }


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(_CODE), *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 and (_CODE / ".git").exists() else ""


def _processor() -> str:
    try:
        named = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.M)
    except OSError:
        named = None
    return named.group(1) if named else platform.processor() or platform.machine()


def differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Returns a line for everything that differs between two sessions: what it was, and what it is."""
    lines = []
    for name in ("python", "code", "code_changes", "system", "processor", "gpus"):
        if then.get(name) != now.get(name):
            lines.append(f"{name.replace('_', ' ')}: {then.get(name) or 'none'} then, {now.get(name) or 'none'} now")
    for group, what in (("packages", "{}"), ("own_files", "{}"), ("keras", "Keras' {}"), ("environment", "{}")):
        if group != "packages" and group not in then:
            continue  # a session of an earlier version did not note it
        before, after = then.get(group, {}), now.get(group, {})
        lines += [
            f"{what.format(name)}: {before.get(name, 'none')} then, {after.get(name, 'none')} now"
            for name in sorted({*before, *after})
            if before.get(name) != after.get(name)
        ]
    return lines
