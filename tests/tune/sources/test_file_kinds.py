"""Which files of a source are images: known by content, counted when they are not, and links read once."""

from __future__ import annotations

import io
import os
import unicodedata
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.tune.sources.test_ingest import encode, kaggle_files, make_folder, make_zip, pixels
from trainables.dataset.info import DatasetInfo
from tune.dataset.ingest import ImportOptions, import_dataset
from tune.errors import SourceError
from tune.sources.decoding import decode
from tune.sources.file_kinds import BEGINNING_BYTES, FileKind, file_kind

SMOOTH = np.tile(np.arange(0, 240, 5, dtype=np.uint8), (48, 1))
Image.init()
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "JPEG2000", "PCX", "SGI", "ICO", "QOI", "DDS", "AVIF")
OTHERS = (".txt", ".csv", ".md", ".json", ".py", ".xml")


def written(image: Any, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture = Image.fromarray(image) if kind not in ("QOI", "DDS", "AVIF") else Image.fromarray(image).convert("RGB")
    picture.save(buffer, kind, **({"sizes": [(48, 48)]} if kind == "ICO" else {}), **options)
    return buffer.getvalue()


def imported(source: Path, **options: Any) -> DatasetInfo:
    return import_dataset(source, source.with_name("data"), ImportOptions(**options), replace=True).dataset.info


# --- images by their content -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
def test_images_are_known_by_content_whatever_they_are_called(tmp_path: Path, packed: bool) -> None:
    names = [("jfif", "JPEG")] * 5 + [("gif", "GIF")] * 4 + [("", "PNG")] * 3 + [("txt", "PNG"), ("JPG_large", "JPEG")]
    files = {f"a/im{i}.{name}".rstrip("."): written(SMOOTH + i, kind) for i, (name, kind) in enumerate(names)}
    files |= {f"b/im{i}.png": written(SMOOTH // 2 + i, "PNG") for i in range(14)}
    source = make_zip(tmp_path / "in.zip", files) if packed else make_folder(tmp_path / "in", files)
    info = imported(source, test_share=0)
    assert info.counts["train"] == {"a": 14, "b": 14}
    assert (info.skipped, info.passed_over, info.channels) == ((), {}, 1)


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind in Image.SAVE])  # Pillow 11 writes fewer
def test_every_format_that_opencv_or_pillow_reads_is_decoded(kind: str) -> None:
    data = written(SMOOTH, kind)
    image = decode(data, "image")
    assert image.shape[:2] == (48, 48)
    assert np.abs(image.mean(axis=2) - SMOOTH).mean() < 12
    assert file_kind("a/without-a-suffix", lambda: data[:BEGINNING_BYTES]) is FileKind.IMAGE


def test_the_first_picture_of_a_moving_gif_is_read_gray_as_gray_and_colour_as_colour() -> None:
    first, second = Image.fromarray(SMOOTH), Image.fromarray(255 - SMOOTH)
    buffer = io.BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=[second])
    assert np.array_equal(decode(buffer.getvalue(), "x")[..., 0], SMOOTH)
    red = np.zeros((48, 48, 3), np.uint8)
    red[..., 0] = 250
    assert decode(written(red, "GIF"), "x")[0, 0].tolist() == [250, 0, 0]


def test_a_gray_palette_is_gray_and_the_orientation_of_a_camera_is_applied() -> None:
    picture = Image.fromarray(SMOOTH).convert("P")
    buffer = io.BytesIO()
    picture.save(buffer, "GIF")
    assert decode(buffer.getvalue(), "x").shape == (48, 48, 1)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    turned = written(SMOOTH[:24], "TIFF", exif=exif)
    assert decode(turned, "x").shape == (48, 24, 1)


@pytest.mark.parametrize("ink", [0, 255])
def test_a_picture_in_the_alpha_channel_alone_is_seen_on_white_or_black(ink: int) -> None:
    alpha = pixels(3, (12, 10))
    seen = alpha if ink == 255 else 255 - alpha
    one = np.full_like(alpha, ink)
    assert np.array_equal(decode(written(np.dstack([one, alpha]), "PNG"), "icon.png")[..., 0], seen)
    colour = decode(written(np.dstack([one, one, one, alpha]), "PNG"), "icon.png")
    assert colour.shape == (12, 10, 3) and (colour == seen[..., None]).all()
    red = decode(written(np.dstack([one | 200, one, one, alpha]), "PNG"), "icon.png")
    assert (red[alpha == 255] == (200 | ink, ink, ink)).all() and (red[alpha == 0] == 255 - ink).all()


