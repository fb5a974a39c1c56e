"""Says so in a line when the Ray that this process started ends under it, and ends with it. Restarts nothing.

Ray 2.60 ends its driver then, at once or a minute later, with exit code 1 and no word in the terminal.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import psutil
import ray

from tune.nodes.signals import end_words, print_to_terminal, signals_are_obeyed

HEAD_LOST: Final = 1
"""Exit code of a driver whose Ray has ended."""

_HEAD: Final = ("gcs_server", "raylet")


@contextmanager
def head_watch() -> Iterator[None]:
    """Watches over Ray's main processes for the length of the block, in a thread.

    Only where emotune is its process's own command, and where the system tells of a process's end (Linux).
    """
    node: Any = getattr(ray._private.worker, "_global_node", None)
    if node is None or not signals_are_obeyed() or not hasattr(os, "pidfd_open"):
        yield
        return
    ended = select.poll()
    reader, writer = os.pipe()
    ended.register(reader, select.POLLIN | select.POLLHUP)
    names: dict[int, str] = {}
    started: list[psutil.Process] = []
    for name in _HEAD:
        for process in node.all_processes.get(name, ()):
            with suppress(ProcessLookupError, psutil.Error):
                # Its agents: once their raylet has ended, nothing says any more whose they were.
                started += psutil.Process(process.process.pid).children()
                descriptor = os.pidfd_open(process.process.pid)
                names[descriptor] = name
                ended.register(descriptor, select.POLLIN)

    def wait() -> None:
        found = {descriptor for descriptor, _ in ended.poll()}
        if reader not in found:
            _end_with_head(names[found.pop()], started)

    thread = threading.Thread(target=wait, name="head-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.close(writer)
        thread.join()
        for descriptor in (reader, *names):
            os.close(descriptor)


def _end_with_head(name: str, started: list[psutil.Process]) -> None:
    print_to_terminal(
        f"error: Ray must run for as long as its study. Received: its {name} on this machine has ended, killed from "
        f"outside or for want of memory. {end_words()}"
    )
    for child in (*psutil.Process().children(recursive=True), *started):
        with suppress(psutil.Error):
            child.kill()
    os._exit(HEAD_LOST)
