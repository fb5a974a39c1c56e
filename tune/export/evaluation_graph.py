"""What evaluation does to an image, as Keras operations that give Albumentations' pixels, to the last one.

Centre crops (`crop_graph.py`) and CLAHE of gray images (`clahe_graph.py`), also one after the other. Any other pipeline
has no such operations, nor has a face detector: they lie beside the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tune.export.clahe_graph import equalized
from tune.export.crop_graph import centre_crop

if TYPE_CHECKING:
    import albumentations as A
    import keras

_MOST_PIXELS = 256 * 256
"""Of an image whose histograms are made in the graph: they take 128 bytes a pixel."""


def evaluation_graph(pipeline: A.Compose | None, shape: tuple[int, int, int]) -> keras.Model | None:
    """Returns a pipeline as a model of uint8 pixels, (n, *shape), to uint8 of the same shape.

    None stands for a pipeline that has no such model, or for no pipeline.
    """
    if pipeline is None or pipeline.p < 1:
        return None
    steps, models = list(pipeline.transforms), []
    while steps:
        taken, model = 2, _crop(steps[:2], shape)
        if model is None:
            taken, model = 1, _clahe(steps[0], shape)
        if model is None:
            return None
        models.append(model)
        steps = steps[taken:]
    return _chain(models, shape) if models else None


def _crop(steps: Sequence[Any], shape: tuple[int, int, int]) -> keras.Model | None:
    import albumentations as A
    import cv2

    if [type(step) for step in steps] != [A.CenterCrop, A.Resize]:
        return None
    crop, resize = steps
    if crop.p < 1 or resize.p < 1 or crop.pad_if_needed:
        return None
    if (resize.height, resize.width) != shape[:2] or resize.interpolation != cv2.INTER_LINEAR:
        return None
    return centre_crop((crop.height, crop.width), shape)


def _clahe(step: Any, shape: tuple[int, int, int]) -> keras.Model | None:
    """Of gray images; colours go through L*a*b*, whose rounding has no operations."""
    import albumentations as A

    height, width, channels = shape
    if type(step) is not A.CLAHE or step.p < 1 or channels != 1 or height * width > _MOST_PIXELS:
        return None
    low, high = step.clip_limit
    return equalized(low, tuple(step.tile_grid_size), shape) if low == high else None


def _chain(models: Sequence[keras.Model], shape: tuple[int, int, int]) -> keras.Model:
    import keras

    if len(models) == 1:
        return models[0]
    image = keras.Input(shape, dtype="uint8", name="image")
    x = image
    for place, model in enumerate(models):
        model.name = f"step{place}_{model.name}"  # layers of one model must not share a name
        x = model(x)
    return keras.Model(image, x, name="evaluation")
