"""Pipelines of the user's own: what they do, and what the check finds before anything starts, each told in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import albumentations as A
import numpy as np
import pytest
import yaml

from tests.support.own_pipelines import OWN_PIPELINE, own_config, saved_pipeline
from trainables.dataset.reader import TRAIN, Dataset, open_dataset
from trainables.errors import OwnCodeError
from trainables.preprocessing import own_check
from trainables.preprocessing.feed import Feed
from trainables.preprocessing.methods import averages_mirror, evaluation_pipeline, strengths_of, training_pipeline
from tune.dataset.preview import preview_sheet

SHAPE = (48, 48, 1)
OWN = "my_aug.py:training"
HEAD = "import albumentations as A\nimport random\n\n"


def check(name: str, text: str, folder: Path, **parameters: Any) -> dict[str, Any]:
    """Asks what the process of a check is asked, in this process."""
    return own_check.check_pipeline(
        {"config": own_config(name, text, **parameters).model_dump(), "shape": SHAPE}, folder
    )


def training(body: str) -> tuple[str, str]:
    return OWN, f"{HEAD}def training() -> A.Compose:\n    {body}\n"


def with_evaluation(body: str) -> tuple[str, str]:
    return OWN, f"{HEAD}def training(): return A.Compose([])\ndef evaluation():\n    {body}\n"


BROKEN = {
    "a file that names another class": (
        ("m.yaml", "transform: {__class_fullname__: os.system, command: 'touch owned'}"),
        r"^m\.yaml may name transforms of Albumentations only\. Received: 'os\.system'\. Put it into a Python file",
    ),
    "a file whose YAML calls a function": (
        ("m.yaml", "transform: !!python/object/apply:os.system ['touch owned']"),
        r"^m\.yaml must be as albumentations\.save writes it\. Received: could not determine a constructor",
    ),
    "a class of emotune's own": (
        ("m.json", '{"transform": {"__class_fullname__": "trainables.preprocess.CropToFace", "p": 1.0}}'),
        r"transforms of Albumentations only\. Received: 'trainables\.preprocess\.CropToFace'",
    ),
    "another class within a composition": (
        ("m.yaml", "transform: {__class_fullname__: OneOf, p: 1, transforms: [{__class_fullname__: os.getcwd}]}"),
        r"Received: 'os\.getcwd'",
    ),
    "a name that is spelt wrong": (
        ("m.yaml", "transform: {__class_fullname__: HorizontalFlp, p: 0.5}"),
        r"Received: 'HorizontalFlp'\. Did you mean 'HorizontalFlip'\?",
    ),
    "an argument that a transform does not have": (
        ("m.yaml", "transform: {__class_fullname__: HorizontalFlip, p: 0.5, strength: 3}"),
        r"^m\.yaml: HorizontalFlip must have the arguments that albumentations\.save writes\. Received: strength\. K",
    ),
    "a file without an end": (
        ("m.yaml", "transform: &a {__class_fullname__: Compose, transforms: [*a, *a, *a]}"),
        r"^m\.yaml must have at most 1,000 transforms\. Received: more, or one within itself",
    ),
    "transforms that are no list": (
        ("m.yaml", "transform: {__class_fullname__: Compose, transforms: {}}"),
        r"^m\.yaml: transforms must be a list\. Received: {}",
    ),
    "a file that is no pipeline": (("m.json", '{"p": 1}'), r"Received: no `transform` in it\. Save it anew"),
    "a file that is no JSON": (("m.json", "{"), r"^m\.json must be as albumentations\.save writes it"),
    "another shape": (
        ("m.json", saved_pipeline(A.RandomCrop(32, 40))),
        r"images as it gets them, uint8 \(48, 48, 1\)\. Received: uint8 \(32, 40, 1\)\. End with A\.Resize\(48, 48\)",
    ),
    "another type": (("m.json", saved_pipeline(A.Normalize(p=0.2))), r"Received: float32 \(48, 48, 1\)"),
    "a crop that is larger than the images": (
        ("m.json", saved_pipeline(A.RandomCrop(64, 64))),
        r"^m\.json cannot take an image of uint8 \(48, 48, 1\): CropSizeError",
    ),
    "an argument that a transform of a function does not have": (
        training("return A.Compose([A.HorizontalFlip(strength=3)])"),
        r"^my_aug\.py:training \(line 5\) cannot be built: UserWarning: Argument\(s\) 'strength' are not valid",
    ),
    "a function that fails": (training("return 1 / 0"), r"^my_aug\.py:training \(line 5\) cannot be built: ZeroDiv"),
    "a function that returns nothing": (
        training("pass"),
        r"must return an albumentations\.Compose\. Received: NoneType",
    ),
    "a print": (training("print('here'); return A.Compose([])"), r"must print nothing\. Received: 'here'"),
    "a transform that draws elsewhere": (
        training("""def dark(image, **_): return image // random.randint(1, 9)
    return A.Compose([A.Lambda(image=dark, p=1)])"""),
        r"the same of the same images for the same seed\. Received: two that differ",
    ),
    "a transform that goes on where it was": (
        training("""class Drift(A.ImageOnlyTransform):
        def __init__(self): super().__init__(p=1); self.steps = 0
        def apply(self, img, **_): self.steps += 1; return img // self.steps
    return A.Compose([Drift()])"""),
        r"the same of the same images for the same seed\. Received: two that differ",
    ),
    "an evaluation that is random": (
        with_evaluation("return A.Compose([A.HorizontalFlip(p=0.5)])"),
        r"^my_aug\.py:evaluation must make the same of an image each time",
    ),
    "an evaluation of another shape": (
        with_evaluation("return A.Compose([A.CenterCrop(20, 20, p=1)])"),
        r"^my_aug\.py:evaluation must return images as it gets them",
    ),
    "an evaluation with a transform that never happens": (
        with_evaluation(
            "class Dark(A.ImageOnlyTransform):\n        def apply(self, img, **_): return img // 2\n"
            "    return A.Compose([Dark(p=0), A.CLAHE(p=1)])"
        ),
        r"must consist of Albumentations' own transforms.*Received: Dark",
    ),
    "an evaluation that an export cannot hold": (
        with_evaluation(
            "class Dark(A.ImageOnlyTransform):\n        def apply(self, img, **_): return img // 2\n"
            "    return A.Compose([Dark(p=1)])"
        ),
        r"must consist of Albumentations' own transforms.*Received: Dark",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_pipeline_is_told_in_one_line(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (name, text), message = BROKEN[what]
    with pytest.raises(OwnCodeError, match=message) as raised:
        check(name, text, tmp_path)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "owned").exists()


def test_sound_pipelines_are_told_by_what_they_do(tmp_path: Path) -> None:
    assert check(OWN, OWN_PIPELINE, tmp_path, strength=0.2) == {"mirrors": True, "evaluation": True}
    saved = saved_pipeline(A.OneOf([A.Rotate(p=1), A.Sequential([A.HorizontalFlip(p=0.5)])]))
    assert check("m.json", saved, tmp_path) == {"mirrors": True, "evaluation": False}
    # Albumentations 2.0.8 saves arguments of RGBShift that its constructor does not take.
    assert check("m.json", saved_pipeline(A.RGBShift(p=1)), tmp_path) == {"mirrors": False, "evaluation": False}
    assert check("m.yml", yaml.safe_dump(A.to_dict(A.VerticalFlip())), tmp_path) == {
        "mirrors": False,
        "evaluation": False,
    }


@pytest.mark.parametrize(
    ("transforms", "mirrored"),
    [
        ([A.HorizontalFlip(p=0.1)], True),
        ([A.SomeOf([A.D4(p=1), A.Rotate(p=1)], n=1)], True),
        ([A.HorizontalFlip(p=0)], False),
        ([A.OneOf([A.HorizontalFlip(p=1)], p=0)], False),
        ([A.VerticalFlip(p=1), A.Rotate()], False),
    ],
)
def test_predictions_are_averaged_with_the_mirror_where_training_may_mirror(
    transforms: list[Any], mirrored: bool
) -> None:
    config = own_config("m.json", saved_pipeline(*transforms)).model_copy(update={"mirror": True})
    assert averages_mirror(config, SHAPE) is mirrored
    assert not averages_mirror(config.model_copy(update={"mirror": False}), SHAPE)


def test_parameters_reach_both_functions_and_defaults_are_those_of_training() -> None:
    def built(**parameters: Any) -> tuple[int, float]:
        config = own_config(OWN, OWN_PIPELINE, **parameters)
        given = (OWN, strengths_of(config), SHAPE, config.code)
        evaluated = evaluation_pipeline(*given)
        assert evaluated is not None
        return training_pipeline(*given).transforms[1].height, evaluated.transforms[0].clip_limit[0]

    assert built(strength=0.25) == (42, 1.25)
    assert built() == (36, 1.5)  # evaluation's own default is another
    assert built(strength=0.25, flip=False, another=1) == (42, 1.25)


@pytest.fixture(scope="module")
def dataset(faces: Path) -> Dataset:
    return open_dataset(faces)


def test_the_stream_is_the_same_whoever_prepares_it(dataset: Dataset, ray_cluster: str) -> None:
    rows = np.flatnonzero(dataset.splits == TRAIN)[:150]
    config = own_config(OWN, OWN_PIPELINE, strength=0.4)
    given = (OWN, strengths_of(config), config.code)
    here = Feed(dataset, *given, chunk_images=32)
    there = Feed(dataset, *given, chunk_images=32, workers=1)

    def stream(feed: Feed, seed: tuple[int, ...], epoch: int) -> np.ndarray:
        return np.concatenate([images for images, _ in feed.training_batches(rows, 32, seed, epoch)])

    first = stream(here, (1, 2), 3)
    assert np.array_equal(first, stream(there, (1, 2), 3))
    there.close()
    assert np.array_equal(first, stream(here, (1, 2), 3))
    assert all(not np.array_equal(first, stream(here, *other)) for other in (((1, 3), 3), ((1, 2), 4)))

    evaluated = np.concatenate([images for images, _ in here.evaluation_batches(rows, 64)])
    clahe = A.CLAHE(clip_limit=(1.4, 1.4), tile_grid_size=(4, 4), p=1)
    assert np.array_equal(evaluated, np.stack([clahe(image=image)["image"] for image in dataset.images(rows)]))


def test_an_image_that_comes_out_otherwise_ends_the_epoch(dataset: Dataset) -> None:
    config = own_config("m.json", saved_pipeline(A.Normalize(p=0.05)))
    feed = Feed(dataset, "m.json", {}, config.code)
    with pytest.raises(OwnCodeError, match=r"m\.json must return images as it gets them.*Received: float32"):
        list(feed.training_batches(np.arange(200), 32, (0,), 0))


def test_the_preview_shows_a_pipeline_of_ones_own(dataset: Dataset) -> None:
    config = own_config(OWN, OWN_PIPELINE)
    sheet = preview_sheet(dataset, OWN, {"strength": 0.9}, variants=2, code=config.code)
    original, evaluated, variant = (sheet[60:756, left : left + 96] for left in (130, 230, 330))
    assert not np.array_equal(original, evaluated) and not np.array_equal(original, variant)
