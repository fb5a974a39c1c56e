"""Imports a source into a data set folder: one pass, bounded memory, whole or not at all.

`tune/sources/opening.py` opens the source, `tune/sources/decoding.py` decodes, `trainables/dataset/writer.py` writes.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np

from trainables.dataset.info import SkippedImage, untested_classes_line
from trainables.dataset.reader import (
    TEST,
    TRAIN,
    Dataset,
    Pixels,
    hash_pixels,
    open_dataset,
)
from trainables.dataset.target import check_target, existing_dataset
from trainables.dataset.writer import DatasetWriter
from tune.dataset.drawn_split import draw_test_images
from tune.dataset.import_options import ImportOptions, earlier_import_fingerprints, import_fingerprint
from tune.dataset.soft_labels import SOFT_LABELS_NOTE, class_shares
from tune.errors import SourceError
from tune.sources.decoding import UnreadableImage, resize, silence_decoders
from tune.sources.folder_layout import Item
from tune.sources.named_classes import parse_class_names
from tune.sources.opening import fingerprint_source, open_source
from tune.sources.source import Source
from tune.sources.split_names import parse_decisions

_CHUNK_IMAGES: Final = 32
_TWELVE_BITS_IN_EIGHT: Final = 4095 // 257 + 1
_THREADS: Final = min(8, os.cpu_count() or 1)


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
    fingerprint = import_fingerprint(source_fingerprint, source, options)
    existing = existing_dataset(target, fingerprint)
    if existing is not None:
        return Imported(existing, unchanged=True)
    opened = open_as_asked(source, options)
    for earlier in earlier_import_fingerprints(source_fingerprint, source, options):
        existing = existing_dataset(target, earlier)
        if existing is not None and _already_imported(existing, opened):
            return Imported(existing, unchanged=True)
    check_target(target, replace=replace)
    with (
        silence_decoders(),
        DatasetWriter(
            target,
            opened.classes,
            replace=replace,
            expected_images=opened.expected_images,
            soft_labels=options.soft_labels,
        ) as writer,
    ):
        bad, notes = _write_images(writer, opened, options, on_image)
        writer.finish(
            opened.name,
            fingerprint,
            skipped=(*bad, *opened.skipped),
            left_out=opened.left_out,
            passed_over=opened.passed_over,
            notes=(*opened.notes, *notes),
        )
    return Imported(open_dataset(target), unchanged=False)


def open_as_asked(source: Path, options: ImportOptions) -> Source:
    """Opens a source with all that was decided about it.

    Raises:
        SourceError: see `open_source`.
    """
    return open_source(
        source,
        parse_decisions(options.splits, options.validation, options.test),
        classes=parse_class_names(options.classes),
        labels=options.labels,
    )


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
) -> tuple[list[SkippedImage], list[str]]:
    """Writes every readable image; returns the others, and what is to be told of the test split."""
    bad: list[SkippedImage] = []
    counts = np.zeros((2, len(source.classes)), np.int64)
    labels = {name: label for label, name in enumerate(source.classes)}
    unread: dict[str, SkippedImage] = {}
    undecided, brightest = 0, 0
    first: tuple[str, Pixels] | None = None
    chosen, before = _drawn_test_images(source, options, on_image)
    for done, (item, image) in enumerate(_decoded(source, options), start=1):
        if isinstance(image, UnreadableImage):
            bad.append(SkippedImage(path=item.path, reason=str(image)))
            unread.setdefault(item.class_name, bad[-1])
        else:
            first = first or (item.path, image)
            _check_alike(first, (item.path, image))
            label, split = labels[item.class_name], item.split
            if split is None:
                undecided += 1
                split = TEST if hash_pixels(image) in chosen else TRAIN
            if brightest <= _TWELVE_BITS_IN_EIGHT:
                brightest = max(brightest, int(image.max()))
            counts[split, label] += 1
            writer.append(image, label, split, item.path, class_shares(item, labels) if options.soft_labels else None)
        if on_image is not None:
            on_image(before + done, before + source.expected_images)
    _check_bad(bad, int(counts.sum()) + len(bad), options.max_bad)
    _check_counts(counts, source, unread)
    notes = _test_split_notes(undecided, bool(chosen), counts, source.classes, options.test_share)
    if options.soft_labels:
        notes.append(SOFT_LABELS_NOTE)
    if brightest <= _TWELVE_BITS_IN_EIGHT:
        notes.append(f"almost black, no pixel is above {brightest} of 255; 12 bits in 16 have to be scaled first")
    return bad, notes


def _drawn_test_images(
    source: Source, options: ImportOptions, on_image: Callable[[int, int], None] | None
) -> tuple[frozenset[bytes], int]:
    """Draws the test split if the source has none, in a pass of its own; returns it, and how many images it read."""
    first = next((item for item in source if not item.problem), None)
    decided = first is None or first.split is not None or any(item.split == TEST for item in source)
    if decided or not options.test_share:
        return frozenset(), 0
    seen: list[tuple[bytes, str]] = []
    done = 0
    for done, (item, image) in enumerate(_decoded(source, options), start=1):
        if not isinstance(image, UnreadableImage) and item.split is None:
            seen.append((hash_pixels(image), item.class_name))
        if on_image is not None:
            on_image(done, 2 * source.expected_images)
    return draw_test_images(seen, options.test_share), done


def _test_split_notes(
    undecided: int,
    drawn: bool,
    counts: np.ndarray[tuple[int, int], np.dtype[np.int64]],
    classes: tuple[str, ...],
    share: float,
) -> list[str]:
    """Says where the test split comes from if the source has none, and which classes are not in it."""
    test = int(counts[TEST].sum())
    if not undecided and not test and share:
        return ["every image of the source is named as a train image, so --test-share draws none of them"]
    notes = []
    if undecided and test and not drawn:
        notes.append(f"{undecided:,} images that belong to no split are training images: the source has test images")
    elif undecided and test:
        notes.append(
            f"the source has no test images: {test:,} of its {undecided:,} were drawn (--test-share {share:g})"
        )
    if line := untested_classes_line(dict(zip(classes, map(int, counts[TEST]), strict=True))):
        notes.append(line)
    return notes


def _decoded(source: Source, options: ImportOptions) -> Iterator[tuple[Item, Pixels | UnreadableImage]]:
    """Decodes in threads, a few chunks ahead, and yields in the source's order."""

    def decode_chunk(items: list[Item]) -> list[tuple[Item, Pixels | UnreadableImage]]:
        return [(item, decode_one(item)) for item in items]

    def decode_one(item: Item) -> Pixels | UnreadableImage:
        if item.problem:
            return UnreadableImage(item.problem)
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
