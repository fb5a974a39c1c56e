"""A job's entrypoint: runs emotune, and again if it is killed. Knows only exit codes.

`python -m tune.jobs.driver run study.yaml ...`. What `emotune` ends with by itself (0, 2, 3, 4, 5, 130) is the job's
exit code too. Anything else, as a kill for want of memory, starts it again: the study goes on from its journal.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import Any

_FINAL_EXIT_CODES = {0, 2, 3, 4, 5, 130}
_MAX_RESTARTS = 5
_RESTART_PAUSE_S = 2.0
_STABLE_AFTER_S = 600.0
"""A driver that has run for so long does not die of how it starts: its deaths are counted from one again."""


def main(arguments: list[str]) -> int:
    """Runs emotune with these arguments to an end of its own; returns the exit code."""
    told: list[int] = []  # Ray's `stop` tells the driver itself as well: a second signal would end it at once

    def on_signal(number: int, frame: Any) -> None:
        told.append(number)

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    deaths = 0
    while True:
        started = time.monotonic()
        command = [sys.executable, "-m", "tune.cli", *arguments]
        status = subprocess.call(command, preexec_fn=_end_with_parent)
        if status in _FINAL_EXIT_CODES:
            return status
        deaths = 1 if time.monotonic() - started > _STABLE_AFTER_S else deaths + 1
        how = f"was killed ({signal.Signals(-status).name})" if status < 0 else f"broke off (exit code {status})"
        if told:
            return 130
        if deaths > _MAX_RESTARTS:
            print(f"\nthe driver {how} {deaths} times; giving up", flush=True)
            return 128 - status if status < 0 else status
        # The line before may have been cut short.
        print(f"\nthe driver {how}; starting it again ({deaths} of {_MAX_RESTARTS})", flush=True)
        time.sleep(_RESTART_PAUSE_S)
        if told:  # in the pause, when there was no driver to hear it
            return 130


def _end_with_parent() -> None:
    """Has the kernel kill this process with its parent: Ray would lose sight of a driver whose wrapper was killed."""
    if sys.platform == "linux":
        from ray._private.utils import set_kill_on_parent_death_linux

        set_kill_on_parent_death_linux()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
