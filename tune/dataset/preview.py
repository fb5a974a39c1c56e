"""A contact sheet of originals beside what a preprocessing method makes of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tune.errors import DatasetError, PreprocessingError, nearest
from tune.yaml_values import parse, parse_number

if TYPE_CHECKING:
    from trainables.dataset.reader import Dataset, Pixels
    from trainables.preprocessing.methods import Code, Strength

_TILE_PX = 96
_GAP_PX = 4
_MARGIN_PX = 130
_HEADER_PX = 60
_PAPER = 255


def parse_strengths(method: str, settings: Sequence[str], code: Code | None = None) -> dict[str, Strength]:
    """Returns the strengths in `NAME=VALUE` settings, or the parameters of a pipeline of the user's own.

    Raises:
        PreprocessingError: unknown method, a strength it does not have, or a value that is no number.
        OwnCodeError: the user's function breaks the contract.
    """
    from trainables.preprocessing.methods import find_method, is_own

    if is_own(method):
        return _own_parameters(method, settings, code or {})
    known = find_method(method).strengths
    strengths: dict[str, Strength] = {}
    for setting, name, value in _named(settings, known, f"Method {method!r} has no strength"):
        try:
            strength, why = parse_number(value), ""
        except ValueError as error:
            strength, why = None, f": {error}"
        if strength is None:
            example = f"{name}={known[name][2]}"
            raise PreprocessingError(f"A strength must be a number. Received: {setting!r}{why}. Try {example}.")
        strengths[name] = float(strength)
    return strengths


def _named(settings: Sequence[str], known: Iterable[str], has_none: str) -> Iterator[tuple[str, str, str]]:
    """Yields each setting whole, its name, and its value's text; refuses names that are not known."""
    names = sorted(known)
    for setting in settings:
        name, _, text = setting.partition("=")
        if name not in names:
            remedy = nearest(name, names) if names else " It has none."
            raise PreprocessingError(f"{has_none} {name!r}.{remedy}")
        yield setting, name, text


def _own_parameters(method: str, settings: Sequence[str], code: Code) -> dict[str, Strength]:
    from trainables.own_code import source_of
    from trainables.own_signature import pipeline_parameters

    reference, source = source_of(method, code)
    known = pipeline_parameters(source.text, reference.file, reference.function)
    chosen: dict[str, Strength] = {}
    for _, name, text in _named(settings, known, f"{method} has no parameter"):
        try:
            value = text if known[name].kind == "text" else parse(text)
        except (yaml.YAMLError, ValueError):
            value = text
        wanted = known[name].rejects(value)
        if wanted:
            raise PreprocessingError(f"{name} must be {wanted}, as {method} has it. Received: {text!r}. Change it.")
        chosen[name] = value
    return chosen


def preview(
    dataset: Dataset,
    method: str,
    strengths: Mapping[str, Any],
    output: Path,
    *,
    variants: int = 8,
    seed: int = 0,
    code: Code | None = None,
) -> Path:
    """Writes the contact sheet as PNG and returns its path.

    Raises:
        PreprocessingError: unknown method or strength out of range.
        OwnCodeError: a pipeline of the user's own, whose file is in `code`, breaks the contract.
        DatasetError: the place cannot be written, or is called otherwise than a PNG.
    """
    import cv2

    from tune.dataset.quality_report import check_png

    check_png(output, "A preview")
    sheet = cv2.cvtColor(
        preview_sheet(dataset, method, strengths, variants=variants, seed=seed, code=code), cv2.COLOR_RGB2BGR
    )
    try:
        output.write_bytes(cv2.imencode(".png", sheet)[1].tobytes())
    except OSError as error:
        remedy = "Choose another --output."
        raise DatasetError(f"A preview must be writable. Received: {output}: {error.strerror}. {remedy}") from error
    return output


def preview_sheet(
    dataset: Dataset,
    method: str,
    strengths: Mapping[str, Any],
    *,
    variants: int = 8,
    seed: int = 0,
    code: Code | None = None,
) -> Pixels:
    """Lays out one train image of each class: original, as evaluated, and random training variants.

    Returns:
        uint8, (height, width, 3), RGB.
    """
    import numpy as np

    from trainables.dataset.face_boxes import detect_face
    from trainables.dataset.reader import TRAIN
    from trainables.preprocessing.methods import (
        evaluation_pipeline,
        is_own,
        needs_faces,
        reseed,
        training_pipeline,
    )
    from trainables.preprocessing.own_pipelines import process
    from tune.dataset.contact_sheet import tile, write
    from tune.legible_names import legible_names

    training = training_pipeline(method, strengths, dataset.info.shape, code or {})
    evaluation = evaluation_pipeline(method, strengths, dataset.info.shape, code or {})
    own = method if is_own(method) else ""
    reseed(training, (seed,))
    random = np.random.default_rng(seed)

    classes = dataset.info.classes
    step = _TILE_PX + _GAP_PX
    sheet = np.full((_HEADER_PX + len(classes) * step, _MARGIN_PX + (2 + variants) * step, 3), _PAPER, np.uint8)
    write(sheet, _title(method, strengths), 8, 22)
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
        box = {"face_box": detect_face(image)} if needs_faces(method) else {}
        shown = [image, process(evaluation, image, own, **box) if evaluation else image]
        shown += [process(training, image, own, **box) for _ in range(variants)]
        for column, variant in enumerate(shown):
            left = _MARGIN_PX + column * step
            sheet[top : top + _TILE_PX, left : left + _TILE_PX] = tile(variant, _TILE_PX)
    return sheet


def _title(method: str, strengths: Mapping[str, Any]) -> str:
    from trainables.preprocessing.methods import find_method, is_own

    if is_own(method):
        summary, shown = "a pipeline of your own", dict(strengths)
    else:
        known = find_method(method)
        summary, defaults = known.summary, {name: default for name, (_, _, default) in known.strengths.items()}
        shown = {name: strengths.get(name, default) for name, default in defaults.items()}
    values = ", ".join(f"{name} {value}" for name, value in shown.items())
    return f"{method}: {summary}" + (f" ({values})" if values else "")
