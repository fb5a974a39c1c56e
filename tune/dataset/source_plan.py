"""How a source would be read, before anything is decoded."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from pydantic import BaseModel

from trainables.dataset.info import FileName, LeftOut, SkippedImage
from trainables.dataset.reader import SPLITS, TEST, TRAIN
from tune.dataset.import_options import ImportOptions
from tune.dataset.ingest import open_as_asked

_SHOWN_BAD = 10


class SourcePlan(BaseModel, frozen=True):
    """What `emotune data import --dry-run` prints.

    Attributes:
        source: what it is called.
        classes: in the order of the labels.
        counts: images by split and class; `drawn` are those that `--test-share` divides, if there is no test split.
        bad_images: how many are known to be bad already.
        bad_examples: the first of them.
        skipped: single images that are left out.
        left_out: folders or values that are left out.
        passed_over: files that are no images, by folder and suffix.
        notes: how the source was understood, where that is not plain.
    """

    source: FileName
    classes: tuple[str, ...]
    counts: dict[str, dict[str, int]]
    bad_images: int
    bad_examples: tuple[SkippedImage, ...]
    skipped: tuple[SkippedImage, ...]
    left_out: tuple[LeftOut, ...]
    passed_over: dict[FileName, dict[FileName, int]]
    notes: tuple[FileName, ...]


def plan_import(source: Path, options: ImportOptions) -> SourcePlan:
    """Reads names and labels of a source, not its pixels.

    Raises:
        SourceError: see `open_source`.
    """
    opened = open_as_asked(source, options)
    counts, examples, bad = Counter[tuple[str, str]](), list[SkippedImage](), 0
    for item in opened:
        if item.problem:
            bad += 1
            if len(examples) < _SHOWN_BAD:
                examples.append(SkippedImage(path=item.path, reason=item.problem))
        else:
            counts["drawn" if item.split is None else SPLITS[item.split], item.class_name] += 1
    if any(counts[SPLITS[TEST], name] for name in opened.classes):  # then nothing is drawn, and those train
        for name in opened.classes:
            counts[SPLITS[TRAIN], name] += counts.pop(("drawn", name), 0)
    passed_over: dict[str, dict[str, int]] = {}
    for (folder, suffix), files in sorted(opened.passed_over.items()):
        passed_over.setdefault(folder or "./", {})[suffix] = files
    return SourcePlan(
        source=opened.name,
        classes=opened.classes,
        counts={
            split: {name: counts[split, name] for name in opened.classes}
            for split in (*SPLITS, "drawn")
            if any(counts[split, name] for name in opened.classes)
        },
        bad_images=bad,
        bad_examples=tuple(examples),
        skipped=opened.skipped,
        left_out=opened.left_out,
        passed_over=passed_over,
        notes=opened.notes,
    )
