"""Import of zips, folders and FER-2013's CSV: what is read, what is refused, what is left behind."""

from __future__ import annotations

import os
import shutil
import struct
import time
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from trainables.dataset.reader import TEST, TRAIN, Pixels, open_dataset
from trainables.errors import DatasetError
from tune.dataset.ingest import ImportOptions, import_dataset
from tune.dataset.quality_report import contact_sheet, describe_dataset, write_contact_sheet
from tune.errors import SourceError
from tune.sources.file_kinds import is_image
from tune.sources.folder_layout import assign_classes_and_splits

Files = Mapping[str, bytes]
FER_TRAIN = {
    "angry": 3995,
    "disgusted": 436,
    "fearful": 4097,
    "happy": 7215,
    "neutral": 4965,
    "sad": 4830,
    "surprised": 3171,
}


def pixels(seed: int, shape: tuple[int, ...] = (8, 8), dtype: Any = np.uint8) -> Any:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def encode(image: Any, suffix: str = ".png") -> bytes:
    return cv2.imencode(suffix, image)[1].tobytes()


def kaggle_files(train: int = 3, test: int = 1) -> dict[str, bytes]:
    files = {}
    for split, count in (("train", train), ("test", test)):
        for label, name in enumerate(("happy", "sad")):
            for index in range(count):
                files[f"{split}/{name}/im{index}.png"] = encode(pixels(1000 * (split == "test") + 10 * index + label))
    return files


