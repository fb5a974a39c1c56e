"""What a command is started in: the home folder, the current folder, settings of other programs. Starts nothing."""

from __future__ import annotations

import os
import sys

from trainables.errors import EmotuneError
from trainables.home_folder import ensure_home, expand_home
from tune.nodes.output_redirect import survive_closed_pipes
from tune.nodes.signals import obey_signals


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


def given_words() -> list[str]:
    """Returns the command's words with the home folder in place of a `~` that a shell left: `--to=~/data`, quotes."""
    words = []
    for word in sys.argv[1:]:
        option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        words.append(f"{option}{equals}{expand_home(value)}" if value.startswith("~/") else word)
    return words


def settle_process() -> None:
    """Makes the process a command's own: it obeys Ctrl-C, survives a reader that leaves, and draws into files."""
    survive_closed_pipes()  # first: the pipe of the signals would take a closed stream's place
    obey_signals()
    os.environ["MPLBACKEND"] = "agg"  # whatever a notebook named: Matplotlib's import raises of one it does not know
