"""Imports Keras with the settings that emotune's models are made for. Knows nothing of models.

Other projects leave theirs behind: a `keras.json` in the home folder or in KERAS_HOME, and KERAS_BACKEND. Under
`channels_first` a model would take rows for channels, under `float16` its loss would overflow, and what another backend
wants may not be installed. The user's file and environment stay as they are.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

BACKEND = "tensorflow"

SETTINGS: Mapping[str, str | float] = {
    "backend": BACKEND,
    "floatx": "float32",
    "epsilon": 1e-7,
    "image_data_format": "channels_last",
}
"""What every process of a study trains and evaluates with, in the words of `keras.json`."""


def import_keras() -> None:
    """Imports Keras, and TensorFlow with it, with `SETTINGS` in place of `keras.json` and KERAS_BACKEND.

    To be called before the first `import keras`, and before `import tensorflow`, which imports Keras too. A program
    that has imported Keras before keeps the backend that it chose.
    """
    if "keras" in sys.modules:
        import keras
    else:
        home = os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")
        with tempfile.TemporaryDirectory() as empty, _only(KERAS_HOME=empty, KERAS_BACKEND=BACKEND):
            import keras
        # Keras 3.15 reads KERAS_HOME once; downloaded weights are still looked for where the user has them.
        sys.modules["keras.src.backend.config"]._KERAS_DIR = home  # type: ignore[attr-defined]
    keras.config.set_floatx(SETTINGS["floatx"])
    keras.config.set_epsilon(SETTINGS["epsilon"])
    keras.config.set_image_data_format(SETTINGS["image_data_format"])
    keras.config.set_dtype_policy(SETTINGS["floatx"])


@contextmanager
def _only(**values: str) -> Iterator[None]:
    """Takes all variables of Keras out of the environment for a while, and puts in others."""
    before = {name: value for name, value in os.environ.items() if name.startswith("KERAS_")}
    for name in before:
        del os.environ[name]
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            del os.environ[name]
        os.environ.update(before)
