"""What lies beside the images: pictures beside tables and archives, lists that change, names of other encodings."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.tune.sources.test_ingest import encode, kaggle_files, make_folder, make_zip, pixels
from tests.tune.sources.test_readers import CLASSES, FACES, FILES, READERS, folder_with_archives, make_csv, make_parquet
from trainables.dataset.reader import Dataset
from trainables.errors import DatasetError
from tune.dataset.import_options import ImportOptions
from tune.dataset.ingest import import_dataset
from tune.dataset.source_plan import plan_import
from tune.errors import SourceError
from tune.sources.decoding import UnreadableImage, decode


def imported(source: Path, name: str = "data", **options: object) -> Dataset:
    return import_dataset(source, source.parent / name, ImportOptions(**options)).dataset  # type: ignore[arg-type]


def emotune_import(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tune.cli", "data", "import", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


# --- pictures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "parquet", "tfrecords", "a zip for each split"])
@pytest.mark.parametrize("where", [["sample.png"], ["docs/figure.png"], ["docs/figure.png", "assets/logo.png"]])
def test_a_picture_beside_tables_or_archives_does_not_hide_them(tmp_path: Path, kind: str, where: list[str]) -> None:
    made = READERS[kind](tmp_path, FILES)
    expected = imported(made, "plain").info
    source = made if made.is_dir() else tmp_path / "folder"
    source.mkdir(exist_ok=True)
    if made != source:
        shutil.move(made, source / made.name)
    make_folder(source, dict.fromkeys(where, encode(pixels(77, (20, 30)))))
    info = imported(source).info
    assert (info.counts, info.fingerprint) == (expected.counts, expected.fingerprint)
    assert info.passed_over[".png"] == len(where)


def test_a_list_of_labels_is_refused_where_the_files_hold_theirs(tmp_path: Path) -> None:
    source = make_parquet(tmp_path / "in", FILES)
    (tmp_path / "labels.csv").write_text("path,label\nim0.png,happy\n")
    with pytest.raises(SourceError, match="--labels must go with image files.*whose files hold their labels"):
        imported(source, labels=str(tmp_path / "labels.csv"))


def test_archives_beside_a_picture_are_part_of_the_sources_fingerprint(tmp_path: Path) -> None:
    source = folder_with_archives(tmp_path / "in", FILES)
    (source / "sample.png").write_bytes(encode(pixels(77)))
    assert not import_dataset(source, tmp_path / "data").unchanged
    assert import_dataset(source, tmp_path / "data").unchanged
    shutil.copy(source / "train.zip", source / "test.zip")
    with pytest.raises(DatasetError, match="--replace"):
        import_dataset(source, tmp_path / "data")


def test_class_folders_that_cannot_be_read_are_not_given_up_for_a_table_beside_them(tmp_path: Path) -> None:
    files = {f"{folder}/im{i}.png": encode(pixels(i)) for folder in ("train", "test") for i in range(3)}
    source = make_folder(tmp_path / "in", files)
    make_csv(source / "faces.csv", FILES)
    with pytest.raises(SourceError, match="Split folders must hold class folders"):
        imported(source)


def test_a_heic_photo_is_named_with_the_remedy() -> None:
    with pytest.raises(UnreadableImage, match="HEIC, which is not read; save it as JPEG or PNG"):
        decode(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(32), "photo.heic")
    with pytest.raises(UnreadableImage, match="not an image"):
        decode(b"words" * 9, "photo.png")


# --- labels ---------------------------------------------------------------------------------------------------------


def with_names(path: Path, names: list[str] | None) -> None:
    """Writes a parquet file again with its classes in another order, and its labels with them; None: without names."""
    table = pq.read_table(path)
    order = names or list(CLASSES)
    labels = [order.index(CLASSES[label]) for label in table["label"].to_pylist()]
    table = table.set_column(table.schema.get_field_index("label"), "label", pa.array(labels))
    features = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
    metadata = {b"huggingface": json.dumps(features).encode()} if names else {}
    pq.write_table(table.replace_schema_metadata(metadata), path)


def test_parquet_files_with_their_classes_in_different_orders_keep_each_its_own(tmp_path: Path) -> None:
    source = make_parquet(tmp_path / "in", FILES)
    expected = imported(source, "plain")
    with_names(source / "test-00000-of-00001.parquet", ["sad", "angry", "happy"])
    dataset = imported(source)
    assert dataset.labels.tolist() == expected.labels.tolist()
    assert dataset.info.counts == expected.info.counts and len(dataset) == len(FACES)


def test_a_parquet_file_without_class_names_has_those_of_the_others_if_they_agree(tmp_path: Path) -> None:
    source = make_parquet(tmp_path / "in", FILES)
    expected = imported(source, "plain")
    with_names(source / "test-00000-of-00001.parquet", None)
    assert imported(source).info.counts == expected.info.counts
    shutil.copy(source / "train-00000-of-00001.parquet", source / "validation-00000-of-00001.parquet")
    with_names(source / "validation-00000-of-00001.parquet", ["sad", "angry", "happy"])
    with pytest.raises(SourceError, match=r"must all name them. Received: test-.*parquet in in without names"):
        imported(source, "other")


@pytest.mark.parametrize("given", ["labels.tsv", "list.txt", "labels.csv", None])
def test_a_list_that_is_written_again_is_another_source(tmp_path: Path, given: str | None) -> None:
    name = given or "labels.tsv"
    files = {f"im{i}.png": encode(pixels(i)) for i in range(8)}
    source = make_folder(tmp_path / "in", files)
    separator = "\t" if name.endswith("tsv") else ","
    rows = [f"im{i}.png{separator}{('happy', 'sad')[i % 2]}" for i in range(8)]
    (source / name).write_text(f"path{separator}label\n" + "\n".join(rows) + "\n")
    options = ImportOptions(labels=given, test_share=0)
    first = import_dataset(source, tmp_path / "data", options).dataset
    assert import_dataset(source, tmp_path / "data", options).unchanged
    rows[0] = f"im0.png{separator}sad"
    (source / name).write_text(f"path{separator}label\n" + "\n".join(rows) + "\n\n")
    with pytest.raises(DatasetError, match="--replace"):
        import_dataset(source, tmp_path / "data", options)
    again = import_dataset(source, tmp_path / "data", options, replace=True).dataset
    assert np.flatnonzero(first.labels != again.labels).tolist() == [0]


def test_single_letters_of_both_cases_are_two_classes_and_longer_words_one(tmp_path: Path) -> None:
    files = {f"im{i}.png": encode(pixels(i)) for i in range(8)}
    source = make_folder(tmp_path / "in", files)
    for words, expected in ((("a", "A", "b", "B"), ("A", "B", "a", "b")), (("Yes", "yes", "no", "NO"), ("NO", "Yes"))):
        rows = [f"im{i}.png,{words[i // 2]}" for i in range(8)]
        (source / "labels.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
        assert imported(source, words[0], test_share=0.0).info.classes == expected


def test_class_folders_that_differ_in_case_alone_are_told_with_what_joins_them(tmp_path: Path) -> None:
    files = {
        f"{name}/im{i}.png": encode(pixels(10 * len(name) + i)) for name in ("Happy", "happy", "sad") for i in (0, 1)
    }
    source = make_folder(tmp_path / "in", files)
    told = "classes that differ in case alone: Happy and happy; --classes Happy=happy makes them one"
    assert told in plan_import(source, ImportOptions()).notes
    assert plan_import(source, ImportOptions(classes=("Happy=happy",))).classes == ("Happy", "sad")


# --- names ----------------------------------------------------------------------------------------------------------


def test_a_list_finds_images_however_their_umlauts_are_composed(tmp_path: Path) -> None:
    files = {unicodedata.normalize("NFD", f"müde/köpfe{i}.png"): encode(pixels(i)) for i in range(6)}
    source = make_folder(tmp_path / "in", files)
    rows = [unicodedata.normalize("NFC", f"müde/köpfe{i}.png,{('yes', 'no')[i % 2]}") for i in range(6)]
    (source / "labels.csv").write_text("path,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    assert imported(source, test_share=0.0).info.counts["train"] == {"no": 3, "yes": 3}


def test_a_zip_whose_names_are_in_no_known_encoding_says_how_they_were_read(tmp_path: Path) -> None:
    files = {name.replace("happy", "aaaa"): data for name, data in kaggle_files().items()}
    source = make_zip(tmp_path / "a.zip", files)
    gbk = "高兴".encode("gbk")
    source.write_bytes(source.read_bytes().replace(b"aaaa", gbk))
    info = imported(source).info
    assert len(info.classes) == 2
    assert [note for note in info.notes if "does not say how its names are encoded" in note and "unzip -O GBK" in note]
    assert zipfile.ZipFile(source).testzip() is None


def test_names_that_are_no_utf_8_are_told_with_escapes_and_never_a_traceback(tmp_path: Path) -> None:
    source = make_folder(tmp_path / "in", kaggle_files())
    os.mkdir(os.fsencode(source) + b"/notes \xe4")
    for name in (b"/notes \xe4/a \xff.txt", b"/train/happy/read \xe9.bin"):
        Path(os.fsdecode(os.fsencode(source) + name)).write_text("x")
    info = imported(source).info
    assert info.passed_over == {".bin": 1, ".txt": 1} and "notes \\udce4/" in info.passed_over_in
    assert plan_import(source, ImportOptions()).passed_over.keys() == info.passed_over_in.keys()
    told = emotune_import(source, "--to", tmp_path / "again", "--dry-run")
    assert told.returncode == 0 and "notes \\udce4/" in told.stdout, told.stderr
    bad = Path(os.fsdecode(os.fsencode(source) + b"/train/happy/\xe9.png"))
    bad.write_bytes(encode(pixels(5)))
    refused = emotune_import(source, "--to", tmp_path / "again")
    assert refused.returncode == 2 and "Names must be printable UTF-8" in refused.stderr, refused.stderr


def test_a_folder_or_table_whose_own_name_is_no_utf_8_is_imported(tmp_path: Path) -> None:
    source = Path(os.fsdecode(os.fsencode(tmp_path) + b"/in \xe4"))
    source.mkdir()
    plain = make_csv(tmp_path / "plain.csv", FILES)
    shutil.move(plain, Path(os.fsdecode(os.fsencode(source) + b"/faces \xff.csv")))
    found = emotune_import(source, "--to", tmp_path / "data")
    assert found.returncode == 0 and "9 train and 3 test images" in found.stdout, found.stderr
    info = emotune_import(source, "--to", tmp_path / "data")
    assert info.returncode == 0 and "Unchanged" in info.stdout, info.stderr
