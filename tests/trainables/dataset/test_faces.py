"""Face boxes: found once, cached beside the data set, never a reason to drop an image."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import cv2
import numpy as np
import pytest

from trainables.dataset import face_boxes as module
from trainables.dataset.face_boxes import FACES_FILE, detect_face, expected_s, find_faces, hit_rate_by_class, load_faces
from trainables.dataset.reader import TEST, TRAIN, Dataset, Pixels, open_dataset
from trainables.dataset.writer import DatasetWriter
from trainables.errors import DatasetError
from tune.dataset.synth import write_faces


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A few cartoon faces, large enough for two processes."""
    return write_faces(tmp_path_factory.mktemp("faces") / "drawn", train_images=140, test_images=14)


@pytest.fixture(scope="module")
def boxes(drawn: Dataset) -> module.Boxes:
    return find_faces(drawn)


def write(target: Path, images: list[Pixels]) -> Dataset:
    with DatasetWriter(target, ("happy", "sad")) as writer:
        for number, image in enumerate(images):
            writer.append(image, number % 2, TRAIN, f"{number}.png")
        writer.append(np.full_like(images[0], 9), 0, TEST, "test.png")
        writer.finish("arrays", "none")
    return open_dataset(target)


def test_boxes_lie_inside_the_frame_or_say_that_none_was_found(drawn: Dataset, boxes: module.Boxes) -> None:
    height, width, _ = drawn.info.shape
    assert boxes.shape == (len(drawn), 4) and boxes.dtype == np.int32
    found = boxes[boxes[:, 0] >= 0]
    assert (boxes[boxes[:, 0] < 0] == -1).all()
    assert 0.5 < len(found) / len(boxes) < 1, "most cartoons have a face, not all"
    assert (found[:, 0] < found[:, 2]).all() and (found[:, 1] < found[:, 3]).all()
    assert found.min() >= 0 and found[:, 2].max() <= width and found[:, 3].max() <= height


def test_a_row_has_the_box_that_prediction_would_find(drawn: Dataset, boxes: module.Boxes) -> None:
    for row in range(0, len(drawn), 25):
        assert tuple(boxes[row]) == (detect_face(drawn.image(row)) or (-1, -1, -1, -1))


def test_boxes_are_read_back_and_not_found_again(
    drawn: Dataset, boxes: module.Boxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_find", lambda *_: pytest.fail("looked for faces again"))
    loaded = load_faces(drawn)
    assert loaded is not None and np.array_equal(loaded, boxes)
    assert np.array_equal(find_faces(drawn), boxes)


def test_equal_images_are_looked_at_once_and_share_their_box(
    drawn: Dataset, boxes: module.Boxes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_face = int(np.flatnonzero(boxes[:, 0] >= 0)[0])
    face, flat = drawn.image(with_face), np.full(drawn.info.shape, 77, np.uint8)
    data = write(tmp_path / "data", [face, flat, face, face])
    seen, progress = [], []
    monkeypatch.setattr(module, "detect_face", lambda image: seen.append(image) or detect_face(image))
    found = find_faces(data, lambda done, total: progress.append((done, total)))
    assert len(seen) == 3 and progress[-1] == (3, 3)
    assert [tuple(row) for row in found] == [
        tuple(boxes[with_face]),
        (-1,) * 4,
        *[tuple(boxes[with_face])] * 2,
        (-1,) * 4,
    ]
    assert hit_rate_by_class(data, found) == {"happy": 1.0, "sad": 0.5}, "test images do not count"


def test_boxes_of_other_images_are_not_used(drawn: Dataset, boxes: module.Boxes, tmp_path: Path) -> None:
    data = write(tmp_path / "data", [np.full((48, 48, 1), gray, np.uint8) for gray in range(4)])
    assert load_faces(data) is None
    (data.directory / FACES_FILE).write_bytes((drawn.directory / FACES_FILE).read_bytes())
    assert load_faces(data) is None
    assert (find_faces(data) == -1).all()


def test_a_damaged_cache_is_named(tmp_path: Path) -> None:
    data = write(tmp_path / "data", [np.full((48, 48, 1), gray, np.uint8) for gray in range(4)])
    (data.directory / FACES_FILE).write_bytes(b"ARROW1 but no more")
    with pytest.raises(DatasetError, match=r"faces\.arrow must be a whole Arrow file of boxes.*Delete it"):
        load_faces(data)


def test_an_interrupted_search_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = write(tmp_path / "data", list(rng.integers(0, 256, (4, 48, 48, 1), dtype=np.uint8)))

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        find_faces(data, interrupt)
    assert load_faces(data) is None
    assert len(find_faces(data)) == 5, "the lock is free again"


def test_two_processes_that_ask_at_once_look_once(tmp_path: Path) -> None:
    write_faces(tmp_path / "data", train_images=14, test_images=7)
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        answers = pool.map(_find_and_count, [tmp_path / "data"] * 2, chunksize=1)
    assert sorted(calls for calls, _ in answers) == [0, 1]
    assert answers[0][1] == answers[1][1]


def _find_and_count(directory: Path) -> tuple[int, list[list[int]]]:
    calls: list[int] = []
    boxes = find_faces(open_dataset(directory), lambda done, total: calls.append(done))
    return len(calls), boxes.tolist()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    data = write(tmp_path / "data", [np.full((48, 48, 1), gray, np.uint8) for gray in range(4)])
    (data.directory / "faces.lock").mkdir()
    with pytest.raises(DatasetError, match=r"Face boxes must be written to .*data\. Received: .*Make the folder"):
        find_faces(data)


def test_a_face_in_a_large_colour_image_is_found_where_it_is(drawn: Dataset, boxes: module.Boxes) -> None:
    row = int(np.flatnonzero(boxes[:, 0] >= 0)[0])
    large = cv2.resize(drawn.image(row), (192, 192), interpolation=cv2.INTER_CUBIC)
    frame = np.full((240, 320, 3), 128, np.uint8)
    frame[30:222, 100:292] = large[:, :, None]
    box = detect_face(frame)
    assert box is not None
    middle = (boxes[row, :2] + boxes[row, 2:]) * 2 + [100, 30]
    assert box[0] < middle[0] < box[2] and box[1] < middle[1] < box[3]


def test_a_strip_of_one_row_holds_no_face_and_is_no_fault() -> None:
    strip = np.arange(4000, dtype=np.uint8).reshape(1, 4000, 1)
    assert module.detect_faces(strip) == []


def test_the_expected_time_counts_each_different_image_once(drawn: Dataset) -> None:
    assert 0 < expected_s(drawn) <= len(drawn) * 0.016


@pytest.mark.slow
def test_most_fer2013_faces_are_found(fer2013: Path) -> None:
    data = open_dataset(fer2013)
    rows = np.random.default_rng(0).choice(np.flatnonzero(data.splits == TRAIN), 200, replace=False)
    assert np.mean([detect_face(data.image(int(row))) is not None for row in rows]) > 0.85
