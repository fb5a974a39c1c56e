"""What every test shares: a quiet environment, one small local Ray, a Chromium."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = ["tests.support.fixtures_data", "tests.support.fixtures_study", "tests.support.servers"]

# Set before TensorFlow, Ray or Albumentations are imported anywhere, here or in a process a test starts.
_QUIET = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray 2.60 warns at every start until the choice is made
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ADDRESS": "local",  # two test processes at once: neither joins the other's Ray
    # For the S3 server that tests start.
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_EC2_METADATA_DISABLED": "true",
}

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def pytest_configure(config: pytest.Config) -> None:
    """Quietens the libraries, and hides GPUs from everything but `pytest -m gpu`."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    os.environ.pop("COLUMNS", None)  # pytest-xdist says 80 to its processes; lines that are looked for would be folded
    # A shell that starts pytest in the background ignores Ctrl-C for it and all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["EMOTUNE_CACHE"] = tempfile.mkdtemp(prefix="emotune-cache-")
    if config.option.markexpr != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_unconfigure(config: pytest.Config) -> None:
    """Removes the cache."""
    shutil.rmtree(os.environ["EMOTUNE_CACHE"], ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips the GPU's tests where there is none, or where it is hidden; puts the slow ones first, so that two processes
    end at about the same time."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    if shutil.which("nvidia-smi") and os.environ.get("CUDA_VISIBLE_DEVICES", "0") != "":
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a GPU: `make test-gpu` on a machine that has one"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Has what several files share made by one process only, where files are shared out among several."""
    from tests.support.shared_fixtures import SharedFixtureScheduling

    return SharedFixtureScheduling(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """One local Ray for the whole run: four bookable CPUs, no dashboard, a small object store. Yields its address."""
    import ray

    context = ray.init(
        address="local",
        num_cpus=4,
        num_gpus=0,
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
        object_store_memory=200 * 2**20,
    )
    yield context.address_info["address"]
    ray.shutdown()


@pytest.fixture(scope="session")
def chromium() -> Path:
    """The Chromium to drive, from $CHROMIUM or the PATH."""
    found = [shutil.which(name) for name in (os.environ.get("CHROMIUM", ""), *BROWSERS) if name]
    for path in found:
        if path:
            return Path(path)
    pytest.fail("The browser test needs Chromium: run `bash tests/support/install_browser.sh`.")
