"""Every preprocessing method keeps the promises of the family; then what each one does."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import get_args

import albumentations as A
import numpy as np
import pytest
from numpy.typing import NDArray

from trainables.config import MethodName, TrialConfig
from trainables.dataset.reader import open_dataset
from trainables.errors import PreprocessingError
from trainables.preprocessing.methods import METHODS, CropToFace, evaluation_pipeline, reseed, training_pipeline
from tune.dataset.preview import parse_strengths, preview, preview_sheet

SHAPES = [(48, 48, 1), (48, 48, 3), (40, 56, 1), (64, 37, 3)]
BOX = np.array([10, 8, 30, 36], np.int32)
Image = NDArray[np.uint8]


@pytest.fixture(params=SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def image(request: pytest.FixtureRequest) -> Image:
    """Stripes and a slope, so that every transform shows."""
    height, width, channels = request.param
    y, x, c = np.mgrid[:height, :width, :channels]
    return (40 + 2 * x + y + 20 * c + 30 * (y // 6 % 2)).astype(np.uint8)


def strengths_of(name: str, which: int) -> dict[str, float]:
    """The lowest (0), highest (1) or default (2) strengths of a method."""
    return {strength: limits[which] for strength, limits in METHODS[name].strengths.items()}


# --- the family ---------------------------------------------------------------------------------------------------


def test_the_methods_are_those_a_trial_may_name() -> None:
    assert tuple(METHODS) == get_args(MethodName)
    assert all(name == method.name and method.summary for name, method in METHODS.items())


def test_strengths_are_trial_parameters_with_the_same_default_and_range() -> None:
    for method in METHODS.values():
        for name, (low, high, default) in method.strengths.items():
            field = TrialConfig.model_fields[name]
            limits = {type(limit).__name__: getattr(limit, type(limit).__name__.lower()) for limit in field.metadata}
            assert (limits["Ge"], limits["Le"], field.default) == (low, high, default), name


@pytest.mark.parametrize("which", [0, 1, 2], ids=["lowest", "highest", "default"])
@pytest.mark.parametrize("name", METHODS)
def test_shape_and_dtype_are_kept(name: str, which: int, image: Image) -> None:
    strengths = strengths_of(name, which)
    pipelines = [training_pipeline(name, strengths, image.shape), evaluation_pipeline(name, strengths, image.shape)]
    for pipeline in pipelines:
        for seed in range(3):
            if pipeline is not None:
                reseed(pipeline, (seed,))
                made = pipeline(image=image, face_box=BOX)["image"]
                assert made.shape == image.shape and made.dtype == np.uint8


@pytest.mark.parametrize("name", METHODS)
def test_evaluation_is_deterministic_and_leaves_its_input_alone(name: str, image: Image) -> None:
    pipeline, before = evaluation_pipeline(name, {}, image.shape), image.copy()
    if pipeline is None:
        return
    made = []
    for seed in range(4):
        reseed(pipeline, (seed,))
        made.append(pipeline(image=image, face_box=BOX)["image"])
    assert all(np.array_equal(m, made[0]) for m in made)
    assert not np.array_equal(made[0], image)
    assert np.array_equal(image, before)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "none"])
def test_training_differs_by_seed_and_repeats_for_the_same(name: str, image: Image) -> None:
    pipeline = training_pipeline(name, {}, image.shape)

    def stream(seed: tuple[int, ...]) -> Image:
        reseed(pipeline, seed)
        return np.stack([pipeline(image=image, face_box=BOX)["image"] for _ in range(16)])

    first, other, again = stream((1, 2, 3)), stream((1, 2, 4)), stream((1, 2, 3))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "none"])
def test_a_pickled_copy_takes_fresh_randomness_through_reseed(name: str, image: Image) -> None:
    pipeline = training_pipeline(name, {}, image.shape)
    copies = [pickle.loads(pickle.dumps(pipeline)) for _ in range(3)]
    streams = []
    for copy, seed in zip(copies, (7, 7, 8), strict=True):
        reseed(copy, (seed,))
        streams.append(np.stack([copy(image=image, face_box=BOX)["image"] for _ in range(16)]))
    assert np.array_equal(streams[0], streams[1])
    assert not np.array_equal(streams[0], streams[2])


@pytest.mark.parametrize("name", METHODS)
def test_pipelines_survive_albumentations_own_serialisation(name: str, image: Image) -> None:
    training, evaluation = training_pipeline(name, {}, image.shape), evaluation_pipeline(name, {}, image.shape)
    for pipeline in (training, evaluation):
        if pipeline is None:
            continue
        read = A.from_dict(json.loads(json.dumps(A.to_dict(pipeline))))
        for built in (pipeline, read):
            reseed(built, (1,))
        assert np.array_equal(read(image=image, face_box=BOX)["image"], pipeline(image=image, face_box=BOX)["image"])


# --- errors -------------------------------------------------------------------------------------------------------


def test_an_unknown_method_gets_the_nearest_name() -> None:
    with pytest.raises(PreprocessingError, match=r"Unknown preprocessing method 'agument'\. Did you mean 'augment'\?"):
        training_pipeline("agument", {}, (48, 48, 1))


@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan"), float("inf")])
def test_a_strength_out_of_range_is_refused(value: float) -> None:
    with pytest.raises(PreprocessingError, match=r"augment_strength must be 0 to 1\. Received: .*default 0\.5"):
        training_pipeline("augment", {"augment_strength": value}, (48, 48, 1))


def test_two_channels_are_refused() -> None:
    with pytest.raises(PreprocessingError, match=r"1 or 3 channels\. Received: 2\. Convert"):
        evaluation_pipeline("crop", {}, (48, 48, 2))


def test_strengths_of_other_methods_are_ignored() -> None:
    config = TrialConfig(preprocessing="crop", crop_keep=0.5)
    assert training_pipeline("crop", config.model_dump(), (48, 48, 1))[0].height == 24


# --- what each method does ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["none", "shifts", "noise", "augment"])
def test_methods_that_only_augment_evaluate_on_the_image_as_it_is(name: str) -> None:
    assert evaluation_pipeline(name, {}, (48, 48, 1)) is None


@pytest.mark.parametrize(("name", "strengths"), [("crop", {"crop_keep": 1.0}), ("augment", {"augment_strength": 0.0})])
def test_the_weakest_strength_leaves_the_pixels_alone(name: str, strengths: dict[str, float], image: Image) -> None:
    pipeline = training_pipeline(name, strengths, image.shape)
    made = pipeline(image=image)["image"]
    assert np.array_equal(made, image) or np.array_equal(made, image[:, ::-1])
    assert evaluation_pipeline(name, strengths, image.shape) is None


def test_flipping_and_erasing_are_independent_draws() -> None:
    image = np.tile(np.arange(0, 192, 4, dtype=np.uint8)[None, :, None], (48, 1, 1))
    pipeline = training_pipeline("augment", {"augment_strength": 1}, image.shape)
    pipeline.transforms.pop(1)  # without the affine, a flip and an erased patch are plain to see
    flipped, erased = np.zeros(300, bool), np.zeros(300, bool)
    for seed in range(300):
        reseed(pipeline, (seed,))
        made = pipeline(image=image)["image"][:, :, 0]
        flipped[seed] = np.median(made[:, 0]) > np.median(made[:, -1])
        erased[seed] = (made != np.median(made, axis=0)).any()
    assert 0.4 < flipped.mean() < 0.6
    assert abs(erased[flipped].mean() - erased[~flipped].mean()) < 0.2


def test_shifts_repeat_the_edge_instead_of_mirroring_it() -> None:
    image = np.zeros((48, 48, 1), np.uint8)
    image[:, 4:8] = 255  # a bright bar near the edge would appear twice if mirrored
    pipeline = training_pipeline("shifts", {"shift_limit": 0.5}, image.shape)
    reseed(pipeline, (0,))
    for _ in range(50):
        row = pipeline(image=image)["image"][24, :, 0] > 127
        assert np.diff(np.flatnonzero(row)).max(initial=1) == 1, "one bar, or none"


@pytest.mark.parametrize("box", [None, [-1, -1, -1, -1], np.full(4, -1, np.int32)])
def test_without_a_box_face_keeps_the_frame(box: object, image: Image) -> None:
    pipeline = evaluation_pipeline("face", {}, image.shape)
    assert pipeline is not None
    assert np.array_equal(pipeline(image=image, face_box=box)["image"], image)


@pytest.mark.parametrize(
    ("box", "margin", "crop"),
    [
        ((10, 10, 30, 30), 0.0, (10, 10, 20, 20)),
        ((10, 10, 30, 30), 0.2, (6, 6, 28, 28)),
        ((10, 5, 20, 35), 0.0, (0, 5, 30, 30)),  # a square frame gives a square crop, moved inside it
        ((0, 0, 20, 20), 0.2, (0, 0, 28, 28)),
        ((4, 4, 44, 44), 1.0, (0, 0, 48, 48)),
    ],
)
def test_the_crop_holds_the_box_and_its_margin(
    box: tuple[int, ...], margin: float, crop: tuple[int, int, int, int]
) -> None:
    found = CropToFace(margin).get_params_dependent_on_data({"shape": (48, 48, 1)}, {"face_box": box})
    assert found == {"crop": crop}


# --- the preview --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_the_preview_shows_every_method(name: str, faces: Path) -> None:
    sheet = preview_sheet(open_dataset(faces), name, {}, variants=2)
    assert sheet.dtype == np.uint8 and sheet.shape == (60 + 7 * 100, 130 + 4 * 100, 3)
    original, variant = sheet[60:756, 130:226], sheet[60:756, 330:426]
    assert np.array_equal(original, variant) == (name == "none")


def test_the_preview_is_a_png_and_repeats_for_the_same_seed(faces: Path, tmp_path: Path) -> None:
    one, again, other = (
        preview(open_dataset(faces), "augment", {}, tmp_path / f"{i}.png", seed=s) for i, s in enumerate((1, 1, 2))
    )
    assert one.read_bytes().startswith(b"\x89PNG")
    assert one.read_bytes() == again.read_bytes() != other.read_bytes()


def test_settings_of_the_preview_are_read_and_checked() -> None:
    assert parse_strengths("augment", ["augment_strength=0.8"]) == {"augment_strength": 0.8}
    with pytest.raises(PreprocessingError, match=r"no strength 'augment_strngth'\. Did you mean 'augment_strength'"):
        parse_strengths("augment", ["augment_strngth=1"])
    with pytest.raises(PreprocessingError, match=r"no strength 'crop_keep'\. It has none\."):
        parse_strengths("none", ["crop_keep=1"])
    with pytest.raises(PreprocessingError, match=r"must be a number\. Received: 'crop_keep=x'\. Try crop_keep=0\.9"):
        parse_strengths("crop", ["crop_keep=x"])


@pytest.mark.parametrize("shape", [(48, 2, 1), (20, 500, 3)])
def test_augment_bears_very_oblong_images(shape: tuple[int, int, int]) -> None:
    pipeline = training_pipeline("augment", {"augment_strength": 1.0}, shape)
    for _ in range(20):
        assert pipeline(image=np.zeros(shape, np.uint8))["image"].shape == shape
