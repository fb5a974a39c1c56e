"""Says which class and split a path of a source belongs to. Pure: looks at names only, opens nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from trainables.records import SPLITS, TEST, TRAIN, SkippedImage
from tune.errors import SourceError, nearest

IMAGE_SUFFIXES: Final = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})


@dataclass(frozen=True)
class Item:
    """One image of a source; `split` is None where its pixels have to decide."""

    path: str
    class_name: str
    split: int | None


@dataclass(frozen=True)
class Layout:
    """The images of a source in the order of their paths, its classes in alphabetical order, and what has no class."""

    items: tuple[Item, ...]
    classes: tuple[str, ...]
    left_out: tuple[SkippedImage, ...]


def is_image(path: str) -> bool:
    """Whether a path names an image that is meant: hidden files and what macOS adds to zips are not."""
    stem, dot, suffix = path.rpartition(".")
    if not stem or f"{dot}{suffix}".lower() not in IMAGE_SUFFIXES:
        return False
    return not any(part.startswith(".") or part == "__MACOSX" for part in path.split("/"))


def arrange(paths: Iterable[str], source: str) -> Layout:
    """Sorts images into classes and splits by their folders.

    `train/<class>/...` and `test/<class>/...` (any case) keep their split. Without a test folder, or with class folders
    alone, the split is left open. A single folder around everything is looked through.

    Args:
        paths: images, relative to the source, with forward slashes.
        source: what to call the source in errors.

    Raises:
        SourceError: no images, fewer than two classes, no train images, or a test class that train does not know.
    """
    found = sorted(paths)
    if not found:
        raise SourceError(
            f"A source must hold images ({', '.join(sorted(IMAGE_SUFFIXES))}) or one CSV with emotion, pixels and "
            f"Usage. Received: {source}, which holds neither; check the path."
        )
    for path in found:
        if not path.isprintable():
            raise SourceError(f"Names must be printable UTF-8. Received: {path!r} in {source}; rename it.")
    parts = {path: path.split("/") for path in found}
    while len({p[0] for p in parts.values()}) == 1 and any(len(p) > 2 for p in parts.values()):
        if next(iter(parts.values()))[0].lower() in SPLITS:
            break
        parts = {path: p[1:] if len(p) > 1 else p for path, p in parts.items()}
    folders = {p[0].lower() for p in parts.values() if len(p) > 2} & set(SPLITS)
    items, left_out = [], []
    for path, p in parts.items():
        if folders and p[0].lower() in folders and len(p) > 2:
            given = SPLITS.index(p[0].lower())
            items.append(Item(path, p[1], given if folders == set(SPLITS) or given == TEST else None))
        elif not folders and len(p) > 1:
            items.append(Item(path, p[0], None))
        else:
            where = " and ".join(f"{folder}/<class>/" for folder in sorted(folders)) or "<class>/"
            left_out.append(SkippedImage(path=path, reason=f"outside {where}"))
    return Layout(tuple(items), _classes(items, source), tuple(left_out))


def _classes(items: list[Item], source: str) -> tuple[str, ...]:
    train = sorted({item.class_name for item in items if item.split != TEST})
    test = sorted({item.class_name for item in items if item.split == TEST})
    if not train:
        raise SourceError(
            f"A source must hold train images, in train/<class>/ or <class>/. Received: {source} with "
            f"{'test images only' if test else 'no class folders'}; add them."
        )
    if len(train) < 2:
        raise SourceError(f"A source must hold two classes or more. Received: {source} with {train[0]!r} alone.")
    for name in test:
        if name not in train:
            raise SourceError(
                f"Every class in test/ must be in train/. Received: {name!r} in {source}.{nearest(name, train)}"
            )
    return tuple(train)


def split_of(pixel_hash: bytes, test_share: float) -> int:
    """The split of an image that has none: its pixels decide, so duplicates stay together and every import agrees."""
    return TEST if int.from_bytes(pixel_hash[:8], "big") < test_share * 2**64 else TRAIN
