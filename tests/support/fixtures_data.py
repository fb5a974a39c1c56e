"""Data sets that several test files share; `conftest.py` lists this module as a plugin."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests import ROOT
from tune.dataset.synth import write_faces


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set of cartoon faces: 420 train and 140 test images, 48 x 48 gray, seven classes."""
    target = tmp_path_factory.mktemp("data") / "faces"
    write_faces(target, train_images=420, test_images=140)
    return target


@pytest.fixture(scope="session")
def fer2013_zip() -> Path:
    """The Kaggle download of FER-2013, from EMOTUNE_FER_ZIP or beside the repository; skips where it is not."""
    beside = ROOT.parent / "shared" / "data" / "fer2013.zip"
    path = Path(os.environ.get("EMOTUNE_FER_ZIP", beside))
    if not path.is_file():
        pytest.skip(f"FER-2013 is not at {path}; set EMOTUNE_FER_ZIP to the download")
    return path


@pytest.fixture(scope="session")
def fer2013(fer2013_zip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FER-2013, imported: 28,709 train and 3,589 test images."""
    from tune.dataset.ingest import import_dataset

    target = tmp_path_factory.mktemp("data") / "fer2013"
    import_dataset(fer2013_zip, target)
    return target
