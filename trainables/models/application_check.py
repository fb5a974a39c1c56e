"""Builds one of Keras' applications before a study starts. Run in a process of its own: `python -m` with a file's path.

What is asked and answered, and by whom, is in `trainables/own_check_process.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainables.config import TrialConfig
from trainables.errors import ApplicationError, one_line
from trainables.keras_setup import import_keras
from trainables.models.applications import build_application
from trainables.own_check_process import BUILT, READY, answer


def main(request_file: Path) -> None:
    """Answers one request."""
    answer(request_file, check_application)


def check_application(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Builds the application, which fetches its weights where it is to have some.

    Args:
        request: `config` of a trial, `shape` of the images, `classes` (how many).
        folder: where files may be written.

    Returns:
        `parameters`: how many weights it has.

    Raises:
        ApplicationError: it cannot be built, or there are no weights.
    """
    import_keras()
    (folder / READY).touch()
    config = TrialConfig.model_validate(request["config"])
    height_px, width_px, channels = request["shape"]
    try:
        model = build_application(
            height_px=height_px, width_px=width_px, channels=channels, classes=request["classes"], config=config
        )
    except ValueError as error:
        words = one_line(error)
        raise ApplicationError(
            f"{config.model} cannot be built for image_size_px={config.image_size_px}. Received: {words}. Change that"
        ) from None
    (folder / BUILT).touch()
    return {"parameters": int(model.count_params())}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
