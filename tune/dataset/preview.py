"""A contact sheet of originals beside what a preprocessing method makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tune.errors import DatasetError, PreprocessingError, nearest
from tune.yaml_values import parse_number

if TYPE_CHECKING:
    from trainables.dataset.reader import Dataset, Pixels

_TILE_PX = 96
_GAP_PX = 4
_MARGIN_PX = 130
_HEADER_PX = 60
_PAPER = 255


def parse_strengths(method: str, settings: Sequence[str]) -> dict[str, float]:
    """Returns the strengths in `NAME=VALUE` settings.

    Raises:
        PreprocessingError: unknown method, a strength it does not have, or a value that is no number.
    """
    from trainables.preprocessing.methods import find_method

    known = find_method(method).strengths
    strengths = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        if name not in known:
            remedy = nearest(name, known) if known else " It has none."
            raise PreprocessingError(f"Method {method!r} has no strength {name!r}.{remedy}")
        try:
            strength, why = parse_number(value), ""
        except ValueError as error:
            strength, why = None, f": {error}"
        if strength is None:
            example = f"{name}={known[name][2]}"
            raise PreprocessingError(f"A strength must be a number. Received: {setting!r}{why}. Try {example}.")
        strengths[name] = float(strength)
    return strengths


def preview(
    dataset: Dataset, method: str, strengths: Mapping[str, float], output: Path, *, variants: int = 8, seed: int = 0
) -> Path:
    """Writes the contact sheet as PNG and returns its path.

    Raises:
        PreprocessingError: unknown method or strength out of range.
        DatasetError: the place cannot be written, or is called otherwise than a PNG.
    """
    import cv2

    from tune.dataset.quality_report import check_png

    check_png(output, "A preview")
    sheet = cv2.cvtColor(preview_sheet(dataset, method, strengths, variants=variants, seed=seed), cv2.COLOR_RGB2BGR)
    try:
        output.write_bytes(cv2.imencode(".png", sheet)[1].tobytes())
    except OSError as error:
        remedy = "Choose another --output."
        raise DatasetError(f"A preview must be writable. Received: {output}: {error.strerror}. {remedy}") from error
    return output


def preview_sheet(
    dataset: Dataset, method: str, strengths: Mapping[str, float], *, variants: int = 8, seed: int = 0
) -> Pixels:
    """Lays out one train image of each class: original, as evaluated, and random training variants.

    Returns:
        uint8, (height, width, 3), RGB.
    """
    import numpy as np

    from trainables.dataset.face_boxes import detect_face
    from trainables.dataset.reader import TRAIN
    from trainables.preprocessing.methods import evaluation_pipeline, find_method, reseed, training_pipeline
    from tune.dataset.lettering import write
    from tune.legible_names import legible_names

    known = find_method(method)
    training = training_pipeline(method, strengths, dataset.info.shape)
    evaluation = evaluation_pipeline(method, strengths, dataset.info.shape)
    reseed(training, (seed,))
    random = np.random.default_rng(seed)

    classes = dataset.info.classes
    step = _TILE_PX + _GAP_PX
    sheet = np.full((_HEADER_PX + len(classes) * step, _MARGIN_PX + (2 + variants) * step, 3), _PAPER, np.uint8)
    values = ", ".join(f"{name} {strengths.get(name, default)}" for name, (_, _, default) in known.strengths.items())
    write(sheet, f"{method}: {known.summary}" + (f" ({values})" if values else ""), 8, 22)
    for column, title in enumerate(("original", "evaluation", "training variants")):
        write(sheet, title, _MARGIN_PX + column * step, _HEADER_PX - 8)

    names, _ = legible_names(classes)
    for label in range(len(classes)):
        top = _HEADER_PX + label * step
        write(sheet, names[label], 8, top + _TILE_PX // 2, width_px=_MARGIN_PX - 16)
        rows = np.flatnonzero((dataset.labels == label) & (dataset.splits == TRAIN))
        if not len(rows):
            continue
        image = dataset.image(int(random.choice(rows)))
        box = detect_face(image) if known.needs_faces else None
        shown = [image, evaluation(image=image, face_box=box)["image"] if evaluation else image]
        shown += [training(image=image, face_box=box)["image"] for _ in range(variants)]
        for column, variant in enumerate(shown):
            left = _MARGIN_PX + column * step
            sheet[top : top + _TILE_PX, left : left + _TILE_PX] = _tile(variant)
    return sheet


def _tile(image: Pixels) -> Pixels:
    import cv2
    import numpy as np

    scale = _TILE_PX / max(image.shape[:2])
    width, height = (max(1, round(side * scale)) for side in image.shape[1::-1])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    tile = np.full((_TILE_PX, _TILE_PX, 3), 200, np.uint8)
    tile[:height, :width] = cv2.resize(image, (width, height), interpolation=method).reshape(height, width, -1)
    return tile
