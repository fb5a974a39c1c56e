"""`emotune predict`, `evaluate` and `verify` over a real export: folders, zips, standard input, broken images."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.support.checkpoints import write_checkpoint
from tests.support.fixtures_study import emotune
from trainables.dataset.face_boxes import detect_face
from trainables.dataset.folds import test_rows as rows_of_test
from trainables.dataset.reader import Dataset, open_dataset
from tune.errors import DatasetError, ExportError, ImageError
from tune.export.export import export_checkpoint
from tune.export.sealed_test import evaluate_sealed

# Keras 3.15.1 reads its own variables with numpy.array(variable), which numpy 2 deprecates for their __array__.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")


@pytest.fixture(scope="module")
def dataset(faces: Path) -> Dataset:
    return open_dataset(faces)


@pytest.fixture(scope="module")
def study(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an export in it, as a study's has."""
    root = tmp_path_factory.mktemp("study")
    checkpoint = write_checkpoint(root / "checkpoint", dataset, preprocessing="crop")
    sealed = evaluate_sealed(checkpoint, dataset)
    formats = ["keras", "saved_model"]
    export_checkpoint(checkpoint, dataset, root / "export", study_yaml="", selection={}, sealed=sealed, formats=formats)
    return root


@pytest.fixture
def pictures(dataset: Dataset, tmp_path: Path) -> Path:
    """A folder of three pictures, one of them broken, and a file that is none."""
    folder = tmp_path / "pictures"
    (folder / "below").mkdir(parents=True)
    cv2.imwrite(str(folder / "0.png"), dataset.image(0))
    cv2.imwrite(str(folder / "below" / "1.png"), dataset.image(1))
    (folder / "broken.png").write_bytes((folder / "0.png").read_bytes()[:60])
    (folder / "notes.txt").write_text("no picture")
    return folder


def run(*words: object) -> int:
    """Returns the exit code that a shell would see."""
    import typer

    try:
        return emotune(*words)
    except typer.Exit as end:
        return end.exit_code


@pytest.mark.slow
def test_a_broken_picture_among_others_is_named_at_the_end_and_costs_no_answer(
    study: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("predict", study / "export", pictures, "--json") == 1
    shown = capsys.readouterr()
    answers = [json.loads(line) for line in shown.out.splitlines()]
    assert [answer["path"] for answer in answers] == [str(pictures / "0.png"), str(pictures / "below/1.png")]
    assert f"not read: {pictures}/broken.png: damaged" in shown.err
    assert "error: 1 of 3 images could not be read" in shown.err

    empty = pictures.parent / "empty.png"
    empty.touch()
    assert run("predict", study / "export", empty, pictures / "0.png", "--json") == 1
    shown = capsys.readouterr()
    assert [json.loads(line)["path"] for line in shown.out.splitlines()] == [str(pictures / "0.png")]
    assert f"not read: {empty}: an empty file" in shown.err
    assert run("predict", study / "export", empty, pictures / "broken.png") == 2  # there is no answer at all
    assert "error: 2 of 2 images could not be read" in capsys.readouterr().err

    archive, gone = pictures.parent / "cut.zip", pictures.parent / "gone.png"
    archive.write_bytes(b"PK no zip")
    assert run("predict", study / "export", gone, pictures / "0.png", archive, pictures / "below", "--json") == 1
    shown = capsys.readouterr()
    answers = [json.loads(line)["path"] for line in shown.out.splitlines()]
    assert answers == [str(pictures / "0.png"), str(pictures / "below/1.png")]
    assert f"not read: {gone}: An image must exist." in shown.err and f"not read: {archive}: " in shown.err
    with pytest.raises(ImageError, match=r"An image must exist\. Received: .*gone\.png"):
        run("predict", study / "export", gone, archive)
    assert run("predict", study / "export", pictures) == 1
    assert f"passed over: {pictures}/notes.txt: no image by name" in capsys.readouterr().err


@pytest.mark.slow
def test_a_folder_a_zip_and_standard_input_get_the_same_answers(
    study: Path, pictures: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (pictures / "broken.png").unlink()
    archive = pictures.parent / "pictures.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        for name in ("0.png", "below/1.png", "notes.txt"):
            zipped.write(pictures / name, name)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((pictures / "0.png").read_bytes())))
    assert run("predict", study, pictures, archive, "-", "--csv") == 0  # a study's folder stands for its export
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row.pop("path") for row in rows] == [
        str(pictures / "0.png"),
        str(pictures / "below/1.png"),
        f"{archive}/0.png",
        f"{archive}/below/1.png",
        "-",
    ]
    assert rows[0] == rows[2] == rows[4] != rows[1] == rows[3]
    assert list(rows[0])[1:] == json.loads((study / "export" / "labels.json").read_text())["classes"]


