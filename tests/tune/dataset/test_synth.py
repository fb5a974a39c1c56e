"""The cartoon faces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from trainables.dataset.reader import TEST, TRAIN, open_dataset
from tune.dataset.synth import CLASSES, draw_synthetic, write_faces
from tune.errors import SourceError


def test_the_classes_are_those_of_fer_2013() -> None:
    assert CLASSES == ("angry", "disgusted", "fearful", "happy", "neutral", "sad", "surprised")


@pytest.mark.parametrize("expression", CLASSES)
def test_a_face_is_48_px_gray_and_repeats(expression: str) -> None:
    first, again = (draw_synthetic(expression, 0, TRAIN, 5) for _ in range(2))
    assert first.shape == (48, 48, 1) and first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert first.std() > 3
    for other in (draw_synthetic(expression, *key) for key in ((1, TRAIN, 5), (0, TEST, 5), (0, TRAIN, 6))):
        assert not np.array_equal(first, other)


def test_a_data_set_has_both_splits_in_equal_classes_and_no_duplicates(faces: Path) -> None:
    dataset = open_dataset(faces)
    assert dataset.info.counts == {"train": dict.fromkeys(CLASSES, 60), "test": dict.fromkeys(CLASSES, 20)}
    assert len(np.unique(dataset.groups)) == len(dataset) == 560
    assert dataset.paths[0] == "train/angry/im0.png"


def test_drawing_again_changes_nothing_and_other_faces_need_permission(tmp_path: Path) -> None:
    first = write_faces(tmp_path / "a", train_images=70, test_images=14)
    written = (tmp_path / "a" / "images.arrow").stat().st_mtime_ns
    again = write_faces(tmp_path / "a", train_images=70, test_images=14)
    assert (tmp_path / "a" / "images.arrow").stat().st_mtime_ns == written
    assert again.info == first.info
    elsewhere = write_faces(tmp_path / "b", train_images=70, test_images=14)
    assert elsewhere.info.fingerprint == first.info.fingerprint
    other = write_faces(tmp_path / "a", train_images=70, test_images=14, seed=1, replace=True)
    assert other.info.fingerprint != first.info.fingerprint


@pytest.mark.parametrize("arguments", [{"train_images": 6}, {"test_images": 0}, {"seed": -1}])
def test_impossible_wishes_are_refused(tmp_path: Path, arguments: dict[str, int]) -> None:
    with pytest.raises(SourceError, match="at least 7 images in each split and a seed from 0"):
        write_faces(tmp_path / "faces", **arguments)  # type: ignore[arg-type]


def test_the_default_is_neither_trivial_nor_hopeless(tmp_path: Path) -> None:
    dataset = write_faces(tmp_path / "faces")
    pixels = dataset.images(np.arange(len(dataset))).reshape(len(dataset), -1) / 255.0
    train, test = dataset.splits == TRAIN, dataset.splits == TEST
    assert (train.sum(), test.sum()) == (2800, 700)
    reduction = PCA(60, svd_solver="randomized", random_state=0).fit(pixels[train])
    linear = LinearDiscriminantAnalysis().fit(reduction.transform(pixels[train]), dataset.labels[train])
    accuracy = linear.score(reduction.transform(pixels[test]), dataset.labels[test])
    # Chance is 0.14; a small network reaches 0.85 in ten epochs.
    assert 0.2 < accuracy < 0.7
