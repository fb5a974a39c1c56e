"""What docs/exports.md shows, run in environments that hold a format's own package, NumPy and Pillow, and no more."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests import ROOT
from tests.support.checkpoints import write_checkpoint
from trainables.dataset.reader import TEST, open_dataset
from tune.export.export import export_checkpoint
from tune.export.model_card import PLAIN_KERAS
from tune.export.predict import load_export

KERAS, ONNX, LITERT, *_ = re.findall(r"```python\n(.*?)```", (ROOT / "docs/exports.md").read_text(), re.S)
UP_TO_THE_MODEL = ONNX.partition("(probabilities,)")[0].replace(", onnxruntime", "")
PROGRAMS = {
    "keras": (KERAS, ["keras", "jax"]),
    "onnx": (ONNX, ["onnxruntime"]),
    "litert": (UP_TO_THE_MODEL + LITERT, ["ai-edge-litert"]),
}


@pytest.fixture(scope="module")
def folder(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export in EXPORT, whose models equalise and average mirror images, and a picture of the test split."""
    root, dataset = tmp_path_factory.mktemp("clean"), open_dataset(faces)
    checkpoint = write_checkpoint(root / "checkpoint", dataset, preprocessing="equalize", mirror=True)
    formats = ["keras", "onnx", "litert"]
    export_checkpoint(checkpoint, dataset, root / "EXPORT", study_yaml="", selection={}, formats=formats)
    row = int(np.flatnonzero(dataset.splits == TEST)[0])
    cv2.imwrite(str(root / "face.png"), dataset.image(row))
    return root


def test_the_model_card_has_the_pages_program() -> None:
    assert KERAS.replace("EXPORT/", "").strip() == PLAIN_KERAS


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_pages_program_gives_predicts_label_without_emotune(name: str, folder: Path, tmp_path: Path) -> None:
    program, packages = PROGRAMS[name]
    uv = str(Path(sys.executable).with_name("uv"))
    pinned = [f"{package}=={importlib.metadata.version(package)}" for package in packages if package != "jax"]
    pinned += [package for package in packages if package == "jax"]
    environment = tmp_path / "environment"
    install = [uv, "pip", "install", "--quiet", "--python", str(environment), "numpy", "pillow", *pinned]
    for command in ([uv, "venv", "--quiet", "--python", sys.executable, str(environment)], install):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    found = subprocess.run(
        [str(environment / "bin/python"), "-c", program],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "KERAS_BACKEND": "jax"},
    )
    assert found.returncode == 0, found.stderr
    [prediction] = load_export(folder / "EXPORT").predict([folder / "face.png"])
    assert found.stdout.split()[-1] == prediction.label
