"""The user's own files in an export: copied there, and imported for a Keras model that has layers, activations or
initializers of theirs.

`saved_model/` needs none of them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainables.own_code import SourceFile, find_reference, load_function
from tune.errors import ExportError
from tune.export.checkpoints import Member

CODE_FOLDER = "code"


def write_code(members: Sequence[Member], folder: Path) -> str | None:
    """Copies the files that a trial was trained with into an export; those of installed packages stay where they are.

    Returns:
        The function of the user's by which what `model.keras` has of theirs becomes known to Keras; None where it has
        only Keras' own, and opens without that file.
    """
    for member in members:
        for name, source in member.config.code.items():
            if not source.installed:
                (folder / CODE_FOLDER).mkdir(exist_ok=True)
                (folder / CODE_FOLDER / name).write_text(source.text, encoding="utf-8")
    own = any(_names_own(json.loads(member.model.to_json())) for member in members)
    return members[0].config.model if own else None


def _names_own(saved: Any) -> bool:
    """Says whether what Keras would save of a model names something that was registered: `my_models>Gate`."""
    if isinstance(saved, dict):
        named = [saved.get("registered_name"), saved.get("config")]
        return any(isinstance(name, str) and ">" in name for name in named) or any(map(_names_own, saved.values()))
    return isinstance(saved, list) and any(map(_names_own, saved))


def import_layers(name: str, folder: Path) -> None:
    """Makes the layers of an export's own file known to Keras.

    Args:
        name: what `write_code` returned.
        folder: the export.

    Raises:
        ExportError: the file is not there.
        OwnCodeError: it cannot be imported.
    """
    reference = find_reference(name)
    if reference is None:
        raise ExportError(f"own_layers must be as in my_models.py:build. Received: {name!r}. Export the study again.")
    if not reference.is_file:
        __import__(reference.file)
        return
    file = folder / CODE_FOLDER / reference.file
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ExportError(
            f"An export whose model has layers of its own must hold their code. Received: {file}: {error.strerror}. "
            "Export the study again, or use saved_model/, which needs none."
        ) from None
    load_function(name, {reference.file: SourceFile(text=text)})