@pytest.mark.slow
def test_a_large_picture_of_a_small_face_is_told_and_one_of_a_large_face_is_not(
    study: Path, dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    face = next(image for image in map(dataset.image, range(20)) if detect_face(image) is not None)
    frame = np.full((600, 800, 1), 128, np.uint8)
    frame[300:430, 420:550, 0] = cv2.resize(face, (130, 130), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(tmp_path / "far.png"), frame)
    cv2.imwrite(str(tmp_path / "near.png"), cv2.resize(face, (480, 480), interpolation=cv2.INTER_CUBIC))
    cv2.imwrite(str(tmp_path / "own.png"), face)
    assert run("predict", study, tmp_path) == 0
    said = capsys.readouterr().err
    assert "warning: 1 large images hold a small face" in said and "far.png: " in said and "near.png" not in said


@pytest.mark.slow
def test_a_picture_that_was_divided_by_255_is_noticed(
    study: Path, dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cv2.imwrite(str(tmp_path / "divided.png"), (dataset.image(0) / 255).round().astype(np.uint8))
    cv2.imwrite(str(tmp_path / "whole.png"), dataset.image(0))
    assert run("predict", study, tmp_path) == 0
    assert (
        f"warning: 1 of 2 images ({tmp_path / 'divided.png'}) have no pixel above 1 of 255" in capsys.readouterr().err
    )


def test_folders_and_zips_without_pictures_are_named(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as zipped:
        zipped.writestr("notes.txt", "no picture")
    for name in ("none", "none.zip"):
        with pytest.raises(ImageError, match=rf"must hold images\. Received: .*{name}, without one"):
            run("predict", "export", tmp_path / name)


@pytest.mark.slow
def test_evaluate_repeats_the_sealed_test_and_scores_class_folders(
    study: Path, dataset: Dataset, faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = json.loads((study / "export" / "metrics.json").read_text())["test"]
    assert run("evaluate", study, "--data", faces, "--json") == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["confusion"] == recorded["confusion"]
    assert scores["accuracy_interval"] == pytest.approx(recorded["accuracy_interval"])
    assert scores["loss"] == pytest.approx(recorded["loss"], rel=1e-4)
    assert 0 < scores["expected_calibration_error"] < 1

    rows = rows_of_test(dataset)
    for row in rows:
        folder = tmp_path / "labelled" / dataset.info.classes[dataset.labels[row]]
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{row}.png"), dataset.image(row))
    (folder / "cut.png").write_bytes((folder / f"{row}.png").read_bytes()[:60])
    assert run("evaluate", study, "--data", tmp_path / "labelled", "--every-format") == 0
    told, aside = capsys.readouterr()
    assert f"images       {len(rows)}, 1 more not read" in told
    assert f"not read: {folder.name}/cut.png: damaged\n" in aside and "WARN" not in aside
    assert f"saved_model  accuracy {recorded['accuracy']:.4f}, +0.0000 beside the Keras model (95 % interval" in told
    assert f"accuracy     {recorded['accuracy']:.4f} (95 % interval" in told and "calibration  expected error" in told
    (tmp_path / "labelled" / dataset.info.classes[0]).rename(tmp_path / "labelled" / "furious")
    with pytest.raises(DatasetError, match=r"Classes must be the export's: .* Received: furious in"):
        run("evaluate", study, "--data", tmp_path / "labelled")


@pytest.mark.slow
def test_verify_tells_a_whole_export_from_a_changed_one(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("verify", study) == 0
    assert "files are as they were written" in capsys.readouterr().out
    copy = tmp_path / "export"
    shutil.copytree(study / "export", copy)
    (copy / "labels.json").write_text((copy / "labels.json").read_text().replace("happy", "sappy"))
    with pytest.raises(ExportError, match=r"labels\.json is damaged: its SHA-256") as error:
        run("verify", copy)
    assert error.value.exit_code == 2
    (copy / "manifest.json").unlink()
    with pytest.raises(ExportError, match=r"must hold manifest\.json"):
        run("verify", copy)
    (copy / "model_card.md").unlink()  # 0.1 wrote neither
    assert run("verify", copy) == 0
    assert "of a version before manifests" in capsys.readouterr().out
