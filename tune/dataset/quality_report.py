"""Describes a data set: counts, duplicates, conflicts, pixel statistics and a contact sheet.

Pure but for `write_contact_sheet`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

from trainables.dataset.info import LeftOut, SkippedImage
from trainables.dataset.reader import (
    SPLITS,
    TEST,
    TRAIN,
    Dataset,
    Pixels,
)
from tune.dataset.contact_sheet import tile, write
from tune.errors import DatasetError
from tune.legible_names import legible_names

_CHUNK_IMAGES: Final = 4096
_TILE_PX: Final = 72
_GAP_PX: Final = 4
_MARGIN_PX: Final = 150
_HEADER_PX: Final = 36
_PAPER: Final = 255


class Duplicates(BaseModel, frozen=True):
    """Images with exactly equal pixels.

    Attributes:
        surplus: by split, images that another image of the same split already shows.
        test_with_twin_in_train: test images that are in train too.
        groups_with_label_conflict: groups of equal images that carry different labels.
        images_with_label_conflict: images in those groups.
    """

    surplus: dict[str, int]
    test_with_twin_in_train: int
    groups_with_label_conflict: int
    images_with_label_conflict: int


class PixelStatistics(BaseModel, frozen=True):
    """Pixels of one split on the 0-255 scale, all channels together; `mean_low` and `mean_high` are over images."""

    mean: float
    std: float
    mean_low: float
    mean_high: float


class DatasetReport(BaseModel, frozen=True):
    """What `emotune data show` prints."""

    name: str
    source: str
    fingerprint: str
    images: int
    height_px: int
    width_px: int
    channels: int
    size_bytes: int
    counts: dict[str, dict[str, int]]
    duplicates: Duplicates
    constant_images: int
    pixels: dict[str, PixelStatistics]
    skipped: tuple[SkippedImage, ...]
    left_out: tuple[LeftOut, ...] = ()
    passed_over: dict[str, int] = {}
    notes: tuple[str, ...] = ()


def describe_dataset(dataset: Dataset) -> DatasetReport:
    """Reads every image once, in order, and counts."""
    means, squares, constant = _by_image(dataset)
    info = dataset.info
    return DatasetReport(
        name=info.name,
        source=info.source,
        fingerprint=info.fingerprint,
        images=len(dataset),
        height_px=info.height_px,
        width_px=info.width_px,
        channels=info.channels,
        size_bytes=len(dataset) * info.height_px * info.width_px * info.channels,
        counts=info.counts,
        duplicates=find_duplicates(dataset.groups, dataset.labels, dataset.splits),
        constant_images=int(constant.sum()),
        pixels={
            name: _statistics(means[dataset.splits == split], squares[dataset.splits == split])
            for split, name in enumerate(SPLITS)
            if (dataset.splits == split).any()
        },
        skipped=info.skipped,
        left_out=info.left_out,
        passed_over=info.passed_over,
        notes=info.notes,
    )


def find_duplicates(
    groups: npt.NDArray[np.int32], labels: npt.NDArray[np.int32], splits: npt.NDArray[np.int8]
) -> Duplicates:
    """Counts duplicates inside and across splits, and those whose labels disagree.

    Args:
        groups: (n,), equal for equal images.
        labels: (n,).
        splits: (n,), 0 train, 1 test.
    """
    train, test = groups[splits == TRAIN], groups[splits == TEST]
    pairs = np.unique(np.stack([groups, labels], axis=1), axis=0)
    names, labels_by_group = np.unique(pairs[:, 0], return_counts=True)
    conflicting = names[labels_by_group > 1]
    return Duplicates(
        surplus={name: int(len(g) - len(np.unique(g))) for name, g in zip(SPLITS, (train, test), strict=True)},
        test_with_twin_in_train=int(np.isin(test, train).sum()),
        groups_with_label_conflict=len(conflicting),
        images_with_label_conflict=int(np.isin(groups, conflicting).sum()),
    )


def contact_sheet(dataset: Dataset, images_by_class: int = 14) -> Pixels:
    """Lays out train images, a row for each class, evenly spaced through the data set.

    Returns:
        uint8, (height, width, 3), RGB.
    """
    classes = dataset.info.classes
    step = _TILE_PX + _GAP_PX
    height, width = _HEADER_PX + len(classes) * step, _MARGIN_PX + images_by_class * step
    sheet = np.full((height, width, 3), _PAPER, np.uint8)
    write(sheet, f"{dataset.info.name}: {len(dataset):,} images, train split shown", 8, 24)
    names, _ = legible_names(classes)
    for label, name in enumerate(classes):
        top = _HEADER_PX + label * step
        write(sheet, names[label], 8, top + 32, width_px=_MARGIN_PX - 16)
        write(sheet, f"{dataset.info.counts['train'][name]:,}", 8, top + 52)
        rows = np.flatnonzero((dataset.labels == label) & (dataset.splits == TRAIN))
        chosen = rows[np.unique(np.linspace(0, len(rows) - 1, images_by_class).astype(int))] if len(rows) else rows
        for column, image in enumerate(dataset.images(chosen)):
            left = _MARGIN_PX + column * step
            sheet[top : top + _TILE_PX, left : left + _TILE_PX] = tile(image, _TILE_PX)
    return sheet


def check_png(path: Path, what: str) -> None:
    """Refuses a picture's name that says another format than it has.

    Raises:
        DatasetError: it does not end in .png.
    """
    if path.suffix.lower() != ".png":
        raise DatasetError(f"{what} is a PNG, and its name must end in .png. Received: {path}. Rename it.")


def write_contact_sheet(dataset: Dataset, path: Path) -> Path:
    """Writes the contact sheet as PNG and returns its path.

    Raises:
        DatasetError: the place cannot be written, or is called otherwise than a PNG.
    """
    check_png(path, "A contact sheet")
    picture = cv2.cvtColor(contact_sheet(dataset), cv2.COLOR_RGB2BGR)
    try:
        path.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    except OSError as error:
        raise DatasetError(f"A contact sheet must be writable. Received: {path}: {error.strerror}.") from error
    return path


def _by_image(dataset: Dataset) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Mean, mean square and whether it is constant, for every image: three arrays (n,)."""
    means, squares, constant = [], [], []
    for start in range(0, len(dataset), _CHUNK_IMAGES):
        rows = np.arange(start, min(start + _CHUNK_IMAGES, len(dataset)))
        images = dataset.images(rows).reshape(len(rows), -1)
        means.append(images.mean(axis=1))
        squares.append(np.einsum("ij,ij->i", images, images, dtype=np.float64) / images.shape[1])
        constant.append((images == images[:, :1]).all(axis=1))
    return np.concatenate(means), np.concatenate(squares), np.concatenate(constant)


def _statistics(means: npt.NDArray[np.float64], squares: npt.NDArray[np.float64]) -> PixelStatistics:
    mean = float(means.mean())
    return PixelStatistics(
        mean=round(mean, 2),
        std=round(float(np.sqrt(max(0.0, squares.mean() - mean**2))), 2),
        mean_low=round(float(means.min()), 2),
        mean_high=round(float(means.max()), 2),
    )
