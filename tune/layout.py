"""Says which class and split a path of a source belongs to. Pure: looks at names only, opens nothing.

`tune/split_names.py` reads the folders' names.
"""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from trainables.records import TEST, TRAIN, LeftOut, SkippedImage
from tune.errors import SourceError, nearest
from tune.file_kinds import is_image
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
_SHOWN_NAMES: Final = 4


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


@dataclass(frozen=True)
class _Path:
    """A file, and the folders and the name that are left of its path when what is around everything is taken off."""

    path: str
    parts: tuple[str, ...]
    sure: bool

    @property
    def top(self) -> str:
        return self.parts[0] if len(self.parts) > 1 else ""

    @property
    def nested(self) -> bool:
        return len(self.parts) > 2


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
    if doubtful is None:
        doubtful = frozenset(path for path in found if not is_image(path))
    return _Arrangement(found, source, doubtful, decisions or SplitDecisions()).layout()


class _Arrangement:
    """The work of `arrange`, step by step."""

    def __init__(self, paths: list[str], source: str, doubtful: frozenset[str], decisions: SplitDecisions) -> None:
        if not paths:
            raise SourceError(
                "A source must hold images (PNG, JPEG, GIF, BMP, TIFF, WebP, PNM and others that OpenCV or Pillow "
                f"reads) or one CSV with emotion, pixels and Usage. Received: {source}, which holds neither; check "
                "the path."
            )
        for path in paths:
            if not path.isprintable() and any(unicodedata.category(letter) in _UNSTORABLE for letter in path):
                raise SourceError(f"Names must be printable UTF-8. Received: {path!r} in {source}; rename it.")
        self.source, self.decisions = source, decisions
        sure = {path for path in paths if path not in doubtful} or set(paths)
        self.files = [_Path(path, tuple(path.split("/")), path in sure) for path in paths]
        self.prefix = ""
        self.known: set[tuple[str, str]] = set()
        self.skipped: list[SkippedImage] = []
        self.left_out: list[LeftOut] = []
        self.notes: list[str] = []

    def layout(self) -> Layout:
        self._look_through()
        splits = self._class_first() or self._split_folders()
        self.decisions.check_used(self.known, self.source)
        if splits is None:
            items = self._classes_alone()
        else:
            items = self._with_splits(*splits)
        classes = self._checked_classes(items)
        return Layout(
            tuple(items),
            classes,
            tuple(sorted(self.skipped, key=lambda image: image.path)),
            tuple(self.left_out),
            tuple(self.notes),
        )

    # --- folders around everything -----------------------------------------------------------------------------------

    def _look_through(self) -> None:
        """Takes off single folders around everything, and what the user leaves out."""
        while True:
            tops = self._tops()
            self.known |= {(top, self.prefix) for top in tops}
            for top in tops:
                if self._decision(top) == LEAVE_OUT:
                    self._leave_out([file for file in self.files if file.top == top], "left out by --split")
            sure = [file for file in self.files if file.sure and file.top]
            tops = sorted({file.top for file in sure})
            if len(tops) != 1 or not any(file.nested for file in sure):
                return
            if self.decisions.of(tops[0], prefix=self.prefix, patterns=False) is not None:
                return
            named = split_named(tops[0])
            below = {file.parts[1] for file in sure if file.nested}
            if named is not None and named.plain and not any(_plain(name) for name in below):
                return
            around = f"outside {self.prefix}{tops[0]}/"
            self._leave_out([file for file in self.files if file.top != tops[0]], around)
            self.prefix += f"{tops[0]}/"
            self.files = [replace(file, parts=file.parts[1:]) for file in self.files]

    def _tops(self) -> list[str]:
        return sorted({file.top for file in self.files if file.top})

    def _decision(self, top: str) -> str | None:
        return self.decisions.of(top, prefix=self.prefix)

    def _nested_names(self) -> dict[str, set[str]]:
        """Names of the folders in each folder that holds more images in folders than beside them."""
        direct = Counter(file.top for file in self.files if file.sure and len(file.parts) == 2)
        nested = Counter(file.top for file in self.files if file.sure and file.nested)
        found: dict[str, set[str]] = defaultdict(set)
        for file in self.files:
            if file.sure and file.nested and nested[file.top] > direct[file.top]:
                found[file.top].add(joined_name(file.parts[1]).casefold())
        return dict(found)

    # --- which folders are splits ------------------------------------------------------------------------------------

    def _class_first(self) -> tuple[dict[str, str], int] | None:
        """Returns the splits if they are folders in each class: `happy/train/im0.png`."""
        inner = self._nested_names()
        decided = any(self._decision(top) is not None for top in self._tops())
        if decided or len(inner) < 2 or any(_plain(top) for top in inner):
            return None
        if not all(_plain(name) for names in inner.values() for name in names):
            return None
        files = [file for file in self.files if file.sure and file.nested and file.top in inner]
        if any(len(file.parts) > 3 for file in files):
            tops = sorted(inner)
            raise SourceError(
                f"A source must hold its splits once. Received: {self.source} with splits in each of "
                f"{_shown(tops)}; import one of them, or pass --split {tops[-1]}={LEAVE_OUT}."
            )
        names = {file.parts[1] for file in files}
        return {name: named.kind for name in names if (named := split_named(name)) is not None}, 1

    def _split_folders(self) -> tuple[dict[str, str], int] | None:
        """Returns which folders are splits, by name; None if there are class folders alone.

        Raises:
            SourceError: what the folders are has to be decided by the user.
        """
        inner = self._nested_names()
        decided = {top: d for top in self._tops() if (d := self._decision(top)) is not None}
        splits = {top: d for top, d in decided.items() if d in SPLIT_KINDS}
        classes = {top for top, d in decided.items() if d == CLASS}
        any_nested = {file.top for file in self.files if file.sure and file.nested}
        for top in any_nested - decided.keys():
            if (named := split_named(top)) is not None and named.plain:
                splits[top] = named.kind
        open_tops = {top: names for top, names in inner.items() if top not in decided and top not in splits}
        guessed = glued_splits(open_tops) or {
            top: named.kind for top in open_tops if (named := split_named(top)) is not None
        }
        for top, kind in guessed.items():
            if any(inner[top] & names for other, names in inner.items() if other != top):
                splits[top] = kind
            elif not splits and len(self._tops()) > 1:
                self._ask([top], "is called like a split")
        if splits and classes:
            raise SourceError(
                f"Folders are splits or classes, not both. Received: {self.source} with {_shown(sorted(splits))} as "
                f"splits and {_shown(sorted(classes))} as classes; decide with --split."
            )
        if splits:
            return splits, 0
        self._check_unlike({top: names for top, names in open_tops.items() if top not in classes})
        return None

    def _check_unlike(self, inner: dict[str, set[str]]) -> None:
        """Refuses folders that hold folders of the same names, as splits hold the same classes."""
        shared = Counter(name for names in inner.values() for name in names)
        alike = sorted(top for top, names in inner.items() if any(shared[name] > 1 for name in names))
        if len(alike) > 1 and len({name for top in alike for name in inner[top]}) > 1:
            self._ask(alike, "hold folders of the same names, as splits do")

    def _ask(self, tops: list[str], why: str) -> None:
        raise SourceError(
            f"What is a split must be plain. Received: {self.source}, where {_shown(tops)} {why}; decide with "
            f"--split {tops[0]}={'|'.join(SPLIT_KINDS)} (once for each folder), or --split '*={CLASS}' if they are "
            "classes."
        )

    # --- classes and what is outside them ----------------------------------------------------------------------------

    def _with_splits(self, splits: dict[str, str], depth: int) -> list[Item]:
        """Sorts the files below split folders; `depth` is 1 where classes come first."""
        numbers, note = self.decisions.numbers(splits, self.source)
        self._note_splits(splits)
        if note:
            self.notes.append(note)
        if depth == 0:
            self._look_through_splits(splits)
        used = [split for split, number in numbers.items() if number is not None]
        where = " and ".join(sorted(f"<class>/{name}/" if depth else f"{name}/<class>/" for name in used))
        has_test = TEST in numbers.values()
        below = [file for file in self.files if file.nested and file.parts[depth] in splits]
        classes = {joined_name(file.parts[1 - depth]) for file in below if file.sure}
        items, unused = [], list[_Path]()
        for file in below:
            number, class_name = numbers[file.parts[depth]], joined_name(file.parts[1 - depth])
            if number is None:
                unused.append(file)
            elif class_name in classes:
                items.append(Item(file.path, class_name, number if has_test or number == TEST else None))
        taken = {item.path for item in items}
        self.files = [file for file in self.files if file.path not in taken]
        use = "test or --validation train" if has_test else "train"
        for split in sorted({file.parts[depth] for file in unused}):
            self._leave_out(
                [file for file in unused if file.parts[depth] == split],
                f"validation images; pass --validation {use} to use them",
                shown=f"{split}/",
            )
        self._leave_out_unknown(splits, where, depth)
        return items

    def _leave_out_unknown(self, splits: dict[str, str], where: str, depth: int) -> None:
        """Takes out what is in no split, with what can be done about it."""
        for top, names in self._nested_names().items() if depth == 0 else ():
            if top not in splits:
                once_more = all(_plain(name) for name in names)
                why = "the splits once more" if once_more else f"--split {top}=train|test|validation takes it in"
                self._leave_out([file for file in self.files if file.top == top], f"outside {where}; {why}")
        self._leave_out(self.files, f"outside {where}")

    def _note_splits(self, splits: dict[str, str]) -> None:
        if any(folder.casefold() != kind for folder, kind in splits.items()):
            by_kind = {kind: sorted(name for name in splits if splits[name] == kind) for kind in SPLIT_KINDS}
            told = "; ".join(f"{kind} in {_shown(folders)}" for kind, folders in by_kind.items() if folders)
            self.notes.append(f"folders taken for splits: {told}")

    def _look_through_splits(self, splits: dict[str, str]) -> None:
        """Takes off the single folder in each split: `train/images/happy`, `train/train/happy`."""
        while True:
            inner: dict[str, set[str]] = defaultdict(set)
            for file in self.files:
                if file.sure and file.top in splits:
                    inner[file.top].add(file.parts[1] if len(file.parts) > 3 else "")
            if not inner or any(len(names) != 1 or "" in names for names in inner.values()):
                return
            self.files = [
                replace(file, parts=(file.top, *file.parts[2:])) if file.top in splits and file.nested else file
                for file in self.files
            ]

    def _classes_alone(self) -> list[Item]:
        if self.decisions.validation is not None:
            self.decisions.numbers({}, self.source)
        tops = {file.top for file in self.files if file.sure and file.top}
        called = sorted(top for top in tops if self._decision(top) is None and _plain(top))
        if len(called) == len(tops) > 1:
            raise SourceError(
                f"Split folders must hold class folders, {called[0]}/<class>/. Received: {self.source}, where "
                f"{_shown(called)} hold images directly; sort them into classes, or pass --split '*={CLASS}'."
            )
        if called:
            self.notes.append(
                f"{_shown(called)} with images directly inside: taken for a class; "
                f"--split {called[0]}={LEAVE_OUT} leaves it out"
            )
        items = [Item(file.path, joined_name(file.top), None) for file in self.files if file.top in tops]
        self.files = [file for file in self.files if file.top not in tops]
        self._leave_out(self.files, "outside <class>/")
        return items

    def _leave_out(self, files: list[_Path], reason: str, shown: str | None = None) -> None:
        """Takes files out of the arrangement, and tells them one by one or by the folder that they share."""
        groups: dict[str, list[_Path]] = defaultdict(list)
        for file in files:
            groups[shown or (f"{file.top}/" if file.top else "./")].append(file)
        gone = {file.path for file in files}
        self.files = [file for file in self.files if file.path not in gone]
        for folder, group in sorted(groups.items()):
            if len(group) == 1:
                self.skipped.append(SkippedImage(path=group[0].path, reason=reason))
            else:
                self.left_out.append(LeftOut(path=f"{self.prefix}{folder}", images=len(group), reason=reason))

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


def _shown(names: list[str]) -> str:
    """The first few folders in one phrase."""
    shown = [f"{name}/" for name in names[:_SHOWN_NAMES]]
    if len(names) > _SHOWN_NAMES:
        return f"{', '.join(shown)} and {len(names) - _SHOWN_NAMES} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
