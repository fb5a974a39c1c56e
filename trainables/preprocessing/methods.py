"""Preprocessing methods: a name and strengths become Albumentations pipelines. Knows nothing of data sets or batches.

Every pipeline maps uint8 (height, width, channels) to uint8 of the same shape, at the image's own size; channels are 1
or 3. Pixels from beyond the border repeat the edge: a mirrored border would show a second mouth.

A method named in `METHODS` has a training pipeline (random) and an evaluation pipeline (deterministic, exported with
the model); its strengths are fields of `TrialConfig` with the same default. Any other name is a pipeline of the user's
own (`own_pipelines.py`), whose file comes as `code` and whose parameters stand for strengths.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from trainables.config import TrialConfig
from trainables.errors import PreprocessingError, nearest
from trainables.own_code import SourceFile, find_pipeline
from trainables.preprocessing.own_pipelines import may_mirror, own_evaluation, own_training

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # its import would ask the network for a newer version
import albumentations as A  # noqa: E402

cv2.setNumThreads(0)  # one image is too small for threads: processes share the cores

Shape: TypeAlias = tuple[int, int, int]
Strength: TypeAlias = bool | int | float | str
Code: TypeAlias = Mapping[str, SourceFile]
NO_CODE: Code = MappingProxyType({})
Steps: TypeAlias = Callable[[Mapping[str, float], Shape], list[A.BasicTransform]]


@dataclass(frozen=True)
class Method:
    """A preprocessing method; `training` and `evaluation` list the transforms for strengths and an image shape."""

    name: str
    summary: str
    strengths: dict[str, tuple[float, float, float]]  # name: (lowest, highest, default)
    needs_faces: bool
    training: Steps
    evaluation: Steps


class CropToFace(A.ImageOnlyTransform):  # type: ignore[misc]
    """Crops to the face box plus a margin and resizes back; without a box it keeps the whole frame.

    The box comes with each call, `pipeline(image=image, face_box=box)`: x_min, y_min, x_max, y_max in pixels, upper
    bounds excluded; None or negative numbers mean that no face was found. The crop keeps the image's proportions and
    is moved inside the frame where it would leave it.

    Args:
        margin: added on every side, as a share of the box's longer side.
        p: probability of applying it.
    """

    @classmethod
    def get_class_fullname(cls) -> str:
        """Returns the name under which exports hold it since 0.1, wherever it stands."""
        return "trainables.preprocess.CropToFace"

    def __init__(self, margin: float = 0.2, p: float = 1.0) -> None:
        super().__init__(p=p)
        self.margin = margin

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Returns the crop as x, y, width, height in pixels."""
        height, width = params["shape"][:2]
        box = data.get("face_box")
        if box is None or int(box[0]) < 0:
            return {"crop": (0, 0, width, height)}
        x_min, y_min, x_max, y_max = (int(edge) for edge in box)
        border = self.margin * max(x_max - x_min, y_max - y_min)
        share = min(1.0, max((x_max - x_min + 2 * border) / width, (y_max - y_min + 2 * border) / height))
        crop_width, crop_height = max(1, round(share * width)), max(1, round(share * height))
        x = min(max(round((x_min + x_max - crop_width) / 2), 0), width - crop_width)
        y = min(max(round((y_min + y_max - crop_height) / 2), 0), height - crop_height)
        return {"crop": (x, y, crop_width, crop_height)}

    def apply(self, img: NDArray[np.uint8], *args: Any, crop: tuple[int, int, int, int], **params: Any) -> Any:
        """Returns the crop at the size of the image: uint8 (height, width, channels)."""
        x, y, width, height = crop
        if (height, width) == img.shape[:2]:
            return img
        part = np.ascontiguousarray(img[y : y + height, x : x + width])
        return cv2.resize(part, img.shape[1::-1], interpolation=cv2.INTER_LINEAR).reshape(img.shape)


def _nothing(strengths: Mapping[str, float], shape: Shape) -> list[A.BasicTransform]:
    return []


