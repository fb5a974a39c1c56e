"""Imports a source into a data set folder: one pass, bounded memory, whole or not at all.

`tune/sources/opening.py` opens the source, `tune/sources/decoding.py` decodes, `trainables/dataset/writer.py` writes.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np

from trainables.dataset.reader import (
    FORMAT_VERSION,
    TEST,
    TRAIN,
    Dataset,
    Pixels,
    SkippedImage,
    hash_pixels,
    open_dataset,
)
from trainables.dataset.target import check_target, existing_dataset
from trainables.dataset.writer import DatasetWriter
from tune.errors import SourceError
from tune.sources.decoding import UnreadableImage, resize, silence_decoders
from tune.sources.folder_layout import Item, split_of
from tune.sources.opening import Source, fingerprint_source, open_source
from tune.sources.split_names import parse_decisions

_IMPORT_VERSION: Final = 2
_OPTIONS_OF_VERSION_1: Final = ("store_size_px", "channels", "test_share", "max_bad")
_CHUNK_IMAGES: Final = 32
_THREADS: Final = min(8, os.cpu_count() or 1)


@dataclass(frozen=True)
class ImportOptions:
    """How a source becomes a data set.

    Attributes:
        store_size_px: side that every image is brought to; None keeps their own, which must then be equal.
        channels: 1 gray, 3 RGB; None takes the first image's, which all must then have.
        test_share: share of the images that the test split gets where the source has none.
        max_bad: share of the images that may be unreadable.
        splits: FOLDER=train, test, validation, class or leave-out, for folders (or patterns) that have to be decided.
        validation: train, test or leave-out; None makes validation images the test split where there is no other.
    """

    store_size_px: int | None = None
    channels: int | None = None
    test_share: float = 0.1
    max_bad: float = 0.01
    splits: tuple[str, ...] = ()
    validation: str | None = None

    def __post_init__(self) -> None:
        """Checks the ranges."""
        parse_decisions(self.splits, self.validation)
        if self.store_size_px is not None and not 8 <= self.store_size_px <= 512:
            raise SourceError(f"--store-size must be 8 to 512 pixels. Received: {self.store_size_px}.")
        if self.channels not in (None, 1, 3):
            raise SourceError(f"--channels must be 1 (gray) or 3 (RGB). Received: {self.channels}.")
        if not 0 <= self.test_share < 1:
            raise SourceError(f"--test-share must be from 0 to less than 1. Received: {self.test_share}.")
        if not 0 <= self.max_bad <= 1:
            raise SourceError(f"--max-bad must be 0 to 1. Received: {self.max_bad}.")


@dataclass(frozen=True)
class Imported:
    """A data set, and whether it was there already."""

    dataset: Dataset
    unchanged: bool


def import_dataset(
    source: Path,
    target: Path,
    options: ImportOptions | None = None,
    *,
    replace: bool = False,
    on_image: Callable[[int, int], None] | None = None,
) -> Imported:
    """Imports a source, or opens the target if the same source was imported there with the same options.

    Args:
        source: see `open_source`.
        target: folder to create.
        options: None for the defaults.
        replace: whether another data set at the target may give way.
        on_image: called with (images so far, images expected).

    Raises:
        SourceError: the source cannot be read or trusted, or is no classification data set.
        DatasetError: the target is in the way or cannot be written.
    """
    options = options or ImportOptions()
    # Not `Path.resolve`, which raises RuntimeError for a link to itself (Python 3.11).
    if Path(os.path.realpath(target)).is_relative_to(os.path.realpath(source)):
        raise SourceError(f"The target must lie outside the source. Received: {target} in {source}; choose another.")
    source_fingerprint = fingerprint_source(source)
    fingerprint = _digest(f"{FORMAT_VERSION} {_IMPORT_VERSION} {source_fingerprint} {options}")
    existing = existing_dataset(target, fingerprint)
    if existing is not None:
        return Imported(existing, unchanged=True)
    opened = open_source(source, parse_decisions(options.splits, options.validation))
    existing = existing_dataset(target, _digest(_settings_of_version_1(source_fingerprint, options)))
    if existing is not None and _already_imported(existing, opened):
        return Imported(existing, unchanged=True)
    check_target(target, replace=replace)
    with (
        silence_decoders(),
        DatasetWriter(target, opened.classes, replace=replace, expected_images=opened.expected_images) as writer,
    ):
        bad = _write_images(writer, opened, options, on_image)
        writer.finish(
            opened.name,
            fingerprint,
            skipped=(*bad, *opened.skipped),
            left_out=opened.left_out,
            passed_over=opened.passed_over,
            notes=opened.notes,
        )
    return Imported(open_dataset(target), unchanged=False)


def _digest(settings: str) -> str:
    return hashlib.blake2b(settings.encode(), digest_size=16).hexdigest()


def _settings_of_version_1(source_fingerprint: str, options: ImportOptions) -> str:
    """What emotune 0.1 would have called this import, which knew fewer formats and folder names."""
    known = ", ".join(f"{name}={getattr(options, name)!r}" for name in _OPTIONS_OF_VERSION_1)
    return f"{FORMAT_VERSION} 1 {source_fingerprint} ImportOptions({known})"


def _already_imported(dataset: Dataset, source: Source) -> bool:
    """Whether a data set has the images, classes and splits that a source has by its names."""
    if dataset.info.classes != source.classes:
        return False
    labels, splits = dataset.labels.tolist(), dataset.splits.tolist()
    there = {path: (labels[row], splits[row]) for row, path in enumerate(dataset.paths)}
    unread = {image.path for image in dataset.info.skipped if not image.reason.startswith("outside")}
    for item in source:
        label, split = there.pop(item.path, (None, None))
        if label is None and item.path in unread:
            continue
        if label is None or source.classes[label] != item.class_name or item.split not in (None, split):
            return False
    return not there


def _write_images(
    writer: DatasetWriter, source: Source, options: ImportOptions, on_image: Callable[[int, int], None] | None
) -> list[SkippedImage]:
    """Writes every readable image; returns the others."""
    bad: list[SkippedImage] = []
    counts = np.zeros((2, len(source.classes)), np.int64)
    unread: dict[str, SkippedImage] = {}
    first: tuple[str, Pixels] | None = None
    for done, (item, image) in enumerate(_decoded(source, options), start=1):
        if isinstance(image, UnreadableImage):
            bad.append(SkippedImage(path=item.path, reason=str(image)))
            unread.setdefault(item.class_name, bad[-1])
        else:
            first = first or (item.path, image)
            _check_alike(first, (item.path, image))
            label = source.classes.index(item.class_name)
            split = split_of(hash_pixels(image), options.test_share) if item.split is None else item.split
            counts[split, label] += 1
            writer.append(image, label, split, item.path)
        if on_image is not None:
            on_image(done, source.expected_images)
    _check_bad(bad, int(counts.sum()) + len(bad), options.max_bad)
    _check_counts(counts, source, unread)
    return bad


def _decoded(source: Source, options: ImportOptions) -> Iterator[tuple[Item, Pixels | UnreadableImage]]:
    """Decodes in threads, a few chunks ahead, and yields in the source's order."""

    def decode_chunk(items: list[Item]) -> list[tuple[Item, Pixels | UnreadableImage]]:
        return [(item, decode_one(item)) for item in items]

    def decode_one(item: Item) -> Pixels | UnreadableImage:
        try:
            return resize(source.pixels(item), options.store_size_px, options.channels, item.path)
        except UnreadableImage as error:
            return error

    executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="decode")
    waiting: deque[Future[list[tuple[Item, Pixels | UnreadableImage]]]] = deque()
    try:
        for chunk in _chunks(source):
            waiting.append(executor.submit(decode_chunk, chunk))
            if len(waiting) > 2 * _THREADS:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        executor.shutdown(cancel_futures=True)


