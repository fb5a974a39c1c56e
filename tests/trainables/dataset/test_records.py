"""The data set's memory map and its writer."""

from __future__ import annotations

import gc
import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import ROOT
from trainables.dataset.reader import RECORD_BATCH_ROWS, TEST, TRAIN, Dataset, Pixels, open_dataset
from trainables.dataset.target import existing_dataset
from trainables.dataset.writer import DatasetWriter
from trainables.errors import DatasetError

CLASSES = ("happy", "sad")


def random_images(count: int, shape: tuple[int, int, int] = (8, 6, 1), seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def write(target: Path, images: Pixels, *, replace: bool = False, fingerprint: str = "source") -> Dataset:
    with DatasetWriter(target, CLASSES, replace=replace) as writer:
        for index, image in enumerate(images):
            writer.append(image, index % 2, TEST if index % 5 == 4 else TRAIN, f"im{index}.png")
        writer.finish("arrays", fingerprint)
    return open_dataset(target)


def names_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def resident_private_kib() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    images = random_images(2 * RECORD_BATCH_ROWS + 7)
    dataset = write(tmp_path / "data", images)
    assert len(dataset) == len(images)
    assert np.array_equal(dataset.images(np.arange(len(images))), images)
    assert np.array_equal(dataset.image(RECORD_BATCH_ROWS), images[RECORD_BATCH_ROWS])
    assert dataset.labels.dtype == np.int32 and dataset.labels[:4].tolist() == [0, 1, 0, 1]
    assert dataset.splits.dtype == np.int8 and dataset.splits[:5].tolist() == [0, 0, 0, 0, 1]
    assert dataset.paths[-1] == f"im{len(images) - 1}.png"
    assert dataset.info.shape == (8, 6, 1)
    assert names_in(tmp_path) == ["data"] and names_in(tmp_path / "data") == ["dataset.json", "images.arrow"]


def test_an_image_is_a_read_only_view_of_the_map(tmp_path: Path) -> None:
    dataset = write(tmp_path / "data", random_images(9))
    one, again = dataset.image(3), dataset.image(3)
    assert np.shares_memory(one, again) and not one.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        one[0, 0, 0] = 1


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_reading_every_image_takes_no_memory_of_the_process(tmp_path: Path) -> None:
    dataset = write(tmp_path / "data", random_images(512, (128, 128, 3)))
    gc.collect()
    before = resident_private_kib()
    views = [dataset.image(row) for row in range(len(dataset))]
    total = sum(int(view[0, 0, 0]) + int(view[-1, -1, -1]) for view in views)
    grown_kib = resident_private_kib() - before
    assert total > 0
    assert grown_kib < 4096 < dataset.images([0]).size * len(dataset) / 1024


def test_gathering_keeps_the_order_and_repeats(tmp_path: Path) -> None:
    images = random_images(3 * RECORD_BATCH_ROWS)
    dataset = write(tmp_path / "data", images)
    rows = np.random.default_rng(1).integers(0, len(images), 1000)
    assert np.array_equal(dataset.images(rows), images[rows])
    assert dataset.images([]).shape == (0, 8, 6, 1)


@pytest.mark.parametrize("row", [-1, 9])
def test_a_row_outside_is_refused(tmp_path: Path, row: int) -> None:
    dataset = write(tmp_path / "data", random_images(9))
    with pytest.raises(IndexError, match=f"row must be 0 to 8. Received: {row}"):
        dataset.image(row)
    with pytest.raises(IndexError, match="rows must be 0 to 8"):
        dataset.images([0, row])


def test_a_data_set_is_pickled_as_its_folder(tmp_path: Path) -> None:
    dataset = write(tmp_path / "data", random_images(600, (32, 32, 1)))
    pickled = pickle.dumps(dataset)
    assert len(pickled) < 1000
    assert np.array_equal(pickle.loads(pickled).image(599), dataset.image(599))


def test_equal_pixels_share_a_group(tmp_path: Path) -> None:
    images = random_images(6)
    images[4] = images[1]
    dataset = write(tmp_path / "data", images)
    assert dataset.groups.tolist() == [0, 1, 2, 3, 1, 4]


def test_statistics_are_those_of_the_train_images(tmp_path: Path) -> None:
    images = random_images(300, (8, 8, 3))
    images[..., 0] //= 3
    dataset = write(tmp_path / "data", images)
    train = images[dataset.splits == TRAIN] / 255
    assert np.allclose(dataset.info.train_mean, train.mean(axis=(0, 1, 2)))
    assert np.allclose(dataset.info.train_std, train.std(axis=(0, 1, 2)))
    assert dataset.info.counts == {"train": {"happy": 120, "sad": 120}, "test": {"happy": 30, "sad": 30}}


def test_the_fingerprint_follows_pixels_and_labels(tmp_path: Path) -> None:
    images = random_images(10)
    first = write(tmp_path / "a", images).info.fingerprint
    assert write(tmp_path / "b", images).info.fingerprint == first
    images[9, 0, 0, 0] ^= 1
    assert write(tmp_path / "c", images).info.fingerprint != first


def test_an_interrupted_writer_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt, match="stop"), DatasetWriter(tmp_path / "data", CLASSES) as writer:
        writer.append(random_images(1)[0], 0, TRAIN, "im0.png")
        raise KeyboardInterrupt("stop")
    assert names_in(tmp_path) == []


