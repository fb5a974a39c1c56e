"""What one machine says of itself: versions, GPUs, disk, storage, data. Imports nothing of emotune.

It is sent to the nodes of a cluster by value, so that a node without emotune, or with another one, answers too.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

_PACKAGES = ("ray", "emotune", "tensorflow", "keras")
_NVIDIA, _DISPLAY = "0x10de", "0x03"
_TENSORFLOW_S = 180
_COUNT_GPUS = "import tensorflow as tf; print('GPUs:', len(tf.config.list_physical_devices('GPU')))"


def probe_node(token: tuple[str, str], data: str, tensorflow: bool) -> dict[str, Any]:
    """Returns all that `tune.nodes.inspection.NodeReport` holds of a machine, as plain values.

    Args:
        token: a storage (folder or URI) and the name of a file that another node has written there; "" for none.
        data: data set folder, "" for none.
        tensorflow: also count the GPUs that TensorFlow sees, which costs its import.
    """
    names, driver = driver_gpus()
    seen, tensorflow_message = tensorflow_gpus() if tensorflow else (None, "")
    storage, name = token
    free, refused, shared = probe_storage(storage, name) if storage else (None, "", None)
    temporary = temporary_folder()
    return {
        "python": platform.python_version(),
        "packages": {package: _version(package) for package in _PACKAGES},
        "gpus_driver": names,
        "driver_message": driver,
        "gpus_tensorflow": seen,
        "tensorflow_message": tensorflow_message,
        "temporary": temporary,
        "temporary_free_mib": shutil.disk_usage(temporary).free / 2**20,
        "storage_free_mib": free,
        "storage_refused": refused,
        "storage_shared": shared,
        "fingerprint": dataset_fingerprint(data) if data else "",
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def usable_cores() -> int:
    """Returns how many cores this process may use, at least 1.

    Its affinity (`taskset`, Slurm, a container's cpuset), its container's quota and Slurm's allocation limit them. Ray
    2.60 by itself takes all of the machine's, or the quota rounded down, also to 0.
    """
    from ray._private.utils import _get_docker_cpus

    cores = [os.cpu_count() or 1, _get_docker_cpus() or math.inf]
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        cores.append(len(os.sched_getaffinity(0)))
    if (allocated := os.environ.get("SLURM_CPUS_ON_NODE", "")).isdecimal():
        cores.append(int(allocated))
    return max(1, int(min(cores)))


def driver_gpus() -> tuple[list[tuple[str, float]], str]:
    """Returns name and memory (MiB) of each GPU that NVIDIA's driver sees, and what is wrong if it sees none."""
    from ray._private.thirdparty import pynvml

    cards = 0
    for folder in Path("/sys/bus/pci/devices").glob("*"):
        try:
            vendor, kind = ((folder / name).read_text().strip() for name in ("vendor", "class"))
        except OSError:
            continue
        cards += vendor == _NVIDIA and kind.startswith(_DISPLAY)
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        missing = getattr(error, "value", None) in (
            pynvml.NVML_ERROR_LIBRARY_NOT_FOUND,
            pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        )
        if missing and not cards:
            return [], ""
        there = f"{cards} NVIDIA cards are in the machine, but " if cards else ""
        return [], f"{there}the driver does not answer: {error}"
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        return [(str(_name(h)), pynvml.nvmlDeviceGetMemoryInfo(h).total / 2**20) for h in handles], ""
    except pynvml.NVMLError as error:
        return [], f"the driver does not answer: {error}"
    finally:
        pynvml.nvmlShutdown()


def _name(handle: Any) -> str:
    from ray._private.thirdparty import pynvml

    name = pynvml.nvmlDeviceGetName(handle)
    return name.decode() if isinstance(name, bytes) else str(name)


def tensorflow_gpus() -> tuple[int | None, str]:
    """Returns how many GPUs TensorFlow sees in a fresh process; None and the reason when it cannot be asked."""
    # TensorFlow imports Keras: as `trainables.keras_setup` does, without the settings of other projects.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KERAS_")}
    environment["TF_CPP_MIN_LOG_LEVEL"] = "3"
    hidden = _as_started("CUDA_VISIBLE_DEVICES")
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    if hidden is not None:
        environment["CUDA_VISIBLE_DEVICES"] = hidden
    try:
        with tempfile.TemporaryDirectory() as empty:
            done = subprocess.run(
                [sys.executable, "-c", _COUNT_GPUS],
                env={**environment, "KERAS_HOME": empty},
                capture_output=True,
                text=True,
                timeout=_TENSORFLOW_S,
                check=False,
            )
    except subprocess.TimeoutExpired:
        return None, f"its import took more than {_TENSORFLOW_S} s"
    found = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("GPUs:")]
    if not found:
        return None, (done.stderr.strip().splitlines() or [f"its import ended with {done.returncode}"])[-1]
    return int(found[0]), "CUDA_VISIBLE_DEVICES hides them" if hidden in ("", "-1", "NoDevFiles") else ""


