"""Goes on from the first checkpoint of a trial that can be read. Knows nothing of what is in one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trainables.local_copies import local_folder
from trainables.training.fault_kinds import classify_unreadable


def load_first_readable(checkpoints: Sequence[str], load: Callable[[str], None]) -> list[str]:
    """Loads the first checkpoint that can be read; returns what was wrong with those before it.

    Args:
        checkpoints: folders or addresses, the newest first.
        load: called with a folder of this machine.

    Raises:
        TrialFault: storage or memory failed, which may be back soon, with all that was trained.
    """
    unreadable = []
    for checkpoint in checkpoints:
        try:
            with local_folder(checkpoint) as folder:
                load(str(folder))
            break
        except Exception as error:  # Keras raises whatever its zip, HDF5 and layer readers raise
            fault = classify_unreadable(error)
            if fault.kind != "checkpoint":
                raise fault from None
            unreadable.append(f"{checkpoint} cannot be read: {fault}")
    return unreadable
