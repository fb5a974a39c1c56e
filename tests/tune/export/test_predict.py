"""Images of every kind through a real export; every unusable input answered in one line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests import ROOT
from tests.support.checkpoints import write_checkpoint
from trainables.dataset.face_boxes import find_faces
from trainables.dataset.reader import TEST, Dataset
from tune.dataset.synth import write_faces
from tune.errors import ExportError, ImageError
from tune.export.export import export_checkpoint
from tune.export.pictures import find_pictures
from tune.export.predict import Predictor, UnreadPicture, load_export, read_picture
from tune.export.sealed_test import evaluate_sealed

# Keras 3.15.1 reads its own variables with numpy.array(variable), which numpy 2 deprecates for their __array__.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_faces(tmp_path_factory.mktemp("data") / "faces", train_images=84, test_images=42)


@pytest.fixture(scope="module")
def exports(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Returns the export folder of a preprocessing method; made once each."""
    root = tmp_path_factory.mktemp("exports")

    def make(method: str) -> Path:
        if not (root / method).exists():
            if method == "face":
                find_faces(dataset)
            checkpoint = write_checkpoint(root / f"checkpoint-{method}", dataset, preprocessing=method)
            sealed = evaluate_sealed(checkpoint, dataset)
            export_checkpoint(checkpoint, dataset, root / method, study_yaml="", selection={}, sealed=sealed)
        return root / method

    return make


@pytest.fixture(scope="module")
def predictor(exports: Callable[[str], Path]) -> Predictor:
    return load_export(exports("none"))


@pytest.fixture
def png(dataset: Dataset, tmp_path: Path) -> Path:
    cv2.imwrite(str(tmp_path / "im0.png"), dataset.image(0))
    return tmp_path / "im0.png"


