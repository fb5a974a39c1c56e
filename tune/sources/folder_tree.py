"""The files of a source as a tree of folders, and what of it is left out. Knows nothing of splits and classes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from trainables.dataset.info import LeftOut, SkippedImage
from tune.sources.split_names import joined_name

_SHOWN_NAMES: Final = 4


@dataclass(frozen=True)
class TreeFile:
    """A file; `parts` are its path below the folders around everything, `sure` says that it is an image."""

    path: str
    parts: tuple[str, ...]
    sure: bool

    @property
    def top(self) -> str:
        """The topmost folder that it is in, empty if in none."""
        return self.parts[0] if len(self.parts) > 1 else ""

    @property
    def nested(self) -> bool:
        """Whether it is in a folder of a folder."""
        return len(self.parts) > 2


class FolderTree:
    """The files that are still to be understood, and those that were left out.

    Attributes:
        files: in the order of their paths.
        prefix: the folders around everything that were taken off, with a slash behind.
    """

    def __init__(self, paths: Iterable[str], doubtful: frozenset[str]) -> None:
        """Takes the paths; those that may be no images have no say, unless there are no others."""
        paths = list(paths)
        sure = set(paths) - doubtful or set(paths)
        self.files = [TreeFile(path, tuple(path.split("/")), path in sure) for path in paths]
        self.prefix = ""
        self._skipped: list[SkippedImage] = []
        self._left_out: list[LeftOut] = []

    @property
    def skipped(self) -> tuple[SkippedImage, ...]:
        """Single files that were left out, by path."""
        return tuple(sorted(self._skipped, key=lambda image: image.path))

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """Folders that were left out."""
        return tuple(self._left_out)

    @property
    def sure(self) -> list[TreeFile]:
        """The images in folders."""
        return [file for file in self.files if file.sure and file.top]

    def tops(self) -> list[str]:
        """The topmost folders."""
        return sorted({file.top for file in self.files if file.top})

    def below(self, top: str) -> list[TreeFile]:
        """The files in a topmost folder."""
        return [file for file in self.files if file.top == top]

    def folders_of_folders(self) -> dict[str, set[str]]:
        """Folders directly in each topmost folder that holds more images in folders than beside them."""
        direct = Counter(file.top for file in self.sure if not file.nested)
        nested = Counter(file.top for file in self.sure if file.nested)
        found: dict[str, set[str]] = defaultdict(set)
        for file in self.sure:
            if file.nested and nested[file.top] > direct[file.top]:
                found[file.top].add(comparable_name(file.parts[1]))
        return dict(found)

    def twins(self, among: Iterable[str]) -> list[str]:
        """Topmost folders that hold folders of the same names, at whatever depth, if these are not all one name."""
        files = [file for file in self.sure if file.nested and file.top in set(among)]
        for depth in (2, None):
            inner: dict[str, set[str]] = defaultdict(set)
            for file in files:
                inner[file.top].add(comparable_name("/".join(file.parts[1 : depth or -1])))
            shared = Counter(name for names in inner.values() for name in names)
            found = sorted(top for top, names in inner.items() if any(shared[name] > 1 for name in names))
            if len({name for top in found for name in inner[top]}) > 1:
                return found
        return []

    def remove_level(self, depth: int, tops: Iterable[str]) -> None:
        """Takes the folder at a depth off the paths below some topmost folders."""
        wanted = set(tops)
        self.files = [
            replace(file, parts=file.parts[:depth] + file.parts[depth + 1 :]) if file.top in wanted else file
            for file in self.files
        ]

    def leave_out(self, files: Sequence[TreeFile], reason: str, folder: str | None = None) -> None:
        """Leaves files out; they are told by name if one alone, else by the folder they share, which is topmost."""
        groups: dict[str, list[TreeFile]] = defaultdict(list)
        for file in files:
            groups[folder or file.top].append(file)
        gone = {file.path for file in files}
        self.files = [file for file in self.files if file.path not in gone]
        for name, group in sorted(groups.items()):
            if len(group) == 1:
                self._skipped.append(SkippedImage(path=group[0].path, reason=reason))
            else:
                path = f"{self.prefix}{name}/" if name else self.prefix or "./"
                self._left_out.append(LeftOut(path=path, images=len(group), reason=reason))

    def leave_out_copies(self, classes: Mapping[str, Sequence[TreeFile]], reason: str, inside: str) -> None:
        """Leaves out folders among the classes that hold the other classes once more, in folders of their own."""
        names = {comparable_name(name) for name in classes}
        for name, files in classes.items():
            folders = {comparable_name(file.parts[-2]) for file in files if file.sure}
            if len(folders) > 1 and folders <= names - {comparable_name(name)}:
                self.leave_out(files, reason, f"{inside}{name}")


def comparable_name(name: str) -> str:
    """One spelling of names that differ in case or in how their letters are composed."""
    return joined_name(name).casefold()


def shortened_list(names: Sequence[str]) -> str:
    """The first few folders in one phrase."""
    few = [f"{name}/" for name in names[:_SHOWN_NAMES]]
    if len(names) > _SHOWN_NAMES:
        return f"{', '.join(few)} and {len(names) - _SHOWN_NAMES} more"
    return " and ".join([", ".join(few[:-1]), few[-1]] if len(few) > 1 else few)
