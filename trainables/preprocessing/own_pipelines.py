"""Pipelines of the user's own: files that Albumentations saved, and Python functions that return one.

docs/own-pipelines.md is the contract. A file can name Albumentations' own transforms and nothing else: whoever opens a
study runs no code of it. A function is the user's code, and travels as a model's does (`trainables/own_code.py`).
"""

from __future__ import annotations

import difflib
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from numpy.typing import NDArray

from trainables.errors import OwnCodeError, nearest, one_line
from trainables.own_code import Reference, SourceFile, call_error, load_function, source_of
from trainables.own_signature import EVALUATION, PipelineSignature, evaluation_signature, pipeline_signature

if TYPE_CHECKING:
    import albumentations as A

Shape = tuple[int, int, int]
_MOST = 1000
"""Transforms in a file: one whose aliases go in a circle has no end."""

_MIRRORING = ("HorizontalFlip", "D4", "SquareSymmetry")
"""Albumentations' transforms that may show an image's mirror image."""


def own_training(name: str, values: Mapping[str, object], shape: Shape, code: Mapping[str, SourceFile]) -> A.Compose:
    """Returns the random pipeline of the user's own.

    Args:
        name: `mine.yaml`, `mine.json`, `my_aug.py:training` or `package.module:training`.
        values: by parameter; one that the function does not have is ignored, what is missing takes its default.
        shape: height and width in px, channels (1 or 3).
        code: the file, by its name.

    Raises:
        OwnCodeError: the file cannot be read or imported, or what it gives is no pipeline.
    """
    reference, source = source_of(name, code)
    if not reference.function:
        return _composed(name, lambda: _saved(name, source.text))
    signature = pipeline_signature(source.text, reference.file, reference.function)
    return _composed(name, lambda: _called(reference, signature, values, shape, code))


def own_evaluation(
    name: str, values: Mapping[str, object], shape: Shape, code: Mapping[str, SourceFile]
) -> A.Compose | None:
    """Returns what the file's `evaluation` function builds; None where it has none, and for a saved pipeline.

    Arguments and errors as in `own_training`.
    """
    reference, source = source_of(name, code)
    if not reference.function:
        return None
    signature = evaluation_signature(source.text, reference.file, reference.function)
    if signature is None:
        return None
    # the same values as training has, also where the two functions have other defaults
    training = pipeline_signature(source.text, reference.file, reference.function).parameters
    complete = {**{one: parameter.default for one, parameter in training.items()}, **values}
    evaluation = reference._replace(function=EVALUATION)
    label = f"{reference.file}:{EVALUATION}"
    pipeline = _composed(label, lambda: _called(evaluation, signature, complete, shape, code))
    foreign = [type(step).__name__ for step in _all_steps(pipeline) if not _is_albumentations(type(step))]
    if foreign:
        raise OwnCodeError(
            f"{label} must consist of Albumentations' own transforms: exports hold it, and open without your code. "
            f"Received: {foreign[0]}. Write it with others"
        )
    return pipeline


def may_mirror(pipeline: A.Compose) -> bool:
    """Says whether a pipeline, or any composition in it, has a transform of Albumentations that mirrors images."""
    return any(type(step).__name__ in _MIRRORING and _is_albumentations(type(step)) for step in transforms_in(pipeline))


def transforms_in(pipeline: A.Compose) -> Iterator[Any]:
    """Yields a pipeline's transforms that can happen, those of compositions within it too, but not these themselves."""
    for step in pipeline.transforms:
        if step.p == 0:
            continue
        if hasattr(step, "transforms"):
            yield from transforms_in(step)
        else:
            yield step


def _all_steps(pipeline: A.Compose) -> Iterator[Any]:
    for step in pipeline.transforms:
        yield step
        if hasattr(step, "transforms"):
            yield from _all_steps(step)


def _composed(name: str, build: Callable[[], object]) -> A.Compose:
    """Returns what was built as a composition."""
    import albumentations as A

    try:
        built = build()
    except OwnCodeError:
        raise
    except Exception as error:  # the user's code, and Albumentations, raise whatever they raise
        raise call_error(name, "cannot be built", error) from None
    if isinstance(built, A.Compose):
        return built
    if isinstance(built, A.BaseCompose | A.BasicTransform):
        return A.Compose([built])
    raise OwnCodeError(f"{name} must return an albumentations.Compose. Received: {type(built).__name__}. Return one")