@pytest.mark.slow
@pytest.mark.parametrize("method", ["none", "crop", "equalize", "face"])
def test_predictions_repeat_the_test_confusion_that_the_export_recorded(
    method: str, exports: Callable[[str], Path], dataset: Dataset, tmp_path: Path
) -> None:
    loaded = load_export(exports(method))
    rows = np.flatnonzero(dataset.splits == TEST)
    paths = [tmp_path / f"{row}.png" for row in rows]
    for row, path in zip(rows, paths, strict=True):
        cv2.imwrite(str(path), dataset.image(row))
    predictions = loaded.predict(paths)
    assert [prediction.path for prediction in predictions] == paths
    confusion = np.zeros((7, 7), int)
    for row, prediction in zip(rows, predictions, strict=True):
        confusion[dataset.labels[row], loaded.classes.index(prediction.label)] += 1
        assert list(prediction.probabilities) == list(dataset.info.classes)
        assert sum(prediction.probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert prediction.probabilities[prediction.label] == max(prediction.probabilities.values())
    recorded = json.loads((exports(method) / "metrics.json").read_text())["test"]["confusion"]
    assert confusion.tolist() == recorded
    assert np.count_nonzero(confusion.sum(axis=0)) > 1


def test_colour_16_bits_alpha_palette_and_jpeg_are_the_same_face(
    predictor: Predictor, dataset: Dataset, tmp_path: Path
) -> None:
    gray = dataset.image(0)[..., 0]
    cv2.imwrite(str(tmp_path / "gray.png"), gray)
    cv2.imwrite(str(tmp_path / "colour.png"), np.repeat(gray[..., None], 3, axis=2))
    cv2.imwrite(str(tmp_path / "sixteen.png"), gray.astype(np.uint16) * 257)
    cv2.imwrite(str(tmp_path / "sixteen.tiff"), gray.astype(np.uint16) * 257)
    Image.fromarray(gray).convert("RGBA").save(tmp_path / "alpha.png")
    Image.fromarray(gray).convert("P").save(tmp_path / "palette.png")
    Image.fromarray(gray).save(tmp_path / "lossy.jpg", quality=100)
    expected, *others = predictor.predict([tmp_path / "gray.png", *sorted(tmp_path.glob("*"))])
    assert len(others) == 7
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation, of a camera that was held upright
    Image.fromarray(np.rot90(gray)).save(tmp_path / "turned.jpg", quality=100, exif=exif)
    files = sorted(tmp_path.glob("*"))
    pictures = [Image.open(file) for file in files]
    for other in (*others, *predictor.predict(files), *predictor.predict(pictures)):
        assert list(other.probabilities.values()) == pytest.approx(list(expected.probabilities.values()), abs=0.03)
    with pytest.raises(ImageError, match=r"must be readable\. Received: mode F, float32 pixels"):
        predictor.predict(Image.fromarray(gray.astype(np.float32)))


def test_linked_folders_are_looked_into_and_hidden_ones_are_not(tmp_path: Path) -> None:
    for name in ("elsewhere/2024/b.png", "photos/a.png", "photos/.thumbnails/a.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / name), np.zeros((2, 2), np.uint8))
    (tmp_path / "photos/more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos/again").symlink_to(tmp_path / "photos")
    (tmp_path / "photos/gone.png").symlink_to("nowhere.png")
    found, passed_over = find_pictures([tmp_path / "photos"])
    pictures = {picture.name: picture for picture in found}
    assert not passed_over
    assert list(pictures) == [str(tmp_path / "photos" / name) for name in ("a.png", "gone.png", "more/2024/b.png")]
    gone = pictures[str(tmp_path / "photos/gone.png")]
    assert isinstance(read_picture(gone.name, gone.read), UnreadPicture)


@pytest.mark.parametrize("size", [(1, 1), (48, 48), (20, 300), (500, 300)])
def test_images_of_any_size_are_classified(predictor: Predictor, tmp_path: Path, size: tuple[int, int]) -> None:
    cv2.imwrite(str(tmp_path / "any.png"), np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))
    (prediction,) = predictor.predict([tmp_path / "any.png"])
    assert prediction.label in predictor.classes


def test_a_large_photograph_of_a_face_gets_the_faces_answer(
    predictor: Predictor, dataset: Dataset, tmp_path: Path
) -> None:
    face = dataset.image(0)
    cv2.imwrite(str(tmp_path / "large.png"), np.kron(face[..., 0], np.ones((20, 20), np.uint8)))
    cv2.imwrite(str(tmp_path / "small.png"), face)
    large, small = predictor.predict([tmp_path / "large.png", tmp_path / "small.png"])
    assert large.probabilities == pytest.approx(small.probabilities, abs=1e-4)


def test_no_images_give_no_predictions(predictor: Predictor) -> None:
    assert predictor.predict([]) == []


def missing(folder: Path) -> Path:
    return folder / "nowhere.png"


def a_folder(folder: Path) -> Path:
    (folder / "folder").mkdir()
    return folder / "folder"


def empty(folder: Path) -> Path:
    (folder / "empty.png").touch()
    return folder / "empty.png"


def text(folder: Path) -> Path:
    (folder / "text.png").write_text("This is no image.")
    return folder / "text.png"


def cut_short(folder: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (99, 99), dtype=np.uint8)
    data = cv2.imencode(".png", noise)[1].tobytes()
    (folder / "cut.png").write_bytes(data[:60])
    return folder / "cut.png"


def vast(folder: Path) -> Path:
    Image.new("1", (12000, 9000)).save(folder / "vast.png")
    return folder / "vast.png"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (missing, r"An image must exist\. Received: .*nowhere\.png, which does not\. Check the spelling\.$"),
        (a_folder, r"An image must be a file\. Received: .*folder, a folder\. Name the images in it"),
        (empty, r"An image must have content\. Received: .*empty\.png, an empty file\."),
        (text, r"An image must be readable\. Received: .*text\.png: not an image\. Name a PNG"),
        (cut_short, r"An image must be readable\. Received: .*cut\.png: "),
        (vast, r"An image must be readable\. Received: .*vast\.png.*64 megapixels.*; remove it\. Name"),
    ],
)
def test_an_unusable_image_is_named_with_its_remedy(
    predictor: Predictor,
    png: Path,
    tmp_path: Path,
    make: Callable[[Path], Path],
    message: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(ImageError, match=message) as error:
        predictor.predict([png, make(tmp_path)])
    assert "\n" not in str(error.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["labels.json", "preprocessing.json", "model.keras"])
def test_an_export_that_lacks_or_garbles_a_file_is_refused(
    name: str, exports: Callable[[str], Path], tmp_path: Path
) -> None:
    shutil.copytree(exports("none"), tmp_path / "export")
    (tmp_path / "export" / name).write_text("{}")
    with pytest.raises(ExportError, match=rf"{name} is damaged: .* Export the checkpoint again\.$") as error:
        load_export(tmp_path / "export")
    assert "\n" not in str(error.value)
    (tmp_path / "export" / name).unlink()
    with pytest.raises(ExportError, match=rf"An export must hold {name}\. Received: .*export without it\. Name a"):
        load_export(tmp_path / "export")


def test_what_is_no_export_folder_is_refused(png: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ExportError, match=r"must be a folder\. Received: .*nowhere, which does not exist\. Name a folder"
    ):
        load_export(tmp_path / "nowhere")
    with pytest.raises(ExportError, match=r"must be a folder\. Received: .*im0\.png, a file\."):
        load_export(png)
    with pytest.raises(ExportError, match=r"must hold labels\.json"):
        load_export(tmp_path)


def test_labels_that_do_not_fit_the_model_are_refused(exports: Callable[[str], Path], tmp_path: Path) -> None:
    shutil.copytree(exports("none"), tmp_path / "export")
    labels = tmp_path / "export" / "labels.json"
    labels.write_text(labels.read_text().replace('"height_px": 48', '"height_px": 64'))
    for name in ("manifest.json", "model_card.md"):  # as in an export of 0.1
        (tmp_path / "export" / name).unlink()
    with pytest.raises(ExportError, match=r"must fit labels\.json: .*64, 48, 1.*Received: \(\(48, 48, 1\), \(7,\)\)"):
        load_export(tmp_path / "export")
    classes = json.loads(labels.read_text())["classes"]
    for last in (classes[0], ""):
        labels.write_text(json.dumps(json.loads(labels.read_text()) | {"classes": [*classes[:-1], last]}))
        with pytest.raises(ExportError, match=r"labels\.json is damaged: classes.* no two the same"):
            load_export(tmp_path / "export")
    (tmp_path / "export" / "model.keras").write_bytes(b"PK")
    labels.write_text(json.dumps(json.loads(labels.read_text()) | {"classes": classes, "height_px": 48}))
    with pytest.raises(ExportError, match=r"model\.keras is damaged: Not a whole \.keras file"):
        load_export(tmp_path / "export")


def test_tensorflow_says_nothing_in_the_terminal(exports: Callable[[str], Path], png: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tune.export.predict import load_export\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
        "print(load_export(Path(sys.argv[1])).predict([Path(sys.argv[2])])[0].label)"
    )
    command = [sys.executable, "-c", code, str(exports("none")), str(png)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr == ""
    assert done.stdout.strip() in load_export(exports("none")).classes
