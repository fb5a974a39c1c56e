"""The votes of FER+: ten people said of each image of FER-2013 what it shows; the majority is its label.

Barsoum et al., "Training Deep Networks for Facial Expression Recognition with Crowd-Sourced Label Distribution",
ICMI 2016; the rule for the majority is that of the authors' code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tune.sources.csv_table import PATH_COLUMNS, USAGE_COLUMNS, CsvTable

EMOTIONS: Final[tuple[str, ...]] = (
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
    "contempt",
)
_OTHERS: Final = ("unknown", "nf")
NO_MAJORITY: Final = "no emotion with a majority of the votes"


@dataclass(frozen=True)
class Vote:
    """What was voted about one image: `emotion` is None without a majority, `problem` says why it cannot be read.

    `shares` are the votes of each emotion as shares of all that count and are for one, the largest the majority's.
    """

    image: str
    usage: str
    emotion: str | None
    problem: str = ""
    shares: tuple[tuple[str, float], ...] = ()


def holds_votes(table: CsvTable) -> bool:
    """Whether a table has a column of votes for each emotion."""
    return set(EMOTIONS) <= set(table.header)


def vote_of(table: CsvTable, row: Sequence[str]) -> Vote:
    """Reads the votes of one row."""
    if len(row) != len(table.header):
        return Vote("", "", None, f"{len(row)} fields where the header has {len(table.header)}")
    image, usage = (table.column(names) for names in (("image name", *PATH_COLUMNS), USAGE_COLUMNS))
    named = (row[image].strip() if image is not None else "", row[usage].strip() if usage is not None else "")
    columns: list[str] = [name for name in (*EMOTIONS, *_OTHERS) if name in table.header]
    try:
        votes = {name: float(row[table.header.index(name)] or 0) for name in columns}
    except ValueError as error:
        return Vote(*named, None, f"votes must be numbers: {error}")
    counted = {name: votes for name, votes in votes.items() if votes > 1}
    of_emotions = {name: counted[name] for name in EMOTIONS if name in counted}
    shares = tuple((name, number / sum(of_emotions.values())) for name, number in of_emotions.items())
    return Vote(*named, _majority(counted), shares=shares)


def read_votes(table: CsvTable) -> list[Vote]:
    """Reads all rows of a table of votes, in their order."""
    return [vote_of(table, row) for _, row in table.rows()]


def _majority(counted: dict[str, float]) -> str | None:
    """The emotion with more than half of the votes that count, which those that stand alone do not; None without."""
    if not counted:
        return None
    best = max(counted, key=counted.__getitem__)
    return best if best in EMOTIONS and 2 * counted[best] > sum(counted.values()) else None
