"""Thousands of generated sources: none ends in a traceback, loses an image in silence or writes outside its target."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests.support.memory import memory_bound
from tests.tune.sources.test_ingest import encode, pixels
from trainables.dataset.reader import open_dataset
from tune.dataset.import_options import ImportOptions
from tune.dataset.ingest import import_dataset
from tune.dataset.source_plan import plan_import
from tune.errors import EmotuneError
from tune.sources.csv_table import CsvTable
from tune.sources.file_kinds import is_image

SHARE = float(os.environ.get("EMOTUNE_FUZZ", "0.2"))
"""How much of the 5,000 sources is generated."""

MEMORY_MIB = 256
"""What an import may take at most, above what its process had before: none of these sources has a MiB of content."""
SIXTEEN = " ".join(map(str, range(16)))


def examples(count: int) -> Any:
    return settings(
        max_examples=round(SHARE * count), deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )


GOOD = [encode(pixels(number, (8, 8))) for number in range(40)]
FOLDERS = st.sampled_from(
    "train test Training PublicTest val valid a b happy sad 0 1 images archive data fold1 fold2 __MACOSX .git [x] "
    "train_set annotations Emotion aligned fröhlich 高兴 .. ./x C: x.zip".split(" ")
)
NAMES = st.sampled_from(
    "im0.png im1.png im2.JPG x .DS_Store notes.txt labels.csv train.csv fer2013.csv list_patition_label.txt 0_exp.npy "
    "S001_001_00000001_emotion.txt S001_001_00000001.png a.zip a.tar.gz data.parquet train_00001_aligned.png "
    "x-train.tfrecord-00000-of-00001 label.labels.txt "
    "README".split()
)
JUNK = st.one_of(
    st.binary(max_size=40), st.sampled_from([b"", b"PK\x03\x04", b"PAR1", b"\x1f\x8b", b"\x93NUMPY", GOOD[0][:30]])
)
FIELDS = st.sampled_from(
    [
        "0",
        "3",
        "7",
        "8",
        "happy",
        "",
        "x",
        "1 2 3 4",
        "9 9 9 9",
        SIXTEEN,
        "[1, 2, 3, 4]",
        "0.1 0.2 0.3 1",
        "nan",
        "1e999",
        "-1",
        '"',
        "Training",
        "Test",
        "PublicTest",
        "a/im0.png",
        "im1.png",
        "\x00",
        "é",
    ]
)
HEADERS = st.lists(st.sampled_from("emotion pixels Usage path label image neutral pixel0 id".split()), max_size=5)


GOOD_HEADERS = ("emotion,pixels,Usage", " Usage, emotion ,pixels", "label,pixels", "path,label", "pixel0,label,pixels")


@st.composite
def tables(draw: Any) -> bytes:
    """A header, mostly one that is known or none at all, with rows under it, some of them right."""
    separator = draw(st.sampled_from([",", ";", "\t"]))
    header = draw(st.one_of(st.sampled_from(GOOD_HEADERS), HEADERS.map(",".join)))
    right = {
        "emotion": "3",
        "label": "0",
        "pixels": draw(st.sampled_from(["1 2 3 4", SIXTEEN])),
        "Usage": "Training",
        "path": "a/im0.png",
    }
    rows = [
        ",".join(right.get(name.strip(), "7").replace("3", str(row % 7)) for name in header.split(","))
        for row in range(draw(st.integers(0, 6)))
    ]
    rows += [",".join(fields) for fields in draw(st.lists(st.lists(FIELDS, max_size=5), max_size=5))]
    lines = draw(st.permutations(rows))
    text = "\n".join(lines if draw(st.integers(0, 4)) == 4 else (header, *lines))
    return text.replace(",", separator).encode(
        draw(st.sampled_from(["utf-8", "utf-8", "utf-16", "latin-1"])), "replace"
    )


CONTENTS = st.one_of(st.sampled_from(GOOD), st.sampled_from(GOOD), JUNK, tables())
BASES = (
    {},
    {f"{split}/{c}/im{i}.png": GOOD[i + 9 * (c == "b")] for split in ("train", "test") for c in "ab" for i in range(2)},
    {f"x/{c}/im{i}.png": GOOD[i + 9 * (c == "sad")] for c in ("happy", "sad") for i in range(3)},
    {f"{c}/train/im{i}.png": GOOD[i + 9 * (c == "b")] for c in "ab" for i in range(3)},
    {"fer2013.csv": b"emotion,pixels,Usage\n" + b"".join(b"%d,1 2 3 %d,Training\n" % (i % 7, i) for i in range(14))},
)
PATHS = st.tuples(st.lists(FOLDERS, max_size=3), NAMES).map(lambda parts: "/".join((*parts[0], parts[1])))
TREES = st.tuples(st.sampled_from(BASES), st.dictionaries(PATHS, CONTENTS, max_size=8)).map(
    lambda parts: {**parts[0], **parts[1]}
)


def write_source(at: Path, kind: str, files: dict[str, bytes]) -> Path:
    if kind == "folder":
        for name, data in files.items():
            path = at / "in" / name.replace("..", "up")
            if not any(parent.is_file() for parent in path.parents) and not path.is_dir():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        (at / "in").mkdir(exist_ok=True)
        return at / "in"
    if kind == "zip":
        with zipfile.ZipFile(at / "in.zip", "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return at / "in.zip"
    with tarfile.open(at / "in.tar.gz", "w:gz", compresslevel=1) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return at / "in.tar.gz"


def rows_of(table: Path) -> int | None:
    """How many images a table has, a row each; None if it cannot be read."""
    try:
        return sum(1 for _ in CsvTable(table.name, lambda: table.open("rb")).rows())
    except EmotuneError:
        return None


def check_source(source: Path, images: int | None, rows: int | None = None) -> None:
    """Imports a source and looks at what became of it.

    Args:
        source: what to import.
        images: how many are in it by their names, if that is known.
        rows: how many rows its table has, if it is one.
    """
    at, before = source.parent, sorted(source.parent.rglob("*"))
    options = ImportOptions(max_bad=1.0, test_share=0.3)
    try:
        with memory_bound(mib=MEMORY_MIB):
            plan_import(source, options)
            dataset = import_dataset(source, at / "data", options).dataset
    except EmotuneError as error:
        assert "\n" not in str(error) and "Received: " in str(error)
        assert sorted(at.rglob("*")) == before
        return
    info = open_dataset(at / "data").info
    assert sorted(path for path in at.rglob("*") if path.parent != at / "data") == sorted([*before, at / "data"])
    assert len(dataset) == sum(sum(counts.values()) for counts in info.counts.values())
    named = len(dataset) + len(info.skipped) + sum(entry.images for entry in info.left_out)
    if images is not None and not dataset.paths[0].partition(", ")[2]:
        assert named >= images, (info.skipped, info.left_out)
    if rows is not None:
        assert named == rows, (info.skipped, info.left_out)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "zip", "tar.gz"])
@seed(14)
@examples(900)
@given(files=TREES)
def test_any_tree_is_imported_or_refused_in_one_line(kind: str, files: dict[str, bytes]) -> None:
    at = Path(tempfile.mkdtemp())
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Duplicate name")
            source = write_source(at, kind, files)
        found = (
            [path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()]
            if kind == "folder"
            else list(files)
        )
        check_source(source, sum(map(is_image, found)))
    finally:
        shutil.rmtree(at)


@pytest.mark.slow
@seed(14)
@examples(1500)
@given(content=tables())
def test_any_table_is_imported_or_refused_in_one_line(content: bytes) -> None:
    at = Path(tempfile.mkdtemp())
    try:
        (at / "in.csv").write_bytes(content)
        check_source(at / "in.csv", None, rows_of(at / "in.csv"))
    finally:
        shutil.rmtree(at)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
@seed(14)
@examples(400)
@given(at_byte=st.integers(0, 3000), flip=st.integers(1, 255), cut=st.integers(0, 3000))
def test_any_damage_to_an_archive_ends_in_one_line_or_in_named_images(
    kind: str, at_byte: int, flip: int, cut: int
) -> None:
    at = Path(tempfile.mkdtemp())
    try:
        files = {f"train/{c}/{i}.png": GOOD[i + 5 * (c == "b")] for c in "ab" for i in range(5)}
        lists = {"list.csv": b"path,label\n", "EmoLabel/list_patition_label.txt": b"1.png 5\n"}
        source = write_source(at, kind, (lists if at_byte % 2 else {}) | files)
        data = bytearray(source.read_bytes())
        data[at_byte % len(data)] ^= flip
        source.write_bytes(data[: len(data) - (cut if cut < 300 else 0)])
        check_source(source, None)
    finally:
        shutil.rmtree(at)


@pytest.mark.slow
def test_large_images_are_brought_to_their_size_one_after_another(tmp_path: Path) -> None:
    large = encode(np.zeros((2000, 2000, 3), np.uint8))  # 11 MiB each, some KiB packed
    for i in range(48):
        (tmp_path / "in" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / "ab"[i % 2] / f"{i}.png").write_bytes(large)
    with memory_bound(mib=350):  # all of them at once are 549 MiB
        dataset = import_dataset(
            tmp_path / "in", tmp_path / "data", ImportOptions(store_size_px=48, test_share=0)
        ).dataset
    assert len(dataset) == 48
