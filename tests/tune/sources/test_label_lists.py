"""Labels that stand beside image files: RAF-DB, AffectNet, CK+, FER+ and CSVs of paths, as people have them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from tests.tune.sources.test_ingest import csv_text, encode, make_folder, make_zip, pixels
from trainables.dataset.info import DatasetInfo
from trainables.dataset.reader import Dataset, content_fingerprint
from tune.dataset.import_options import ImportOptions
from tune.dataset.ingest import import_dataset
from tune.errors import SourceError

VOTES = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
FER_PLUS = [
    "4,5,0,1,0,0,0,0,0,0",
    "0,10,0,0,0,0,0,0,0,0",
    "4,4,2,0,0,0,0,0,0,0",
    "0,0,0,0,0,0,0,0,0,10",
    "1,0,0,3,1,1,1,1,1,1",
]
"""Happiness (5 of 9, sadness with one does not count), happiness, no majority, no face, sadness (3 of 3)."""


def faces(*names: str) -> dict[str, bytes]:
    return {name: encode(pixels(seed, (12, 12))) for seed, name in enumerate(names)}


def imported(source: Path, **options: object) -> Dataset:
    return import_dataset(source, source.parent / "data", ImportOptions(**options), replace=True).dataset  # type: ignore[arg-type]


def told(info: DatasetInfo) -> dict[str, str]:
    return {entry.path: entry.reason for entry in (*info.left_out, *info.skipped)}


def class_of(dataset: Dataset) -> dict[str, str]:
    return {
        path: dataset.info.classes[label] for path, label in zip(dataset.paths, dataset.labels.tolist(), strict=True)
    }


def array(value: object) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array(value))
    return buffer.getvalue()


@pytest.mark.parametrize("packed", [False, True])
def test_raf_db_is_read_from_its_list_and_aligned_faces(tmp_path: Path, packed: bool) -> None:
    names = [f"{split}_{i:05d}" for split in ("train", "test") for i in range(1, 8)]
    files = faces(*(f"basic/Image/aligned/{name}_aligned.png" for name in names))
    files |= {f"basic/Image/original/{name}.png": encode(pixels(99, (30, 40))) for name in names}
    lines = "".join(f"{name}.png {i % 7 + 1}\n" for i, name in enumerate(names))
    files["basic/EmoLabel/list_patition_label.txt"] = lines.encode()
    dataset = imported(make_zip(tmp_path / "in.zip", files) if packed else make_folder(tmp_path / "in", files))
    kinds = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
    assert dataset.info.counts == {"train": dict.fromkeys(kinds, 1), "test": dict.fromkeys(kinds, 1)}
    assert class_of(dataset)["basic/Image/aligned/train_00004_aligned.png"] == "happiness"
    assert told(dataset.info) == {
        "basic/Image/original/": "not among the faces that basic/EmoLabel/list_patition_label.txt names"
    }


def test_affectnet_is_read_from_its_annotations(tmp_path: Path) -> None:
    files = {}
    for split, count in (("train_set", 9), ("val_set", 8)):
        for i in range(count):
            files[f"AffectNet/{split}/images/{i}.png"] = encode(pixels(i + 50 * (split == "val_set")))
            files[f"AffectNet/{split}/annotations/{i}_exp.npy"] = array(str(i if i < 8 else 10))
            files[f"AffectNet/{split}/annotations/{i}_val.npy"] = array("-0.3")
    dataset = imported(make_folder(tmp_path / "in", files))
    assert dataset.info.classes == (*("anger", "contempt", "disgust", "fear"), *("happy", "neutral", "sad", "surprise"))
    assert [sum(counts.values()) for counts in dataset.info.counts.values()] == [8, 8]
    assert class_of(dataset)["AffectNet/val_set/images/5.png"] == "disgust"
    assert told(dataset.info) == {"AffectNet/train_set/images/8.png": "AffectNet's label is 10, no face"}
    assert dataset.info.passed_over == {}


@pytest.mark.parametrize(
    "damage", [b"", b"PK\x03\x04", b"PK\x05\x06" + bytes(18), array("1")[:60], array([1, 2]), b"1"]
)
def test_an_annotation_that_is_damaged_is_one_bad_image(tmp_path: Path, damage: bytes) -> None:
    files = faces(*(f"train_set/images/{i}.png" for i in range(5)))
    files |= {f"train_set/annotations/{i}_exp.npy": array(str(i % 2)) for i in range(4)}
    files["train_set/annotations/4_exp.npy"] = damage
    info = imported(make_folder(tmp_path / "in", files), max_bad=0.2).info
    assert [image.path for image in info.skipped] == ["train_set/images/4.png"]
    assert "AffectNet's labels are 0 to 10" in info.skipped[0].reason


def test_affectnets_first_table_has_its_own_codes(tmp_path: Path) -> None:
    header = "subDirectory_filePath,face_x,expression,valence"
    rows = [f"Manually_Annotated/{i % 3}/im{i}.png,1,{code},0.1" for i, code in enumerate([0, 1, 6, 8, 7, 11])]
    files = faces(*(f"Images/{i % 3}/im{i}.png" for i in range(6)))
    files["training.csv"] = "\n".join([header, *rows]).encode()
    dataset = imported(make_folder(tmp_path / "in", files), labels="training.csv", max_bad=0.5, test_share=0)
    assert sorted(class_of(dataset).values()) == ["anger", "contempt", "happy", "neutral"]
    assert told(dataset.info) == {
        "Images/0/im3.png": "AffectNet's label is 8, none",
        "Images/2/im5.png": "AffectNet's labels are 0 to 10, and this is '11'",
    }


def test_ck_plus_gives_the_peak_frame_of_each_labelled_sequence(tmp_path: Path) -> None:
    files: dict[str, bytes] = {}
    for subject in range(6):
        name = f"S{subject:03d}/001/S{subject:03d}_001"
        for frame in range(1, 5):
            files[f"cohn-kanade-images/{name}_{frame:08d}.png"] = encode(pixels(10 * subject + frame))
            files[f"Landmarks/{name}_{frame:08d}_landmarks.txt"] = b"1 2"
        if subject < 4:
            files[f"Emotion/{name}_00000004_emotion.txt"] = f"   {subject % 2 + 5}.0000000e+00\n".encode()
    dataset = imported(make_folder(tmp_path / "in", files), test_share=0)
    assert class_of(dataset) == {
        f"cohn-kanade-images/S{subject:03d}/001/S{subject:03d}_001_00000004.png": "sadness" if subject % 2 else "happy"
        for subject in range(4)
    }
    assert sum(entry.images for entry in dataset.info.left_out) == 3 * 4 + 2 * 4
    assert set(told(dataset.info).values()) == {"not the peak frame of a labelled sequence"}


def test_a_csv_of_paths_and_labels_gives_classes_where_folders_give_none(tmp_path: Path) -> None:
    files = faces(*(f"images/im{i}.png" for i in range(8)), "images/extra.png")
    rows = "".join(
        f"/home/someone/faces/im{i}.png;{'sad' if i % 2 else 'Happy'};{'test' if i < 2 else 'train'}\n"
        for i in range(8)
    )
    source = make_folder(tmp_path / "in", files | {"labels.csv": f"Image;Label;split\n{rows}".encode()})
    dataset = imported(source)
    assert dataset.info.counts == {"train": {"Happy": 3, "sad": 3}, "test": {"Happy": 1, "sad": 1}}
    assert told(dataset.info) == {"images/extra.png": "not in labels.csv"}
    assert dataset.info.passed_over == {}


def test_a_list_without_a_header_is_read_by_its_first_row(tmp_path: Path) -> None:
    files = faces(*(f"images/im{i}.png" for i in range(4)))
    rows = "".join(f"images/im{i}.png,{'sad' if i % 2 else 'happy'},{'test' if i < 2 else 'train'}\n" for i in range(4))
    dataset = imported(make_folder(tmp_path / "in", files | {"labels.csv": rows.encode()}))
    assert dataset.info.counts == {"train": {"happy": 1, "sad": 1}, "test": {"happy": 1, "sad": 1}}
    assert "in/labels.csv has no header: its columns are taken for path, label, usage" in dataset.info.notes


def test_a_list_that_is_not_utf_8_is_told_where_folders_are_taken_for_classes_and_refused_where_not(
    tmp_path: Path,
) -> None:
    files = faces(*(f"{folder}/im{i}.png" for folder in ("left", "right") for i in range(4)))
    rows = "".join(f"{path},{'fröhlich' if path[-5] in '02' else 'traurig'}\n" for path in files)
    files["labels.csv"] = f"path,label\n{rows}".encode("latin-1")
    dataset = imported(make_folder(tmp_path / "in", files), test_share=0)
    assert dataset.info.classes == ("left", "right")
    [note] = [note for note in dataset.info.notes if "labels.csv" in note]
    assert note.startswith("classes from the folders; a table beside them is not read: A CSV must be readable text")
    with pytest.raises(SourceError, match="must be readable text.*labels.csv.*save it as UTF-8"):
        imported(tmp_path / "in", labels="labels.csv")


def test_names_in_a_list_without_an_image_are_bad_images(tmp_path: Path) -> None:
    files = faces(*(f"images/im{i}.png" for i in range(4)), "images/b/im0.png", "images/c/im9.png", "images/d/im9.png")
    rows = ["images/im0.png,a", "im1.png,b", "im2,a", "im3.png,b", "gone.png,a", "im9.png,b", "x.png"]
    source = make_folder(tmp_path / "in", files | {"list.csv": "\n".join(["path,label", *rows]).encode()})
    dataset = imported(source, labels="list.csv", max_bad=0.5, test_share=0)
    assert class_of(dataset) == {
        "images/im0.png": "a",
        "images/im1.png": "b",
        "images/im2.png": "a",
        "images/im3.png": "b",
    }
    found = told(dataset.info)
    assert found["gone.png"] == "named in in/list.csv, but there is no such image"
    assert found["im9.png"] == "named in in/list.csv, but 2 images are called so, such as images/c/im9.png"
    assert found["in/list.csv: x.png"] == "1 fields where the header has 2"
    with pytest.raises(SourceError, match="Received: 3 of 7: "):
        imported(source, labels="list.csv")


def test_folders_and_a_list_that_contradict_one_another_are_asked_about(tmp_path: Path) -> None:
    files = faces(*(f"{folder}/im{i}.png" for folder in ("one", "two") for i in range(6)))
    rows = [f"{folder}/im{i}.png,{'ab'[i % 2]}" for folder in ("one", "two") for i in range(6)]
    source = make_folder(tmp_path / "in", files | {"labels.csv": "\n".join(["path,label", *rows]).encode()})
    with pytest.raises(SourceError, match="Folders and lists of labels must agree.*--labels labels.csv.*--labels none"):
        imported(source)
    assert imported(source, labels="labels.csv").info.classes == ("a", "b")
    assert imported(source, labels="none").info.classes == ("one", "two")
    agreeing = [f"{folder}/im{i}.png,{folder.upper()}" for folder in ("one", "two") for i in range(6)]
    (source / "labels.csv").write_text("\n".join(["path,label", *agreeing]))
    assert imported(source).info.classes == ("one", "two")


def fer_plus_csv(folder: Path) -> Path:
    rows = [(i, pixels(i), "Training" if i < 4 else "PublicTest") for i in range(5)]
    (folder / "fer2013.csv").write_text(csv_text(rows))
    votes = [f"{'Training' if i < 4 else 'PublicTest'},fer{i:07d}.png,{row}" for i, row in enumerate(FER_PLUS)]
    (folder / "votes.csv").write_text("\n".join([VOTES, *votes]) + "\n")
    return folder / "fer2013.csv"


def test_fer_plus_votes_become_labels_by_their_majority(tmp_path: Path) -> None:
    source = fer_plus_csv(tmp_path)
    votes = (tmp_path / "votes.csv").read_text()
    (tmp_path / "votes.csv").write_text(votes.replace("4,4,2,0", "1,4,0,9"))
    dataset = imported(source, labels=str(tmp_path / "votes.csv"))
    assert class_of(dataset) == {
        "fer2013.csv, line 2": "happiness",
        "fer2013.csv, line 3": "happiness",
        "fer2013.csv, line 4": "sadness",
        "fer2013.csv, line 6": "sadness",
    }
    assert told(dataset.info) == {"fer2013.csv": "no emotion with a majority of the votes"}
    images = make_folder(tmp_path / "in", faces(*(f"all/fer{i:07d}.png" for i in range(5))))
    by_name = imported(images, labels=str(tmp_path / "votes.csv"))
    assert sorted(class_of(by_name).values()) == ["happiness", "happiness", "sadness", "sadness"]
    assert told(by_name.info) == {"all/fer0000003.png": "no emotion with a majority of the votes"}


def test_fer_plus_votes_become_soft_labels_and_another_fingerprint(tmp_path: Path) -> None:
    source, votes = fer_plus_csv(tmp_path), str(tmp_path / "votes.csv")
    (tmp_path / "votes.csv").write_text((tmp_path / "votes.csv").read_text().replace("4,4,2,0", "1,4,0,9"))
    hard = imported(source, labels=votes)
    assert hard.shares is None
    soft = imported(source, labels=votes, soft_labels=True)
    assert soft.info.classes == ("happiness", "sadness") and (soft.labels == hard.labels).all()
    assert soft.shares is not None and soft.shares.dtype == np.float32
    # Neutral is nobody's majority, so no class: what is left are the votes for the two that are.
    np.testing.assert_allclose(soft.shares, [[1, 0], [1, 0], [4 / 13, 9 / 13], [0, 1]], rtol=1e-6)
    assert soft.info.fingerprint != hard.info.fingerprint == content_fingerprint(hard)
    assert soft.info.fingerprint == content_fingerprint(soft)
    assert soft.info.notes[-1].startswith("soft labels: trials train towards the shares of the votes")
    merged = imported(source, labels=votes, soft_labels=True, classes=("sad=sadness",))
    assert merged.shares is not None and merged.shares.tolist() == soft.shares.tolist()
    with pytest.raises(SourceError, match="--soft-labels needs votes on every image.* fer2013.csv, line 2 without"):
        imported(source, soft_labels=True)


def test_a_share_of_the_votes_is_that_of_the_emotions_that_count(tmp_path: Path) -> None:
    rows = [(i, pixels(i), "Training") for i in range(4)]
    (tmp_path / "fer2013.csv").write_text(csv_text(rows))
    votes = ["6,3,0,1,0,0,0,0,0,0", "2,7,0,0,0,0,0,0,1,0", "0,2,0,6,0,0,0,0,2,0", "0,0,0,3,2,0,0,0,0,0"]
    text = [VOTES, *(f"Training,fer{i:07d}.png,{row}" for i, row in enumerate(votes))]
    (tmp_path / "votes.csv").write_text("\n".join(text) + "\n")
    soft = imported(tmp_path / "fer2013.csv", labels=str(tmp_path / "votes.csv"), soft_labels=True, test_share=0.0)
    assert soft.info.classes == ("happiness", "neutral", "sadness") and soft.shares is not None
    expected = [[3 / 9, 6 / 9, 0], [7 / 9, 2 / 9, 0], [2 / 8, 0, 6 / 8], [0, 0, 1]]
    np.testing.assert_allclose(soft.shares, expected, rtol=1e-6)
    assert soft.shares.argmax(axis=1).tolist() == soft.labels.tolist()
    merged = ("good=happiness", "good=neutral")
    two = imported(
        tmp_path / "fer2013.csv", labels=str(tmp_path / "votes.csv"), soft_labels=True, test_share=0.0, classes=merged
    )
    assert two.shares is not None and two.shares[0].tolist() == [1, 0]
    np.testing.assert_allclose(two.shares[2], [0.25, 0.75])


def test_fer_plus_votes_of_another_table_are_refused(tmp_path: Path) -> None:
    source = fer_plus_csv(tmp_path)
    text = (tmp_path / "votes.csv").read_text()
    (tmp_path / "votes.csv").write_text(text.replace("Training,fer0000003", "PrivateTest,fer0000003"))
    with pytest.raises(SourceError, match=r"FER\+ must be of the same images.*fer2013.csv, line 5.*PrivateTest"):
        imported(source, labels=str(tmp_path / "votes.csv"))
    (tmp_path / "votes.csv").write_text("\n".join(text.splitlines()[:4]))
    with pytest.raises(SourceError, match=r"a row for each row of the pixels. Received: 3 rows for 5"):
        imported(source, labels=str(tmp_path / "votes.csv"))
    with pytest.raises(
        SourceError, match="--labels must name a CSV, here or in the source, or be none. Received: 'x.csv'"
    ):
        imported(source, labels="x.csv")


def test_a_list_called_like_a_split_means_the_images_of_that_split(tmp_path: Path) -> None:
    files = faces(*(f"{split}/im{i}.png" for split in ("train", "test") for i in range(4)))
    for split in ("train", "test"):
        rows = [f"im{i}.png,{'ab'[i % 2]}" for i in range(4)]
        files[f"{split}_labels.csv"] = "\n".join(["filename,emotion", *rows]).encode()
    dataset = imported(make_folder(tmp_path / "in", files))
    assert dataset.info.counts == {"train": {"a": 2, "b": 2}, "test": {"a": 2, "b": 2}}
    assert dataset.splits.tolist() == [int(path.startswith("test")) for path in dataset.paths]


def test_a_table_beside_class_folders_that_is_no_list_of_classes_changes_nothing(tmp_path: Path) -> None:
    files = faces(*(f"{folder}/im{i}.png" for folder in ("one", "two") for i in range(600)))
    rows = [f"{name},{number}-of-many" for number, name in enumerate(files)]
    source = make_folder(tmp_path / "in", files | {"ages.csv": "\n".join(["path,target", *rows]).encode()})
    dataset = imported(source)
    assert dataset.info.classes == ("one", "two") and dataset.info.passed_over == {".csv": 1}


def test_changed_labels_are_another_source(tmp_path: Path) -> None:
    names = [f"{split}_{i:05d}" for split in ("train", "test") for i in range(4)]
    source = make_folder(tmp_path / "in", faces(*(f"Image/{name}.png" for name in names)))
    labels = source / "list_patition_label.txt"
    for shift in (1, 2):
        labels.write_text("".join(f"{name}.png {(i + shift) % 2 + 1}\n" for i, name in enumerate(names)) + "\n" * shift)
        before = imported(source).info.source_fingerprint
        assert import_dataset(source, tmp_path / "data").unchanged
    labels.write_text(labels.read_text().replace("00003.png 1", "00003.png 2"))
    assert imported(source).info.source_fingerprint != before


def test_an_image_that_is_missing_in_its_split_is_not_taken_from_another(tmp_path: Path) -> None:
    files = faces(*(f"train/{i}.png" for i in range(7)), *(f"test/{i}.png" for i in (5, 6, 7)))
    rows = [f"{i}.png,{'ab'[i % 2]}" for i in range(8)]
    source = make_folder(tmp_path / "in", files | {"train.csv": "\n".join(["image,label", *rows]).encode()})
    dataset = imported(source, max_bad=0.5, test_share=0)
    assert sorted(class_of(dataset)) == [f"train/{i}.png" for i in range(7)]
    assert told(dataset.info)["7.png"] == "named in in/train.csv, but there is no such image"
    named = [f"train/{i}.png,{'ab'[i % 2]}" for i in range(8)] + [f"test/{i}.png,{'ab'[i % 2]}" for i in (5, 6, 7)]
    (source / "train.csv").rename(source / "all.csv").write_text("\n".join(["path,label", *named]))
    dataset = imported(source, labels="all.csv", max_bad=0.5)
    assert len(dataset) == 10 and "train/7.png" in told(dataset.info)


def test_a_list_may_share_the_images_of_one_folder_out_anew(tmp_path: Path) -> None:
    files = faces(*(f"train/{i}.png" for i in range(8)))
    rows = [f"train/{i}.png,{'ab'[i % 2]},{'test' if i < 4 else 'train'}" for i in range(8)]
    source = make_folder(tmp_path / "in", files | {"list.csv": "\n".join(["path,label,split", *rows]).encode()})
    dataset = imported(source, labels="list.csv")
    assert dataset.info.counts == {"train": {"a": 2, "b": 2}, "test": {"a": 2, "b": 2}}


def test_rows_of_fer_plus_for_images_that_were_removed_are_counted(tmp_path: Path) -> None:
    fer_plus_csv(tmp_path)
    votes = (tmp_path / "votes.csv").read_text().replace("4,4,2,0", "1,4,0,9")
    nameless = "Training,,0,0,0,0,0,0,0,0,0,10\nPublicTest,,0,0,0,0,0,0,0,0,0,10\n"
    (tmp_path / "votes.csv").write_text(votes + nameless)
    images = make_folder(tmp_path / "in", faces(*(f"all/fer{i:07d}.png" for i in range(5))))
    info = imported(images, labels=str(tmp_path / "votes.csv")).info
    assert sum(sum(counts.values()) for counts in info.counts.values()) == 4
    assert "2 rows of votes.csv name no image" in info.notes


def test_a_figure_beside_a_table_of_pixels_does_not_hide_it_from_votes(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    fer_plus_csv(tmp_path / "in")
    votes = (tmp_path / "in/votes.csv").read_text()
    (tmp_path / "in/votes.csv").rename(tmp_path / "votes.csv").write_text(votes.replace("4,4,2,0", "1,4,0,9"))
    (tmp_path / "in/figure.png").write_bytes(encode(pixels(99)))
    assert len(imported(tmp_path / "in", labels=str(tmp_path / "votes.csv"))) == 4


def test_decisions_about_splits_hold_for_the_folders_and_the_values_of_a_list(tmp_path: Path) -> None:
    files = faces(*(f"fold{fold}/{i}.png" for fold in (1, 2, 3) for i in range(4)))
    rows = [f"{name},{'ab'[i % 2]}" for i, name in enumerate(files)]
    source = make_folder(tmp_path / "in", files | {"list.csv": "\n".join(["path,label", *rows]).encode()})
    dataset = imported(source, labels="list.csv", splits=("fold2=test",))
    assert dataset.splits.tolist() == [int(path.startswith("fold2")) for path in dataset.paths]
    by_rest = imported(source, labels="list.csv", test=("fold3",))
    assert by_rest.splits.tolist() == [int(path.startswith("fold3")) for path in by_rest.paths]
    with pytest.raises(SourceError, match="--split must name a folder of the source. Received: 'fold4'"):
        imported(source, labels="list.csv", splits=("fold4=test",))
    used = [f"{row},{('Training', 'PublicTest', 'PrivateTest')[i % 3]}" for i, row in enumerate(rows)]
    (source / "list.csv").write_text("\n".join(["path,label,usage", *used]))
    info = imported(source, labels="list.csv", splits=("PublicTest=leave-out",)).info
    assert [sum(counts.values()) for counts in info.counts.values()] == [4, 4]
    assert set(told(info).values()) == {"left out by --split"}
    with pytest.raises(SourceError, match="A Usage must be a split. Received: --split with class"):
        imported(source, labels="list.csv", splits=("PublicTest=class",))
    public = imported(source, labels="list.csv", test=("PublicTest",))
    assert public.splits.tolist() == [
        int(rows.index(f"{p},{'ab'[i % 2]}") % 3 == 1) for i, p in enumerate(public.paths)
    ]
    both = imported(source, labels="list.csv", test=("test",))
    assert [sum(counts.values()) for counts in both.info.counts.values()] == [4, 8]
    by_folder = imported(source, labels="list.csv", test=("fold3",))
    assert by_folder.splits.tolist() == [int(path.startswith("fold3")) for path in by_folder.paths]


def test_a_decision_about_a_split_is_not_made_twice(tmp_path: Path) -> None:
    files = faces(*(f"{i}.png" for i in range(12)))
    rows = [f"{i}.png,{'ab'[i % 2]},{('train', 'validation', 'test')[i // 4]}" for i in range(12)]
    source = make_folder(tmp_path / "in", files | {"list.csv": "\n".join(["path,label,split", *rows]).encode()})
    dataset = imported(source, labels="list.csv", splits=("validation=test", "test=leave-out"))
    assert dataset.info.counts == {"train": {"a": 2, "b": 2}, "test": {"a": 2, "b": 2}}
    assert sorted(dataset.paths) == sorted(f"{i}.png" for i in range(8))


def test_the_folders_of_fer_plus_images_may_be_the_test_split(tmp_path: Path) -> None:
    fer_plus_csv(tmp_path)
    votes = (tmp_path / "votes.csv").read_text().replace("4,4,2,0", "1,4,0,9")
    (tmp_path / "votes.csv").write_text(votes)
    names = [f"{'FER2013Test' if i in (1, 4) else 'FER2013Train'}/fer{i:07d}.png" for i in range(5)]
    dataset = imported(
        make_folder(tmp_path / "in", faces(*names)), labels=str(tmp_path / "votes.csv"), test=("FER2013Test",)
    )
    assert dataset.splits.tolist() == [int(path.startswith("FER2013Test")) for path in dataset.paths]


def test_a_list_may_name_images_by_their_bare_names_and_share_them_out_anew(tmp_path: Path) -> None:
    files = faces(*(f"{'train' if i < 6 else 'test'}/im{i}.png" for i in range(8)))
    rows = [f"im{i}.png,{'ab'[i % 2]},{'test' if i < 4 else 'train'}" for i in range(8)]
    source = make_folder(tmp_path / "in", files | {"list.csv": "\n".join(["path,label,split", *rows]).encode()})
    assert imported(source, labels="list.csv").info.counts == {"train": {"a": 2, "b": 2}, "test": {"a": 2, "b": 2}}


def test_votes_for_image_files_beside_a_table_of_pixels_are_for_the_files(tmp_path: Path) -> None:
    (tmp_path / "in/images").mkdir(parents=True)
    fer_plus_csv(tmp_path / "in")
    votes = (tmp_path / "in/votes.csv").read_text()
    (tmp_path / "in/votes.csv").rename(tmp_path / "votes.csv").write_text(votes.replace("4,4,2,0", "1,4,0,9"))
    for name, data in faces(*(f"images/fer{i:07d}.png" for i in range(5))).items():
        (tmp_path / "in" / name).write_bytes(data)
    dataset = imported(tmp_path / "in", labels=str(tmp_path / "votes.csv"))
    assert all(path.startswith("images/") for path in dataset.paths) and len(dataset) == 4
