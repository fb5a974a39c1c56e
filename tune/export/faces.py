"""Finds the faces in pictures, has each classified, and draws what was found. Knows nothing of data sets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from trainables.dataset.face_boxes import Box, detect_faces
from trainables.dataset.reader import Pixels
from tune.errors import ImageError
from tune.export.predict import Prediction, Predictor, UnreadPicture, read_picture
from tune.legible_names import font_file, legible_names
from tune.sources.decoding import silence_decoders

MARGIN = 0.1
"""Around a face's box on each side, share of its longer side: FER-2013's own faces are cut about so."""

_INK, _PAPER = (255, 255, 255), (9, 105, 200)


@dataclass(frozen=True)
class PictureFaces:
    """What was found in a picture.

    Attributes:
        name: of its file.
        picture: uint8, (height, width, 1 or 3), RGB.
        faces: box in pixels of the picture, and what the model says of it, from the left; none where no face is.
    """

    name: str
    picture: Pixels
    faces: Sequence[tuple[Box, Prediction]]


def predict_faces(
    predictor: Predictor, pictures: Iterable[tuple[str, Callable[[], bytes]]]
) -> Iterator[PictureFaces | UnreadPicture]:
    """Finds and classifies the faces of pictures, one picture after another; goes on after one that cannot be read.

    Args:
        predictor: an export, loaded.
        pictures: a name, and what returns the file's content.
    """
    for name, read in pictures:
        with silence_decoders():
            picture = read_picture(name, read)
        if isinstance(picture, UnreadPicture):
            yield picture
            continue
        boxes = detect_faces(picture)
        predictions = predictor.predict([cut(picture, box) for box in boxes]) if boxes else []
        yield PictureFaces(name, picture, list(zip(boxes, predictions, strict=True)))


def cut(picture: Pixels, box: Box) -> Pixels:
    """Returns the square around a face with its margin, as far as the picture reaches."""
    x_min, y_min, x_max, y_max = box
    half = max(x_max - x_min, y_max - y_min) * (0.5 + MARGIN)
    x, y = (x_min + x_max) / 2, (y_min + y_max) / 2
    top, left = max(0, round(y - half)), max(0, round(x - half))
    return np.ascontiguousarray(picture[top : round(y + half), left : round(x + half)])


def draw_faces(found: PictureFaces) -> Image.Image:
    """Returns a copy of the picture with each face's box, label and probability."""
    gray = found.picture.shape[2] == 1
    drawn = Image.fromarray(found.picture[..., 0] if gray else found.picture).convert("RGB")
    pen, longest = ImageDraw.Draw(drawn), max(drawn.size)
    font = ImageFont.truetype(font_file(), max(10, longest // 50))
    for (x_min, y_min, x_max, y_max), prediction in found.faces:
        [label], _ = legible_names([prediction.label])
        text = f"{label} {prediction.probabilities[prediction.label]:.0%}"
        pen.rectangle((x_min, y_min, x_max - 1, y_max - 1), outline=_PAPER, width=max(1, longest // 400))
        left, top, right, bottom = pen.textbbox((x_min, y_min), text, font=font, anchor="lb")
        below = max(0, -top)  # a face at the upper edge has its label inside the picture
        pen.rectangle((left, top + below, right, bottom + below), fill=_PAPER)
        pen.text((x_min, y_min + below), text, fill=_INK, font=font, anchor="lb")
    return drawn


def drawing_paths(names: Sequence[str], folder: Path) -> list[Path]:
    """Returns where the drawn copy of each picture goes: its name with `.png`, numbered where two have the same.

    Raises:
        ImageError: the folder is a file, or holds a file of such a name.
    """
    if folder.exists() and not folder.is_dir():
        raise ImageError(f"--draw must name a folder. Received: {folder}, a file. Name another.")
    paths: list[Path] = []
    taken, numbers = set[str](), dict[str, int]()  # in lower case: some file systems know no other
    for name in names:
        stem = "stdin" if name == "-" else Path(name).stem
        file, number = f"{stem}.png", numbers.get(stem.casefold(), 1)
        while file.casefold() in taken:
            number += 1
            file = f"{stem}-{number}.png"
        taken.add(file.casefold())
        numbers[stem.casefold()] = number
        paths.append(folder / file)
    there = next((path for path in paths if path.exists()), None)
    if there is not None:
        raise ImageError(f"--draw must not replace a file. Received: {there}, which exists. Name another folder.")
    return paths
