"""Tables of pixels as people have them: which of several is read, what its columns, labels and numbers mean."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tensorboard.summary.writer.record_writer import RecordWriter

from tests.tune.sources.test_ingest import csv_text, encode, make_folder, make_zip, pixels
from tests.tune.sources.test_readers import field, make_tar, write_record
from trainables.dataset.reader import Dataset
from tune.dataset.import_options import ImportOptions
from tune.dataset.ingest import import_dataset
from tune.dataset.source_plan import plan_import
from tune.errors import SourceError

FER = ("angry", "disgusted", "fearful", "happy", "sad", "surprised", "neutral")
ROWS = [(i % 7, pixels(i, (12, 12)), ("Training", "Training", "PublicTest", "PrivateTest")[i // 7]) for i in range(28)]


def imported(source: Path, **options: object) -> Dataset:
    return import_dataset(source, source.parent / "data", ImportOptions(**options), replace=True).dataset  # type: ignore[arg-type]


def table(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    (folder / "faces.csv").write_text(text, encoding=encoding)
    return folder / "faces.csv"


def labels(dataset: Dataset) -> list[str]:
    return [dataset.info.classes[label] for label in dataset.labels]


def competition() -> dict[str, bytes]:
    lines = [line.split(",") for line in csv_text(ROWS).splitlines()[1:]]
    return {
        "icml_face_data.csv": "\n".join(["emotion, Usage, pixels", *(f"{e},{u},{p}" for e, p, u in lines)]).encode(),
        "train.csv": "\n".join(["emotion,pixels", *(f'{e},"{p}"' for e, p, u in lines if u == "Training")]).encode(),
        "test.csv": "\n".join(["pixels", *(p for _, p, u in lines if u != "Training")]).encode(),
        "example_submission.csv": b"emotion\n" + b"0\n" * 14,
        "fer2013.tar.gz": b"\x1f\x8b",
    }


# --- which table -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
def test_of_the_competitions_download_the_table_with_usage_is_taken_and_named(tmp_path: Path, packed: bool) -> None:
    files = competition()
    dataset = imported(make_zip(tmp_path / "in.zip", files) if packed else make_folder(tmp_path / "in", files))
    assert dataset.info.counts == {"train": dict.fromkeys(sorted(FER), 2), "test": dict.fromkeys(sorted(FER), 2)}
    assert (
        "icml_face_data.csv" in dataset.info.notes[0]
        and "not example_submission.csv, test.csv" in dataset.info.notes[0]
    )
    assert dataset.info.passed_over == {".csv": 3, ".gz": 1}
    assert np.array_equal(dataset.images(range(28))[..., 0], [image for _, image, _ in ROWS])


def test_train_csv_without_usage_gives_a_share_of_each_class_to_the_test_split_and_tells(tmp_path: Path) -> None:
    files = {name: data for name, data in competition().items() if name in ("train.csv", "test.csv")}
    for source in (make_folder(tmp_path / "in", files), tmp_path / "in" / "train.csv"):
        dataset = imported(source)
        assert dataset.info.counts == {"train": dict.fromkeys(sorted(FER), 1), "test": dict.fromkeys(sorted(FER), 1)}
        assert "the source has no test images: 7 of its 14 were drawn (--test-share 0.1)" in dataset.info.notes


def test_two_tables_called_train_and_test_are_the_splits_and_other_pairs_are_asked_about(tmp_path: Path) -> None:
    halves = {"train.csv": ROWS[:14], "test.csv": ROWS[14:]}
    texts = {
        name: "\n".join(line.rpartition(",")[0] for line in csv_text(rows).splitlines()).encode()
        for name, rows in halves.items()
    }
    dataset = imported(make_folder(tmp_path / "in", texts))
    assert [sum(counts.values()) for counts in dataset.info.counts.values()] == [14, 14]
    other = make_folder(tmp_path / "other", {"a.csv": texts["train.csv"], "b.csv": texts["test.csv"]})
    with pytest.raises(SourceError, match="one table of pixels. Received: .*other/a.csv, other/b.csv; import one"):
        imported(other)


def test_a_folder_of_unusable_tables_lists_them_with_their_columns(tmp_path: Path) -> None:
    source = make_folder(tmp_path / "in", {"a.csv": b"id,score\n1,2\n", "b.csv": b"pixels\n1\n"})
    with pytest.raises(SourceError, match=r"Received: .*in with a.csv \(id, score\); b.csv \(pixels\)"):
        imported(source)


# --- what numbers and labels mean ------------------------------------------------------------------------------------

WRITTEN = {
    "blanks": lambda row: " ".join(map(str, row)),
    "whole floats": lambda row: " ".join(f"{float(v)}" for v in row),
    "commas": lambda row: f'"{",".join(map(str, row))}"',
    "a list": lambda row: f'"{row.tolist()}"',
    "an array": lambda row: f'"[{"  ".join(map(str, row))}]"',
    "shares of 255": lambda row: " ".join(f"{v / 255:.6f}" for v in row),
}


@pytest.mark.parametrize("how", WRITTEN)
def test_pixels_are_read_however_they_are_written(tmp_path: Path, how: str) -> None:
    rows = "\n".join(f"{code},{WRITTEN[how](image.reshape(-1))},{usage}" for code, image, usage in ROWS)
    dataset = imported(table(tmp_path, f"emotion,pixels,Usage\n{rows}\n"))
    assert np.array_equal(dataset.images(range(28))[..., 0], [image for _, image, _ in ROWS])
    assert ("pixels are numbers from 0 to 1: multiplied by 255" in dataset.info.notes) == (how == "shares of 255")


def test_a_column_for_each_pixel_is_read(tmp_path: Path) -> None:
    header = ",".join(["label", *(f"pixel{i}" for i in range(144))])
    rows = "\n".join(f"{code},{','.join(map(str, image.reshape(-1)))}" for code, image, _ in ROWS)
    dataset = imported(table(tmp_path, f"{header}\n{rows}\n"), test_share=0, classes=("happy=3,angry=0",))
    assert labels(dataset)[:4] == ["angry", "1", "2", "happy"]
    assert np.array_equal(dataset.images(range(28))[..., 0], [image for _, image, _ in ROWS])


def test_rows_of_224_pixels_a_side_are_read(tmp_path: Path) -> None:
    rows = [(i, pixels(i, (224, 224)), "Training") for i in range(2)]
    assert imported(table(tmp_path, csv_text(rows))).info.shape == (224, 224, 1)


@pytest.mark.parametrize(("separator", "encoding"), [(";", "utf-8"), ("\t", "utf-8-sig"), (",", "utf-16")])
def test_a_table_may_have_another_separator_or_encoding(tmp_path: Path, separator: str, encoding: str) -> None:
    text = csv_text(ROWS, header="emotion,pixels,Usage").replace(",", separator)
    assert len(imported(table(tmp_path, text, encoding))) == 28


def test_eight_codes_are_those_of_fer_2013_and_contempt(tmp_path: Path) -> None:
    rows = [(i % 8, pixels(i), "Training" if i < 8 else "PrivateTest") for i in range(16)]
    dataset = imported(table(tmp_path, csv_text(rows)))
    assert labels(dataset)[:8] == [*FER, "contempt"]


def test_codes_from_one_to_seven_are_asked_about_and_can_be_named(tmp_path: Path) -> None:
    source = table(tmp_path, csv_text([(code + 1, image, usage) for code, image, usage in ROWS]))
    with pytest.raises(SourceError, match="codes from 1 to 7, which may be other ones; name them with --classes"):
        imported(source)
    names = [f"{name}={code}" for code, name in enumerate("abcdefg", start=1)]
    assert labels(imported(source, classes=tuple(names)))[:7] == list("abcdefg")


def test_words_are_classes_and_their_case_does_not_matter(tmp_path: Path) -> None:
    words = ("Happy", " sad ", "happy", "ANGRY", "Happy", "Sad", "angry", "ANGRY")
    rows = "\n".join(f"{word},{' '.join(map(str, pixels(i).reshape(-1)))}" for i, word in enumerate(words))
    dataset = imported(table(tmp_path, f"emotion,pixels\n{rows}\n"), test_share=0)
    assert labels(dataset) == ["Happy", "Sad", "Happy", "ANGRY", "Happy", "Sad", "ANGRY", "ANGRY"]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("3,1 2 3,Training", "3 pixels where other rows have 144"),
        ("3", "1 fields where the header has 3"),
        ("9,{},Training", "the emotion must be 0 to 7, and is '9'"),
        ("x,{},Training", "the emotion 'x' is no number"),
        ("3,{},Trainig", "the Usage must be known, and is 'Trainig'. Did you mean 'Training'"),
        ("3,{} 300,Training", "pixels must be 0 to 255, and one is 300"),
        ("3,{} x,Training", "pixels must be numbers: could not convert"),
        ("3,{} nan,Training", "pixels must be numbers: one is not finite"),
    ],
)
def test_one_bad_row_is_one_bad_image(tmp_path: Path, row: str, why: str) -> None:
    many = [(i % 7, pixels(i, (12, 12)), "Training" if i < 100 else "PublicTest") for i in range(120)]
    source = table(tmp_path, csv_text(many) + row.format(" ".join(["7"] * (143 if "} " in row else 144))) + "\n")
    info = imported(source).info
    assert [image.path for image in info.skipped] == ["faces.csv, line 122"] and why in info.skipped[0].reason
    with pytest.raises(SourceError, match=r"At most 0.00% .* Received: 1 of 121: faces.csv, line 122 \("):
        imported(source, max_bad=0.0)


def test_a_test_split_without_a_class_is_told(tmp_path: Path) -> None:
    rows = [(i % 3, pixels(i), "Training" if i < 6 else "PublicTest") for i in range(8)]
    assert (
        "no test image of fearful: the sealed test says nothing of that"
        in imported(table(tmp_path, csv_text(rows))).info.notes
    )


# --- other tables ----------------------------------------------------------------------------------------------------


def test_parquet_without_class_names_and_with_rows_that_lack_something(tmp_path: Path) -> None:
    good = [{"bytes": encode(pixels(i)), "path": None} for i in range(9)]
    rows = pa.table({"image": [*good, None, *good[:2]], "label": [0, 1, 2] * 3 + [0, None, -1]})
    (tmp_path / "in").mkdir()
    pq.write_table(rows, tmp_path / "in" / "0000.parquet")
    info = imported(tmp_path / "in", max_bad=0.2).info
    assert info.classes == ("0", "1", "2") and sum(info.counts["test"].values()) == 3
    assert [(image.path, image.reason) for image in info.skipped] == [("in/0000.parquet, row 9", "it has no image")]
    assert [(entry.images, entry.reason) for entry in info.left_out] == [(2, "without a label")]
    assert "classes are called by the numbers of label; --classes happy=3,... names them" in info.notes
    pq.write_table(pa.table({"x": [1]}), tmp_path / "in" / "0000.parquet")
    with pytest.raises(
        SourceError, match=r"a column of encoded images \(image\) and one of labels .*0000.parquet with x"
    ):
        imported(tmp_path / "in")


def write_named_parquet(path: Path, labels: list[int], names: tuple[str, ...], first_image: int = 0) -> None:
    """Writes a table as Hugging Face's library does, with the classes' names in its metadata."""
    images = [{"bytes": encode(pixels(first_image + i)), "path": None} for i in range(len(labels))]
    features = {"label": {"names": list(names), "_type": "ClassLabel"}}
    rows = pa.table({"image": images, "label": labels})
    path.parent.mkdir(exist_ok=True)
    pq.write_table(rows.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})}), path)


def test_a_number_among_named_labels_is_a_place_also_where_classes_are_called_by_numbers(tmp_path: Path) -> None:
    names = tuple("1234567")
    write_named_parquet(tmp_path / "in/train.parquet", [*range(7)], names)
    dataset = imported(tmp_path / "in", test_share=0)
    assert labels(dataset) == list(names)


def test_a_test_table_without_labels_is_none_and_validation_takes_its_place(tmp_path: Path) -> None:
    for place, (split, said) in enumerate({"train": [0, 1, 0, 1], "validation": [0, 1], "test": [-1, -1, -1]}.items()):
        write_named_parquet(tmp_path / f"in/{split}-00000-of-00001.parquet", said, ("a", "b"), first_image=10 * place)
    info = imported(tmp_path / "in").info
    assert info.counts == {"train": {"a": 2, "b": 2}, "test": {"a": 1, "b": 1}}
    assert [(entry.images, entry.reason) for entry in info.left_out] == [(3, "without a label")]
    assert any("validation is the test split" in note for note in info.notes)


def test_what_the_user_leaves_out_of_a_parquet_file_is_told_as_that(tmp_path: Path) -> None:
    for place, split in enumerate(("train", "test")):
        write_named_parquet(tmp_path / f"in/{split}.parquet", [0, 1, 0, 1], ("a", "b"), first_image=10 * place)
    info = imported(tmp_path / "in", splits=("test=leave-out",), test_share=0).info
    assert [(entry.images, entry.reason) for entry in info.left_out] == [(4, "left out by --split")]
    with pytest.raises(SourceError, match="A Usage must be a split. Received: --split with class"):
        imported(tmp_path / "in", splits=("*=class",))


@pytest.mark.parametrize("text", ['{table}3,"1 2 3,Training\n', '{table}3,1 2 3,"Training\n'])
def test_a_quotation_mark_that_is_not_closed_is_refused_in_any_column(tmp_path: Path, text: str) -> None:
    with pytest.raises(SourceError, match="quotation mark"):
        imported(table(tmp_path, text.format(table=csv_text(ROWS)) + csv_text(ROWS).partition("\n")[2]))


def test_blanks_behind_a_quoted_field_are_read(tmp_path: Path) -> None:
    lines = [line.split(",") for line in csv_text(ROWS).splitlines()]
    text = "\n".join(",".join(f'"{field}" ' for field in line) for line in lines)
    assert len(imported(table(tmp_path, text))) == len(ROWS)


def test_a_file_that_names_no_classes_may_call_them_as_the_others_do(tmp_path: Path) -> None:
    write_named_parquet(tmp_path / "in/train.parquet", [*range(7)], tuple("1234567"))
    images = [{"bytes": encode(pixels(20 + i)), "path": None} for i in range(7)]
    pq.write_table(pa.table({"image": images, "label": list("1234567")}), tmp_path / "in/test.parquet")
    dataset = imported(tmp_path / "in")
    assert labels(dataset) == [*"1234567"] * 2


def test_the_test_split_that_is_named_is_the_only_one(tmp_path: Path) -> None:
    dataset = imported(table(tmp_path, csv_text(ROWS)), test=("PrivateTest",))
    assert [sum(counts.values()) for counts in dataset.info.counts.values()] == [21, 7]
    files = {
        f"{top}/{c}/{i}.png": encode(pixels(i + 9 * ("ab".index(c)) + 50 * place))
        for place, top in enumerate(("Training", "PublicTest", "PrivateTest", "val"))
        for c in "ab"
        for i in range(3)
    }
    info = imported(make_folder(tmp_path / "in", files), test=("PrivateTest",)).info
    assert [sum(counts.values()) for counts in info.counts.values()] == [12, 6]
    assert [entry.path for entry in info.left_out] == ["val/"]


def test_a_dry_run_counts_images_without_a_split_as_the_import_does(tmp_path: Path) -> None:
    rows = [f"{i}.png,{'ab'[i % 2]},{('test', '', 'train')[i // 4]}" for i in range(12)]
    files = {f"{i}.png": encode(pixels(i)) for i in range(12)}
    source = make_folder(tmp_path / "in", files | {"list.csv": "\n".join(["path,label,split", *rows]).encode()})
    plan = plan_import(source, ImportOptions(labels="list.csv"))
    assert plan.counts == imported(source, labels="list.csv").info.counts


def test_the_folders_of_tfds_are_read(tmp_path: Path) -> None:
    files = {
        f"faces/1.0.0/{s}/{c}/{i}.png": encode(pixels(i + 9 * (c == "b")))
        for s in ("train", "test")
        for c in "ab"
        for i in range(3)
    }
    assert len(imported(make_tar(tmp_path / "in.tar", files))) == 12


def test_records_that_lack_something_are_named(tmp_path: Path) -> None:
    file = tmp_path / "faces-train.tfrecord-00000-of-00001"
    with file.open("wb") as records:
        for number in range(6):
            write_record(records, encode(pixels(number)), (b"happy", b"sad")[number % 2])
        write_record(records, None, b"sad")
        write_record(records, encode(pixels(7)), -1)
    info = imported(file, max_bad=0.2, test_share=0).info
    assert info.counts["train"] == {"happy": 3, "sad": 3}
    assert [(image.path, image.reason) for image in info.skipped] == [(f"{file.name}, row 6", "it has no image")]
    assert [(entry.images, entry.reason) for entry in info.left_out] == [(1, "without a label")]
    file.write_bytes(b"")
    with pytest.raises(SourceError, match="TFRecords must hold records. Received: .* with none"):
        imported(file)
    file.write_bytes(b"0123456789ab")
    with pytest.raises(SourceError, match="A TFRecord must be whole.*a record's length is damaged"):
        imported(file)
    with file.open("wb") as records:
        RecordWriter(records).write(field(1, field(1, field(1, b"x") + field(2, field(1, field(1, b"y"))))))
    with pytest.raises(SourceError, match=r"encoded images \(image\) and one of labels \(label\). Received: .* with x"):
        imported(file)


def test_a_table_without_a_header_is_read_where_its_first_row_says_what_its_columns_are(tmp_path: Path) -> None:
    rows = csv_text(ROWS).partition("\n")[2]
    dataset = imported(table(tmp_path, rows))
    assert dataset.info.counts == {"train": dict.fromkeys(sorted(FER), 2), "test": dict.fromkeys(sorted(FER), 2)}
    assert dataset.paths[0] == "faces.csv, line 1"
    assert "faces.csv has no header: its columns are taken for emotion, pixels, usage" in dataset.info.notes
    words = "".join(f'"{" ".join(map(str, image.reshape(-1)))}",{FER[code]}\n' for code, image, _ in ROWS)
    assert labels(imported(table(tmp_path, words)))[:7] == list(FER)


def test_a_table_whose_columns_nobody_can_tell_says_so_in_one_short_line(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="without emotion, pixels; its first row has 0, 2, 170 ") as refused:
        imported(table(tmp_path, "0,2,170 " + " ".join(["1"] * 2303) + ",Training\n"))
    assert len(str(refused.value)) < 300


def test_a_table_that_is_not_utf_8_is_refused_and_not_dropped_beside_others(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="must be readable text.*save it as UTF-8"):
        imported(table(tmp_path, "emotion,pixels\nfröhlich,1 2 3 4\n", "latin-1"))
    files = {
        "train.csv": "emotion,pixels\nfröhlich,1 2 3 4\ntraurig,5 6 7 8\n".encode("latin-1"),
        "test.csv": b"emotion,pixels\ntraurig,1 1 1 1\nwach,2 2 2 2\n",
    }
    with pytest.raises(SourceError, match="must be readable text. Received: in/train.csv: .*save it as UTF-8"):
        imported(make_folder(tmp_path / "in", files))