def make_zip(path: Path, files: Files, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def make_folder(path: Path, files: Files) -> Path:
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def csv_text(rows: list[tuple[int, Pixels, str]], header: str = "emotion,pixels,Usage") -> str:
    lines = [f"{code},{' '.join(map(str, image.reshape(-1)))},{usage}" for code, image, usage in rows]
    return "\n".join([header, *lines]) + "\n"


def names_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# --- what is read ----------------------------------------------------------------------------------------------------


def test_a_zip_and_its_unpacked_folder_give_the_same_data_set(tmp_path: Path) -> None:
    files = kaggle_files()
    zipped = import_dataset(make_zip(tmp_path / "a.zip", files), tmp_path / "zipped").dataset
    folder = import_dataset(make_folder(tmp_path / "a", files), tmp_path / "unpacked").dataset
    assert zipped.info.fingerprint == folder.info.fingerprint
    assert zipped.paths == folder.paths == sorted(files)
    assert zipped.info.classes == ("happy", "sad")
    assert zipped.info.counts == {"train": {"happy": 3, "sad": 3}, "test": {"happy": 1, "sad": 1}}
    row = zipped.paths.index("train/sad/im2.png")
    assert np.array_equal(zipped.image(row)[..., 0], pixels(21))
    assert (zipped.labels[row], zipped.splits[row]) == (1, TRAIN)


@pytest.mark.parametrize("prefix", ["archive/", "outer/inner/", ""])
def test_a_folder_around_everything_is_looked_through(tmp_path: Path, prefix: str) -> None:
    files = {f"{prefix}{name}": data for name, data in kaggle_files().items()}
    files |= {f"{prefix}README.md": b"words", f"__MACOSX/{prefix}train/happy/._im0.png": b"x", ".hidden/x/a.png": b"x"}
    info = import_dataset(make_zip(tmp_path / "a.zip", files), tmp_path / "data").dataset.info
    assert info.counts == {"train": {"happy": 3, "sad": 3}, "test": {"happy": 1, "sad": 1}}
    assert info.skipped == ()


def test_split_folders_may_be_written_in_any_case_and_classes_may_be_nested(tmp_path: Path) -> None:
    files = {f"Train/{c}/deep/er/{i}.png": encode(pixels(i + 50 * (c == "b"))) for c in "ab" for i in range(3)}
    files["TEST/a/0.PNG"] = encode(pixels(99))
    info = import_dataset(make_folder(tmp_path / "in", files), tmp_path / "data").dataset.info
    assert info.counts == {"train": {"a": 3, "b": 3}, "test": {"a": 1, "b": 0}}


def test_images_outside_the_split_folders_are_left_out_and_listed(tmp_path: Path) -> None:
    files = kaggle_files() | {"validation/happy/x.png": encode(pixels(7)), "train/loose.png": encode(pixels(8))}
    info = import_dataset(make_folder(tmp_path / "in", files), tmp_path / "data").dataset.info
    assert [(s.path, s.reason) for s in info.skipped] == [
        ("train/loose.png", "outside test/<class>/ and train/<class>/"),
        ("validation/happy/x.png", "validation images; pass --validation train or --validation test to use them"),
    ]


@pytest.mark.parametrize("prefix", ["", "train/"])
def test_without_a_test_split_the_pixels_decide_and_duplicates_stay_together(tmp_path: Path, prefix: str) -> None:
    files = {f"{prefix}{c}/{i}.png": encode(pixels(i % 150 + 1000 * ord(c))) for c in "ab" for i in range(300)}
    dataset = import_dataset(make_folder(tmp_path / "in", files), tmp_path / "data").dataset
    report = describe_dataset(dataset)
    assert report.duplicates.test_with_twin_in_train == 0
    assert sum(report.duplicates.surplus.values()) == 300
    assert 0.05 < (dataset.splits == TEST).mean() < 0.15
    renamed = {f"{prefix}{c}/{i + 500}.png": files[f"{prefix}{c}/{i}.png"] for c in "ab" for i in range(300)}
    again = import_dataset(make_folder(tmp_path / "renamed", renamed), tmp_path / "again").dataset
    assert again.info.counts == dataset.info.counts
    none = import_dataset(tmp_path / "in", tmp_path / "none", ImportOptions(test_share=0)).dataset
    assert not (none.splits == TEST).any()


def test_fer_2013s_csv_is_read_with_its_usages(tmp_path: Path) -> None:
    images = [pixels(i, (48, 48)) for i in range(9)]
    usages = ["Training"] * 7 + ["PublicTest", "PrivateTest"]
    rows = [(code % 7, image, usage) for code, (image, usage) in enumerate(zip(images, usages, strict=True))]
    (tmp_path / "fer2013.csv").write_text(csv_text(rows))
    dataset = import_dataset(tmp_path / "fer2013.csv", tmp_path / "data").dataset
    assert [dataset.info.classes[label] for label in dataset.labels] == [
        *("angry", "disgusted", "fearful", "happy", "sad", "surprised", "neutral"),
        *("angry", "disgusted"),
    ]
    assert dataset.splits.tolist() == [0] * 7 + [1, 1]
    assert np.array_equal(dataset.images(range(9))[..., 0], images)
    assert dataset.paths[0] == "fer2013.csv, line 2"


def test_a_csv_may_lie_in_a_zip_or_folder_and_have_padded_headers(tmp_path: Path) -> None:
    text = csv_text([(i % 7, pixels(i), "Training") for i in range(14)], header="emotion, Usage, pixels")
    text = "\n".join(
        ",".join(line.split(",")[i] for i in (0, 2, 1)) if n else line for n, line in enumerate(text.splitlines())
    )
    make_folder(tmp_path / "in", {"icml/face.csv": text.encode()})
    make_zip(tmp_path / "in.zip", {"icml/face.csv": text.encode()}, zipfile.ZIP_DEFLATED)
    folder = import_dataset(tmp_path / "in", tmp_path / "a").dataset
    zipped = import_dataset(tmp_path / "in.zip", tmp_path / "b").dataset
    assert folder.info.fingerprint == zipped.info.fingerprint
    assert zipped.info.source == "in.zip/icml/face.csv"


def test_colour_is_stored_as_rgb(tmp_path: Path) -> None:
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 2] = 255  # OpenCV writes blue, green, red
    files = {f"{c}/{i}.png": encode(red) for c in "ab" for i in range(2)}
    dataset = import_dataset(
        make_folder(tmp_path / "in", files), tmp_path / "data", ImportOptions(test_share=0)
    ).dataset
    assert dataset.info.channels == 3
    assert dataset.image(0)[0, 0].tolist() == [255, 0, 0]
    gray = import_dataset(tmp_path / "in", tmp_path / "gray", ImportOptions(channels=1, test_share=0)).dataset
    assert gray.info.channels == 1 and gray.image(0)[0, 0].tolist() == [76]


