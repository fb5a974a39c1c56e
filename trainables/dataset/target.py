"""The folder that a data set is imported into: what may be there, and whether it holds that data set already."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final, get_args

from trainables.atomic_folder import HARMLESS, hidden_folder
from trainables.config import MethodName
from trainables.dataset.reader import (
    CONTACT_SHEET_FILE,
    FACES_FILES,
    IMAGES_FILE,
    INFO_FILE,
    PREVIEW_FILE,
    Dataset,
    open_dataset,
    read_info,
)
from trainables.errors import DatasetError

OWN_FILES: Final = frozenset(
    {
        *(IMAGES_FILE, INFO_FILE, CONTACT_SHEET_FILE, *FACES_FILES),
        *(PREVIEW_FILE.format(method=method) for method in get_args(MethodName)),
        "import.lock",  # of emotune 0.1
    }
)
"""All that emotune writes into a data set's folder, but for previews of people's own pipelines; all of it gives way to
another data set."""

_OWN_PIPELINE = re.compile(
    PREVIEW_FILE.format(method=r"(.+\.(yaml|yml|json)|\w+(\.\w+)+-\w+)").replace(".png", r"\.png")
)
"""A preview of `mine.yaml`, `my_aug.py:training` or `package.module:training`."""


def is_own_file(name: str) -> bool:
    """Says whether emotune writes a file of that name into a data set's folder."""
    return name in OWN_FILES or _OWN_PIPELINE.fullmatch(name) is not None


IMPORTING_SUFFIX: Final = "importing"


def existing_dataset(target: Path, source_fingerprint: str) -> Dataset | None:
    """The data set at the target if it came from this very source; None if there is another, or none."""
    if not (Path(target) / INFO_FILE).is_file():
        return None
    try:
        return open_dataset(target) if read_info(target).source_fingerprint == source_fingerprint else None
    except DatasetError:
        return None


def check_target(target: Path, *, replace: bool) -> None:
    """Refuses a target that something else occupies.

    Raises:
        DatasetError: the target is a file, holds what no data set holds, or is a data set and `replace` is False.
    """
    target = Path(target)
    hidden = hidden_folder(target, IMPORTING_SUFFIX)
    try:
        if not target.exists() and not (target.is_symlink() and Path(os.path.realpath(target)).is_symlink()):
            return
        if not target.is_dir():
            what = "a file" if target.exists() else "a link to itself"
            raise DatasetError(f"The target must be a folder. Received: {target}, {what}; choose another.")
        names = sorted(entry.name for entry in target.iterdir() if entry.name not in HARMLESS and entry != hidden)
    except OSError as error:
        raise DatasetError(f"The target must be accessible. Received: {error}; choose another.") from error
    # Put aside by an import that was killed while old and new changed places.
    is_data_set = _is_data_set(target) or _is_data_set(hidden / "old")
    if not names and not is_data_set:
        return
    foreign = [name for name in names if not is_own_file(name) or (target / name).is_dir()]
    # What a killed import may have left beside its hidden folder is nobody's.
    if foreign or not (is_data_set or hidden.is_dir()):
        found = (foreign or names)[0]
        raise DatasetError(
            f"The target must be new, empty or a data set. Received: {target} with {found}; it stays. Move it, or "
            "choose another place."
        )
    if is_data_set and not replace:
        raise DatasetError(f"The target must be new or empty. Received: {target}, another data set; pass --replace.")


def _is_data_set(folder: Path) -> bool:
    """Whether a folder's `dataset.json` is emotune's, damaged or not."""
    path = folder / INFO_FILE
    return path.is_file() and ((folder / IMAGES_FILE).is_file() or b'"format_version"' in path.read_bytes())
