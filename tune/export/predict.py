"""Classifies images, files or arrays, with an export. Knows nothing of studies or data sets."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ValidationError, field_validator

from trainables.dataset.reader import Pixels
from trainables.errors import DatasetError, EmotuneError, first_line
from trainables.models.blocks import refuse_xla_where_missing
from tune.errors import ExportError, ImageError
from tune.export.arrays import ImageLike, images_in
from tune.export.code import import_layers
from tune.export.export import LABELS_FILE, MODEL_FILE, PREPROCESSING_FILE
from tune.export.graph import pixel_part
from tune.export.import_tensorflow import import_tensorflow
from tune.export.manifest import Manifest, check_manifest
from tune.export.pictures import check_images
from tune.export.small_faces import overview, small_face
from tune.sources.decoding import UnreadableImage, decode, silence_decoders

if TYPE_CHECKING:
    import albumentations as A
    import keras

_BATCH = 128
_NEEDED = (LABELS_FILE, PREPROCESSING_FILE, MODEL_FILE)


@dataclass(frozen=True)
class Prediction:
    """What the model says of one image.

    Attributes:
        path: The file, as it was given; None for an array.
        label: The likeliest class.
        probabilities: By class, in the export's order; they sum to 1.
        looks_divided: No pixel is brighter than 1 of 255: of a picture divided by 255, nothing else would be left.
        small_face: The share of a large picture's shorter side that its face takes, if that is small and was looked at.
    """

    path: Path | None
    label: str
    probabilities: dict[str, float]
    looks_divided: bool = False
    small_face: float | None = None


@dataclass(frozen=True)
class UnreadPicture:
    """A picture that could not be decoded, and why."""

    name: str
    reason: str


class _Labels(BaseModel, frozen=True, extra="ignore"):
    classes: tuple[str, ...]
    height_px: int
    width_px: int
    channels: int
    needs_faces: bool
    own_layers: str | None = None

    @field_validator("classes")
    @classmethod
    def _are_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if "" in names or len(set(names)) < len(names):
            raise ValueError("classes must have a name each, and no two the same")
        return names


class Predictor:
    """An export, loaded; classifies any number of images."""

    def __init__(self, model: keras.Model, labels: _Labels, pipeline: A.Compose) -> None:
        self._model = model
        self._labels = labels
        self._pipeline = pipeline

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the probabilities."""
        return self._labels.classes

    def predict(self, images: ImageLike | Iterable[ImageLike]) -> list[Prediction]:
        """Classifies image files: gray, colour or 16 bits, of any size, in any format that OpenCV reads; or arrays.

        An array holds uint8 pixels, 0-255: one image (h, w), (h, w, 1) or (h, w, 3) RGB, or several, (n, h, w) or
        (n, h, w, channels); it is treated as a file of the same pixels would be.
        Each is brought to the data set's channels and size (area interpolation when it shrinks) and goes through the
        export's evaluation pipeline. Memory holds two batches, however many images there are.

        Raises:
            ImageError: A path is missing, a folder, empty, too large or not an image; an array is not uint8.
        """
        items = images_in(images)
        check_images(item for item in items if isinstance(item, Path))
        predictions = []
        for batch, pixels in self._batches(items):
            probabilities = np.asarray(self._model.predict_on_batch(pixels))
            predictions += [self._prediction(item, row) for item, row in zip(batch, probabilities, strict=True)]
        return predictions

    def predict_pictures(
        self, pictures: Iterable[tuple[str, Callable[[], bytes]]], look_for_faces: int = 0
    ) -> Iterator[Prediction | UnreadPicture]:
        """Classifies pictures one batch after the other, and goes on after one that cannot be read.

        Args:
            pictures: A name, and what returns the file's content.
            look_for_faces: In how many large pictures at most it is looked whether the face is small.
        """
        remaining = iter(pictures)
        with silence_decoders(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as readers:
            while batch := list(islice(remaining, _BATCH)):
                read = list(readers.map(partial(self._read_picture, look=look_for_faces > 0), batch))
                whole = [self._preprocessed(one[0]) for one in read if not isinstance(one, UnreadPicture)]
                rows = iter(np.asarray(self._model.predict_on_batch(np.stack(whole))) if whole else ())
                for (name, _), one in zip(batch, read, strict=True):
                    if isinstance(one, UnreadPicture):
                        yield one
                        continue
                    pixels, large = one
                    looked = large is not None and look_for_faces > 0
                    look_for_faces -= looked
                    yield replace(
                        self._prediction(Path(name), next(rows), pixels),
                        small_face=small_face(large) if large is not None and looked else None,
                    )

    def entries(self, images: Iterable[Pixels]) -> Pixels:
        """Returns decoded images as every format takes them: uint8, (n, height, width, channels)."""
        return np.concatenate([pixels for _, pixels in self._batches(list(images))])

    def _read_picture(
        self, picture: tuple[str, Callable[[], bytes]], *, look: bool
    ) -> tuple[Pixels, Pixels | None] | UnreadPicture:
        image = read_picture(*picture)
        if isinstance(image, UnreadPicture):
            return image
        large = overview(image, self._labels.height_px, self._labels.width_px) if look else None
        return self.fitted(image), large

    def _batches(self, items: list[Path | Pixels]) -> Iterator[tuple[list[Path | Pixels], Pixels]]:
        """Reads the next batch while the model works on this one."""
        batches = [items[start : start + _BATCH] for start in range(0, len(items), _BATCH)]
        with silence_decoders(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as readers:
            pending = [readers.submit(self._read, item) for batch in batches[:1] for item in batch]
            for number, batch in enumerate(batches):
                following = [readers.submit(self._read, item) for nxt in batches[number + 1 :][:1] for item in nxt]
                try:
                    read = [future.result() for future in pending]
                except ImageError:
                    readers.shutdown(wait=False, cancel_futures=True)
                    raise
                # One Compose belongs to one thread: Albumentations 2.0.8 changes it as it runs.
                yield batch, np.stack([self._preprocessed(image) for image in read])
                pending = following

    def fitted(self, image: Pixels) -> Pixels:
        """Returns an image, uint8, (h, w, 1 or 3), with the model's size and channels."""
        return _fitted(image, self._labels.height_px, self._labels.width_px, self._labels.channels)

    def _read(self, item: Path | Pixels) -> Pixels:
        if not isinstance(item, Path):
            return self.fitted(item)
        try:
            image = decode(item.read_bytes(), str(item))
        except (OSError, UnreadableImage, DatasetError) as error:
            remedy = "Name a PNG, JPEG, BMP, TIFF or WebP image."
            raise ImageError(
                f"An image must be readable. Received: {item}: {str(error).rstrip('.')}. {remedy}"
            ) from error
        return self.fitted(image)

    def _preprocessed(self, image: Pixels) -> Pixels:
        if self._labels.needs_faces:
            from trainables.dataset.face_boxes import detect_face

            preprocessed: Pixels = self._pipeline(image=image, face_box=detect_face(image))["image"]
        else:
            preprocessed = self._pipeline(image=image)["image"]
        return preprocessed

    def _prediction(
        self, item: Path | Pixels, probabilities: npt.NDArray[np.float32], pixels: Pixels | None = None
    ) -> Prediction:
        by_class = dict(zip(self.classes, probabilities.tolist(), strict=True))
        path = item if isinstance(item, Path) else None
        divided = pixels is not None and int(pixels.max()) == 1
        return Prediction(path, max(by_class, key=by_class.__getitem__), by_class, divided)


def read_picture(name: str, read: Callable[[], bytes]) -> Pixels | UnreadPicture:
    """Returns a picture's pixels, uint8, (height, width, 1 or 3), RGB; or why it cannot be decoded.

    Args:
        name: for messages.
        read: returns the file's content.
    """
    try:
        return decode(read(), name)
    except (OSError, ValueError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error, DatasetError) as error:
        return UnreadPicture(name, str(error) or type(error).__name__)


def load_export(directory: Path) -> Predictor:
    """Loads an export folder through Keras.

    Raises:
        ExportError: The folder is missing, is no export, lacks a file, a newer emotune wrote it, or a file is damaged.
    """
    directory = Path(directory)
    check_export(directory)
    import_tensorflow()
    import albumentations as A
    import keras

    import trainables.preprocessing.methods  # noqa: F401  # from_dict looks its transforms up by name

    name = LABELS_FILE
    try:
        labels = _Labels.model_validate_json((directory / LABELS_FILE).read_bytes())
        name = PREPROCESSING_FILE
        pipeline = A.from_dict(json.loads((directory / PREPROCESSING_FILE).read_text(encoding="utf-8")))
        name = MODEL_FILE
        if not zipfile.is_zipfile(directory / MODEL_FILE):  # Keras says of a damaged one that it is not there
            raise ValueError("Not a whole .keras file")
        if labels.own_layers:
            import_layers(labels.own_layers, directory)
        model = keras.saving.load_model(directory / MODEL_FILE, compile=False)
        refuse_xla_where_missing(model)
    except EmotuneError:
        raise
    except Exception as error:  # Keras and Albumentations raise whatever their readers raise
        raise ExportError(f"{directory / name} is damaged: {_reason(error)} Export the checkpoint again.") from error
    expected = (labels.height_px, labels.width_px, labels.channels), (len(labels.classes),)
    if (found := (model.input_shape[1:], model.output_shape[1:])) != expected:
        raise ExportError(
            f"{directory / MODEL_FILE} must fit {LABELS_FILE}: {expected}. Received: {found}. Export it again."
        )
    return Predictor(pixel_part(model), labels, pipeline)


def check_export(directory: Path) -> Manifest | None:
    """Returns an export's manifest, with which its files agree; None where 0.1 wrote it. Loads no model.

    Raises:
        ExportError: The folder is missing, is no export, lacks a file, a newer emotune wrote it, or a file is damaged.
    """
    _check_files(directory)
    return check_manifest(directory, _NEEDED)


def _check_files(directory: Path) -> None:
    remedy = "Name a folder written by `emotune export`."
    if not directory.is_dir():
        what = "a file" if directory.exists() else "which does not exist"
        raise ExportError(f"An export must be a folder. Received: {directory}, {what}. {remedy}")
    for name in _NEEDED:
        if not (directory / name).is_file():
            raise ExportError(f"An export must hold {name}. Received: {directory} without it. {remedy}")


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(str(part) for part in first['loc']) or 'the file'}: {first['msg']}."
    return f"{first_line(error)}."


def _fitted(image: Pixels, height_px: int, width_px: int, channels: int) -> Pixels:
    """Brings uint8 (h, w, 1 or 3) to the model's channels and size, as the import of a data set would."""
    height, width, found = image.shape
    if (height, width) != (height_px, width_px):
        shrinks = max(height_px, width_px) < max(height, width)
        method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
        image = np.asarray(cv2.resize(image, (width_px, height_px), interpolation=method), np.uint8)
    if found != channels:
        code = cv2.COLOR_RGB2GRAY if channels == 1 else cv2.COLOR_GRAY2RGB
        image = np.asarray(cv2.cvtColor(image, code), np.uint8)
    return image.reshape(height_px, width_px, channels)