def test_sixteen_bits_become_eight_and_alpha_is_dropped(tmp_path: Path) -> None:
    deep = np.array([[0, 257, 65535, 32896]], np.uint16).repeat(4, 0)
    transparent = pixels(3, (4, 4, 4))
    twelve = {f"{c}/{i}.png": encode(deep // 16) for c in "ab" for i in range(2)}
    deep_files = {f"{c}/{i}.png": encode(deep) for c in "ab" for i in range(2)}
    options = ImportOptions(test_share=0)
    dataset = import_dataset(make_folder(tmp_path / "deep", deep_files), tmp_path / "a", options).dataset
    assert dataset.image(0)[0, :, 0].tolist() == [0, 1, 255, 128] and dataset.info.notes == ()
    info = import_dataset(make_folder(tmp_path / "twelve", twelve), tmp_path / "c", options).dataset.info
    assert info.notes == ("almost black, no pixel is above 16 of 255; 12 bits in 16 have to be scaled first",)
    files = {f"{c}/{i}.png": encode(transparent) for c in "ab" for i in range(2)}
    dataset = import_dataset(make_folder(tmp_path / "alpha", files), tmp_path / "b", options).dataset
    assert np.array_equal(dataset.image(0), transparent[..., 2::-1])


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG", ".bmp", ".webp", ".tiff", ".pgm"])
def test_every_usual_format_is_read(tmp_path: Path, suffix: str) -> None:
    smooth = np.tile(np.arange(0, 240, 10, dtype=np.uint8), (24, 1))
    files = {f"{c}/{i}{suffix}": encode(smooth, suffix.lower()) for c in "ab" for i in range(2)}
    options = ImportOptions(test_share=0, channels=1)
    dataset = import_dataset(make_folder(tmp_path / "in", files), tmp_path / "data", options).dataset
    assert np.abs(dataset.image(0)[..., 0].astype(int) - smooth).max() < 12


def test_images_of_different_sizes_are_brought_to_one(tmp_path: Path) -> None:
    files = {f"{c}/{i}.png": encode(pixels(i, (20 + i, 30))) for c in "ab" for i in range(4)}
    make_folder(tmp_path / "in", files)
    with pytest.raises(SourceError, match=r"30 x 20 px in a/0.png, 30 x 21 px in a/1.png; pass --store-size 48"):
        import_dataset(tmp_path / "in", tmp_path / "data")
    assert names_in(tmp_path) == ["in"]
    options = ImportOptions(store_size_px=16, test_share=0)
    assert import_dataset(tmp_path / "in", tmp_path / "data", options).dataset.info.shape == (16, 16, 1)


def test_gray_and_colour_are_not_mixed_unasked(tmp_path: Path) -> None:
    files = {f"{c}/{i}.png": encode(pixels(i, (8, 8) if i else (8, 8, 3))) for c in "ab" for i in range(2)}
    make_folder(tmp_path / "in", files)
    with pytest.raises(SourceError, match=r"colour in a/0.png, gray in a/1.png; pass --channels 1 or --channels 3"):
        import_dataset(tmp_path / "in", tmp_path / "data")
    for channels in (1, 3):
        options = ImportOptions(channels=channels, test_share=0)
        assert import_dataset(tmp_path / "in", tmp_path / str(channels), options).dataset.info.channels == channels


def test_links_are_followed_and_a_loop_ends(tmp_path: Path) -> None:
    make_folder(tmp_path / "in", kaggle_files())
    shutil.move(tmp_path / "in" / "train" / "sad", tmp_path / "elsewhere")
    (tmp_path / "in" / "train" / "sad").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "train" / "happy" / "loop").symlink_to(tmp_path / "in")
    info = import_dataset(tmp_path / "in", tmp_path / "data").dataset.info
    assert info.counts["train"] == {"happy": 3, "sad": 3}


# --- idempotent, atomic ----------------------------------------------------------------------------------------------


def test_a_second_import_changes_nothing(tmp_path: Path) -> None:
    source = make_folder(tmp_path / "in", kaggle_files())
    assert not import_dataset(source, tmp_path / "data").unchanged
    written = (tmp_path / "data" / "images.arrow").stat().st_mtime_ns
    assert import_dataset(source, tmp_path / "data").unchanged
    assert (tmp_path / "data" / "images.arrow").stat().st_mtime_ns == written


@pytest.mark.parametrize("kind", ["folder", "zip", "csv"])
def test_a_changed_source_or_option_needs_permission(tmp_path: Path, kind: str) -> None:
    sources = {
        "folder": lambda n: make_folder(tmp_path / "in", kaggle_files(n)),
        "zip": lambda n: make_zip(tmp_path / "in.zip", kaggle_files(n)),
        "csv": lambda n: make_folder(
            tmp_path, {"in.csv": csv_text([(i % 2, pixels(i), "Training") for i in range(n)]).encode()}
        ),
    }
    path = tmp_path / {"folder": "in", "zip": "in.zip", "csv": "in.csv"}[kind]
    sources[kind](3)
    import_dataset(path, tmp_path / "data")
    with pytest.raises(DatasetError, match="another data set; pass --replace"):
        import_dataset(path, tmp_path / "data", ImportOptions(store_size_px=16))
    sources[kind](4)
    with pytest.raises(DatasetError, match="another data set; pass --replace"):
        import_dataset(path, tmp_path / "data")
    before = len(open_dataset(tmp_path / "data"))
    assert len(import_dataset(path, tmp_path / "data", replace=True).dataset) > before


def test_an_interrupted_import_leaves_nothing(tmp_path: Path) -> None:
    source = make_zip(tmp_path / "in.zip", kaggle_files(train=200))

    def interrupt(done: int, expected: int) -> None:
        assert expected == 402
        if done == 300:
            raise KeyboardInterrupt("stop")

    with pytest.raises(KeyboardInterrupt, match="stop"):
        import_dataset(source, tmp_path / "data", on_image=interrupt)
    assert names_in(tmp_path) == ["in.zip"]


def test_a_failed_replacement_leaves_the_old_data_set(tmp_path: Path) -> None:
    source = make_folder(tmp_path / "in", kaggle_files())
    old = import_dataset(source, tmp_path / "data").dataset.info
    (source / "train" / "sad" / "im9.png").write_bytes(encode(pixels(1, (9, 9))))
    with pytest.raises(SourceError, match="pass --store-size"):
        import_dataset(source, tmp_path / "data", replace=True)
    assert open_dataset(tmp_path / "data").info == old
    assert names_in(tmp_path) == ["data", "in"]


def test_the_target_stays_out_of_the_source(tmp_path: Path) -> None:
    source = make_folder(tmp_path / "in", kaggle_files())
    with pytest.raises(SourceError, match="target must lie outside the source"):
        import_dataset(source, source / "data")
    with pytest.raises(DatasetError, match="must be new, empty or a data set"):
        import_dataset(source, tmp_path, replace=True)


# --- broken images ---------------------------------------------------------------------------------------------------


def damaged(kind: str) -> bytes:
    whole = encode(pixels(1, (32, 32)))
    return {"empty": b"", "text": b"not a picture", "cut": whole[: len(whole) // 2], "header": whole[:16]}[kind]


@pytest.mark.parametrize("kind", ["empty", "text", "cut", "header"])
def test_a_broken_image_is_listed_and_skipped(tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    source = make_folder(tmp_path / "in", kaggle_files(train=60) | {"train/sad/bad.png": damaged(kind)})
    info = import_dataset(source, tmp_path / "data").dataset.info
    assert [skipped.path for skipped in info.skipped] == ["train/sad/bad.png"]
    assert info.skipped[0].reason in (("an empty file",) if kind == "empty" else ("not an image", "damaged"))
    assert sum(info.counts["train"].values()) == 120
    assert "WARN" not in capfd.readouterr().err


def test_too_many_broken_images_fail_the_import(tmp_path: Path) -> None:
    bad = {f"train/sad/bad{i}.png": b"x" for i in range(5)}
    source = make_folder(tmp_path / "in", kaggle_files(train=10) | bad)
    with pytest.raises(
        SourceError, match=r"At most 1.00% .* Received: 5 of 27: train/sad/bad0.png \(not an image\), .*--max-bad"
    ):
        import_dataset(source, tmp_path / "data")
    assert names_in(tmp_path) == ["in"]
    assert len(import_dataset(source, tmp_path / "data", ImportOptions(max_bad=0.5)).dataset.info.skipped) == 5


def test_a_damaged_zip_entry_is_a_broken_image(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "in.zip", kaggle_files(train=60))
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo("train/happy/im30.png")
    data = bytearray(path.read_bytes())
    data[entry.header_offset + 30 + len(entry.filename) + 50] ^= 0xFF
    path.write_bytes(data)
    skipped = import_dataset(path, tmp_path / "data").dataset.info.skipped
    assert [image.path for image in skipped] == ["train/happy/im30.png"]
    assert "Bad CRC-32" in skipped[0].reason


def test_a_source_of_broken_images_alone_fails_whatever_is_borne(tmp_path: Path) -> None:
    source = make_folder(tmp_path / "in", {f"{c}/{i}.png": b"x" for c in "ab" for i in range(3)})
    with pytest.raises(SourceError, match="Received: 6 of 6"):
        import_dataset(source, tmp_path / "data", ImportOptions(max_bad=1.0))


# --- what is refused -------------------------------------------------------------------------------------------------


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [9_000, 12_000, 60_000])
def test_an_image_of_absurd_size_is_refused_before_it_is_decoded(tmp_path: Path, side: int) -> None:
    source = make_folder(tmp_path / "in", kaggle_files() | {"train/sad/bomb.png": png_that_claims(side, side)})
    with pytest.raises(
        SourceError, match=rf"at most 64 megapixels. Received: {side * side / 1e6:,.0f} in train/sad/bomb"
    ):
        import_dataset(source, tmp_path / "data")
    assert names_in(tmp_path) == ["in"]


def test_an_image_too_large_to_store_names_the_remedy(tmp_path: Path) -> None:
    files = {f"{c}/{i}.png": encode(np.full((1100, 1000), i, np.uint8)) for c in "ab" for i in range(2)}
    source = make_folder(tmp_path / "in", files)
    with pytest.raises(SourceError, match=r"Received: 1000 x 1100 px, 1 channels in a/0.png; pass --store-size 227"):
        import_dataset(source, tmp_path / "data")


@pytest.mark.parametrize(
    "name", ["../../train/happy/evil.png", "/etc/evil.png", "C:\\evil.png", "train\\..\\..\\evil.png", "c:evil.txt"]
)
def test_a_zip_entry_that_climbs_out_is_refused(tmp_path: Path, name: str) -> None:
    path = make_zip(tmp_path / "in.zip", kaggle_files() | {name: encode(pixels(5))})
    with pytest.raises(SourceError, match=r"must stay inside the archive. Received: .*evil.*do not trust this file"):
        import_dataset(path, tmp_path / "data")
    assert names_in(tmp_path) == ["in.zip"]


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "in.zip", kaggle_files())
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the directory's flag that marks an entry as encrypted
    path.write_bytes(data)
    with pytest.raises(SourceError, match=r"must not be encrypted. Received: .*in.zip .*; unpack it first"):
        import_dataset(path, tmp_path / "data")


def test_a_zip_that_unpacks_to_an_absurd_size_is_refused(tmp_path: Path) -> None:
    bomb = kaggle_files() | {"train/sad/bomb.png": bytes(40_000_000)}
    path = make_zip(tmp_path / "in.zip", bomb, zipfile.ZIP_DEFLATED)
    with pytest.raises(SourceError, match=r"at most 200 times its size. Received: .* times .*do not trust"):
        import_dataset(path, tmp_path / "data")


def test_a_zip_entry_that_declares_an_absurd_size_is_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "in.zip", kaggle_files())
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, 3 << 30)
    path.write_bytes(data)
    with pytest.raises(SourceError, match=r"at most 256 MiB. Received: 3,072 MiB .*train/happy/im0.png"):
        import_dataset(path, tmp_path / "data")


