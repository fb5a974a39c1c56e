"""Says which class and split a path of a source belongs to. Pure: looks at names only, opens nothing.

`tune/folder_tree.py` holds the paths, `tune/split_names.py` reads the folders' names.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from trainables.records import TEST, TRAIN, LeftOut, SkippedImage
from tune.errors import SourceError, nearest
from tune.file_kinds import is_image
from tune.folder_tree import FolderTree, shown
from tune.split_names import (
    CLASS,
    LEAVE_OUT,
    SPLIT_KINDS,
    SplitDecisions,
    glued_splits,
    joined_name,
    split_named,
)

_UNSTORABLE: Final = {"Cc", "Cs", "Zl", "Zp"}  # control characters, bytes that are no UTF-8, line breaks


@dataclass(frozen=True)
class Item:
    """One image of a source; `split` is None where its pixels have to decide."""

    path: str
    class_name: str
    split: int | None


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


def arrange(
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
        raise SourceError(
            "A source must hold images (PNG, JPEG, GIF, BMP, TIFF, WebP, PNM and what else OpenCV or Pillow reads) "
            f"or one CSV with emotion, pixels and Usage. Received: {source}, which holds neither; check the path."
        )
    for path in found:
        if not path.isprintable() and any(unicodedata.category(letter) in _UNSTORABLE for letter in path):
            raise SourceError(f"Names must be printable UTF-8. Received: {path!r} in {source}; rename it.")
    if doubtful is None:
        doubtful = frozenset(path for path in found if not is_image(path))
    return _Arrangement(FolderTree(found, doubtful), source, decisions or SplitDecisions()).layout()


class _Arrangement:
    """The work of `arrange`, step by step."""

    def __init__(self, tree: FolderTree, source: str, decisions: SplitDecisions) -> None:
        self.tree, self.source, self.decisions = tree, source, decisions
        self.notes: list[str] = []

    def layout(self) -> Layout:
        self._look_through()
        classes_first = self._splits_in_classes()
        if classes_first:
            items = self._with_splits(classes_first, depth=1)
        elif splits := self._split_folders():
            self._look_through_splits(splits)
            items = self._with_splits(splits, depth=0)
        else:
            items = self._classes_alone()
        classes = self._checked_classes(items)
        return Layout(tuple(items), classes, self.tree.skipped, self.tree.left_out, tuple(self.notes))

    # --- what the folders are ----------------------------------------------------------------------------------------

    def _look_through(self) -> None:
        """Takes off single folders around everything, and what the user leaves out."""
        tree, known = self.tree, set()
        while True:
            known |= {(top, tree.prefix) for top in tree.tops()}
            for top in tree.tops():
                if self._decision(top) == LEAVE_OUT:
                    tree.leave_out(tree.below(top), "left out by --split")
            tops = {file.top for file in tree.sure}
            if len(tops) != 1 or not any(file.nested for file in tree.sure):
                break
            (top,) = tops
            inner = {file.parts[1] for file in tree.sure if file.nested}
            if self.decisions.of(top, prefix=tree.prefix, patterns=False) is not None:
                break
            if _plain(top) and not any(map(_plain, inner)):
                break
            tree.leave_out([file for file in tree.files if file.top != top], f"outside {tree.prefix}{top}/")
            tree.take_off(0, [top])
            tree.prefix += f"{top}/"
        self.decisions.check_used(known, self.source)

    def _decision(self, top: str) -> str | None:
        return self.decisions.of(top, prefix=self.tree.prefix)

    def _splits_in_classes(self) -> dict[str, str]:
        """Returns the splits by folder if they are folders in each class: `happy/train/im0.png`."""
        inner = self.tree.folders_of_folders()
        decided = any(self._decision(top) is not None for top in self.tree.tops())
        if decided or len(inner) < 2 or any(map(_plain, inner)):
            return {}
        if not all(_plain(name) for names in inner.values() for name in names):
            return {}
        files = [file for file in self.tree.sure if file.nested and file.top in inner]
        if any(len(file.parts) > 3 for file in files):
            tops = sorted(inner)
            raise SourceError(
                f"A source must hold its splits once. Received: {self.source} with splits in each of "
                f"{shown(tops)}; import one of them, or pass --split {tops[-1]}={LEAVE_OUT}."
            )
        return _named(file.parts[1] for file in files)

    def _split_folders(self) -> dict[str, str]:
        """Returns what the split folders are, by name; none if there are class folders alone.

        Raises:
            SourceError: what the folders are has to be decided by the user.
        """
        tree = self.tree
        inner = tree.folders_of_folders()
        decided = {top: decision for top in tree.tops() if (decision := self._decision(top)) is not None}
        splits = {top: decision for top, decision in decided.items() if decision in SPLIT_KINDS}
        plain = {file.top for file in tree.sure if file.nested and file.top not in decided and _plain(file.top)}
        splits |= _named(plain)
        guessable = [top for top in inner if top not in decided and top not in splits]
        for top, kind in (glued_splits(guessable) or _named(guessable)).items():
            if any(inner[top] & names for other, names in inner.items() if other != top):
                splits[top] = kind
            elif not splits and len(tree.tops()) > 1:
                raise self._undecided([top], "is called like a split")
        if splits and (classes := sorted(top for top, decision in decided.items() if decision == CLASS)):
            raise SourceError(
                f"Folders must all be splits, or all be classes. Received: {self.source} with "
                f"{shown(sorted(splits))} as splits and {shown(classes)} as classes; decide with --split."
            )
        if not splits:
            if not decided:
                self._leave_out_copies()
            open_tops = [top for top in tree.folders_of_folders() if top not in decided]
            if twins := tree.twins(open_tops):
                raise self._undecided(twins, "hold folders of the same names, as splits do")
        return splits

    def _undecided(self, tops: list[str], why: str) -> SourceError:
        return SourceError(
            f"Folders must be plainly splits or plainly classes. Received: {self.source}, where {shown(tops)} {why}; "
            f"decide with --split {tops[0]}={'|'.join(SPLIT_KINDS)} (once for each folder), or --split '*={CLASS}' if "
            "they are classes."
        )

    # --- classes and what is outside them ----------------------------------------------------------------------------

    def _look_through_splits(self, splits: Mapping[str, str]) -> None:
        """Takes off the single folder in each split: `train/images/happy`, `train/train/happy`."""
        while True:
            files = [file for file in self.tree.sure if file.top in splits]
            inner = {(file.top, file.parts[1]) for file in files}
            if any(len(file.parts) < 4 for file in files) or len(inner) != len({top for top, _ in inner}):
                return
            self.tree.take_off(1, splits)

    def _leave_out_copies(self, split: str = "") -> None:
        """Leaves out a tree that stands once more one level deeper, among the classes."""
        classes = defaultdict(list)
        for file in self.tree.below(split) if split else self.tree.files:
            if len(file.parts) > (2 if split else 1):
                classes[file.parts[1 if split else 0]].append(file)
        if len(classes) > 2:
            remedy = "" if split else f"; --split '*={CLASS}' keeps them"
            self.tree.leave_out_copies(classes, f"the same classes once more{remedy}", f"{split}/" if split else "")

    def _with_splits(self, splits: dict[str, str], depth: int) -> list[Item]:
        """Sorts the files below split folders; `depth` is 1 where classes come first."""
        tree, uses = self.tree, self.decisions.uses(splits, self.source)
        self._note_splits(splits, uses.note)
        for split in splits if depth == 0 else ():
            self._leave_out_copies(split)
        below = [file for file in tree.files if file.nested and file.parts[depth] in splits]
        for split, number in uses.numbers.items():
            if number is None:
                tree.leave_out([file for file in below if file.parts[depth] == split], uses.reason, split)
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
                why = "the splits once more" if all(map(_plain, names)) else take
                tree.leave_out(tree.below(top), f"outside {outside}; {why}")
        tree.leave_out(tree.files, f"outside {outside}")
        return items

    def _note_splits(self, splits: Mapping[str, str], note: str | None) -> None:
        if any(folder.casefold() != kind for folder, kind in splits.items()):
            by_kind = {kind: sorted(name for name in splits if splits[name] == kind) for kind in SPLIT_KINDS}
            told = "; ".join(f"{kind} in {shown(folders)}" for kind, folders in by_kind.items() if folders)
            self.notes.append(f"folders taken for splits: {told}")
        if note:
            self.notes.append(note)

    def _classes_alone(self) -> list[Item]:
        tree = self.tree
        self.decisions.uses({}, self.source)
        tops = {file.top for file in tree.sure}
        called = sorted(top for top in tops if self._decision(top) is None and _plain(top))
        if len(called) == len(tops) > 1:
            raise SourceError(
                f"Split folders must hold class folders, {called[0]}/<class>/. Received: {self.source}, where "
                f"{shown(called)} hold images directly; sort them into classes, or pass --split '*={CLASS}'."
            )
        if called:
            self.notes.append(
                f"{shown(called)} with images directly inside: taken for a class; "
                f"--split {called[0]}={LEAVE_OUT} leaves it out"
            )
        items = [Item(file.path, joined_name(file.top), None) for file in tree.files if file.top in tops]
        tree.files = [file for file in tree.files if file.top not in tops]
        tree.leave_out(tree.files, "outside <class>/")
        return items

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
        for name in test:
            if name not in train:
                raise SourceError(
                    f"Every class in test/ must be in train/. Received: {name!r} in {self.source}."
                    f"{nearest(name, train)}"
                )
        return tuple(train)


def split_of(pixel_hash: bytes, test_share: float) -> int:
    """The split of an image that has none: its pixels decide, so duplicates stay together and every import agrees."""
    return TEST if int.from_bytes(pixel_hash[:8], "big") < test_share * 2**64 else TRAIN


def _plain(name: str) -> bool:
    named = split_named(name)
    return named is not None and named.plain


def _named(names: Iterable[str]) -> dict[str, str]:
    """What the names say that have a split in them."""
    return {name: named.kind for name in names if (named := split_named(name)) is not None}
