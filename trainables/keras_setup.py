"""Imports Keras with the settings that emotune's models are made for. Knows nothing of models.

Other projects leave theirs behind: a `keras.json` in the home folder or in KERAS_HOME, and KERAS_BACKEND. Under
`channels_first` a model would take rows for channels, under `float16` its loss would overflow, and what another backend
wants may not be installed. The user's file and environment stay as they are.
"""

from __future__ import annotations

import os
import platform
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


ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
"""TensorFlow 2.21 takes oneDNN's kernels by itself only with AVX-512 or VNNI. With AVX2 alone they train AlexNet 1.5
times as fast (`benchmarks.onednn`, docs/design.md)."""


def onednn_setting() -> str:
    """Returns what `ONEDNN` is in new studies: what the user has set, 1 on x86; empty: TensorFlow's own choice."""
    x86 = platform.machine() in ("x86_64", "AMD64")
    return os.environ.get(ONEDNN, "1" if x86 else "")


def import_keras(onednn: str | None = None) -> None:
    """Imports Keras, and TensorFlow with it, with `SETTINGS` in place of `keras.json` and KERAS_BACKEND.

    To be called before the first `import keras`, and before `import tensorflow`, which imports Keras too. A program
    that has imported Keras before keeps the backend that it chose.

    Args:
        onednn: What a study's trials take (`TrialContext`); None for no study. TensorFlow reads it when it is imported;
            the environment, which later studies and processes inherit, stays as it is.
    """
    if "keras" in sys.modules:
        import keras
    else:
        home = os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")
        kernels = {ONEDNN: onednn_setting() if onednn is None else onednn}
        with tempfile.TemporaryDirectory() as empty, _only(KERAS_HOME=empty, KERAS_BACKEND=BACKEND, **kernels):
            import keras
        # Keras 3.15 reads KERAS_HOME once; downloaded weights are still looked for where the user has them.
        sys.modules["keras.src.backend.config"]._KERAS_DIR = home  # type: ignore[attr-defined]
    keras.config.set_floatx(SETTINGS["floatx"])
    keras.config.set_epsilon(SETTINGS["epsilon"])
    keras.config.set_image_data_format(SETTINGS["image_data_format"])
    keras.config.set_dtype_policy(SETTINGS["floatx"])


@contextmanager
def _only(**values: str) -> Iterator[None]:
    """Takes all variables of Keras, and these, out of the environment for a while; puts in those that are not empty."""
    before = {name: value for name, value in os.environ.items() if name.startswith("KERAS_") or name in values}
    for name in before:
        del os.environ[name]
    os.environ.update({name: value for name, value in values.items() if value})
    try:
        yield
    finally:
        for name in values:
            os.environ.pop(name, None)
        os.environ.update(before)