def test_an_interrupted_replacement_leaves_the_old_data_set(tmp_path: Path) -> None:
    old = write(tmp_path / "data", random_images(9)).info
    with (
        pytest.raises(KeyboardInterrupt, match="stop"),
        DatasetWriter(tmp_path / "data", CLASSES, replace=True) as writer,
    ):
        writer.append(random_images(1)[0], 0, TRAIN, "im0.png")
        raise KeyboardInterrupt("stop")
    assert open_dataset(tmp_path / "data").info == old
    assert names_in(tmp_path) == ["data"]


def test_what_a_killed_writer_leaves_is_hidden_and_cleared_by_the_next(tmp_path: Path) -> None:
    script = f"""
import os, signal, numpy as np
from pathlib import Path
from trainables.dataset.writer import DatasetWriter
with DatasetWriter(Path({str(tmp_path)!r}) / "data", ("happy", "sad")) as writer:
    for index in range(300):
        writer.append(np.full((4, 4, 1), index % 251, np.uint8), 0, 0, "im.png")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert names_in(tmp_path) == [".data.importing"]
    assert len(write(tmp_path / "data", random_images(9))) == 9
    assert names_in(tmp_path) == ["data"]


def test_two_writers_of_one_target_do_not_mix(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "data", CLASSES) as first:
        first.append(random_images(1)[0], 0, TRAIN, "im0.png")
        with (
            pytest.raises(DatasetError, match="being written by another import"),
            DatasetWriter(tmp_path / "data", CLASSES),
        ):
            pass
        first.finish("arrays", "source")
    assert len(open_dataset(tmp_path / "data")) == 1


def test_a_data_set_gives_way_only_when_told(tmp_path: Path) -> None:
    write(tmp_path / "data", random_images(9))
    with pytest.raises(DatasetError, match="another data set; pass --replace"):
        write(tmp_path / "data", random_images(5))
    assert len(write(tmp_path / "data", random_images(5), replace=True)) == 5
    assert names_in(tmp_path) == ["data"]


@pytest.mark.parametrize("foreign", ["thesis.tex", "figures/a.png", ".git/config"])
def test_what_is_no_data_set_is_never_replaced(tmp_path: Path, foreign: str) -> None:
    write(tmp_path / "data", random_images(9))
    other = tmp_path / "data" / foreign
    other.parent.mkdir(exist_ok=True)
    other.write_text("mine")
    with pytest.raises(DatasetError, match=r"must be new, empty or a data set.*it stays"):
        write(tmp_path / "data", random_images(5), replace=True)
    assert other.read_text() == "mine"


def test_a_folder_of_pictures_is_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "holiday.png").write_bytes(b"mine")
    with pytest.raises(DatasetError, match=r"with holiday.png; it stays"):
        write(tmp_path / "data", random_images(5), replace=True)


def test_a_file_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("mine")
    with pytest.raises(DatasetError, match="a file; choose another"):
        write(tmp_path / "data", random_images(5), replace=True)


def test_an_empty_folder_may_become_the_data_set(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    assert len(write(tmp_path / "data", random_images(5))) == 5


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="must be writable: .*choose another place"):
        write(tmp_path / "file" / "data", random_images(5))


def test_too_little_disk_is_told_before_writing(tmp_path: Path) -> None:
    with (
        pytest.raises(DatasetError, match=r"MB of free disk. Received: .* MB; make room"),
        DatasetWriter(tmp_path / "data", CLASSES, expected_images=10**15) as writer,
    ):
        writer.append(random_images(1)[0], 0, TRAIN, "im0.png")
    assert names_in(tmp_path) == []


def test_images_of_another_shape_are_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(DatasetError, match=r"must be uint8 \(8, 6, 1\). Received: uint8 \(6, 8, 1\) \(im1.png\)"),
        DatasetWriter(tmp_path / "data", CLASSES) as writer,
    ):
        writer.append(random_images(1)[0], 0, TRAIN, "im0.png")
        writer.append(random_images(1, (6, 8, 1))[0], 0, TRAIN, "im1.png")


@pytest.mark.parametrize("shape", [(2000, 2000, 1), (8, 8, 2), (0, 8, 1)])
def test_images_that_cannot_be_stored_are_refused(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    with pytest.raises(DatasetError, match="A stored image must be"):
        write(tmp_path / "data", random_images(1, shape))


def test_a_data_set_needs_train_images(tmp_path: Path) -> None:
    with (
        pytest.raises(DatasetError, match="must hold training images. Received: none"),
        DatasetWriter(tmp_path / "data", CLASSES) as writer,
    ):
        writer.append(random_images(1)[0], 0, TEST, "im0.png")
        writer.finish("arrays", "source")
    assert names_in(tmp_path) == []


def test_a_missing_data_set_is_told_with_the_commands_that_write_one(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"emotune data import.*nowhere, which does not exist"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match=r"which has no dataset.json"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"channels": 2}, r"dataset.json: channels: Input should be 1 or 3; import the data again"),
        ({"format_version": 7}, r"dataset.json: format_version: Input should be 1"),
        ({"colour": "red"}, r"dataset.json: colour: Extra inputs"),
        ({"width_px": 7}, r"must hold \(8, 7, 1\) images as dataset.json says"),
        ({"counts": {"train": {"happy": 1}}}, r"must hold the 1 images of dataset.json. Received: 9"),
    ],
)
def test_a_data_set_that_contradicts_itself_is_refused(tmp_path: Path, edit: dict[str, object], message: str) -> None:
    write(tmp_path / "data", random_images(9))
    path = tmp_path / "data" / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | edit))
    with pytest.raises(DatasetError, match=message):
        open_dataset(tmp_path / "data")


@pytest.mark.parametrize("size", [0, 4, 1000])
def test_a_truncated_file_is_refused(tmp_path: Path, size: int) -> None:
    write(tmp_path / "data", random_images(9))
    os.truncate(tmp_path / "data" / "images.arrow", size)
    with pytest.raises(DatasetError, match="must be a whole Arrow file: .*; import the data again"):
        open_dataset(tmp_path / "data")


def test_the_same_source_is_recognised(tmp_path: Path) -> None:
    assert existing_dataset(tmp_path / "data", "source") is None
    write(tmp_path / "data", random_images(9))
    assert existing_dataset(tmp_path / "data", "other") is None
    assert existing_dataset(tmp_path / "data", "source") is not None
    os.truncate(tmp_path / "data" / "images.arrow", 100)
    assert existing_dataset(tmp_path / "data", "source") is None
