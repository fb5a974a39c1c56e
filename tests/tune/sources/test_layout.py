"""What folders mean: splits by their names, classes, validation, copies, and what has to be decided by the user."""

from __future__ import annotations

import re
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.tune.sources.test_ingest import csv_text, encode, make_folder, make_zip, pixels
from trainables.dataset.info import DatasetInfo
from trainables.dataset.reader import TEST, TRAIN
from tune.dataset.ingest import ImportOptions, import_dataset
from tune.errors import SourceError
from tune.sources.folder_layout import Layout, assign_classes_and_splits
from tune.sources.split_names import parse_decisions, split_named

SPLIT_NAMES = {
    "train": "train Train TRAINING training FER2013Train fer2013train train_set 01_train train2017 TrainingSet "
    "trainset images_train FERTrain affectnet-train trainval train_val ＴＲＡＩＮ",
    "test": "test Testing PublicTest PrivateTest PUBLICTEST privatetest public_test FER2013Test fer2013test "
    "test-images 2.Test.images testdata test1",
    "validation": "val valid Validation FER2013Valid fer2013valid val2017 eval dev Dev-Set validation_data",
}


def images(*folders: str, count: int = 3) -> list[str]:
    return [f"{folder}/im{index}.png" for folder in folders for index in range(count)]


def classes_in(*tops: str, names: str = "ab") -> list[str]:
    return [f"{top}/{name}" for top in tops for name in names]


def sorted_out(paths: Iterable[str], *splits: str, validation: str | None = None) -> Layout:
    return assign_classes_and_splits(paths, "source", decisions=parse_decisions(splits, validation))


def counts(layout: Layout) -> dict[int | None, int]:
    return dict(Counter(item.split for item in layout.items))


def left_out(layout: Layout) -> dict[str, int]:
    return {folder.path: folder.images for folder in layout.left_out}


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for kind, names in SPLIT_NAMES.items() for name in names.split()]
)
def test_a_folder_called_like_a_split_is_one(name: str, kind: str) -> None:
    named = split_named(name)
    assert named is not None and named.kind == kind


@pytest.mark.parametrize(
    "name", ["happy", "contest", "latest", "strain", "devil", "value", "1", "", "train_test", "[x]"]
)
def test_a_folder_called_otherwise_is_none(name: str) -> None:
    assert split_named(name) is None


# --- splits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "test"),
    [
        (["Training"], ["PublicTest", "PrivateTest"]),
        (["training"], ["testing"]),
        (["FER2013Train"], ["FER2013Test"]),
        (["fertrain"], ["fertest"]),
        (["trainFER"], ["testFER"]),
        (["01_train"], ["02_test"]),
        (["train-images"], ["Test Images"]),
        (["train", "trainval"], ["test"]),
    ],
)
@pytest.mark.parametrize("around", ["", "archive/", "fer_test_download/images/"])
def test_split_folders_of_the_competition_are_splits_not_classes(
    train: list[str], test: list[str], around: str
) -> None:
    paths = images(*classes_in(*train, *test))
    layout = sorted_out(f"{around}{path}" for path in paths)
    assert layout.classes == ("a", "b")
    assert counts(layout) == {TRAIN: 6 * len(train), TEST: 6 * len(test)}
    assert left_out(layout) == {} and not layout.skipped


def test_the_folders_that_were_taken_for_splits_are_told() -> None:
    layout = sorted_out(images(*classes_in("Training", "PublicTest", "PrivateTest")))
    assert layout.notes == ("folders taken for splits: train in Training/; test in PrivateTest/ and PublicTest/",)
    assert sorted_out(images(*classes_in("Train", "test"))).notes == ()


def test_splits_inside_of_classes_are_splits() -> None:
    layout = sorted_out(images("a/train", "b/Train", "a/test", "b/test"))
    assert (layout.classes, counts(layout)) == (("a", "b"), {TRAIN: 6, TEST: 6})


def test_a_folder_around_the_classes_of_each_split_is_looked_through() -> None:
    for inner in ("images", "train"):
        layout = sorted_out(images(f"train/{inner}/a", f"train/{inner}/b", "test/test/a", "test/test/b"))
        assert (layout.classes, counts(layout)) == (("a", "b"), {TRAIN: 6, TEST: 6})


