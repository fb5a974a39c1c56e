"""What an export's files must be: written last, checked whenever emotune opens one. Knows nothing of their content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from pydantic import BaseModel, Field, ValidationError

from tune.errors import ExportError
from tune.export.model_card import CARD_FILE

MANIFEST_FILE = "manifest.json"
MANIFEST_VERSION = 1
"""Goes up when an export changes so that this version of emotune would misread it."""

_LICENCE = "emotune is Apache-2.0; the weights are for whoever trained them, under the terms of the data set"


class Manifest(BaseModel, frozen=True, extra="ignore"):
    """What `manifest.json` must hold; `files` is SHA-256 by path inside the export."""

    manifest_version: int = Field(ge=1)
    files: dict[str, str]
    study: str | None = None
    trial: int | None = None


def write_manifest(folder: Path, study_yaml: str, origin: Mapping[str, Any]) -> None:
    """Writes the manifest of all files that are in an export's folder.

    Args:
        folder: The export, complete but for the manifest.
        study_yaml: The study file's text; its `name` is the study's.
        origin: Trial, epoch, data set and versions.
    """
    study = yaml.safe_load(study_yaml)
    files = {path.relative_to(folder).as_posix(): _sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    content = {
        "manifest_version": MANIFEST_VERSION,
        "study": study.get("name") if isinstance(study, Mapping) else None,
        **origin,
        "licence": _LICENCE,
        "files": files,
    }
    (folder / MANIFEST_FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def check_manifest(directory: Path, needed: Sequence[str] = ()) -> Manifest | None:
    """Compares every file of an export with its manifest; None for an export of 0.1 from before there were any.

    Args:
        directory: The export.
        needed: Files that the manifest must name.

    Raises:
        ExportError: A file is missing or another one, or a newer emotune wrote the export.
    """
    path = directory / MANIFEST_FILE
    again = "Export the checkpoint again."
    if not path.exists():
        if (directory / CARD_FILE).exists():  # 0.1 wrote neither
            raise ExportError(f"An export must hold {MANIFEST_FILE}. Received: {directory} without it. {again}")
        return None
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ExportError(f"{path} is damaged: {error.errors()[0]['msg']}. {again}") from error
    if manifest.manifest_version > MANIFEST_VERSION:
        raise ExportError(
            f"An export's manifest must have version {MANIFEST_VERSION} or lower. Received: {directory} with "
            f"{manifest.manifest_version}, of a newer emotune. Upgrade: git pull && make setup"
        )
    if unlisted := [name for name in needed if name not in manifest.files]:
        raise ExportError(f"{path} must name {', '.join(needed)}. Received: one without {unlisted[0]}. {again}")
    for name, expected in manifest.files.items():
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts:
            raise ExportError(f"{path} must name files of the export. Received: {name}. {again}")
        file = directory / name
        if not file.is_file():
            raise ExportError(
                f"An export must hold {name}, which its manifest names. Received: {directory} without it. {again}"
            )
        if _sha256(file) != expected:
            raise ExportError(f"{file} is damaged: its SHA-256 is not the one in {MANIFEST_FILE}. {again}")
    return manifest


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
