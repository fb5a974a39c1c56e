"""Imports TensorFlow without its greetings. Knows nothing of models."""

from __future__ import annotations

import os
import sys
import tempfile

from trainables.keras_setup import import_keras


def import_tensorflow(onednn: str | None = None) -> None:
    """Imports Keras and TensorFlow with standard error put aside; what was said is shown only if the import fails.

    A program that has imported Keras keeps its settings: the files of an export and a checkpoint carry their own.

    Args:
        onednn: as in `import_keras`.
    """
    if "keras" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # trials may share the GPU with who predicts
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as said:
        # TensorFlow 2.21 writes five lines from C++ before it reads its log level.
        os.dup2(said.fileno(), 2)
        try:
            import_keras(onednn)
        except BaseException:
            said.seek(0)
            os.write(terminal, said.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
