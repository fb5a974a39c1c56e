"""The command in surroundings that nobody wants: no current folder, closed streams, another program's settings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EMOTUNE = Path(sys.executable).with_name("emotune")


def shell(line: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", line], cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


def test_a_current_folder_that_is_gone_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    done = shell(f"rmdir ../gone; exec '{EMOTUNE}' list", tmp_path / "gone")
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "the current folder must exist. Received: one that was removed" in done.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_stream_that_is_closed_is_no_hindrance_and_no_file_takes_its_place(closed: str, tmp_path: Path) -> None:
    done = shell(f"'{EMOTUNE}' data synth --to faces --images 70 {closed}", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("Drawn" in done.stdout) == (">&-" not in closed.replace("2>&-", ""))
    assert "Drawn" not in (tmp_path / "faces/dataset.json").read_text()
    refused = shell(f"'{EMOTUNE}' show nothing {closed}", tmp_path)
    assert refused.returncode == 2 and "Traceback" not in refused.stderr


def test_a_backend_of_matplotlib_that_does_not_exist_is_not_taken(tmp_path: Path) -> None:
    code = "from tune.cli.surroundings import settle_process as s; s(); from matplotlib.figure import Figure"
    done = shell(f'"{sys.executable}" -c "{code}"', tmp_path, MPLBACKEND="qt9")
    assert done.returncode == 0, done.stderr


def test_an_address_is_no_source(tmp_path: Path) -> None:
    for address in ("https://example.org/faces.zip", "s3://bucket/faces"):
        done = shell(f"'{EMOTUNE}' data import {address} --to data", tmp_path)
        assert done.returncode == 2 and f"Received: {address}, an address. Download it first" in done.stderr
        assert not (tmp_path / "data").exists()
