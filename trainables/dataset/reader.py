"""The data set on disk: its Arrow schema, and the memory map that opens it.

Knows images as uint8 arrays with a label; knows nothing of zips, decoding or Keras. `writer.py` fills it.

`images.arrow` is an uncompressed Arrow IPC file, so a row's pixels can be used where the page cache holds them:
every process of a machine that opens the same data set shares one copy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import ValidationError

from trainables.dataset.info import DatasetInfo
from trainables.errors import DatasetError

IMAGES_FILE: Final = "images.arrow"
INFO_FILE: Final = "dataset.json"
SHARES: Final = "shares"
"""The column of soft labels; most data sets have none."""
FACES_FILES: Final = ("faces.arrow", "faces.lock", "faces.unfinished.arrow")
"""What `trainables/dataset/face_boxes.py` writes: the boxes, its lock, and boxes that are not whole yet."""
CONTACT_SHEET_FILE: Final = "contact-sheet.png"
PREVIEW_FILE: Final = "preview-{method}.png"
FORMAT_VERSION: Final = 1
RECORD_BATCH_ROWS: Final = 256
TRAIN: Final = 0
TEST: Final = 1
SPLITS: Final = ("train", "test")

Pixels = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]


class Dataset:
    """A data set, memory-mapped; images are read where they lie, labels and groups are small arrays in memory.

    Attributes:
        directory: the data set's folder.
        info: what `dataset.json` says.
        labels: int32, (n,), index into `info.classes`; read-only.
        splits: int8, (n,), 0 train, 1 test; read-only.
        groups: int32, (n,), equal for images with equal pixels; read-only.
        shares: float32, (n, classes), what share of the votes each class has, rows of a sum of 1; read-only. None where
            every image has its label alone.
    """

    def __init__(self, directory: Path, info: DatasetInfo, batches: Sequence[pa.RecordBatch]) -> None:
        """Wraps record batches that `open_dataset` has mapped."""
        self.directory = directory
        self.info = info
        self._batches = batches
        self._images = [_pixels(batch.column("image"), info.shape) for batch in batches]
        self.labels: npt.NDArray[np.int32] = _concatenated_column(batches, "label", np.int32)
        self.splits: npt.NDArray[np.int8] = _concatenated_column(batches, "split", np.int8)
        self.groups: npt.NDArray[np.int32] = _concatenated_column(batches, "duplicate_group", np.int32)
        self.shares: npt.NDArray[np.float32] | None = _shares(batches, len(info.classes))

    def __len__(self) -> int:
        """Number of images, both splits together."""
        return len(self.labels)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles as its folder: another process maps the file instead of receiving the images."""
        return open_dataset, (self.directory,)

    @cached_property
    def paths(self) -> list[str]:
        """Where each image came from, inside its source."""
        return [path for batch in self._batches for path in batch.column("path").to_pylist()]

    def image(self, row: int) -> Pixels:
        """One image, without a copy.

        Args:
            row: 0 to `len(self) - 1`.

        Returns:
            uint8, (height, width, channels), 0-255; a read-only view into the memory map.

        Raises:
            IndexError: the row is not in the data set.
        """
        if not 0 <= row < len(self):
            raise IndexError(f"row must be 0 to {len(self) - 1}. Received: {row}.")
        image: Pixels = self._images[row // RECORD_BATCH_ROWS][row % RECORD_BATCH_ROWS]
        return image

    def images(self, rows: npt.ArrayLike) -> Pixels:
        """Several images, copied into one array in the order of `rows`.

        Args:
            rows: integers, (n,), each 0 to `len(self) - 1`, in any order, repeats allowed.

        Returns:
            uint8, (n, height, width, channels), 0-255.

        Raises:
            IndexError: a row is not in the data set.
        """
        wanted = np.asarray(rows, dtype=np.int64).reshape(-1)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= len(self)):
            raise IndexError(f"rows must be 0 to {len(self) - 1}. Received: {wanted.min()} to {wanted.max()}.")
        gathered = np.empty((len(wanted), *self.info.shape), np.uint8)
        batches, offsets = np.divmod(wanted, RECORD_BATCH_ROWS)
        # As fast as fancy indexing batch by batch: rows drawn at random rarely share one.
        for place, (batch, offset) in enumerate(zip(batches.tolist(), offsets.tolist(), strict=True)):
            gathered[place] = self._images[batch][offset]
        return gathered


def open_dataset(directory: Path) -> Dataset:
    """Maps a data set folder into memory, read-only.

    Raises:
        DatasetError: the folder is no data set, is damaged, or was written in another format version.
    """
    directory = Path(directory)
    info = read_info(directory)
    path = directory / IMAGES_FILE
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        if reader.schema not in (arrow_schema(info.shape), arrow_schema(info.shape, len(info.classes))):
            raise DatasetError(f"{path} must hold {info.shape} images as {INFO_FILE} says; import the data again.")
        batches = [reader.get_batch(index) for index in range(reader.num_record_batches)]
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"{path} must be a whole Arrow file: {error}; import the data again.") from error
    rows, expected = sum(len(batch) for batch in batches), sum(sum(c.values()) for c in info.counts.values())
    if rows != expected or any(len(batch) != RECORD_BATCH_ROWS for batch in batches[:-1]):
        raise DatasetError(f"{path} must hold the {expected} images of {INFO_FILE}. Received: {rows}; import it again.")
    dataset = Dataset(directory, info, batches)
    if rows and not 0 <= int(dataset.labels.min()) <= int(dataset.labels.max()) < len(info.classes):
        raise DatasetError(
            f"{path} must hold labels of the {len(info.classes)} classes of {INFO_FILE}; import it again."
        )
    return dataset


