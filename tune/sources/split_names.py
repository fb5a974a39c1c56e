"""Says which split a folder's name means, and what the user decided about it. Pure: looks at names only."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from trainables.dataset.reader import TEST, TRAIN
from tune.errors import SourceError, nearest

VALIDATION: Final = "validation"
LEAVE_OUT: Final = "leave-out"
CLASS: Final = "class"
SPLIT_KINDS: Final = ("train", "test", VALIDATION)
DECISIONS: Final = (*SPLIT_KINDS, CLASS, LEAVE_OUT)
VALIDATION_USES: Final = ("train", "test", LEAVE_OUT)

_WORDS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("train", "training", "trn", "trainval"), "train"),
    **dict.fromkeys(("test", "testing", "tst", "publictest", "privatetest"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "eval", "evaluation", "dev", "development"), VALIDATION),
}
_FILLERS: Final = frozenset(
    "set sets data dataset datasets image images img imgs picture pictures photo photos face faces split splits folder "
    "dir part subset sample samples public private the".split()
)


@dataclass(frozen=True)
class NamedSplit:
    """What a folder's name says: train, test or validation; `plain` if it says nothing else."""

    kind: str
    plain: bool


def joined_name(name: str) -> str:
    """One spelling of names that look alike but are composed of other characters (Unicode NFC)."""
    return unicodedata.normalize("NFC", name)


def split_named(name: str) -> NamedSplit | None:
    """Reads a folder's name, in any case: `train`, `Test-Images`, `01_valid`, `FER2013Train`, `PublicTest`, `trainset`.

    Returns:
        None if the name has no split in it, or two.
    """
    words = _words(name)
    kinds = {_WORDS[word] for word in words if word in _WORDS}
    if kinds == {"train", VALIDATION}:  # train_val: what is not the test split
        kinds = {"train"}
    if len(kinds) != 1:
        return None
    return NamedSplit(kinds.pop(), all(word in _WORDS or word in _FILLERS or word.isdigit() for word in words))


def is_plain_split(name: str) -> bool:
    """Whether a folder's name says a split and nothing else."""
    named = split_named(name)
    return named is not None and named.plain


def glued_splits(names: Iterable[str]) -> dict[str, str]:
    """Reads `fertrain` and `fertest`: all names are a split's word with the same letters before or behind it."""
    folded = {name: name.casefold() for name in names}
    for where in (str.endswith, str.startswith):
        rests = [
            {text.replace(word, "\0", 1) if where is str.startswith else f"{text.removesuffix(word)}\0": kind}
            for text in folded.values()
            for word, kind in _WORDS.items()
            if where(text, word)
        ]
        for rest in {key for found in rests for key in found}:
            before, _, behind = rest.partition("\0")
            kinds = {
                name: _WORDS.get(text.removeprefix(before).removesuffix(behind))
                for name, text in folded.items()
                if text.startswith(before) and text.endswith(behind)
            }
            found = {name: kind for name, kind in kinds.items() if kind is not None}
            if len(found) == len(folded) > 1:
                return found
    return {}


@dataclass(frozen=True)
class SplitUses:
    """What becomes of splits: `TRAIN`, `TEST` or None (left out) by folder; `note` tells the unasked."""

    numbers: dict[str, int | None]
    note: str | None
    by_user: frozenset[str] = frozenset()

    def reason_of(self, split: str) -> str:
        """Why a split is left out: the user said so, or it is a validation split."""
        asked = "validation images; pass --validation train or --validation test to use them"
        return "left out by --split" if split in self.by_user else asked


