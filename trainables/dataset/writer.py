"""Writes a data set folder, one image at a time, so that it is there whole or not at all.

Knows nothing of where the images come from. `trainables/dataset/reader.py` defines the files and opens them,
`trainables/atomic_folder.py` puts them in place.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trainables.atomic_folder import AtomicFolder
from trainables.dataset.info import DatasetInfo, LeftOut, SkippedImage, legible
from trainables.dataset.reader import (
    FORMAT_VERSION,
    IMAGES_FILE,
    INFO_FILE,
    RECORD_BATCH_ROWS,
    SHARES,
    SPLITS,
    TRAIN,
    ContentDigest,
    Pixels,
    arrow_schema,
    hash_pixels,
)
from trainables.dataset.target import IMPORTING_SUFFIX, check_target, is_own_file
from trainables.errors import DatasetError

MAX_IMAGE_BYTES: Final = 1 << 20


class DatasetWriter:
    """Writes a data set hidden and puts it in place when it is whole.

    An interrupted writer leaves the target as it was; what a killed one leaves, the next one clears away.

    Example:
        with DatasetWriter(Path("data/faces"), classes=("happy", "sad")) as writer:
            writer.append(image, label=0, split=TRAIN, path="train/happy/im0.png")
            writer.finish(source="drawings", source_fingerprint="...")
    """

    def __init__(
        self,
        target: Path,
        classes: Sequence[str],
        *,
        replace: bool = False,
        expected_images: int = 0,
        soft_labels: bool = False,
    ) -> None:
        """Checks the target; writes nothing yet.

        Args:
            target: folder to create.
            classes: names in the order of the labels.
            replace: whether a data set already there may give way.
            expected_images: an estimate, for the check of free disk space.
            soft_labels: whether every image has shares of the classes beside its label.

        Raises:
            DatasetError: the target is in the way.
        """
        self.target = Path(os.path.realpath(target))
        self.classes = tuple(classes)
        self._expected_images = expected_images
        self._soft_classes = len(self.classes) if soft_labels else 0
        check_target(self.target, replace=replace)
        self._place = AtomicFolder(self.target, suffix=IMPORTING_SUFFIX, known_by=INFO_FILE, replaceable=is_own_file)
        self._folder = self._place.path
        self._histogram = np.zeros((0, 256), np.int64)
        self._sink: pa.NativeFile | None = None
        self._file: pa.RecordBatchFileWriter | None = None
        self._finished = False
        self._shape: tuple[int, int, int] | None = None
        self._pending: dict[str, list[Any]] = {}
        self._groups: dict[bytes, int] = {}
        self._content = ContentDigest()
        self._counts = np.zeros((len(SPLITS), len(self.classes)), np.int64)

    def __enter__(self) -> Self:
        """Takes the hidden folder for this process.

        Raises:
            DatasetError: another process is writing the same target, or the place cannot be written.
        """
        try:
            self._place.__enter__()
        except BlockingIOError as error:
            raise DatasetError(f"{self.target} is being written by another import; wait for it.") from error
        except OSError as error:
            raise DatasetError(f"{self.target} must be writable: {error}; choose another place.") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Removes the hidden folder, and the files in it if `finish` has not put them in place."""
        try:
            for stream in (self._file, self._sink) if not self._finished else ():
                # A full disk fails again at the close, a closed file refuses it; the first error is the one to tell.
                with suppress(OSError, pa.ArrowException):
                    if stream is not None:
                        stream.close()
        finally:
            self._place.__exit__(kind, error, trace)

    def append(
        self, image: Pixels, label: int, split: int, path: str, shares: npt.NDArray[np.float32] | None = None
    ) -> None:
        """Adds one image.

        Args:
            image: uint8, (height, width, channels), 0-255; RGB if there are three channels; every image of one shape.
            label: index into `classes`.
            split: `TRAIN` or `TEST`.
            path: where the image came from, inside its source.
            shares: float32, (classes,), of a sum of 1, the label's the largest; None without soft labels.

        Raises:
            DatasetError: the shape or dtype does not fit, or the disk is too small.
        """
        if self._shape is None:
            self._open(image)
        if image.shape != self._shape or image.dtype != np.uint8:
            raise DatasetError(
                f"Every image must be uint8 {self._shape}. Received: {image.dtype} {image.shape} ({path})."
            )
        pixel_hash = hash_pixels(image)
        row = {
            "image": image,
            "label": label,
            "split": split,
            "path": legible(path),
            "pixel_hash": pixel_hash,
            "duplicate_group": self._groups.setdefault(pixel_hash, len(self._groups)),
        }
        if shares is not None:
            row[SHARES] = shares
        for name, value in row.items():
            self._pending[name].append(value)
        self._counts[split, label] += 1
        self._content.add(pixel_hash, label, split, shares)
        if len(self._pending["label"]) == RECORD_BATCH_ROWS:
            self._flush()

    def finish(
        self,
        source: str,
        source_fingerprint: str,
        *,
        skipped: Iterable[SkippedImage] = (),
        left_out: Iterable[LeftOut] = (),
        passed_over: Mapping[tuple[str, str], int] | None = None,
        notes: Iterable[str] = (),
    ) -> DatasetInfo:
        """Completes the files and moves the folder to the target.

        Args:
            source: what was imported, for people.
            source_fingerprint: equal for equal sources and options; a second import compares it.
            skipped: single images left out.
            left_out: whole folders left out.
            passed_over: files that are no images, counted by folder (with a slash behind) and suffix.
            notes: how the source was understood, where that is not plain.

        Raises:
            DatasetError: there is no training image, or the disk is full.
        """
        if self._shape is None or not self._counts[TRAIN].any():
            raise DatasetError(f"A data set must hold training images. Received: none for {self.target}.")
        self._flush()
        mean, std = _moments(self._histogram)
        by_suffix, by_folder = Counter[str](), defaultdict[str, dict[str, int]](dict)
        for (folder, suffix), files in sorted((passed_over or {}).items()):
            by_suffix[suffix] += files
            by_folder[folder or "./"][suffix] = files
        info = DatasetInfo(
            format_version=FORMAT_VERSION,
            name=self.target.name,
            source=source,
            classes=self.classes,
            height_px=self._shape[0],
            width_px=self._shape[1],
            channels=1 if self._shape[2] == 1 else 3,
            counts={
                split: dict(zip(self.classes, counts.tolist(), strict=True))
                for split, counts in zip(SPLITS, self._counts, strict=True)
            },
            fingerprint=self._content.fingerprint(self.classes),
            source_fingerprint=source_fingerprint,
            train_mean=mean,
            train_std=std,
            skipped=tuple(skipped),
            left_out=tuple(left_out),
            passed_over=dict(by_suffix),
            passed_over_in=dict(by_folder),
            notes=tuple(notes),
            versions={name: version(name) for name in ("numpy", "opencv-python-headless", "pillow", "pyarrow")},
        )
        try:
            if self._file is not None and self._sink is not None:
                self._file.close()
                self._sink.close()
            (self._folder / INFO_FILE).write_text(info.model_dump_json(indent=2) + "\n", encoding="utf-8")
            self._place.put_in_place()
            self._finished = True
        except OSError as error:
            raise DatasetError(f"{self.target} cannot be written: {error}.") from error
        return info

    def _open(self, image: Pixels) -> None:
        if image.ndim != 3 or image.shape[2] not in (1, 3) or image.size > MAX_IMAGE_BYTES or not image.size:
            raise DatasetError(
                f"A stored image must be (height, width, 1 or 3) and at most {MAX_IMAGE_BYTES} bytes. "
                f"Received: {image.shape}, {image.size} bytes; store a smaller one."
            )
        height, width, channels = self._shape = image.shape
        needed = self._expected_images * (image.size + 128)
        free = shutil.disk_usage(self._folder).free
        if needed > free:
            raise DatasetError(
                f"{self.target} needs {needed / 1e6:,.1f} MB of free disk. Received: {free / 1e6:,.1f} MB; "
                f"make room, choose another place or store smaller images."
            )
        schema = arrow_schema((height, width, channels), self._soft_classes)
        self._pending = {name: [] for name in schema.names}
        self._histogram = np.zeros((channels, 256), np.int64)
        self._sink = pa.OSFile(str(self._folder / IMAGES_FILE), "wb")
        self._file = pa.ipc.new_file(self._sink, schema)

    def _flush(self) -> None:
        if self._file is None or self._shape is None or not self._pending["label"]:
            return
        images = np.stack(self._pending["image"])
        training = images[np.asarray(self._pending["split"]) == TRAIN]
        for channel, histogram in enumerate(self._histogram):
            histogram += np.bincount(training[..., channel].reshape(-1), minlength=256)
        schema = arrow_schema(self._shape, self._soft_classes)
        columns = [
            pa.FixedSizeBinaryArray.from_buffers(schema.field(0).type, len(images), [None, pa.py_buffer(images)])
        ]
        columns += [pa.array(self._pending[field.name], field.type) for field in list(schema)[1:]]
        try:
            self._file.write_batch(pa.record_batch(columns, schema=schema))
        except OSError as error:
            raise DatasetError(f"{self.target} cannot be written: {error}; make room or choose another.") from error
        for values in self._pending.values():
            values.clear()


def _moments(histogram: npt.NDArray[np.int64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation on the 0-1 scale by channel, from counts (channels, 256)."""
    share = histogram / histogram.sum(axis=1, keepdims=True)
    level = np.arange(256) / 255
    mean = share @ level
    variance = share @ level**2 - mean**2
    return tuple(mean.tolist()), tuple(np.sqrt(np.maximum(variance, 0)).tolist())
