"""Opens saved models in a process that has Keras and nothing of emotune."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

_ALONE = """
import sys, numpy as np, keras
for name in sys.argv[1:]:
    model = keras.saving.load_model(f"{name}.keras", safe_mode=True)
    np.save(f"{name}.npy", model.predict_on_batch(np.load("images.npy")))
assert not {"trainables", "tune"} & set(sys.modules)
"""


def assert_opens_in_plain_keras(models: Mapping[str, Any], images: Any, folder: Path, *, atol: float) -> None:
    """Asserts that models, saved and opened there, answer as they do here."""
    np.save(folder / "images.npy", images)
    for name, model in models.items():
        model.save(folder / f"{name}.keras")
    subprocess.run([sys.executable, "-I", "-c", _ALONE, *models], cwd=folder, check=True, capture_output=True)
    for name, model in models.items():
        found = np.load(folder / f"{name}.npy")
        np.testing.assert_allclose(found, model.predict_on_batch(images), rtol=1e-5, atol=atol, err_msg=name)
