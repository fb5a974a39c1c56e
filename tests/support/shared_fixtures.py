"""Which tests one of pytest-xdist's processes runs one after another: a file's, and all that share a costly fixture."""

from __future__ import annotations

import re
from functools import cache

from xdist.scheduler import LoadFileScheduling

from tests import ROOT

_COSTLY = (r"\b(finished|bucket|google|whole)_study: ", r"\bfer2013: ")
"""Parameters whose fixtures take from a quarter of a minute to minutes, once in each process."""


class SharedFixtureScheduling(LoadFileScheduling):
    """Keeps files that share a costly fixture together, so that only one process makes it."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return _costly_fixture(file) or file


@cache
def _costly_fixture(file: str) -> str:
    text = (ROOT / file).read_text(encoding="utf-8")
    return next((parameter for parameter in _COSTLY if re.search(parameter, text)), "")
