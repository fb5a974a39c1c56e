"""Says which class and split a path of a source belongs to. Pure: looks at names only, opens nothing.

`tune/sources/split_folders.py` finds the splits, `tune/sources/folder_tree.py` holds the paths.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from trainables.dataset.info import LeftOut, SkippedImage
from trainables.dataset.reader import TEST
from tune.errors import SourceError, nearest
from tune.sources.file_kinds import is_image
from tune.sources.folder_tree import FolderTree, shortened_list
from tune.sources.split_folders import find_splits
from tune.sources.split_names import (
    CLASS,
    LEAVE_OUT,
    SPLIT_KINDS,
    SplitDecisions,
    glued_splits,
    is_plain_split,
    joined_name,
    split_named,
)

Shares = tuple[tuple[str, float], ...]
_UNSTORABLE: Final = {"Cc", "Cs", "Zl", "Zp"}  # control characters, bytes that are no UTF-8, line breaks


@dataclass(frozen=True)
class Item:
    """One image of a source; `split` is None where it has to be drawn, `problem` why it is known to be a bad image.

    `shares` are pairs of a class and its share of the votes, where people have voted.
    """

    path: str
    class_name: str
    split: int | None
    problem: str = ""
    shares: Shares = ()


@dataclass(frozen=True)
class Layout:
    """The images of a source in the order of their paths, its classes in alphabetical order, and what has no class.

    `skipped` are single files outside all classes, `left_out` folders of them; `notes` say how the folders were
    understood where their names do not.
    """

    items: tuple[Item, ...]
    classes: tuple[str, ...]
    skipped: tuple[SkippedImage, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()


def assign_classes_and_splits(
    paths: Iterable[str],
    source: str,
    *,
    doubtful: frozenset[str] | None = None,
    decisions: SplitDecisions | None = None,
) -> Layout:
    """Sorts images into classes and splits by their folders.

    `<split>/<class>/...` and `<class>/<split>/...` keep their splits, whose names are known in any case and with a data
    set's name around them. Without a test folder, or with class folders alone, the split is left open. A single folder
    around everything is looked through. Class names that look alike are one class, whatever characters compose them.

    Args:
        paths: images, relative to the source, with forward slashes.
        source: what to call the source in errors.
        doubtful: those of the paths that may be no images; they have no say in what the folders mean. None: those
            that are not called like images.
        decisions: what the user decided about folders.

    Raises:
        SourceError: no images, fewer than two classes, no train images, a test class that train does not know, or
            folders that may be splits as well as classes.
    """
    found = sorted(paths)
    if not found:
        raise no_images(source)
    for path in found:
        if not path.isprintable() and any(unicodedata.category(letter) in _UNSTORABLE for letter in path):
            raise SourceError(f"Names must be printable UTF-8. Received: {path!r} in {source}; rename it.")
    if doubtful is None:
        doubtful = frozenset(path for path in found if not is_image(path))
    return _Assignment(FolderTree(found, doubtful), source, decisions or SplitDecisions()).layout()


def no_images(source: str, passed_over: Mapping[tuple[str, str], int] | None = None) -> SourceError:
    """Returns the error for a source without images and tables, with what it holds instead, counted by suffix."""
    counts = Counter[str]()
    for (_, name), files in (passed_over or {}).items():
        counts[name] += files
    instead = ", ".join(f"{files:,} {name}" for name, files in sorted(counts.items()))
    holds = f"{source}, which holds neither{f' but {instead}' if instead else ''}"
    return SourceError(
        "A source must hold images (PNG, JPEG, GIF, BMP, TIFF, WebP, PNM and what else OpenCV or Pillow reads), a CSV "
        f"with emotion and pixels, or parquet files with image and label. Received: {holds}; check the path."
    )


class _Assignment:
    """The work of `assign_classes_and_splits`, when it is known which folders are splits."""

    def __init__(self, tree: FolderTree, source: str, decisions: SplitDecisions) -> None:
        self.tree, self.source, self.decisions = tree, source, decisions
        self.notes: list[str] = []

    def layout(self) -> Layout:
        splits = find_splits(self.tree, self.decisions, self.source)
        items = self._with_splits(splits.kinds, splits.depth) if splits.kinds else self._classes_alone()
        items = self._joined_across_splits(items)
        classes = self._checked_classes(items)
        return Layout(tuple(items), classes, self.tree.skipped, self.tree.left_out, tuple(self.notes))

    def _with_splits(self, splits: Mapping[str, str], depth: int) -> list[Item]:
        """Sorts the files below split folders; `depth` is 1 where classes come first."""
        tree, uses = self.tree, self.decisions.uses(splits, self.source)
        self._note_splits(splits, uses.note)
        below = [file for file in tree.files if file.nested and file.parts[depth] in splits]
        for split, number in uses.numbers.items():
            if number is None:
                tree.leave_out([file for file in below if file.parts[depth] == split], uses.reason_of(split), split)
        has_test = TEST in uses.numbers.values()
        classes = {joined_name(file.parts[1 - depth]) for file in below if file.sure}
        items = []
        for file in below:
            number, class_name = uses.numbers[file.parts[depth]], joined_name(file.parts[1 - depth])
            if number is not None and class_name in classes:
                items.append(Item(file.path, class_name, number if has_test or number == TEST else None))
        taken = {item.path for item in items}
        tree.files = [file for file in tree.files if file.path not in taken]
        used = sorted(split for split, number in uses.numbers.items() if number is not None)
        outside = " and ".join(f"<class>/{split}/" if depth else f"{split}/<class>/" for split in used)
        for top, names in tree.folders_of_folders().items() if depth == 0 else ():
            if top not in splits:
                take = f"--split {top}={'|'.join(SPLIT_KINDS)} takes it in"
                why = "the splits once more" if all(map(is_plain_split, names)) else take
                tree.leave_out(tree.below(top), f"outside {outside}; {why}")
        tree.leave_out(tree.files, f"outside {outside}")
        return items

    def _note_splits(self, splits: Mapping[str, str], note: str | None) -> None:
        if any(folder.casefold() != kind for folder, kind in splits.items()):
            by_kind = {kind: sorted(name for name in splits if splits[name] == kind) for kind in SPLIT_KINDS}
            listed = "; ".join(f"{kind} in {shortened_list(folders)}" for kind, folders in by_kind.items() if folders)
            self.notes.append(f"folders taken for splits: {listed}")
        if note:
            self.notes.append(note)

    def _classes_alone(self) -> list[Item]:
        tree = self.tree
        self.decisions.uses({}, self.source)
        tops = {file.top for file in tree.sure}
        called = sorted(
            top for top in tops if self.decisions.of(top, prefix=tree.prefix) is None and is_plain_split(top)
        )
        if not self.decisions.folders and (named := _flat_splits(tops)):
            called = named
        if len(called) == len(tops) > 1:
            raise SourceError(
                f"Split folders must hold class folders, {called[0]}/<class>/. Received: {self.source}, where "
                f"{shortened_list(called)} hold images directly; sort them into classes, or pass --split '*={CLASS}'."
            )
        if called:
            self.notes.append(
                f"{shortened_list(called)} with images directly inside: taken for a class; "
                f"--split {called[0]}={LEAVE_OUT} leaves it out"
            )
        if nested := sorted(tree.folders_of_folders()):
            self.notes.append(
                f"{shortened_list(nested)} with folders inside: taken for one class each, with all images in it"
            )
        items = [Item(file.path, joined_name(file.top), None) for file in tree.files if file.top in tops]
        tree.files = [file for file in tree.files if file.top not in tops]
        tree.leave_out(tree.files, "outside <class>/")
        return items

    def _joined_across_splits(self, items: list[Item]) -> list[Item]:
        """Gives test images the class of train that differs from theirs in case alone, if there is one such."""
        train = {item.class_name for item in items if item.split != TEST}
        joined: dict[str, str] = {}
        for name in {item.class_name for item in items} - train:
            alike = [known for known in train if known.casefold() == name.casefold()]
            if len(alike) == 1:
                joined[name] = alike[0]
        if not joined:
            return items
        pairs = ", ".join(f"{name} and {joined[name]}" for name in sorted(joined))
        self.notes.append(f"folders of test and train that differ in case alone are one class: {pairs}")
        return [replace(item, class_name=joined.get(item.class_name, item.class_name)) for item in items]

    def _checked_classes(self, items: list[Item]) -> tuple[str, ...]:
        train = sorted({item.class_name for item in items if item.split != TEST})
        test = sorted({item.class_name for item in items if item.split == TEST})
        if not train:
            raise SourceError(
                f"A source must hold train images, in train/<class>/ or <class>/. Received: {self.source} with "
                f"{'test images only' if test else 'no class folders'}; add them."
            )
        if len(train) < 2:
            raise SourceError(
                f"A source must hold two classes or more. Received: {self.source} with {train[0]!r} alone."
            )
        alike = [pair for pair in pairwise(sorted(train, key=str.casefold)) if pair[0].casefold() == pair[1].casefold()]
        if words := [pair for pair in alike if len(pair[0]) > 1]:
            names = ", ".join(f"{one} and {other}" for one, other in words)
            self.notes.append(
                f"classes that differ in case alone: {names}; --classes {words[0][0]}={words[0][1]} makes them one"
            )
        for name in test:
            if name not in train:
                raise SourceError(
                    f"Every class in test/ must be in train/. Received: {name!r} in {self.source}."
                    f"{nearest(name, train)}"
                )
        return tuple(train)


def _flat_splits(tops: Iterable[str]) -> list[str]:
    """Folders that are all called like splits, and not all like the same one: `FER2013Train`, `FER2013Test`."""
    kinds = {top: named.kind if (named := split_named(top)) else None for top in tops}
    kinds = kinds if None not in kinds.values() else dict(glued_splits(kinds))
    return sorted(kinds) if len(set(kinds.values())) > 1 else []