@pytest.mark.parametrize("data", [b"GIF89a" + b"\0" * 20, written(SMOOTH, "GIF")[:300], b"not an image at all"])
def test_a_file_without_a_known_suffix_that_cannot_be_decoded_is_a_bad_image(tmp_path: Path, data: bytes) -> None:
    source = make_folder(tmp_path / "in", kaggle_files(train=60) | {"train/sad/bad": data})
    assert [image.path for image in imported(source).skipped] == ["train/sad/bad"]
    with pytest.raises(SourceError, match="At most 0.00% of the images may be unreadable.*train/sad/bad"):
        imported(source, max_bad=0.0, test_share=0.2)


def test_a_class_without_one_readable_image_is_named(tmp_path: Path) -> None:
    bad = {"train/cross/x.png": b"words", "test/cross/x.png": b"words"}
    source = make_folder(tmp_path / "in", kaggle_files(train=200) | bad)
    with pytest.raises(SourceError, match="must hold an image that can be read. Received: 'cross' of in with none: "):
        imported(source)


# --- what is passed over ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
def test_files_that_are_something_else_are_counted_by_suffix(tmp_path: Path, packed: bool) -> None:
    files = kaggle_files() | {f"train/sad/x{i}{suffix}": b"words" for i, suffix in enumerate((*OTHERS, ".txt", ".TXT"))}
    files |= {f"train/{name}": b"words" for name in (".DS_Store", "Thumbs.db", "README", "sad/.hidden.png", "LICENSE")}
    files |= {"__MACOSX/train/happy/._im0.png": b"x", ".git/a/x.png": b"x", ".git/y": b"x", "Icon\r": b""}
    source = make_zip(tmp_path / "in.zip", files) if packed else make_folder(tmp_path / "in", files)
    info = imported(source)
    names = (".DS_Store", "Icon", "LICENSE", "README", "Thumbs.db", "__MACOSX", "hidden", "hidden folders")
    assert info.passed_over == {".txt": 3, **dict.fromkeys(OTHERS[1:], 1), **dict.fromkeys(names, 1)}
    assert info.skipped == () and sum(info.counts["train"].values()) == 6


def test_files_that_may_be_no_images_do_not_decide_what_folders_are(tmp_path: Path) -> None:
    files = {f"archive/{name}": data for name, data in kaggle_files(train=60).items()}
    files |= {"docs/manual": b"words", "docs/more": b"words", "notes": b"x", "archive/train/docs/manual": b"words"}
    info = imported(make_folder(tmp_path / "in", files))
    assert info.classes == ("happy", "sad")
    assert [(folder.path, folder.images) for folder in info.left_out] == [("docs/", 2)]
    assert [image.path for image in info.skipped] == ["archive/train/docs/manual", "notes"]


@pytest.mark.parametrize("packed", [False, True])
def test_a_csv_among_words_is_read_and_a_csv_among_images_is_not(tmp_path: Path, packed: bool) -> None:
    rows = "\n".join(f"{i % 7},{' '.join(map(str, pixels(i).reshape(-1)))},Training" for i in range(14))
    files = {
        "fer.csv": f"emotion,pixels,Usage\n{rows}\n".encode(),
        "README": b"words",
        "paper": b"words",
        "a.bib": b"x",
    }
    source = make_zip(tmp_path / "in.zip", files) if packed else make_folder(tmp_path / "in", files)
    info = imported(source, test_share=0)
    assert info.source.endswith("fer.csv")
    assert info.passed_over == {"README": 1, ".bib": 1, "without a suffix": 1}
    both = kaggle_files() | {name: files[name] for name in ("fer.csv", "a.bib")}
    source = make_zip(tmp_path / "in.zip", both) if packed else make_folder(tmp_path / "both", both)
    assert imported(source).passed_over == {".bib": 1, ".csv": 1}


def test_a_source_without_images_says_what_it_holds_instead(tmp_path: Path) -> None:
    files = {"train.7z": b"7z", "test.7z": b"7z", "README.md": b"words"}
    for source in (make_folder(tmp_path / "in", files), make_zip(tmp_path / "in.zip", files)):
        with pytest.raises(SourceError, match="which holds neither but 2 .7z, 1 .md; check the path"):
            imported(source)


def test_a_changed_image_of_any_name_is_another_source(tmp_path: Path) -> None:
    files = kaggle_files() | {"train/sad/face.txt": encode(pixels(700)), "train/sad/face": encode(pixels(701))}
    source = make_folder(tmp_path / "in", files)
    first = imported(source)
    (source / "train/sad/readme.txt").write_text("words")
    assert import_dataset(source, tmp_path / "data").unchanged
    for name in ("face.txt", "face"):
        (source / "train/sad" / name).write_bytes(encode(pixels(800, (8, 8, 3))[..., 0]))
        second = imported(source)
        assert second.source_fingerprint != first.source_fingerprint
        first = second