@dataclass(frozen=True)
class SplitDecisions:
    """What the user decided.

    Attributes:
        folders: decisions by name or pattern.
        validation: the use of validation images; None if that is not decided.
        rest: what the others are when the test folders are named, but for validation folders; None: by their names.
    """

    folders: tuple[tuple[str, str], ...] = ()
    validation: str | None = None
    rest: str | None = None

    def of(self, name: str, *, prefix: str = "", patterns: bool = True) -> str | None:
        """Returns the decision about a folder (or a CSV's Usage), by its name or by its path in the source."""
        names = [joined_name(text).casefold() for text in (name, f"{prefix}{name}")]
        wanted = [(joined_name(pattern).strip("/").casefold(), decision) for pattern, decision in self.folders]
        exact = [decision for pattern, decision in wanted if pattern in names]
        matching = [decision for pattern, decision in wanted if any(fnmatchcase(text, pattern) for text in names)]
        return next(iter(exact or (matching if patterns else [])), None)

    def kind_of(self, names: Iterable[tuple[str, str]], said: str | None) -> str | None:
        """Returns what was decided about a Usage or a folder, or what it says.

        Args:
            names: the Usage, and the folders with what precedes each; the first that was decided about counts.
            said: train, test or validation, which may have been decided about too. With `rest`, nothing but what the
                user named is the test split.
        """
        for name, prefix in (*names, *([(said, "")] if said else [])):
            if decision := self.of(name, prefix=prefix):
                return decision
        return self.rest if said in (None, "test") and self.rest else said

    def check_used(self, known: Iterable[tuple[str, str]], source: str) -> None:
        """Refuses a decision about a folder that is not there.

        Args:
            known: names and what precedes them in the source.
            source: what to call the source in errors.
        """
        known = list(known)
        for pattern, decision in self.folders:
            alone = SplitDecisions(((pattern, decision),))
            if not any(alone.of(name, prefix=prefix) for name, prefix in known):
                names = sorted({name for name, _ in known})
                raise SourceError(
                    f"--split must name a folder of the source. Received: {pattern!r}; {source} has no such folder."
                    f"{nearest(pattern, names) if names else ''}"
                )

    def uses(self, kinds: Mapping[str, str], source: str, *, folders: bool = True) -> SplitUses:
        """Decides what becomes of each folder's images.

        Args:
            kinds: train, test or validation, by folder.
            source: what to call the source in errors.
            folders: whether they are folders, or values in a table.

        Raises:
            SourceError: there is a decision about validation images, and there are none; a value is to be a class.
        """
        if CLASS in kinds.values() and not folders:
            raise SourceError(f"A Usage must be a split. Received: --split with {CLASS} for {source}; name a split.")
        waiting = [folder for folder, kind in kinds.items() if kind == VALIDATION]
        if self.validation is not None and not waiting:
            raise SourceError(
                f"--validation needs a validation folder. Received: {source} without one; leave the option out, or "
                "name the folder with --split FOLDER=validation."
            )
        has_test = "test" in kinds.values()
        use = self.validation or (LEAVE_OUT if has_test else "test")
        note = None
        if waiting and self.validation is None and not has_test:
            slash, what = ("/", "test folder") if folders else ("", "other")
            note = (
                f"{' and '.join(f'{name}{slash}' for name in waiting)} is the test split, as there is no {what}; "
                "--validation train or --validation leave-out decides otherwise"
            )
        becomes: dict[str, int | None] = {"train": TRAIN, "test": TEST, LEAVE_OUT: None}
        return SplitUses(
            {folder: becomes[use if kind == VALIDATION else kind] for folder, kind in kinds.items()},
            note,
            frozenset(folder for folder, kind in kinds.items() if kind == LEAVE_OUT),
        )


def parse_decisions(splits: Sequence[str], validation: str | None, test: Sequence[str] = ()) -> SplitDecisions:
    """Reads `--split FOLDER=DECISION`, `--validation USE` and `--test FOLDER`, which makes the rest the train split.

    Raises:
        SourceError: a decision that does not exist, or two about one folder.
    """
    folders: list[tuple[str, str]] = []
    for text in (*splits, *(f"{folder}=test" for folder in test)):
        folder, equals, decision = text.rpartition("=")
        if not equals or not folder.strip("/") or decision.lower() not in DECISIONS:
            raise SourceError(f"--split must be FOLDER={'|'.join(DECISIONS)}. Received: {text!r}.")
        alike = joined_name(folder).strip("/").casefold()
        before = next((known for name, known in folders if joined_name(name).strip("/").casefold() == alike), None)
        if before not in (None, decision.lower()):
            raise SourceError(
                f"--split must decide once about a folder. Received: {folder}={before} and {text!r}; leave one out."
            )
        folders.append((folder, decision.lower()))
    if validation is not None and validation.lower() not in VALIDATION_USES:
        raise SourceError(f"--validation must be {', '.join(VALIDATION_USES)}. Received: {validation!r}.")
    return SplitDecisions(tuple(folders), validation.lower() if validation else None, "train" if test else None)


def _words(name: str) -> list[str]:
    """The words and numbers in a name: at separators, between letters and digits, and at capitals."""
    text = unicodedata.normalize("NFKC", name)
    found = re.findall(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[^\W\d_A-Z]+|[A-Z]+|\d+", text)
    return [part for word in found for part in _without_filler(word.casefold())]


def _without_filler(word: str) -> tuple[str, ...]:
    """`trainset` is train and set."""
    if word in _WORDS:
        return (word,)
    for filler in sorted(_FILLERS, key=len, reverse=True):
        for rest in (word.removesuffix(filler), word.removeprefix(filler)):
            if rest in _WORDS:
                return rest, filler
    return (word,)
