"""What ships and what installs it: types, licence, pins that agree, the lint rule that keeps `tune` ours."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests import ROOT

RUFF = Path(sys.executable).with_name("ruff")


@pytest.mark.parametrize("package", ["tune", "trainables", "search_spaces"])
def test_package_declares_its_types(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


def test_licence_is_the_text_the_metadata_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = (ROOT / "LICENSE").read_text()
    assert project["license"] == "Apache-2.0"
    assert "Apache License" in text and "Version 2.0, January 2004" in text and "END OF TERMS AND CONDITIONS" in text


def test_version_is_in_the_changelog() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert re.search(rf"^## \[{re.escape(version)}\]", (ROOT / "CHANGELOG.md").read_text(), re.M)


def test_bootstrap_pins_the_uv_of_the_lock_file_with_its_hashes() -> None:
    [locked] = [p for p in tomllib.loads((ROOT / "uv.lock").read_text())["package"] if p["name"] == "uv"]
    pinned = (ROOT / ".ci" / "uv.txt").read_text()
    assert f"uv=={locked['version']} " in pinned
    assert set(re.findall(r"--hash=(\S+)", pinned)) == {wheel["hash"] for wheel in locked["wheels"]}


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("from ray import tune", "ICN003"),
        ("import ray.tune as tune", "ICN002"),
        ("from ray import train as tune", "ICN003"),
    ],
)
def test_lint_refuses_to_call_rays_module_tune(line: str, rule: str) -> None:
    command = [str(RUFF), "check", "--quiet", "--output-format=concise", "--stdin-filename=tune/example.py", "-"]
    source = f'"""Example."""\n\n{line}\n'
    checked = subprocess.run(command, input=source, capture_output=True, text=True, cwd=ROOT, check=False)
    assert checked.returncode == 1 and rule in checked.stdout


def test_lint_lets_what_is_in_rays_module_through() -> None:
    command = [str(RUFF), "check", "--quiet", "--stdin-filename=tune/example.py", "-"]
    source = '"""Example."""\n\nfrom ray.tune import Tuner\n\n__all__ = ["Tuner"]\n'
    checked = subprocess.run(command, input=source, capture_output=True, text=True, cwd=ROOT, check=False)
    assert checked.returncode == 0, checked.stdout
