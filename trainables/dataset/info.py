"""What a data set says of itself, as `dataset.json` holds it: classes, counts, and what of the source is not in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator


def legible(name: Any) -> Any:
    """Returns a file's name with escapes in place of bytes that are no UTF-8, which no JSON and no terminal takes.

    What is no text is returned as it is.
    """
    return name.encode("utf-8", "backslashreplace").decode() if isinstance(name, str) else name


FileName = Annotated[str, BeforeValidator(legible)]


class SkippedImage(BaseModel, frozen=True, extra="forbid"):
    """An image of the source that is not in the data set, and why."""

    path: FileName
    reason: FileName


class LeftOut(BaseModel, frozen=True, extra="forbid"):
    """A folder of the source whose `images` files are not in the data set, and why."""

    path: FileName
    images: int
    reason: FileName


class DatasetInfo(BaseModel, frozen=True, extra="forbid"):
    """What `dataset.json` says of a data set; `train_mean` and `train_std` are by channel on the 0-1 scale.

    `skipped` are single images, `left_out` whole folders, `passed_over` counts files that are no images by suffix
    (`passed_over_in` by folder and suffix), and `notes` tell how the source was understood where its names do not.
    """

    format_version: Literal[1]
    name: FileName
    source: FileName
    classes: tuple[str, ...]
    height_px: int
    width_px: int
    channels: Literal[1, 3]
    counts: dict[str, dict[str, int]]
    fingerprint: str
    source_fingerprint: str
    train_mean: tuple[float, ...]
    train_std: tuple[float, ...]
    skipped: tuple[SkippedImage, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    passed_over: dict[FileName, int] = {}
    passed_over_in: dict[FileName, dict[FileName, int]] = {}
    notes: tuple[FileName, ...] = ()
    versions: dict[str, str]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of every image."""
        return self.height_px, self.width_px, self.channels


def untested_classes_line(images: Mapping[str, int]) -> str:
    """Returns which classes a test split lacks, given its images by class; empty where it lacks none, or there is none.

    Args:
        images: number of test images by class.
    """
    without = [name for name, count in images.items() if not count]
    if not without or len(without) == len(images):
        return ""
    return f"no test image of {', '.join(without)}: the sealed test says nothing of that"
