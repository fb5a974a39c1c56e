"""What a label of a table means: FER-2013's codes, AffectNet's, CK+'s and RAF-DB's, words, or a number as it is."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tune.errors import SourceError
from tune.sources.split_names import joined_name

FER2013: Final = ("angry", "disgusted", "fearful", "happy", "sad", "surprised", "neutral", "contempt")
"""FER-2013's codes; the eighth is that of tables that add CK+."""
AFFECTNET: Final = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")
AFFECTNET_OTHER: Final = {"8": "none", "9": "uncertain", "10": "no face"}
CK_PLUS: Final = ("neutral", "anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise")
RAF_DB: Final = ("", "surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
_NUMBER: Final = re.compile(r"\+?0*(\d+)(?:\.0*)?")
_MOST_CLASSES: Final = 1000


@dataclass(frozen=True)
class LabelNames:
    """The class of each label of a column; a label without one has a `problem`. `note` tells what is not plain."""

    classes: Mapping[str, str]
    problems: Mapping[str, str]
    note: str | None = None

    def of(self, label: str) -> str | None:
        """The class of a label as it is written; None for one that is none."""
        return self.classes.get(label)


def name_labels(labels: Counter[str], column: str, given: frozenset[str], where: str) -> LabelNames:
    """Says what the labels of a column mean.

    Args:
        labels: how often each is there, as written.
        column: the column's name, in lower case. Numbers under `emotion` are FER-2013's codes.
        given: labels that the user gives names to; then numbers stay numbers.
        where: what to call the table in errors.

    Raises:
        SourceError: the numbers cannot be told to be FER-2013's codes, or there are too many words.
    """
    numbers = {label: match.group(1) for label in labels if (match := _NUMBER.fullmatch(label.strip()))}
    of_numbers = sum(labels[label] for label in numbers)
    if 2 * of_numbers <= sum(labels.values()):
        return _words(labels, where)
    wrong = {label: f"the {column} {label!r} is no number" for label in labels if label not in numbers}
    values = set(numbers.values())
    if column not in ("emotion", "emotions") or given & values:
        note = (
            None
            if given & values
            else f"classes are called by the numbers of {column}; --classes happy=3,... names them"
        )
        return LabelNames(numbers, wrong, note)
    known = {str(code): name for code, name in enumerate(FER2013)}
    if "0" not in values and values & {"1", "7"}:
        raise SourceError(
            f"An emotion must be FER-2013's code, 0 (angry) to 6 (neutral) or 7 (contempt). Received: {where} with "
            f"codes from {min(values)} to {max(values)}, which may be other ones; name them with "
            "--classes surprise=1,fear=2,..."
        )
    wrong |= {
        label: f"the emotion must be 0 to {len(FER2013) - 1}, and is {label!r}"
        for label, value in numbers.items()
        if value not in known
    }
    return LabelNames({label: known[value] for label, value in numbers.items() if value in known}, wrong)


def _words(labels: Counter[str], where: str) -> LabelNames:
    """Words are classes as they are written; those that differ in case alone are one, in its most frequent spelling.

    Single letters stay apart: there a and A are two classes.
    """
    spellings: dict[str, Counter[str]] = defaultdict(Counter)
    for label, count in labels.items():
        if word := joined_name(label.strip()):
            spellings[_folded(word)][word] += count
    if len(spellings) > _MOST_CLASSES:
        raise SourceError(
            f"A table's labels must be at most {_MOST_CLASSES:,} words. Received: {len(spellings):,} in {where}; "
            "is that the right column?"
        )
    best = {folded: max(sorted(words), key=words.__getitem__) for folded, words in spellings.items()}
    classes = {label: best[_folded(word)] for label in labels if (word := joined_name(label.strip()))}
    return LabelNames(classes, {label: "it has no label" for label in labels if not label.strip()})


def _folded(word: str) -> str:
    return word.casefold() if len(word) > 1 else word