def _flip(p: float = 0.5) -> A.BasicTransform:
    return A.HorizontalFlip(p=p)


def _affine(shift: float, rotate_degrees: float = 0, scale: float = 0) -> A.BasicTransform:
    return A.Affine(
        translate_percent={"x": (-shift, shift), "y": (-shift, shift)},
        rotate=(-rotate_degrees, rotate_degrees),
        scale=(1 - scale, 1 + scale),
        border_mode=cv2.BORDER_REPLICATE,
        p=1,
    )


def _shifts(strengths: Mapping[str, float], shape: Shape) -> list[A.BasicTransform]:
    return [_flip(), _affine(strengths["shift_limit"])]


def _crop(cropper: type[A.BasicTransform]) -> Steps:
    def steps(strengths: Mapping[str, float], shape: Shape) -> list[A.BasicTransform]:
        height, width = (max(1, round(strengths["crop_keep"] * side)) for side in shape[:2])
        if (height, width) == shape[:2]:
            return []
        return [cropper(height, width, p=1), A.Resize(*shape[:2], p=1)]

    return steps


def _noise(strengths: Mapping[str, float], shape: Shape) -> list[A.BasicTransform]:
    return [A.GaussNoise(std_range=(strengths["noise_std"],) * 2, p=1)]


def _equalize(strengths: Mapping[str, float], shape: Shape) -> list[A.BasicTransform]:
    # The usual 8 x 8 tiles would be 6 px wide on a 48 px face and turn skin into noise.
    return [A.CLAHE(clip_limit=(strengths["clip_limit"],) * 2, tile_grid_size=(4, 4), p=1)]


def _augment(strengths: Mapping[str, float], shape: Shape) -> list[A.BasicTransform]:
    strength = strengths["augment_strength"]
    if strength == 0:
        return []
    steps = [_flip(p=min(0.5, strength)), _affine(0.2 * strength, 15 * strength, 0.2 * strength)]
    if min(shape[:2]) * 4 >= max(shape[:2]):  # Albumentations 2.0.8 finds no hole in very oblong images, and fails
        steps.append(A.Erasing(scale=(0.02, 0.02 + 0.2 * strength), fill="random_uniform", p=0.5 * strength))
    return steps


def _face(strengths: Mapping[str, float], shape: Shape) -> list[A.BasicTransform]:
    return [CropToFace(strengths["face_margin"])]


def _then_flip(steps: Steps) -> Steps:
    return lambda strengths, shape: [*steps(strengths, shape), _flip()]


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("none", "the image as it is", {}, False, _nothing, _nothing),
        Method("shifts", "random shifts and flip", {"shift_limit": (0, 0.5, 0.1)}, False, _shifts, _nothing),
        Method(
            "crop",
            "random crop, resized back, and flip; evaluates on the centre crop",
            {"crop_keep": (0.5, 1, 0.9)},
            False,
            _then_flip(_crop(A.RandomCrop)),
            _crop(A.CenterCrop),
        ),
        Method("noise", "Gaussian noise", {"noise_std": (0, 0.5, 0.05)}, False, _noise, _nothing),
        Method(
            "equalize",
            "local contrast equalisation (CLAHE), in evaluation too; flip",
            {"clip_limit": (1, 10, 2.0)},
            False,
            _then_flip(_equalize),
            _equalize,
        ),
        Method(
            "augment",
            "flip, shift, rotate, scale and erase, all by one strength",
            {"augment_strength": (0, 1, 0.5)},
            False,
            _augment,
            _nothing,
        ),
        Method(
            "face",
            "crop to the detected face, in evaluation too; flip",
            {"face_margin": (0, 1, 0.2)},
            True,
            _then_flip(_face),
            _face,
        ),
    )
}


def find_method(name: str) -> Method:
    """Returns the method of that name.

    Raises:
        PreprocessingError: there is none.
    """
    if name not in METHODS:
        raise PreprocessingError(f"Unknown preprocessing method {name!r}.{nearest(name, METHODS)}")
    return METHODS[name]


