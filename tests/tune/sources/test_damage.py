"""Sources that are damaged, cut off or joined: what is behind the damage is never lost without a word."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from tests.tune.sources.test_ingest import csv_text, encode, make_folder, make_zip, pixels
from tests.tune.sources.test_label_lists import imported
from trainables.dataset.reader import INFO_FILE, TEST, open_dataset
from trainables.errors import DatasetError, PlaceError
from trainables.places import Place
from tune.errors import SourceError

FILES = {f"{split}/{name}/{i}.png": encode(pixels(i)) for split in ("train", "test") for name in "ab" for i in range(3)}


def tar_of(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


def header_at(packed: bytes, number: int) -> int:
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        return archive.getmembers()[number].offset


def test_a_tar_that_breaks_at_a_header_or_goes_on_behind_its_end_is_refused(tmp_path: Path) -> None:
    whole = tar_of(FILES)
    at = header_at(whole, 8)
    flipped = bytearray(whole)
    flipped[at] ^= 1
    for packed, words in (
        (bytes(flipped), f"damaged or cut off at byte {at:,} of"),
        (whole[:at], "damaged or cut off"),
        (whole[: at + 100], "damaged or cut off"),
        (whole + whole, "several tars in one file"),
    ):
        (tmp_path / "faces.tar").write_bytes(packed)
        with pytest.raises(SourceError, match=words):
            imported(tmp_path / "faces.tar")
    (tmp_path / "faces.tar").write_bytes(whole)
    assert len(imported(tmp_path / "faces.tar")) == len(FILES)


def test_a_hard_link_in_a_tar_is_the_file_that_it_names(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "faces.tar", "w") as archive:
        for i in range(6):
            data, entry = encode(pixels(i)), tarfile.TarInfo(f"all/{i}.png")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
            for folder in [f"{split}/{name}" for split in ("train", "test") for name in ("a", "b")]:
                link = tarfile.TarInfo(f"{folder}/{i}.png")
                link.type, link.linkname = tarfile.LNKTYPE, f"all/{i}.png"
                archive.addfile(link)
    dataset = imported(tmp_path / "faces.tar", splits=("all=leave-out",))
    assert len(dataset) == 24 and dataset.info.counts["test"] == {"a": 6, "b": 6}


def test_a_quotation_mark_that_is_not_closed_swallows_no_rows(tmp_path: Path) -> None:
    rows = [(i % 7, pixels(i), "Training" if i % 3 else "PrivateTest") for i in range(60)]
    lines = csv_text(rows).splitlines()
    emotion, rest = lines[40].split(",", 1)
    lines[40] = f'{emotion},"{rest}'
    (tmp_path / "faces.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(SourceError, match="one in line 41 swallows 20 lines"):
        imported(tmp_path / "faces.csv")


def test_a_split_that_a_list_does_not_say_in_known_words_is_a_bad_row(tmp_path: Path) -> None:
    files = {f"{i}.png": encode(pixels(i)) for i in range(12)}
    rows = [f"{i}.png,{'ab'[i % 2]},{('train', 'test', 'holdout')[i % 3]}" for i in range(12)]
    files["labels.csv"] = "\n".join(["path,label,split", *rows]).encode()
    with pytest.raises(SourceError, match="its split is 'holdout', which is none of train, test and validation"):
        imported(make_folder(tmp_path / "in", files))


def test_no_test_image_is_drawn_where_the_source_has_some(tmp_path: Path) -> None:
    files = {f"{i}.png": encode(pixels(i)) for i in range(30)}
    rows = [f"{i}.png,{'ab'[i % 2]},{'' if i < 15 else 'test' if i < 20 else 'train'}" for i in range(30)]
    files["labels.csv"] = "\n".join(["path,label,split", *rows]).encode()
    dataset = imported(make_folder(tmp_path / "in", files))
    assert int((dataset.splits == TEST).sum()) == 5
    assert any("15 images that belong to no split are training images" in note for note in dataset.info.notes)


def test_emotions_that_begin_at_one_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "faces.csv").write_text(csv_text([(i % 6 + 1, pixels(i), "Training") for i in range(60)]))
    with pytest.raises(SourceError, match="codes from 1 to 6, which may be other ones; name them"):
        imported(tmp_path / "faces.csv")


def test_a_zip_whose_names_only_say_that_they_are_utf8_is_one_line(tmp_path: Path) -> None:
    source = make_zip(tmp_path / "in.zip", {"train/é/1.png": encode(pixels(1))})
    data = source.read_bytes()
    assert "é".encode() in data
    source.write_bytes(data.replace("é".encode(), b"\xe9\x31"))
    with pytest.raises(SourceError, match="Names in a zip that say they are UTF-8 must be"):
        imported(source)


def test_an_address_in_brackets_is_one_line() -> None:
    with pytest.raises(PlaceError, match=r"must begin with s3://BUCKET.*Received: s3://\[my-bucket\]/runs"):
        Place("s3://[my-bucket]/runs")


def test_classes_that_were_renamed_by_hand_are_refused(tmp_path: Path) -> None:
    folder = imported(make_folder(tmp_path / "in", FILES)).directory
    info = folder / INFO_FILE
    info.write_text(info.read_text().replace('"classes": [\n    "a"', '"classes": [\n    "angry"'))
    assert '"angry"' in info.read_text()
    with pytest.raises(DatasetError, match="counts must be of its classes. Received: 'a'; import it again"):
        open_dataset(folder)