@pytest.mark.parametrize(
    ("folders", "named"),
    [
        (classes_in("fold1", "fold2"), "fold1/ and fold2/ hold folders of the same names"),
        (classes_in("Actor_01", "Actor_02", "Actor_03"), "Actor_01/, Actor_02/ and Actor_03/ hold"),
        (["one/a", "one/b", "two/a"], "one/ and two/ hold"),
        (["one/x/a", "one/x/b", "two/x/a", "two/x/b"], "one/ and two/ hold"),
        (["one/A", "one/b", "two/a"], "one/ and two/ hold"),
        (["freight_train/x", "freight_train/y", "bus/z"], "freight_train/ is called like a split"),
    ],
)
def test_what_may_be_splits_is_asked_about(folders: list[str], named: str) -> None:
    with pytest.raises(SourceError, match=f"plainly splits or plainly classes.*{named}.*--split .*=train|test|validat"):
        sorted_out(images(*folders))
    assert len(sorted_out(images(*folders), "*=class").classes) == len({folder.split("/")[0] for folder in folders})


@pytest.mark.parametrize(
    ("folders", "named"),
    [
        (classes_in("Traning", "Test"), "Traning/ holds the classes of Test/ and may be the train split"),
        (classes_in("Training", "Public", "Private"), "Private/ and Public/ hold the classes of Training/ and may be"),
    ],
)
def test_a_folder_that_may_be_the_split_that_is_missing_is_asked_about(folders: list[str], named: str) -> None:
    with pytest.raises(SourceError, match=f"plainly splits or plainly classes.*{named}.*--split "):
        sorted_out(images(*folders))


def test_folders_around_one_split_each_are_looked_through() -> None:
    layout = sorted_out(images(*classes_in("train-2024-001/train", "test-2024-001/test")))
    assert (layout.classes, counts(layout)) == (("a", "b"), {TRAIN: 6, TEST: 6})


def test_what_was_asked_can_be_decided() -> None:
    paths = images(*classes_in("fold1", "fold2", "fold3"))
    layout = sorted_out(paths, "fold1=train", "FOLD2=train", "fold3=test")
    assert (layout.classes, counts(layout)) == (("a", "b"), {TRAIN: 12, TEST: 6})
    assert counts(sorted_out(paths, "fold?=train", "fold3=test")) == {TRAIN: 12, TEST: 6}
    assert left_out(sorted_out(paths, "fold1=train", "fold2=test", "fold3=leave-out")) == {"fold3/": 6}
    assert counts(sorted_out([f"x/{path}" for path in paths], "fold1=train", "fold2=train", "x/fold3=test")) == {
        TRAIN: 12,
        TEST: 6,
    }


def test_classes_with_nested_folders_stay_classes() -> None:
    for folders in (
        ["a/2019", "a/2020", "b/2021"],
        ["a/deep/er", "b/deep/er"],
        ["a", "a/more", "b", "b/more", "b/old"],
    ):
        layout = sorted_out(images(*folders))
        assert layout.classes == ("a", "b")
        assert "with folders inside: taken for one class each" in layout.notes[0] or folders[0] == "a"


def test_a_flat_folder_called_like_a_split_is_a_class_and_told() -> None:
    layout = sorted_out(images("cats", "dogs", "test"))
    assert layout.classes == ("cats", "dogs", "test")
    assert "test/ with images directly inside: taken for a class; --split test=leave-out" in layout.notes[0]
    assert left_out(sorted_out(images("cats", "dogs", "test"), "test=leave-out")) == {"test/": 3}


def test_split_folders_without_class_folders_are_no_classes() -> None:
    with pytest.raises(SourceError, match="must hold class folders, test/<class>/.*test/ and train/ hold images dir"):
        sorted_out(images("train", "test"))
    assert sorted_out(images("train", "test"), "*=class").classes == ("test", "train")


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (["nope=train"], "must name a folder of the source. Received: 'nope'.*Known: test, train"),
        (["train=class"], "all be splits, or all be classes"),
        (["train"], r"must be FOLDER=train\|test\|validation\|class\|leave-out. Received: 'train'"),
        (["train=tset"], "must be FOLDER=.*Received: 'train=tset'"),
    ],
)
def test_a_decision_that_decides_nothing_is_refused(splits: list[str], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        sorted_out(images(*classes_in("train", "test")), *splits)


# --- validation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["validation", "val", "valid", "FER2013Valid", "dev"])
def test_validation_is_the_test_split_where_there_is_no_other_and_left_out_where_there_is(name: str) -> None:
    alone = sorted_out(images(*classes_in("train", name)))
    assert counts(alone) == {TRAIN: 6, TEST: 6}
    assert f"{name}/ is the test split, as there is no test folder" in alone.notes[-1]
    three = images(*classes_in("train", "test", name))
    beside = sorted_out(three)
    assert (counts(beside), left_out(beside)) == ({TRAIN: 6, TEST: 6}, {f"{name}/": 6})
    assert "--validation train or --validation test" in beside.left_out[0].reason
    assert counts(sorted_out(three, validation="train")) == {TRAIN: 12, TEST: 6}
    assert counts(sorted_out(three, validation="test")) == {TRAIN: 6, TEST: 12}
    assert counts(sorted_out(images(*classes_in("train", name)), validation="leave-out")) == {None: 6}


def test_an_option_for_validation_needs_validation_images() -> None:
    for folders in (classes_in("train", "test"), ["a", "b"]):
        with pytest.raises(SourceError, match="--validation needs a validation folder. Received: source without one"):
            sorted_out(images(*folders), validation="train")
    with pytest.raises(SourceError, match="--validation must be train, test, leave-out. Received: 'keep'"):
        ImportOptions(validation="keep")


# --- copies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folders", "copy", "around"),
    [
        (classes_in("train", "test"), "archive", "archive/"),
        (classes_in("train", "validation"), "images", "images/"),
        (classes_in("train", "test"), "archive/data", "archive/"),
        (["a", "b"], "archive", "archive/"),
        (["a", "b"], "archive/data", "archive/"),
    ],
)
def test_the_tree_once_more_one_level_deeper_is_told_in_one_line(folders: list[str], copy: str, around: str) -> None:
    layout = sorted_out(images(*folders, *(f"{copy}/{folder}" for folder in folders)))
    assert layout.classes == ("a", "b")
    assert len(layout.items) == 3 * len(folders)
    assert (left_out(layout), layout.skipped) == ({around: 3 * len(folders)}, ())


