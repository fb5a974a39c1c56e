"""The home folder, as people write it and where a machine knows none. Imports nothing heavy."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from trainables.errors import EmotuneError


def expand_home(name: str | os.PathLike[str]) -> str:
    """Returns a name with the home folder in place of a leading `~`: a shell leaves `--to=~/data` as it is."""
    return os.path.expanduser(os.fspath(name))


def ensure_home() -> None:
    """Makes a temporary folder of this user's own HOME if a container runs as a number without HOME and passwd entry.

    Ray 2.60 and Keras look for the home folder as they are imported.

    Raises:
        EmotuneError: no such folder can be made.
    """
    try:
        Path.home()
        return
    except RuntimeError:
        pass
    user = os.getuid()
    try:
        folder = Path(tempfile.gettempdir()) / f"emotune-home-{user}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        raise _no_home(user, reason) from None
    if folder.is_symlink() or found.st_uid != user:
        raise _no_home(user, f"{folder} is another user's")
    os.environ["HOME"] = str(folder)


def _no_home(user: int, reason: str) -> EmotuneError:
    return EmotuneError(
        f"HOME must name a folder where a user has no entry in /etc/passwd. Received: user {user} without it, and "
        f"{reason}. Set it: HOME=FOLDER"
    )
