"""Labels that stand beside image files, in the layouts of RAF-DB, AffectNet and CK+ as their documentation has them.

Each reader gives the label of image files by path; `listed_images.py` makes a source of them.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from tune.sources.csv_table import split_by_path
from tune.sources.file_store import FileStore, folder_of
from tune.sources.folder_layout import Shares
from tune.sources.label_names import AFFECTNET, AFFECTNET_OTHER, CK_PLUS, RAF_DB
from tune.sources.split_names import VALIDATION, joined_name, split_named

_MAX_LIST_BYTES: Final = 64 << 20
_RAF_DB_LIST: Final = re.compile(r"(?:.*/)?list_par?tition_label\.txt")
_AFFECTNET_LABEL: Final = re.compile(r"(.*/)?annotations/([^/]+)_exp\.npy")
_CK_PLUS_LABEL: Final = re.compile(r"(?:.*/)?(S\d+_\d+_\d+)_emotion\.txt")
_TFDS_NAMES: Final = re.compile(r"(?:.*/)?[^/]+\.labels\.txt")


@dataclass(frozen=True)
class Listed:
    """What a list says of one image.

    Attributes:
        image: its path in the source, or as the list has it if it is not there.
        label: its class; empty if it is to be left out, for the `problem`.
        split: train, test or validation; None if the list does not say.
        problem: why there is no label, or no image.
        missing: whether it is a bad image, for the `problem`.
        shares: of the votes, where people have voted.
    """

    image: str
    label: str
    split: str | None = None
    problem: str = ""
    missing: bool = False
    shares: Shares = ()


@dataclass(frozen=True)
class LabelList:
    """The labels of images.

    Attributes:
        name: what to call the list.
        listed: what it says of each image.
        read: the files that it was read from.
        unlisted: why images that are not listed are left out.
        notes: how it was understood.
        decided: whether the user's decisions are in what it says of splits already.
        may_decide: what `--split` may name beside train, test and validation: values, and folders with their paths.
    """

    name: str
    listed: tuple[Listed, ...]
    read: frozenset[str]
    unlisted: str
    notes: tuple[str, ...] = ()
    may_decide: frozenset[tuple[str, str]] = frozenset()
    decided: bool = False


def is_label_file(path: str) -> bool:
    """Whether a file holds labels of one of the layouts, by its path."""
    return any(pattern.fullmatch(path) for pattern in (_RAF_DB_LIST, _AFFECTNET_LABEL, _CK_PLUS_LABEL, _TFDS_NAMES))


def known_layout(store: FileStore) -> LabelList | None:
    """Reads the labels of a layout that is known by its files; None if it is none of these."""
    for reader in (_raf_db, _affectnet, _ck_plus):
        if (found := reader(store)) is not None:
            return found
    return None


def _raf_db(store: FileStore) -> LabelList | None:
    """`EmoLabel/list_patition_label.txt`: `train_00001.jpg 5`; aligned faces are called `train_00001_aligned.jpg`."""
    path = next((path for path in sorted(store.listing.others) if _RAF_DB_LIST.fullmatch(path)), None)
    if path is None or store.listing.others[path].size_bytes > _MAX_LIST_BYTES:
        return None
    images = _by_stem(store)
    aligned = any(stem.endswith("_aligned") for stem in images)
    listed = []
    for line in store.read(path).decode("utf-8", "replace").splitlines():
        name, _, code = line.strip().rpartition(" ")
        if not line.strip():
            continue
        stem = name.strip().rpartition(".")[0]
        image = images.get(f"{stem}_aligned" if aligned else stem)
        number = int(code) if code.isascii() and code.isdigit() else 0
        if not 1 <= number < len(RAF_DB):
            listed.append(Listed(image or name, "", None, f"RAF-DB's labels are 1 to 7, and this is {code!r}", True))
        elif image is None:
            listed.append(Listed(name, RAF_DB[number], None, f"named in {path}, but not there", True))
        else:
            named = split_named(stem.partition("_")[0])
            listed.append(Listed(image, RAF_DB[number], named.kind if named else None))
    note = f"RAF-DB: labels from {path}{', aligned faces' if aligned else ''}"
    return LabelList(path, tuple(listed), frozenset((path,)), f"not among the faces that {path} names", (note,))


def _affectnet(store: FileStore) -> LabelList | None:
    """`train_set/images/0.jpg` with `train_set/annotations/0_exp.npy`."""
    labels = {path: match for path in sorted(store.listing.others) if (match := _AFFECTNET_LABEL.fullmatch(path))}
    if not labels:
        return None
    images = {path.rpartition(".")[0]: path for path in store.listing.images}
    listed = []
    for path, match in labels.items():
        around, stem = match.group(1) or "", match.group(2)
        image = images.get(f"{around}images/{stem}")
        code = _code(lambda path=path: _array_text(store.read(path)))  # type: ignore[misc]
        named = split_named(around.rstrip("/").rpartition("/")[2])
        listed.append(affectnet_label(image, f"{around}images/{stem}", code, named.kind if named else None, path))
    others = [path for path in store.listing.others if re.fullmatch(r"(.*/)?annotations/[^/]+\.npy", path)]
    note = "AffectNet: labels from annotations/*_exp.npy"
    return LabelList("annotations/*_exp.npy", tuple(listed), frozenset(others), "without an annotation", (note,))


def affectnet_label(image: str | None, name: str, code: str, split: str | None, where: str) -> Listed:
    """What AffectNet's code for an expression says of an image (None: it is not there)."""
    if code in AFFECTNET_OTHER:
        return Listed(image or name, "", split, f"AffectNet's label is {code}, {AFFECTNET_OTHER[code]}")
    if not code.isascii() or not code.isdigit() or int(code) >= len(AFFECTNET):
        return Listed(image or name, "", split, f"AffectNet's labels are 0 to 10, and this is {code!r}", True)
    if image is None:
        return Listed(name, AFFECTNET[int(code)], split, f"named in {where}, but not there", True)
    return Listed(image, AFFECTNET[int(code)], split)