def half_a_zip(folder: Path) -> Path:
    path = make_zip(folder / "in.zip", kaggle_files())
    os.truncate(path, path.stat().st_size // 2)
    return path


def csv_file(folder: Path, text: str) -> Path:
    (folder / "in.csv").write_text(text)
    return folder / "in.csv"


GOOD_ROWS = [(0, pixels(0), "Training"), (1, pixels(1), "Training")]
REFUSED = {
    "missing": (lambda d: d / "nowhere.zip", r"must exist. Received: .*nowhere.zip; check the path"),
    "text file": (
        lambda d: make_folder(d, {"in.zip": b"words"}) / "in.zip",
        r"readable zip, tar, folder, CSV or parquet file.*not a zip",
    ),
    "empty file": (lambda d: make_folder(d, {"in.zip": b""}) / "in.zip", r"readable zip, tar, folder, CSV or parquet"),
    "half a zip": (half_a_zip, r"readable zip, tar, folder, CSV or parquet"),
    "empty zip": (lambda d: make_zip(d / "in.zip", {}), r"must hold images .* which holds neither"),
    "empty folder": (lambda d: make_folder(d / "in", {"a/notes.txt": b"x"}), r"must hold images .*holds neither"),
    "two tables": (
        lambda d: make_folder(d / "in", {"a.csv": b"x", "b.csv": b"x"}),
        r"One CSV of a source must have the columns emotion and pixels .*Received: .*in with a.csv \(x\); b.csv \(x\)",
    ),
    "no classes": (lambda d: make_folder(d / "in", {"a.png": b"x", "b.png": b"x"}), r"in with no class folders; add"),
    "one class": (lambda d: make_folder(d / "in", {"happy/a.png": b"x"}), r"two classes or more.*'happy' alone"),
    "one class of split": (
        lambda d: make_folder(d / "in", {"train/happy/a.png": b"x", "test/happy/b.png": b"x"}),
        r"two classes or more. Received: .*'happy' alone",
    ),
    "no train": (
        lambda d: make_folder(d / "in", {"test/happy/a.png": b"x", "test/sad/b.png": b"x"}),
        r"must hold train images.*with test images only; add them",
    ),
    "unknown test class": (
        lambda d: make_folder(d / "in", kaggle_files() | {"test/hapy/a.png": b"x"}),
        r"Every class in test/ must be in train/. Received: 'hapy'.*Did you mean 'happy'",
    ),
    "unprintable name": (
        lambda d: make_zip(d / "in.zip", kaggle_files() | {"train/sad/\x1b[2Ja.png": b"x"}),
        r"Names must be printable UTF-8. Received: 'train/sad/.x1b",
    ),
    "csv columns": (lambda d: csv_file(d, "emotion,Usage\n0,Training\n"), r"must have the columns .*without pixels"),
    "csv empty": (lambda d: csv_file(d, ""), r"columns emotion and pixels .*without emotion, pixels"),
    "csv header alone": (lambda d: csv_file(d, csv_text([])), r"must hold rows. Received: in.csv with a header alone"),
    "csv not square": (
        lambda d: csv_file(d, "emotion,pixels,Usage\n0,1 2 3,Training\n"),
        r"must make a square.*Received: 3 in in.csv, line 2",
    ),
    "csv row length": (
        lambda d: csv_file(d, csv_text([*GOOD_ROWS, (1, pixels(2, (7, 8)), "Training")])),
        r"Received: 1 of 3: in.csv, line 4 \(56 pixels where other rows have 64\)",
    ),
    "csv fields": (
        lambda d: csv_file(d, csv_text(GOOD_ROWS) + "1,2\n"),
        r"1 of 3: in.csv, line 4 \(2 fields where the header has 3\)",
    ),
    "csv value": (
        lambda d: csv_file(d, csv_text(GOOD_ROWS).replace("Training", "Training", 1).replace(" 2", " 999", 1)),
        r"1 of 2: in.csv, line . \(pixels must be 0 to 255, and one is 999",
    ),
    "csv emotion": (
        lambda d: csv_file(d, csv_text([*GOOD_ROWS, (8, pixels(2), "Training")])),
        r"1 of 3: in.csv, line 4 \(the emotion must be 0 to 7, and is '8'\)",
    ),
    "csv usage": (
        lambda d: csv_file(d, csv_text([*GOOD_ROWS, (1, pixels(2), "PublcTest")])),
        r"1 of 3: in.csv, line 4 \(the Usage must be known, and is 'PublcTest'. Did you mean 'PublicTest'",
    ),
    "csv one class": (
        lambda d: csv_file(d, csv_text([(3, pixels(i), "Training") for i in range(4)])),
        r"train images of two classes or more. Received: happy in in.csv",
    ),
    "csv test only": (
        lambda d: csv_file(d, csv_text([(i, pixels(i), "PublicTest") for i in range(4)])),
        r"Every class in test must be in train. Received: 'angry' of in.csv in test only",
    ),
    "csv binary": (
        lambda d: make_folder(d, {"in.csv": b"emotion,pixels,Usage\n\xff\xfe\x00"}) / "in.csv",
        r"must be readable text. Received: in.csv",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_unfit_source_is_refused_with_rule_and_value(tmp_path: Path, case: str) -> None:
    make, message = REFUSED[case]
    source = make(tmp_path)
    before = names_in(tmp_path)
    with pytest.raises(SourceError, match=f"(?s){message}"):
        import_dataset(source, tmp_path / "data")
    assert names_in(tmp_path) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"store_size_px": 4}, "--store-size must be 8 to 512 pixels. Received: 4"),
        ({"channels": 2}, r"--channels must be 1 \(gray\) or 3 \(RGB\). Received: 2"),
        ({"test_share": 1.0}, "--test-share must be from 0 to less than 1. Received: 1.0"),
        ({"max_bad": -0.1}, "--max-bad must be 0 to 1. Received: -0.1"),
    ],
)
def test_an_option_out_of_range_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        ImportOptions(**options)