def is_own(name: str) -> bool:
    """Says whether a name is that of a pipeline of the user's own."""
    return name not in METHODS and find_pipeline(name) is not None


def needs_faces(name: str) -> bool:
    """Says whether a method crops to faces, so that their boxes must have been found; errors as in `find_method`."""
    return not is_own(name) and find_method(name).needs_faces


def strengths_of(config: TrialConfig) -> dict[str, Strength]:
    """Returns the strengths of a trial's method, or the parameters of its own pipeline."""
    if is_own(config.preprocessing):
        return dict(config.preprocessing_parameters)
    return {name: getattr(config, name) for name in find_method(config.preprocessing).strengths}


def training_pipeline(name: str, strengths: Mapping[str, Any], shape: Shape, code: Code = NO_CODE) -> A.Compose:
    """Returns the random pipeline of a method; give it a stream of its own with `reseed`.

    Args:
        name: a key of `METHODS`, or a pipeline of the user's own.
        strengths: values by strength; what the method does not know is ignored, what is missing takes its default.
        shape: height and width in px, channels (1 or 3).
        code: the files of the user's own.

    Raises:
        PreprocessingError: unknown method, strength out of range, or neither 1 nor 3 channels.
        OwnCodeError: a pipeline of the user's own cannot be built.
    """
    if is_own(name):
        return own_training(name, strengths, shape, code)
    method = find_method(name)
    return _compose(method.training, method, strengths, shape)


def evaluation_pipeline(
    name: str, strengths: Mapping[str, Any], shape: Shape, code: Code = NO_CODE
) -> A.Compose | None:
    """Returns the deterministic pipeline of a method, or None where evaluation takes the image as it is.

    `A.to_dict` and `A.from_dict` carry it into an export and back. Arguments and errors as in `training_pipeline`.
    """
    if is_own(name):
        pipeline = own_evaluation(name, strengths, shape, code)
        return pipeline if pipeline is not None and pipeline.transforms else None
    method = find_method(name)
    pipeline = _compose(method.evaluation, method, strengths, shape)
    return pipeline if pipeline.transforms else None


def mirrors(name: str, strengths: Mapping[str, Any], shape: Shape, code: Code = NO_CODE) -> bool:
    """Says whether a method mirrors images in training; arguments and errors as in `training_pipeline`."""
    return may_mirror(training_pipeline(name, strengths, shape, code))


def averages_mirror(config: TrialConfig, shape: Shape) -> bool:
    """Says whether a trial's predictions are the mean over image and mirror: where it has been trained on both."""
    return config.mirror and mirrors(config.preprocessing, strengths_of(config), shape, config.code)


def reseed(pipeline: A.Compose, seed: tuple[int, ...]) -> None:
    """Starts the pipeline's random stream anew; the same seed repeats the same images.

    Args:
        pipeline: changed in place.
        seed: non-negative integers, for instance (study seed, trial, epoch, chunk).
    """
    # Albumentations 2.0.8: set_random_seed hands every transform a stream of its own from the same seed, so that flip
    # and erasing draw the same number. One shared stream keeps them independent.
    words = np.random.SeedSequence(seed).generate_state(4)
    pipeline.set_random_state(np.random.default_rng(words), random.Random(words.tobytes()))


def _compose(steps: Steps, method: Method, strengths: Mapping[str, float], shape: Shape) -> A.Compose:
    if shape[2] not in (1, 3):
        raise PreprocessingError(f"Images must have 1 or 3 channels. Received: {shape[2]}. Convert them to RGB first.")
    values = {}
    for name, (low, high, default) in method.strengths.items():
        values[name] = strengths.get(name, default)
        if not low <= values[name] <= high:
            remedy = f"Choose a value in that range (default {default})."
            raise PreprocessingError(f"{name} must be {low} to {high}. Received: {values[name]}. {remedy}")
    return A.Compose(steps(values, shape))