def _as_started(name: str) -> str | None:
    """Returns an environment variable as the node was started with it: Ray changes it in its workers."""
    import psutil
    import ray

    if ray._private.worker.global_worker.mode == ray.WORKER_MODE:
        try:
            return psutil.Process(os.getppid()).environ().get(name)
        except psutil.Error:
            return None
    return os.environ.get(name)


def temporary_folder() -> str:
    """Returns where Ray keeps its logs and spills objects on this machine."""
    import ray

    node = ray._private.worker.global_worker.node
    return str(node.get_temp_dir_path()) if node is not None else "/tmp"


def place_token(storage: str, name: str) -> str:
    """Writes a file into a storage for other nodes to read; returns why it cannot be written, "" when it can."""
    try:
        if "://" in storage:
            files, root = _opened(storage)
            with files.open_output_stream(f"{root}/{name}") as stream:
                stream.write(name.encode())
        else:
            (Path(storage) / name).write_text(name, encoding="utf-8")
    except (OSError, ValueError) as error:  # pyarrow refuses a URI with a ValueError
        return getattr(error, "strerror", None) or str(error)
    return ""


def remove_token(storage: str, name: str) -> str:
    """Removes what `place_token` wrote; returns why it cannot."""
    try:
        if "://" in storage:
            files, root = _opened(storage)
            files.delete_file(f"{root}/{name}")
        else:
            (Path(storage) / name).unlink(missing_ok=True)
    except (OSError, ValueError) as error:
        return f"files cannot be deleted: {getattr(error, 'strerror', None) or error}"
    return ""


def probe_storage(storage: str, name: str) -> tuple[float | None, str, bool]:
    """Returns free space (MiB; None for a bucket), why nothing can be written, and whether another's file is there."""
    free, own = None, f"{name}-{os.getpid()}"
    try:
        if "://" in storage:
            files, root = _opened(storage)
            with files.open_input_stream(f"{root}/{name}") as stream:
                shared = stream.read().decode() == name
        else:
            free = shutil.disk_usage(storage).free / 2**20
            shared = (Path(storage) / name).read_text(encoding="utf-8") == name
    except FileNotFoundError:  # also where no node can write: then not sharing is not what is wrong
        return free, place_token(storage, own) or remove_token(storage, own), False
    except (OSError, ValueError) as error:
        return free, getattr(error, "strerror", None) or str(error), True
    return free, place_token(storage, own) or remove_token(storage, own), shared


def _opened(storage: str) -> tuple[Any, str]:
    from pyarrow.fs import FileSystem

    files, root = FileSystem.from_uri(storage)
    return files, root


def dataset_fingerprint(data: str) -> str:
    """Returns the fingerprint of the data set in a folder as this machine sees it, "" when there is none."""
    try:
        return str(json.loads((Path(data) / "dataset.json").read_text(encoding="utf-8"))["fingerprint"])
    except (OSError, ValueError, KeyError):
        return ""


def clock() -> float:
    """Returns this machine's time."""
    return time.time()
