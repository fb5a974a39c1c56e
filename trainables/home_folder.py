"""Names that begin with `~`, as people write them where no shell has replaced it. Imports nothing heavy."""

from __future__ import annotations

import os


def expand_home(name: str | os.PathLike[str]) -> str:
    """Returns a name with the home folder in place of a leading `~`: a shell leaves `--to=~/data` as it is."""
    return os.path.expanduser(os.fspath(name))