def _chunks(items: Iterable[Item]) -> Iterator[list[Item]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, _CHUNK_IMAGES)):
        yield chunk


def _check_alike(first: tuple[str, Pixels], other: tuple[str, Pixels]) -> None:
    """Names the remedy when an image differs from the first in size or channels."""
    (height, width, channels), (other_height, other_width, other_channels) = first[1].shape, other[1].shape
    if (height, width) != (other_height, other_width):
        raise SourceError(
            f"Images must share one size, or be brought to one. Received: {width} x {height} px in {first[0]}, "
            f"{other_width} x {other_height} px in {other[0]}; pass --store-size 48 or another side."
        )
    if channels != other_channels:
        kinds = {1: "gray", 3: "colour"}
        raise SourceError(
            f"Images must all be gray or all colour. Received: {kinds[channels]} in {first[0]}, "
            f"{kinds[other_channels]} in {other[0]}; pass --channels 1 or --channels 3."
        )


def _check_bad(bad: list[SkippedImage], images: int, max_bad: float) -> None:
    if len(bad) > max_bad * images or len(bad) == images:
        shown = ", ".join(f"{image.path} ({image.reason})" for image in bad[:3])
        raise SourceError(
            f"At most {max_bad:.2%} of the images may be unreadable. Received: {len(bad)} of {images}: {shown}"
            f"{', ...' if len(bad) > 3 else ''}; fix or remove them, or raise --max-bad."
        )


def _check_counts(
    counts: np.ndarray[tuple[int, int], np.dtype[np.int64]], source: Source, unread: Mapping[str, SkippedImage]
) -> None:
    """Checks again what the names alone could not tell; `unread` holds an unreadable image by class."""
    for name, count in zip(source.classes, counts.sum(axis=0), strict=True):
        if name in unread and not count:
            raise SourceError(
                f"A class must hold an image that can be read. Received: {name!r} of {source.name} with none: "
                f"{unread[name].path} ({unread[name].reason}); fix or remove it."
            )
    train = [name for name, count in zip(source.classes, counts[TRAIN], strict=True) if count]
    unknown = [n for n, count in zip(source.classes, counts[TEST], strict=True) if count and n not in train]
    if unknown:
        raise SourceError(
            f"Every class in test must be in train. Received: {unknown[0]!r} of {source.name} in test only; "
            f"add train images, or lower --test-share if the source has no test split."
        )
    if len(train) < 2:
        raise SourceError(
            f"A source must hold train images of two classes or more. Received: {', '.join(train) or 'none'} "
            f"in {source.name}."
        )
