"""The Ray and emotune that every node must have, and what a cluster file's commands and images say of them."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_RAY = re.compile(r"\bray(?:\[[\w,-]*\])?(?:==|, version )(\d[\w.]*)|\brayproject/ray(?:-ml)?:(\d+\.\d+\.\d+)")
_EMOTUNE = re.compile(r"\bemotune(?:\[[\w,-]*\])?(?:==| |:)v?(\d[\w.]*)")
_LOCKED = re.compile(r"\buv sync\b.*--(?:locked|frozen)\b|\bmake setup\b")


@dataclass(frozen=True)
class Versions:
    """What every node must have, and where that is written."""

    ray: str
    emotune: str
    source: str


def locked_versions(folder: Path) -> Versions:
    """Returns the versions of emotune's `uv.lock` in this folder or one above it; else the installed ones."""
    for place in (folder.resolve(), *folder.resolve().parents):
        try:
            packages = tomllib.loads((place / "uv.lock").read_text(encoding="utf-8"))["package"]
        except (OSError, tomllib.TOMLDecodeError, KeyError):
            continue
        found = {package["name"]: package.get("version", "") for package in packages}
        if {"emotune", "ray"} <= found.keys():
            return Versions(found["ray"], found["emotune"], "uv.lock")
    version = importlib.metadata.version
    return Versions(version("ray"), version("emotune"), "the installation that checks")


def other_versions(text: str, wanted: Versions) -> Iterator[str]:
    """Yields what a command or an image name pins to another version than the wanted one, as in `ray 2.59.0`."""
    for name, pattern, version in (("ray", _RAY, wanted.ray), ("emotune", _EMOTUNE, wanted.emotune)):
        for match in pattern.finditer(text):
            found = next(group for group in match.groups() if group)
            if found != version:
                yield f"{name} {found}"


def installs_the_lock(commands: Sequence[str], image: str) -> bool:
    """Tells whether set-up commands or an image bring the locked versions of both packages."""
    text = "\n".join([*commands, image])
    if any(_LOCKED.search(command) for command in commands):
        return True
    return bool(_EMOTUNE.search(text)) and (bool(_RAY.search(text)) or bool(_EMOTUNE.search(image)))