def test_a_split_that_holds_itself_once_more_is_read_once() -> None:
    layout = sorted_out(images(*classes_in("train", "test", "train/train")))
    assert (layout.classes, left_out(layout)) == (("a", "b"), {"train/train/": 6})


def test_two_trees_side_by_side_are_asked_about() -> None:
    paths = images(*classes_in("one/train", "one/test", "two/train", "two/test"))
    with pytest.raises(
        SourceError, match="one tree of splits. Received: source with splits in one/ and two/; import one"
    ):
        sorted_out(paths)
    assert left_out(sorted_out(paths, "two=leave-out")) == {"two/": 12}
    for raw in (["raw/a", "raw/b"], ["raw"]):
        with pytest.raises(SourceError, match="with splits in split/, beside raw/.*--split raw=leave-out"):
            sorted_out(images(*classes_in("split/train", "split/test"), *raw))


# --- names of classes and files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
def test_class_names_that_differ_only_in_composition_are_one_class(tmp_path: Path, packed: bool) -> None:
    composed, decomposed = (unicodedata.normalize(form, "fröhlich") for form in ("NFC", "NFD"))
    paths = images(f"train/{composed}", "train/traurig", f"test/{decomposed}")
    files = {path: encode(pixels(index)) for index, path in enumerate(paths)}
    source = make_zip(tmp_path / "a.zip", files) if packed else make_folder(tmp_path / "in", files)
    info = import_dataset(source, tmp_path / "data").dataset.info
    assert info.counts == {"train": {composed: 3, "traurig": 3}, "test": {composed: 3, "traurig": 0}}


def test_test_folders_that_differ_from_trains_in_case_alone_are_the_same_classes() -> None:
    layout = sorted_out(images("train/Happy", "train/sad", "test/happy", "test/Sad"))
    assert layout.classes == ("Happy", "sad") and counts(layout) == {TRAIN: 6, TEST: 6}
    assert (
        "folders of test and train that differ in case alone are one class: Sad and sad, happy and Happy"
        in layout.notes
    )
    with pytest.raises(SourceError, match="Every class in test/ must be in train/. Received: 'HAPPY'"):
        sorted_out(images("train/Happy", "train/happy", "test/HAPPY"))  # which of the two?


@pytest.mark.parametrize("letter", ["\u202f", "\u00a0", "\u200e", "\u200b", "\u00ad", "\uf021", "\u3000", "\U0001fae8"])
def test_a_file_may_have_any_name_that_can_be_stored(letter: str) -> None:
    path = f"train/a/Screenshot 10.00{letter}AM.png"
    assert path in {item.path for item in sorted_out([path, *images("train/b")]).items}


@pytest.mark.parametrize("letter", ["\n", "\x1b", "\u2028", "\udcff", "\x00"])
def test_a_name_that_cannot_be_stored_or_would_break_a_line_is_refused(letter: str) -> None:
    with pytest.raises(SourceError, match="Names must be printable UTF-8. Received: 'train/a/x"):
        sorted_out([f"train/a/x{letter}.png", *images("train/b")])


# --- the csv, and what is kept of it all -----------------------------------------------------------------------------


