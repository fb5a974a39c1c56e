"""What a command is started in: the home folder, the current folder, settings of other programs. Starts nothing."""

from __future__ import annotations

import os

from trainables.errors import EmotuneError
from trainables.home_folder import ensure_home


def settle_surroundings() -> None:
    """Makes up for what is missing around a command, or says what it cannot do without.

    Raises:
        EmotuneError: there is no home folder and none can be made, or the current folder is gone.
    """
    ensure_home()
    try:
        os.getcwd()
    except FileNotFoundError:
        raise EmotuneError(
            "the current folder must exist. Received: one that was removed or moved away. Change to another: cd FOLDER"
        ) from None


def draw_into_files() -> None:
    """Matplotlib for this process and those it starts: figures go to files, whatever a notebook or a shell named.

    Of a name that it does not know, Matplotlib's import raises.
    """
    os.environ["MPLBACKEND"] = "agg"
