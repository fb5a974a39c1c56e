"""Machines of real users: paths, environments and folders in which Ray's processes did not start, or started wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests import ROOT
from tests.support.fixtures_study import goes_on, lines, write_study_file
from tune.nodes.signals import LIMIT_S

pytestmark = pytest.mark.slow

SHADOWS = ("tune", "trainables", "search_spaces", "keras", "tensorflow", "albumentations", "queue", "ray", "optuna")

PROBE = """
import importlib.util, json, sys
from tune.nodes.import_ray import import_ray

import_ray()
from tune.nodes.join import joined_ray

def find(names):
    import os
    found = {name: (importlib.util.find_spec(name) or sys).origin for name in names}
    return {"modules": found, "python": sys.executable, "folder": os.getcwd()}

with joined_ray():
    import ray
    environment = {"env_vars": {"EMOTUNE_TEST": "1"}}  # Ray Tune starts its trials with some
    print(json.dumps(ray.get(ray.remote(find).options(runtime_env=environment).remote(sys.argv[1:]), timeout=140)))
"""


def probe(folder: Path, command: list[str], environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Starts Ray as a study does and returns what one of its processes sees.

    Args:
        folder: the current folder.
        command: what starts Python.
        environment: changes to the environment.
    """
    script = folder / "bin" / "probe.py"  # beside other files than the user's own, as the command `emotune` is
    script.parent.mkdir()
    script.write_text(PROBE)
    done = subprocess.run(
        [*command, str(script), *SHADOWS],
        cwd=folder,
        env={**os.environ, "RAY_ADDRESS": "local", **(environment or {})},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def write_shadows(folder: Path) -> None:
    for name in SHADOWS:
        (folder / f"{name}.py").write_text("raise ImportError('this is the user\\'s own file')\n")


def environment_at(folder: Path) -> Path:
    """Returns a Python whose environment lies at another path: this one, by way of a link."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.symlink_to(sys.prefix)
    return folder / "bin" / "python"


def test_workers_start_from_a_path_a_shell_would_split_import_nothing_from_here_and_reach_a_long_temporary_folder(
    tmp_path: Path,
) -> None:
    python = environment_at(tmp_path / "it's $HOME & 100% für #1" / ".venv")
    write_shadows(tmp_path)
    folder = tmp_path / ("long-" * 20)  # by a short link
    seen = probe(tmp_path, [str(python)], {"RAY_TMPDIR": str(folder)})
    assert seen["python"] == str(python)
    found = seen["modules"]
    assert not [name for name, origin in found.items() if Path(origin).parent == tmp_path], found
    assert Path(found["tune"]) == ROOT / "tune/__init__.py"
    assert (folder / "ray").is_dir() and not list((folder / "ray").iterdir())  # it ended well


@pytest.mark.parametrize("place", ["checkout", "elsewhere"])
def test_uv_run_starts_workers_in_the_same_environment_and_copies_nothing(tmp_path: Path, place: str) -> None:
    uv = shutil.which("uv", path=f"{sys.prefix}/bin:{os.environ['PATH']}")
    assert uv is not None
    if place == "checkout":
        project = tmp_path
        (tmp_path / "pyproject.toml").write_text(
            '[project]\nname = "mine"\nversion = "0"\nrequires-python = ">=3.11"\n'
        )
        command = [uv, "run", "--no-sync", "python"]
    else:
        project = tmp_path / "project"
        project.mkdir()
        (project / "pyproject.toml").write_text('[project]\nname = "mine"\nversion = "0"\nrequires-python = ">=3.11"\n')
        command = [uv, "run", "--no-sync", "--project", str(project), "python"]
    (project / ".venv").symlink_to(sys.prefix)
    seen = probe(tmp_path, command, {"UV_PYTHON_DOWNLOADS": "never"})
    assert seen["python"] == str(project / ".venv/bin/python")
    assert seen["folder"] == str(tmp_path)  # and not a copy of it in Ray's own folder


def test_a_temporary_folder_that_cannot_be_written_is_told_and_leaves_nothing(faces: Path, tmp_path: Path) -> None:
    file = write_study_file(tmp_path, faces)
    done = subprocess.run(
        [sys.executable, "-m", "tune.cli", "run", str(file)],
        env={**os.environ, "RAY_ADDRESS": "", "RAY_TMPDIR": "/proc/nowhere"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "error: Ray needs a folder for its sessions that can be written. Received: RAY_TMPDIR=/proc/nowhere. "
        "Name another: RAY_TMPDIR=FOLDER\n"
    )
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may write, which pytest's are not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


@pytest.mark.parametrize("home", ["-u HOME", "HOME=/"])
def test_a_container_that_runs_as_a_number_starts_ray_where_neither_home_nor_tmp_ray_can_be_written(
    home: str, open_folder: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to become another user")
    private = open_folder / "another-users"
    private.mkdir(mode=0o700)
    # It may read everything, so that the checkout and the environment can lie anywhere, and writes what it may.
    reads = "--inh-caps -all,+dac_read_search --ambient-caps +dac_read_search"
    user = f"setpriv --reuid 54321 --regid 54321 --clear-groups {reads}"
    become = f'mkdir -p /tmp/ray; mount --bind {private} /tmp/ray; exec {user} env -u TMPDIR {home} "$@"'
    command = ["unshare", "--mount", "bash", "-c", become, "bash", sys.executable]
    seen = probe(open_folder, command, {"RAY_AUTH_TOKEN": ""})
    assert Path(seen["modules"]["tune"]) == ROOT / "tune/__init__.py"
    assert not list(private.iterdir())
    for folder in ("emotune-54321", "emotune-home-54321"):
        shutil.rmtree(f"/tmp/{folder}", ignore_errors=True)


SLEEPER = """#!/bin/bash
case "$*" in *default_worker.py*) touch "$0.worker"; exec sleep 600;; esac
exec {python} "$@"
"""


def sleeping_python(folder: Path) -> Path:
    """Writes a Python whose Ray workers sleep; beside it lies `python.worker` from the first that Ray starts."""
    python = folder / "python"
    python.write_text(SLEEPER.format(python=sys.executable))
    python.chmod(0o755)
    return python


@pytest.mark.parametrize("calibrate", ["--calibrate", "--no-calibrate"])
def test_a_study_whose_workers_do_not_start_ends_by_itself_and_names_the_cause(
    faces: Path, tmp_path: Path, calibrate: str
) -> None:
    file, python = write_study_file(tmp_path, faces), sleeping_python(tmp_path)
    code = f"import sys; sys.executable = {str(python)!r}; from tune.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, "run", str(file), calibrate, "--set", "faults.start_limit_s=8s"],
        env={**os.environ, "RAY_ADDRESS": "", "RAY_worker_register_timeout_seconds": "3"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    [line] = done.stderr.splitlines()
    assert "Traceback" not in done.stdout
    assert line.startswith(
        "error: a trial's process must start within 8 s on a node that has room. Received: none has. "
    )
    assert f"Ray starts {python} (process " in line and "has not answered" in line
    assert "registered within the timeout" in line and "Ray's logs: " in line
    assert (tmp_path / "runs").exists() == (calibrate == "--no-calibrate")  # there a session had begun


@pytest.mark.parametrize("interrupt", [False, True])
def test_a_ray_that_does_not_start_ends_the_study_by_itself_or_at_ctrl_c_and_leaves_nothing(
    faces: Path, tmp_path: Path, interrupt: bool
) -> None:
    file, python = write_study_file(tmp_path, faces), sleeping_python(tmp_path)
    code = (
        "import sys; from tune.cli.main import main; from tune.nodes import process_start, ray_options;"
        f"process_start.RAY_START_LIMIT_S = {120.0 if interrupt else 12.0};"
        "ray_options._ENVIRONMENT['RAY_prestart_worker_first_driver'] = '1';"  # then Ray waits for workers as it starts
        f"sys.executable = {str(python)!r}; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", code, "run", str(file)],
        env={**os.environ, "RAY_ADDRESS": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if interrupt:
        while not python.with_name(
            "python.worker"
        ).exists():  # Ray starts it when the driver waits, holding Python's lock
            assert goes_on(process, 0.05)
        process.send_signal(signal.SIGINT)
        asked = time.monotonic()
    said = process.communicate(timeout=60)[0]
    assert process.returncode == -signal.SIGKILL, said
    if interrupt:
        assert time.monotonic() - asked < LIMIT_S + 20 and "interrupted" in said  # Ray would have two minutes
    else:
        assert "error: Ray must start on this machine within 12 s. Received: it has not. Ray starts " in said
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_study_ends_like_everywhere_with_all_of_this_at_once_and_its_output_closed(
    faces: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "My Projects"
    python = environment_at(folder / "emo tune" / ".venv")
    write_shadows(folder)
    file = write_study_file(folder, faces, trials=2, storage="runs")
    command = f"'{python.parent}/python' '{python.parent}/emotune' run '{file}' --no-calibrate | head -n 1"
    temporary = tmp_path / ("long-" * 20)
    temporary.mkdir()
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        cwd=folder,
        env={**os.environ, "RAY_ADDRESS": "", "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "starting Ray\n")
    journal = lines(folder / "runs/tiny/journal.jsonl")
    assert [event["event"] for event in journal if event["event"] in ("session_end", "export")] == [
        "session_end",
        "export",
    ]
    assert (folder / "runs/tiny/export/model.keras").exists()