def read_info(directory: Path) -> DatasetInfo:
    """Reads `dataset.json` alone.

    Raises:
        DatasetError: the folder or the file is missing, or the file breaks the schema.
    """
    path = Path(directory) / INFO_FILE
    if not path.is_file():
        missing = "is a file" if Path(directory).exists() else "does not exist"
        what = "has no dataset.json" if Path(directory).is_dir() else missing
        raise DatasetError(
            f"A data set must be a folder written by `emotune data import` or `emotune data synth`. "
            f"Received: {directory}, which {what}."
        )
    try:
        info = DatasetInfo.model_validate_json(path.read_bytes())
        if strange := {name for counts in info.counts.values() for name in counts} - {*info.classes}:
            raise DatasetError(f"{path}: counts must be of its classes. Received: {min(strange)!r}; import it again.")
        return info
    except OSError as error:
        raise DatasetError(f"{path} must be readable: {error.strerror}; check its permissions.") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        raise DatasetError(f"{path}: {field}: {first['msg']}; import the data again.") from error


def arrow_schema(shape: tuple[int, int, int], soft_classes: int = 0) -> pa.Schema:
    """Columns of `images.arrow` for images of one shape (height, width, channels), with shares of so many classes."""
    height, width, channels = shape
    shares = [pa.field(SHARES, pa.list_(pa.float32(), soft_classes), nullable=False)] if soft_classes else []
    return pa.schema(
        [
            pa.field("image", pa.binary(height * width * channels), nullable=False),
            pa.field("label", pa.int32(), nullable=False),
            pa.field("split", pa.int8(), nullable=False),
            pa.field("path", pa.string(), nullable=False),
            pa.field("pixel_hash", pa.binary(16), nullable=False),
            pa.field("duplicate_group", pa.int32(), nullable=False),
            *shares,
        ]
    )


def hash_pixels(image: Pixels) -> bytes:
    """16 bytes of blake2b over shape and pixels; equal exactly when two images are the same."""
    digest = hashlib.blake2b(repr(image.shape).encode(), digest_size=16)
    digest.update(image.tobytes())
    return digest.digest()


class ContentDigest:
    """Adds up to a data set's fingerprint: equal for equal images, labels, splits and classes in the same order."""

    def __init__(self) -> None:
        self._digest = hashlib.blake2b(digest_size=16)

    def add(self, pixel_hash: bytes, label: int, split: int, shares: npt.NDArray[np.float32] | None = None) -> None:
        """Takes the next row."""
        soft = b"" if shares is None else shares.astype("<f4").tobytes()
        self._digest.update(pixel_hash + label.to_bytes(4, "little") + bytes([split]) + soft)

    def fingerprint(self, classes: Sequence[str]) -> str:
        """Returns the fingerprint of the rows so far."""
        return hashlib.blake2b(self._digest.digest() + "\0".join(classes).encode(), digest_size=16).hexdigest()


def content_fingerprint(dataset: Dataset) -> str:
    """Works a data set's fingerprint out from its pixels, whatever `dataset.json` says."""
    digest = ContentDigest()
    for row, (label, split) in enumerate(zip(dataset.labels.tolist(), dataset.splits.tolist(), strict=True)):
        shares = None if dataset.shares is None else dataset.shares[row]
        digest.add(hash_pixels(dataset.image(row)), label, split, shares)
    return digest.fingerprint(dataset.info.classes)


def _pixels(column: pa.FixedSizeBinaryArray, shape: tuple[int, int, int]) -> Pixels:
    pixels = np.frombuffer(column.buffers()[1], np.uint8, count=len(column) * int(np.prod(shape)))
    return pixels.reshape(len(column), *shape)


def _shares(batches: Sequence[pa.RecordBatch], classes: int) -> npt.NDArray[np.float32] | None:
    if not batches or SHARES not in batches[0].schema.names:
        return None
    parts = [batch.column(SHARES).flatten().to_numpy(zero_copy_only=False) for batch in batches]
    whole = np.concatenate(parts).astype(np.float32, copy=False).reshape(-1, classes)
    whole.flags.writeable = False
    return whole


def _concatenated_column(batches: Sequence[pa.RecordBatch], name: str, dtype: type[Any]) -> npt.NDArray[Any]:
    parts = [batch.column(name).to_numpy(zero_copy_only=False) for batch in batches]
    whole = np.concatenate(parts).astype(dtype, copy=False) if parts else np.empty(0, dtype)
    whole.flags.writeable = False
    return whole