# --- names alone -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "expected"),
    [("a/b.png", True), ("a/B.JPG", True), ("a/.b.png", False), ("__MACOSX/a/b.png", False), ("a.png/b", False)],
)
def test_only_images_that_are_meant_count(path: str, expected: bool) -> None:
    assert is_image(path) is expected


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    layout = assign_classes_and_splits(["train/a.png", "car/a.png"], "vehicles")
    assert layout.classes == ("car", "train")
    assert {item.split for item in layout.items} == {None}


# --- the report ------------------------------------------------------------------------------------------------------


def test_the_report_counts_duplicates_conflicts_and_constants(tmp_path: Path) -> None:
    same, flat = encode(pixels(77)), encode(np.full((8, 8), 9, np.uint8))
    files = kaggle_files() | {
        "train/happy/x.png": same,
        "train/happy/y.png": same,
        "train/sad/z.png": same,
        "test/sad/w.png": same,
        "train/sad/flat.png": flat,
    }
    dataset = import_dataset(make_folder(tmp_path / "in", files), tmp_path / "data").dataset
    report = describe_dataset(dataset)
    assert report.duplicates.surplus == {"train": 2, "test": 0}
    assert report.duplicates.test_with_twin_in_train == 1
    assert report.duplicates.groups_with_label_conflict == 1
    assert report.duplicates.images_with_label_conflict == 4
    assert report.constant_images == 1
    train = dataset.images(np.flatnonzero(dataset.splits == TRAIN))
    assert report.pixels["train"].mean == pytest.approx(train.mean(), abs=0.01)
    assert report.pixels["train"].std == pytest.approx(train.std(), abs=0.01)