def process(pipeline: A.Compose, image: NDArray[np.uint8], own: str = "", **more: Any) -> NDArray[np.uint8]:
    """Returns what a pipeline makes of an image.

    Args:
        pipeline: a training or an evaluation pipeline.
        image: uint8, (height, width, channels).
        own: the name of a pipeline of the user's own, which is not known to keep shape and type.
        more: what the pipeline wants beside the image, as `face_box`.

    Raises:
        OwnCodeError: one of the user's own fails, or returns another shape or type.
    """
    if not own:
        made: NDArray[np.uint8] = pipeline(image=image, **more)["image"]
        return made
    try:
        made = pipeline(image=image, **more)["image"]
    except Exception as error:  # whatever its transforms raise
        raise call_error(own, f"cannot take an image of {_described(image)}", error) from None
    if not isinstance(made, np.ndarray) or made.shape != image.shape or made.dtype != np.uint8:
        height, width, _ = image.shape
        raise OwnCodeError(
            f"{own} must return images as it gets them, {_described(image)}. Received: {_described(made)}. End with "
            f"A.Resize({height}, {width}) after a crop, and leave normalisation to the model"
        )
    return made


def _described(image: Any) -> str:
    if not isinstance(image, np.ndarray):
        return type(image).__name__
    return f"{image.dtype} ({', '.join(map(str, image.shape))})"


def _called(
    reference: Reference,
    signature: PipelineSignature,
    values: Mapping[str, object],
    shape: Shape,
    code: Mapping[str, SourceFile],
) -> object:
    function = load_function(f"{reference.file}:{reference.function}", code)
    chosen = {name: value for name, value in values.items() if name in signature.parameters}
    return function(shape, **chosen) if signature.takes_shape else function(**chosen)


def _saved(name: str, text: str) -> object:
    """Makes the pipeline of a file, in which every class is one of Albumentations' own."""
    from albumentations.core.serialization import from_dict, to_dict

    try:
        content = json.loads(text) if name.endswith(".json") else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        words = one_line(error, 200)
        raise OwnCodeError(
            f"{name} must be as albumentations.save writes it. Received: {words}. Save it anew"
        ) from None
    if not isinstance(content, dict) or not isinstance(content.get("transform"), dict):
        raise OwnCodeError(
            f"{name} must be as albumentations.save writes it. Received: no `transform` in it. Save it anew: "
            f'A.save(pipeline, "{name}"{"" if name.endswith(".json") else ", data_format=" + repr("yaml")})'
        )
    _check_classes(name, content["transform"])
    with warnings.catch_warnings():
        # Albumentations 2.0.8 warns of arguments that it leaves out, some of which it has saved itself (RGBShift).
        warnings.simplefilter("ignore", UserWarning)
        built = from_dict(content)
    _check_arguments(name, content["transform"], to_dict(built)["transform"])
    return built


def _check_arguments(name: str, given: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    """Refuses arguments of a transform that are not among those that Albumentations saves."""
    for argument in given.keys() - saved.keys():
        raise OwnCodeError(
            f"{name}: {saved['__class_fullname__']} must have the arguments that albumentations.save writes. "
            f"Received: {argument}.{nearest(argument, saved.keys() - {'__class_fullname__'})}"
        )
    for one, other in zip(given.get("transforms", []), saved.get("transforms", []), strict=True):
        _check_arguments(name, one, other)


def _check_classes(name: str, pipeline: Any) -> None:
    """Refuses a pipeline that has another class than Albumentations' own anywhere in it."""
    known, waiting, seen = _known_classes(), [pipeline], 0
    while waiting:
        node, seen = waiting.pop(), seen + 1
        if seen > _MOST:
            raise OwnCodeError(f"{name} must have at most {_MOST:,} transforms. Received: more, or one within itself")
        if not isinstance(node, dict) or not isinstance(node.get("__class_fullname__"), str):
            raise OwnCodeError(
                f"{name}: a transform must have a __class_fullname__. Received: {str(node)[:80]}. Add it"
            )
        full_name = node["__class_fullname__"]
        short = full_name.rpartition(".")[2] if full_name.startswith("albumentations.") else full_name
        if short not in known:
            close = difflib.get_close_matches(short, known, n=1)
            remedy = f"Did you mean {close[0]!r}?" if close else "Put it into a Python file: my_aug.py:training"
            raise OwnCodeError(
                f"{name} may name transforms of Albumentations only. Received: {full_name[:80]!r}. {remedy}"
            )
        inner = node.get("transforms", [])
        if not isinstance(inner, list):
            raise OwnCodeError(f"{name}: transforms must be a list. Received: {str(inner)[:80]}. Make it one")
        waiting += inner


def _known_classes() -> dict[str, type]:
    from albumentations.core.serialization import SERIALIZABLE_REGISTRY

    return {name: kind for name, kind in SERIALIZABLE_REGISTRY.items() if _is_albumentations(kind)}


def _is_albumentations(kind: type) -> bool:
    return kind.__module__.startswith("albumentations.")