@pytest.mark.parametrize("name", ["train/sad/bomb", "train/sad/bomb.jfif", "train/sad/bomb.xyz"])
def test_a_bomb_of_any_name_is_refused_before_it_is_unpacked(tmp_path: Path, name: str) -> None:
    path = make_zip(tmp_path / "in.zip", kaggle_files() | {name: bytes(40_000_000)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(SourceError, match=r"at most 200 times its size. Received: .* times .*do not trust"):
        imported(path)


# --- links -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["aaa", "zzz"])
def test_a_class_folder_that_is_a_link_to_another_is_read_once_under_the_real_name(tmp_path: Path, name: str) -> None:
    source = make_folder(tmp_path / "in", kaggle_files())
    (source / "train" / name).symlink_to("happy")
    (source / "test" / name).symlink_to("../train/sad")
    info = imported(source)
    assert info.counts == {"train": {"happy": 3, "sad": 3}, "test": {"happy": 1, "sad": 1}}
    told = {folder.path: folder.reason for folder in info.left_out}
    assert told[f"train/{name}/"] == "a link to train/happy/, read there"
    assert told[f"test/{name}/"] == "a link to train/sad/, read there"


def test_links_to_images_of_the_same_source_are_read_once(tmp_path: Path) -> None:
    source = make_folder(tmp_path / "in", kaggle_files())
    (source / "train/glad").mkdir()
    for index in range(3):
        (source / f"train/glad/im{index}.png").symlink_to(f"../happy/im{index}.png")
        (source / f"test/sad/copy{index}.png").symlink_to(f"../../train/sad/im{index}.png")
    info = imported(source)
    assert info.counts == {"train": {"happy": 3, "sad": 3}, "test": {"happy": 1, "sad": 1}}
    assert {folder.path: folder.images for folder in info.left_out} == {"train/glad/": 3, "test/sad/": 3}


def test_links_into_a_pool_of_images_are_the_images(tmp_path: Path) -> None:
    source = make_folder(tmp_path / "in", {f"pool/{i}.png": encode(pixels(i)) for i in range(6)})
    for index in range(6):
        (source / "train" / "ab"[index % 2]).mkdir(parents=True, exist_ok=True)
        (source / "train" / "ab"[index % 2] / f"{index}.png").symlink_to(source / f"pool/{index}.png")
    info = imported(source, test_share=0)
    assert info.counts["train"] == {"a": 3, "b": 3}


def test_a_link_to_nothing_is_a_bad_image_and_named(tmp_path: Path) -> None:
    source = make_folder(tmp_path / "in", kaggle_files(train=200))
    (source / "train/sad/gone.png").symlink_to("/nowhere/x.png")
    (source / "train/sad/itself").symlink_to("itself")
    (source / "train/lost").symlink_to("/nowhere/class")
    os.mkfifo(source / "train/sad/pipe.png")
    info = imported(source)
    assert {image.path: image.reason for image in info.skipped} == {
        "train/sad/gone.png": "a link to /nowhere/x.png, which is not there",
        "train/sad/itself": "a link to itself, which is not there",
        "train/lost": "a link to /nowhere/class, which is not there",
    }
    assert info.passed_over == {"pipes and devices": 1}
    with pytest.raises(
        SourceError, match=r"may be unreadable. Received: 2 of 4\d\d: train/sad/gone.png \(a link to /no"
    ):
        imported(source, max_bad=0.0)


def test_links_in_a_zip_are_told(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "in.zip", kaggle_files())
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("train/glad")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "happy")
    assert [(folder.path, folder.reason) for folder in imported(path).left_out] == [
        ("train/glad", "a link; links in a zip are not followed")
    ]


def test_names_in_a_zip_of_macos_are_read_as_they_were_written(tmp_path: Path) -> None:
    name = unicodedata.normalize("NFD", "fröhlich")
    path = make_zip(tmp_path / "in.zip", {f"{c}/{i}.png": encode(pixels(i)) for c in (name, "sad") for i in range(2)})
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        at = data.find(signature)
        while at >= 0:
            data[at + offset + 1] &= ~0x08  # macOS writes UTF-8 and does not say so
            at = data.find(signature, at + 4)
    path.write_bytes(data)
    info = imported(path, test_share=0)
    assert info.classes == (unicodedata.normalize("NFC", name), "sad")
