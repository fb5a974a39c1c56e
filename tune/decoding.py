"""Turns an encoded image into the pixels that are stored: uint8, gray or RGB, one size. Knows nothing of files."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from trainables.records import Pixels
from trainables.writer import MAX_IMAGE_BYTES
from tune.errors import SourceError

MAX_MEGAPIXELS: Final = 64


class Unreadable(ValueError):
    """One image cannot be decoded; the import lists and skips it."""


@contextmanager
def quiet_decoders() -> Iterator[None]:
    """Keeps the decoders' own remarks on broken images out of the terminal: the import lists them itself."""
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")
            yield
    finally:
        cv2.utils.logging.setLogLevel(level)


def decode(data: bytes, path: str) -> Pixels:
    """Decodes one image: 16 bits become 8, alpha is dropped, a camera's orientation is applied.

    Args:
        data: a file's content.
        path: what to call it in errors.

    Returns:
        uint8, (height, width, 1) gray or (height, width, 3) RGB, 0-255.

    Raises:
        Unreadable: no decoder can read it.
        SourceError: the header declares more than `MAX_MEGAPIXELS`; nothing of that size is decoded.
    """
    try:
        with Image.open(io.BytesIO(data)) as header:
            width, height = header.size
    except Image.DecompressionBombError:
        width, height = 1 << 20, 1 << 20
    except Exception as error:
        raise Unreadable("not an image") from error
    if width * height > MAX_MEGAPIXELS * 1_000_000:
        raise SourceError(
            f"An image must have at most {MAX_MEGAPIXELS} megapixels. "
            f"Received: {width * height / 1e6:,.0f} or more in {path}; remove it."
        )
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR)
    except cv2.error as error:
        raise Unreadable("damaged") from error
    if decoded is None:
        raise Unreadable("damaged")
    image = _eight_bits(decoded)
    return image[..., None] if image.ndim == 2 else np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def fit(image: Pixels, store_size_px: int | None, channels: int | None, path: str) -> Pixels:
    """Brings an image to the stored size (both sides, whatever its shape was) and number of channels.

    Raises:
        SourceError: the result is too large to be stored.
    """
    height, width, found = image.shape
    if store_size_px is not None and (height, width) != (store_size_px, store_size_px):
        shrinks = store_size_px < max(height, width)
        method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
        image = np.asarray(cv2.resize(image, (store_size_px, store_size_px), interpolation=method), np.uint8)
        image = image.reshape(store_size_px, store_size_px, found)
    if channels is not None and channels != found:
        code = cv2.COLOR_RGB2GRAY if channels == 1 else cv2.COLOR_GRAY2RGB
        image = np.asarray(cv2.cvtColor(image, code), np.uint8).reshape(*image.shape[:2], channels)
    if image.size > MAX_IMAGE_BYTES:
        raise SourceError(
            f"A stored image must take at most {MAX_IMAGE_BYTES:,} bytes. Received: {width} x {height} px, "
            f"{image.shape[2]} channels in {path}; pass --store-size 227."
        )
    return image


def _eight_bits(image: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    if image.dtype == np.uint16:
        return np.asarray((image.astype(np.uint32) + 128) // 257, np.uint8)
    if image.dtype != np.uint8:
        raise Unreadable(f"{image.dtype} pixels; 8 and 16 bits are read")
    return image