def _ck_plus(store: FileStore) -> LabelList | None:
    """`Emotion/S005/001/S005_001_00000011_emotion.txt` names the last frame of a sequence, the peak."""
    labels = {
        path: match.group(1) for path in sorted(store.listing.others) if (match := _CK_PLUS_LABEL.fullmatch(path))
    }
    if not labels:
        return None
    images, listed = _by_stem(store), []
    for path, stem in labels.items():
        code = _code(lambda path=path: store.read(path).decode("ascii"))  # type: ignore[misc]
        if not code.isdigit() or int(code) >= len(CK_PLUS):
            listed.append(
                Listed(images.get(stem, stem), "", None, f"CK+'s labels are 0 to 7, and this is {code!r}", True)
            )
        elif stem not in images:
            listed.append(Listed(stem, CK_PLUS[int(code)], None, f"named by {path}, but not there", True))
        else:
            listed.append(Listed(images[stem], CK_PLUS[int(code)]))
    read = {path for path in store.listing.others if re.search(r"_(emotion|facs|landmarks)\.txt$", path)}
    note = "CK+: the peak frame of each sequence that has a label, from *_emotion.txt"
    return LabelList(
        "*_emotion.txt", tuple(listed), frozenset(read), "not the peak frame of a labelled sequence", (note,)
    )


def _code(read: Callable[[], str]) -> str:
    """A whole number as text, however it is written (`3.0000000e+00`); what is none as it is."""
    text = ""
    try:
        text = read().strip()
        number = float(text)
        return str(int(number)) if number == int(number) else text
    except (ValueError, OverflowError, EOFError, MemoryError):  # what NumPy raises of a damaged file
        return text


def _array_text(data: bytes) -> str:
    if not data.startswith(b"\x93NUMPY"):  # NumPy would look for a zip or a pickle
        raise ValueError("no array")
    return str(np.load(io.BytesIO(data), allow_pickle=False).item())


def _by_stem(store: FileStore) -> Mapping[str, str]:
    """The images by their names without suffix; the first path of each."""
    return dict(reversed([(path.rpartition("/")[2].rpartition(".")[0], path) for path in sorted(store.listing.images)]))


FindImage = Callable[[str, str | None, str | None], tuple[str | None, str]]
"""Takes a path of a list, the split that its row says, and the one that the list's own name does; returns the image's
path, or None and why there is none."""

_ELSEWHERE: Final[Mapping[str, frozenset[str]]] = {
    "train": frozenset({"test"}),  # train_val.csv names images of both
    VALIDATION: frozenset({"train", "test"}),
    "test": frozenset({"train", VALIDATION}),
}
"""In folders of which splits an image of a split does not lie."""


def image_paths(store: FileStore) -> FindImage:
    """Returns a function that finds the image which a list means.

    A list may have paths from another folder or machine: the image that shares the most of the path's end is meant, in
    a folder of its split if there are several. Where its path or the list's name says a split that has folders, it is
    not in those of another.
    """
    by_name: dict[str, list[str]] = {}
    split_in = {folder: split_by_path(f"{folder}-") for folder in {folder_of(path) for path in store.listing.images}}
    there = {*split_in.values()} - {None}
    for path in sorted(store.listing.images):
        name = _folded(path.rpartition("/")[2])
        for key in {name, name.rpartition(".")[0] or name}:
            by_name.setdefault(key, []).append(path)

    def find(listed: str, split: str | None, by_name_of_list: str | None) -> tuple[str | None, str]:
        parts = [part for part in listed.strip().replace("\\", "/").split("/") if part not in ("", ".")]
        if not parts:
            return None, "it names no image"
        said = [named.kind for part in reversed(parts[:-1]) if (named := split_named(part)) and named.plain]
        wanted = said[0] if said else by_name_of_list
        others = _ELSEWHERE[wanted] if wanted and wanted in there else frozenset()
        candidates = [p for p in by_name.get(_folded(parts[-1]), []) if split_in[folder_of(p)] not in others]
        if not candidates:
            return None, "there is no such image"
        shared = [(sum(1 for _ in _shared_end(parts[:-1], path.split("/")[:-1])), path) for path in candidates]
        most = max(count for count, _ in shared)
        best = [path for count, path in shared if count == most]
        if len(best) > 1 and split is not None:
            best = [path for path in best if split_in[folder_of(path)] == split] or best
        return (best[0], "") if len(best) == 1 else (None, f"{len(best)} images are called so, such as {best[0]}")

    return find


def _folded(name: str) -> str:
    return joined_name(name).casefold()


def _shared_end(first: list[str], second: list[str]) -> Iterator[str]:
    for one, other in zip(reversed(first), reversed(second), strict=False):
        if _folded(one) != _folded(other):
            return
        yield one
