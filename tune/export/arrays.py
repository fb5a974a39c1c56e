"""What a caller may give to be classified, files and pixels, as one list. Reads no file."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from trainables.dataset.reader import Pixels
from tune.errors import ImageError
from tune.sources.decoding import UnreadableImage, pixels_of

ImageLike = str | os.PathLike[str] | npt.NDArray[np.uint8] | Image.Image
"""A file, pixels, or a picture of Pillow's."""

_RULE = (
    "Pixels must be a uint8 array, 0-255: one image (h, w), (h, w, 1) or (h, w, 3) RGB, or several (n, h, w) or "
    "(n, h, w, channels)."
)
_CHANNELS = (1, 3, 4)


def images_in(images: ImageLike | Iterable[ImageLike]) -> list[Path | Pixels]:
    """Returns each image by itself: a path, or uint8 (h, w, 1 or 3); an array of several is taken apart.

    Three dimensions are one image if the last is 1, 3 or 4 long, and several gray ones otherwise. Alpha is dropped, as
    it is from a file.

    Raises:
        ImageError: an array is not uint8 or of another shape, or something is no image at all.
    """
    if isinstance(images, str | os.PathLike):
        return [Path(images)]
    if isinstance(images, Image.Image):
        return [_of_pillow(images)]
    if hasattr(images, "__array__"):
        return list(_of_array(images))
    if not isinstance(images, Iterable):
        raise ImageError(f"Images must be files or arrays of pixels. Received: {type(images).__name__}. Give one.")
    found: list[Path | Pixels] = []
    for image in images:
        if isinstance(image, str | os.PathLike | Image.Image) or hasattr(image, "__array__"):
            found += images_in(image)
        else:
            what = f"{type(image).__name__} in a {type(images).__name__}"
            raise ImageError(f"Images must be files or arrays of pixels. Received: {what}. Use numpy.asarray.")
    return found


def _of_pillow(image: Image.Image) -> Pixels:
    try:
        return np.ascontiguousarray(pixels_of(image))
    except (UnreadableImage, OSError) as error:
        raise ImageError(f"A picture must be readable. Received: mode {image.mode}, {error}. Convert it.") from None


def _of_array(images: Any) -> Iterable[Pixels]:
    array = np.asarray(images)
    if array.dtype != np.uint8:
        what = "Scale it: (images * 255).round().astype('uint8') if it is 0 to 1." if array.dtype.kind == "f" else ""
        raise ImageError(
            f"{_RULE} Received: {array.dtype}, {array.shape}. {what or 'Turn it into uint8; its values must fit.'}"
        )
    several = array.ndim == 4 or (array.ndim == 3 and array.shape[-1] not in _CHANNELS)
    stack = array if several else array[None]
    fits = stack.ndim == 3 or (stack.ndim == 4 and stack.shape[-1] in _CHANNELS)
    if not fits or 0 in stack.shape[1:]:
        raise ImageError(f"{_RULE} Received: {array.shape}. Reshape it.")
    return map(_with_channels, stack)


def _with_channels(image: npt.NDArray[np.uint8]) -> Pixels:
    return image[..., None] if image.ndim == 2 else np.ascontiguousarray(image[..., :3])