def test_usages_of_the_csv_can_be_decided_like_folders(tmp_path: Path) -> None:
    usages = ["Training"] * 4 + ["PublicTest"] * 3 + ["PrivateTest"] * 2
    rows = [(index % 2, pixels(index), usage) for index, usage in enumerate(usages)]
    (tmp_path / "in.csv").write_text(csv_text(rows))

    def imported(*splits: str, validation: str | None = None) -> DatasetInfo:
        options = ImportOptions(splits=splits, validation=validation)
        return import_dataset(tmp_path / "in.csv", tmp_path / "data", options, replace=True).dataset.info

    def told(info: DatasetInfo) -> list[tuple[str, int]]:
        return [(folder.path, folder.images) for folder in info.left_out]

    assert told(imported()) == []
    public = imported("PublicTest=validation")
    assert (sum(public.counts["test"].values()), told(public)) == (2, [("in.csv, Usage PublicTest", 3)])
    joined = imported("publictest=validation", validation="train")
    assert (sum(joined.counts["train"].values()), told(joined)) == (7, [])
    assert told(imported("PrivateTest=leave-out")) == [("in.csv, Usage PrivateTest", 2)]
    with pytest.raises(SourceError, match="A Usage must be a split"):
        imported("Training=class")


def test_what_was_left_out_and_understood_is_kept_with_the_data_set(tmp_path: Path) -> None:
    paths = images(*classes_in("Training", "PublicTest", "Valid"))
    files = {path: encode(pixels(index)) for index, path in enumerate(paths)}
    info = import_dataset(make_folder(tmp_path / "in", files), tmp_path / "data").dataset.info
    assert [(folder.path, folder.images) for folder in info.left_out] == [("Valid/", 6)]
    assert "train in Training/" in info.notes[0]
    old = info.model_dump(exclude={"left_out", "notes", "passed_over"})
    assert DatasetInfo.model_validate(old).left_out == ()


@pytest.mark.parametrize(
    ("folders", "note"),
    [
        (["train/a", "train/b"], r"the source has no test images: \d+ of its 60 were drawn \(--test-share 0.3\)"),
        (["a", "b"], r"the source has no test images: \d+ of its 60 were drawn"),
        (["train/a", "train/b", "test/a", "test/b"], ""),
    ],
)
def test_a_test_split_that_is_drawn_is_told(tmp_path: Path, folders: list[str], note: str) -> None:
    files = {f"{folder}/{i}.png": encode(pixels(i + 100 * n)) for n, folder in enumerate(folders) for i in range(30)}
    info = import_dataset(
        make_folder(tmp_path / "in", files), tmp_path / "out", ImportOptions(test_share=0.3)
    ).dataset.info
    assert re.fullmatch(f"({note}.*)?", " ".join(info.notes)) and bool(info.notes) == bool(note), info.notes


def test_a_csv_of_train_rows_alone_says_that_no_test_split_is_drawn(tmp_path: Path) -> None:
    rows = [(code, pixels(10 * code + i), "Training") for code in (0, 3) for i in range(5)]
    (tmp_path / "faces.csv").write_text(csv_text(rows))
    info = import_dataset(tmp_path / "faces.csv", tmp_path / "out").dataset.info
    assert info.notes == ("every image of the source is named as a train image, so --test-share draws none of them",)


def test_two_decisions_about_one_folder_are_refused() -> None:
    with pytest.raises(
        SourceError, match="must decide once about a folder. Received: public/=test and 'public/=train'"
    ):
        parse_decisions(["Public=test", "public/=train"], None)
    assert parse_decisions(["a=test", "A=test"], None).of("a") == "test"


def test_a_zip_with_dots_in_its_paths_is_read_and_one_with_a_name_twice_is_told(tmp_path: Path) -> None:
    files = {f"./train/{c}/./{i}.png": encode(pixels(i + 50 * ord(c))) for c in "ab" for i in range(4)}
    source = make_zip(tmp_path / "in.zip", files)
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(source, "a") as archive:
        archive.writestr("./train/a/./0.png", encode(pixels(999)))
    dataset = import_dataset(source, tmp_path / "out").dataset
    assert sorted(dataset.paths)[:2] == ["train/a/0.png", "train/a/1.png"] and len(dataset) == 8
    assert [(e.path, e.reason) for e in dataset.info.left_out] == [
        ("train/a/0.png", "a later entry of the same name is read")
    ]


@pytest.mark.parametrize("folders", [["FER2013Train", "FER2013Test"], ["fertrain", "fertest"], ["01_train", "02_val"]])
def test_split_folders_that_hold_images_directly_are_no_classes_whatever_else_is_in_their_names(
    folders: list[str],
) -> None:
    with pytest.raises(SourceError, match="Split folders must hold class folders.*hold images directly"):
        sorted_out(images(*folders))
    assert len(sorted_out(images(*folders), "*=class").classes) == 2
