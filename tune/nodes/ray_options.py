"""What Ray is joined or started with: its environment, its folder, and what its processes import. Starts nothing."""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import shlex
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from ray._private import ray_constants
from ray.job_config import JobConfig

from trainables.node_probe import usable_cores
from tune.errors import ClusterError

_ENVIRONMENT = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # ours saves the running trials first
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # TensorBoard is written by us
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # under `uv run` Ray 2.60 copies the folder and starts workers without .venv
    "RAY_prestart_worker_first_driver": "0",  # Ray 2.60's start waits for processes that no trial uses, for ever
    "GLOG_minloglevel": "2",
}

_OPTIONS: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.WARNING}

_SOCKET_BYTES = 107
"""The longest path of a Unix socket on Linux; macOS takes 103."""
_SESSION = "/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""What Ray 2.60 puts behind its folder, at its longest."""
LONGEST_FOLDER = (_SOCKET_BYTES if sys.platform == "linux" else 103) - len(_SESSION)

_OWN_FOLDER = f"/tmp/emotune-{os.getuid()}"  # noqa: S108  # where somebody else's /tmp/ray is in the way

_FIND_TUNE = "import importlib.util as u; s = u.find_spec('tune'); print(s and s.origin or '')"


def set_environment() -> None:
    """Sets what Ray reads from the environment, in this process and those that it starts."""
    os.environ.update(_ENVIRONMENT)
    ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV = False  # was read when Ray was imported


def joining_options(address: str) -> dict[str, Any]:
    """Returns `ray.init`'s options for joining a cluster."""
    if address.startswith("ray://"):
        return dict(_OPTIONS)  # Ray's client sends no folder of ours along
    return {**_OPTIONS, "job_config": _JobConfigWithoutCurrentFolder()}


def starting_options() -> dict[str, Any]:
    """Returns `ray.init`'s options for starting Ray on this machine.

    Raises:
        ClusterError: There is no folder that Ray could keep its sockets in.
    """
    _give_token_without_home()
    options = {**_OPTIONS, "job_config": _JobConfigWithoutCurrentFolder(), "_temp_dir": f"{ray_folder()}/ray"}
    options["num_cpus"] = usable_cores()
    quoted = shlex.quote(sys.executable)
    if quoted != sys.executable:  # Ray 2.60 puts it into a bash command as it is
        options["runtime_env"] = {"py_executable": quoted}
    return options


def _give_token_without_home() -> None:
    """Gives Ray a token of this process's own where the home folder cannot hold the one that Ray 2.60 keeps there."""
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return
    folder = Path.home() / ".ray"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = (folder / "auth_token").is_file() or os.access(folder, os.W_OK | os.X_OK)
    except OSError:
        held = False
    if not held:
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


class _JobConfigWithoutCurrentFolder(JobConfig):
    """Keeps the current folder off the path of Ray's workers: a `keras.py` or `tune.py` there would be imported."""

    def _get_proto_job_config(self) -> Any:
        shipped = self._runtime_env_has_working_dir()  # type: ignore[no-untyped-call]
        self._py_driver_sys_path = [] if shipped else worker_import_path()
        return super()._get_proto_job_config()  # type: ignore[no-untyped-call]


def worker_import_path() -> list[str]:
    """Returns the folder of this very emotune where a fresh Python would import another one or none."""
    own = Path(__file__).parents[1] / "__init__.py"
    try:
        asked = subprocess.run([sys.executable, "-P", "-c", _FIND_TUNE], capture_output=True, text=True, timeout=20)
        found = asked.stdout.strip()
    except (OSError, subprocess.TimeoutExpired):  # then workers do not start either, which `process_start.py` tells
        found = ""
    return [] if found and Path(found).resolve() == own.resolve() else [str(own.parents[1])]


def ray_folder() -> str:
    """Returns the folder below which Ray keeps its sessions: RAY_TMPDIR, TMPDIR or /tmp, the first that can be written.

    A path that is too long for Ray's sockets is reached by a short link in /tmp.

    Raises:
        ClusterError: RAY_TMPDIR cannot be written, or nothing else can.
    """
    named, shared = os.environ.get("RAY_TMPDIR"), [os.environ.get("TMPDIR") or "/tmp", "/tmp"]  # noqa: S108
    for folder in [named] if named else [*shared, _OWN_FOLDER]:
        path = Path(folder).absolute()
        if _can_hold_ray(path):
            return str(path) if len(os.fsencode(path)) <= LONGEST_FOLDER else _short_link(path)
    what = f"RAY_TMPDIR={named}" if named else ", ".join(dict.fromkeys([*shared, _OWN_FOLDER]))
    raise ClusterError(
        f"Ray needs a folder for its sessions that can be written. Received: {what}. Name another: RAY_TMPDIR=FOLDER"
    )


def _can_hold_ray(folder: Path) -> bool:
    try:
        (folder / "ray").mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder / "ray", os.W_OK | os.X_OK)


def _short_link(folder: Path) -> str:
    name = f"/tmp/emotune-{hashlib.blake2b(os.fsencode(folder), digest_size=5).hexdigest()}"  # noqa: S108
    link = Path(name)
    with suppress(OSError):  # it is there, or /tmp takes no links
        link.symlink_to(folder)
    if link.is_symlink() and os.readlink(link) == str(folder):
        return name
    raise ClusterError(
        f"Ray's folder must have a path of at most {LONGEST_FOLDER} characters, for its sockets. Received: {folder}, "
        f"and {name} cannot be a short link to it. Remove what is there, or name another folder: RAY_TMPDIR=FOLDER"
    )
