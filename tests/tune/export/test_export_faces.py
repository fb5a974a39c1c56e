"""Faces in pictures: found, cut, classified, printed and drawn."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.support.checkpoints import write_checkpoint
from tests.support.fixtures_study import emotune
from trainables.dataset.face_boxes import detect_face, detect_faces
from trainables.dataset.reader import Dataset, open_dataset
from tune.errors import ImageError
from tune.export.export import export_checkpoint
from tune.export.faces import PictureFaces, cut, draw_faces, drawing_paths
from tune.export.predict import Prediction, load_export

PLACES = ((40, 60), (330, 90))  # x, y of the two faces in the picture
SIDE_PX = 150


@pytest.fixture(scope="module")
def export(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, dataset = tmp_path_factory.mktemp("faces"), open_dataset(faces)
    checkpoint = write_checkpoint(root / "checkpoint", dataset, steps=20)
    export_checkpoint(checkpoint, dataset, root / "export", study_yaml="", selection={}, formats=["keras"])
    return root / "export"


@pytest.fixture(scope="module")
def picture(faces: Path) -> np.ndarray:
    """A gray wall of 600 x 300 px with two drawn faces on it."""
    dataset: Dataset = open_dataset(faces)
    found = [row for row in range(80) if detect_face(dataset.image(row)) is not None][:2]
    wall = np.full((300, 600), 128, np.uint8)
    for row, (x, y) in zip(found, PLACES, strict=True):
        face = cv2.resize(dataset.image(row)[..., 0], (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC)
        wall[y : y + SIDE_PX, x : x + SIDE_PX] = face
    return wall


def test_all_faces_of_a_picture_are_found_from_the_left(picture: np.ndarray) -> None:
    boxes = detect_faces(picture[..., None])
    assert len(boxes) == 2
    for (x_min, y_min, x_max, y_max), (x, y) in zip(boxes, PLACES, strict=True):
        assert x - 20 < x_min < (x_min + x_max) / 2 < x_max < x + SIDE_PX + 20
        assert y - 20 < y_min < (y_min + y_max) / 2 < y_max < y + SIDE_PX + 20
    large = cv2.resize(picture, None, fx=5, fy=5, interpolation=cv2.INTER_CUBIC)  # looked at in a smaller copy
    np.testing.assert_allclose(detect_faces(large[..., None]), 5 * np.array(boxes), atol=60)
    assert detect_faces(np.full((90, 90, 1), 7, np.uint8)) == []


@pytest.mark.slow
def test_the_command_prints_a_line_for_each_face_and_draws_them(
    export: Path, picture: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cv2.imwrite(str(tmp_path / "two.png"), picture)
    cv2.imwrite(str(tmp_path / "wall.png"), np.full((100, 100), 90, np.uint8))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG, or not")
    paths = [tmp_path / name for name in ("two.png", "wall.png", "broken.png")]
    assert emotune("predict", export, *paths, "--faces", "--csv", "--draw", tmp_path / "drawn") == 1
    said = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(said.out)))
    boxes = detect_faces(picture[..., None])
    assert [tuple(int(row[edge]) for edge in ("x_min", "y_min", "x_max", "y_max")) for row in rows] == boxes
    expected = load_export(export).predict([cut(picture[..., None], box) for box in boxes])
    assert [row["label"] for row in rows] == [one.label for one in expected]
    assert f"no face: {tmp_path}/wall.png" in said.err and "error: 1 of 3 images could not be read" in said.err
    drawn = np.asarray(Image.open(tmp_path / "drawn/two.png"))
    assert drawn.shape == (300, 600, 3) and (drawn[boxes[0][1], boxes[0][0] + 1] == (9, 105, 200)).all()
    assert {path.name for path in (tmp_path / "drawn").iterdir()} == {"two.png", "wall.png"}

    assert emotune("predict", export, tmp_path / "two.png", "--faces", "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["box"]["x_min"] for line in lines] == [box[0] for box in boxes]
    with pytest.raises(ImageError, match=r"--draw must not replace a file. Received: .*two\.png"):
        emotune("predict", export, tmp_path / "two.png", "--faces", "--draw", tmp_path / "drawn")


def test_a_cut_is_square_with_a_margin_as_far_as_the_picture_reaches() -> None:
    picture = np.zeros((100, 200, 3), np.uint8)
    assert cut(picture, (80, 40, 100, 60)).shape == (24, 24, 3)
    assert cut(picture, (0, 0, 50, 20)).shape == (40, 55, 3)


def test_a_label_at_the_upper_edge_is_inside_the_picture_and_any_name_is_written() -> None:
    prediction = Prediction(None, "\u9ad8\u5174", {"\u9ad8\u5174": 1.0})
    drawn = np.asarray(
        draw_faces(PictureFaces("p", np.zeros((200, 200, 1), np.uint8), [((10, 0, 60, 50), prediction)]))
    )
    assert (drawn[:16, 10:60] == (9, 105, 200)).all(axis=2).mean() > 0.3


def test_drawn_copies_have_names_of_their_own(tmp_path: Path) -> None:
    names = ["a/face.png", "b/face.jpg", "-"]
    assert [path.name for path in drawing_paths(names, tmp_path)] == ["face.png", "face-2.png", "stdin.png"]
    alike = ["a/A.png", "b/a.png", "a-2.png", "c/a.png"]  # the same to some file systems
    assert [path.name for path in drawing_paths(alike, tmp_path)] == ["A.png", "a-2.png", "a-2-2.png", "a-3.png"]
    many = [f"{folder}/{number}.png" for folder in range(20) for number in range(500)]
    assert len(set(drawing_paths(many, tmp_path))) == len(many)  # at once: it took minutes
    (tmp_path / "file").write_text("x")
    with pytest.raises(ImageError, match="--draw must name a folder"):
        drawing_paths(names, tmp_path / "file")