@pytest.mark.parametrize("shape", [(8, 8), (40, 20, 3), (200, 300)])
def test_the_contact_sheet_shows_images_of_any_shape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    files = {f"{c}/{i}.png": encode(pixels(i, shape)) for c in ("a", "a-class-with-a-long-name") for i in range(4)}
    dataset = import_dataset(
        make_folder(tmp_path / "in", files), tmp_path / "data", ImportOptions(test_share=0)
    ).dataset
    sheet = contact_sheet(dataset)
    assert sheet.dtype == np.uint8 and sheet.shape[2] == 3
    path = write_contact_sheet(dataset, tmp_path / "sheet.png")
    assert np.array_equal(cv2.imread(str(path))[..., ::-1], sheet)
    with pytest.raises(DatasetError, match="contact sheet must be writable"):
        write_contact_sheet(dataset, tmp_path / "nowhere" / "sheet.png")


# --- the real thing --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_fer_2013_is_counted_as_published(fer2013: Path) -> None:
    dataset = open_dataset(fer2013)
    report = describe_dataset(dataset)
    assert dataset.info.counts["train"] == FER_TRAIN
    assert sum(dataset.info.counts["test"].values()) == 3589
    assert dataset.info.shape == (48, 48, 1)
    assert report.duplicates.surplus["train"] == 1236
    assert report.duplicates.test_with_twin_in_train == 280
    assert report.constant_images == 12
    assert dataset.info.skipped == ()


@pytest.mark.slow
def test_fer_2013_is_imported_again_in_under_two_seconds(fer2013_zip: Path, fer2013: Path) -> None:
    started = time.perf_counter()
    assert import_dataset(fer2013_zip, fer2013).unchanged
    assert time.perf_counter() - started < 2
