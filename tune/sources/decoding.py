"""Turns an encoded image into the pixels that are stored: uint8, gray or RGB, one size. Knows nothing of files."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from trainables.dataset.reader import Pixels
from trainables.dataset.writer import MAX_IMAGE_BYTES
from tune.errors import SourceError

MAX_MEGAPIXELS: Final = 64
_KNOWN: Final = "PNG JPEG GIF BMP WEBP TIFF PPM DIB JPEG2000 AVIF ICO PCX QOI SGI SUN PSD DDS ICNS XBM XPM TGA"
Image.init()
# Not all of Pillow's: EPS runs another program, and some take almost anything for theirs.
_FORMATS: Final = [name for name in _KNOWN.split() if name in Image.OPEN]
_HEIC_BRANDS: Final = (b"heic", b"heix", b"hevc", b"hevx", b"mif1", b"msf1")
_PILLOW_FIRST: Final = ("GIF",)  # OpenCV 4.14 reads a gray one as colour


class UnreadableImage(ValueError):
    """One image cannot be decoded; the import lists and skips it."""


@contextmanager
def silence_decoders() -> Iterator[None]:
    """Keeps the decoders' own remarks on broken images out of the terminal: the import lists them itself."""
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")
            yield
    finally:
        cv2.utils.logging.setLogLevel(level)


def decode(data: bytes, path: str) -> Pixels:
    """Decodes one image: 16 bits become 8, alpha is dropped unless the picture is in it alone, a camera's orientation
    is applied.

    Args:
        data: a file's content.
        path: what to call it in errors.

    Returns:
        uint8, (height, width, 1) gray or (height, width, 3) RGB, 0-255.

    Raises:
        UnreadableImage: no decoder can read it.
        SourceError: the header declares more than `MAX_MEGAPIXELS`; nothing of that size is decoded.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as header:
            (width, height), kind = header.size, header.format
            transparent = header.mode in ("RGBA", "LA", "PA") or "transparency" in header.info
    except Image.DecompressionBombError as error:
        told = re.search(r"\((\d+) pixels\)", str(error))
        width, height, kind, transparent = int(told[1]) if told else 1 << 40, 1, None, False
    except Exception as error:
        if not data:
            raise UnreadableImage("an empty file") from None
        heic = data[4:8] == b"ftyp" and data[8:12] in _HEIC_BRANDS
        raise UnreadableImage("HEIC, which is not read; save it as JPEG or PNG" if heic else "not an image") from error
    if width * height > MAX_MEGAPIXELS * 1_000_000:
        raise SourceError(
            f"An image must have at most {MAX_MEGAPIXELS} megapixels. "
            f"Received: {width * height / 1e6:,.0f} in {path}; remove it."
        )
    decoded = None
    if kind not in _PILLOW_FIRST:
        with suppress(cv2.error):
            decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR)
    if decoded is None:
        return _with_pillow(data)
    image = _as_uint8(decoded)
    image = image[..., None] if image.ndim == 2 else np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
    return _on_ground(image[:1, :1], data) if transparent and (image == image[0, 0]).all() else image


def _with_pillow(data: bytes) -> Pixels:
    """Decodes the first picture of what OpenCV does not read, or not as it was meant."""
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as picture:
            return pixels_of(picture)
    except UnreadableImage:
        raise
    except Exception as error:
        raise UnreadableImage("damaged") from error


def pixels_of(picture: Image.Image) -> Pixels:
    """Returns a picture's pixels as `decode` does those of a file: upright, 8 bits, gray or RGB.

    Raises:
        UnreadableImage: they have neither 8 nor 16 bits.
    """
    upright = ImageOps.exif_transpose(picture)
    mode, palette = upright.mode, upright.palette is not None
    if mode.startswith(("I", "F")):
        values = np.asarray(upright)
    else:
        values = np.asarray(upright.convert("L" if mode in ("1", "L", "LA", "La") else "RGB"))
    image = _as_uint8(values)
    if palette and image.ndim == 3 and (image == image[..., :1]).all():
        image = image[..., 0]  # a palette of grays
    return image[..., None] if image.ndim == 2 else image


def _on_ground(ink: Pixels, data: bytes) -> Pixels:
    """Puts a picture of one colour (`ink`, 1 x 1), whose shape is in its alpha channel, on white or black."""
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as picture:
            alpha = np.asarray(ImageOps.exif_transpose(picture).convert("RGBA").getchannel("A"))
    except Exception as error:
        raise UnreadableImage("damaged") from error
    share = np.arange(256, dtype=np.float32)[:, None] / 255
    ground = 255 if ink.mean() < 128 else 0
    shades = np.rint(ink[0, 0] * share + ground * (1 - share)).astype(np.uint8)  # of each alpha
    return np.stack([cv2.LUT(alpha, np.ascontiguousarray(shade)) for shade in shades.T], axis=-1)


def resize(image: Pixels, store_size_px: int | None, channels: int | None, path: str) -> Pixels:
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


def _as_uint8(image: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    if image.dtype == np.uint16:
        return np.asarray(cv2.convertScaleAbs(image, alpha=1 / 257), np.uint8).reshape(image.shape)
    if image.dtype != np.uint8:
        raise UnreadableImage(f"{image.dtype} pixels; 8 and 16 bits are read")
    return image
