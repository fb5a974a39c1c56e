"""A real Jupyter kernel for tests: runs cells, says what each put out, interrupts one while it runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from tests import ROOT


@dataclass
class Output:
    """What a cell put out.

    Attributes:
        text: what it printed.
        drawn: the latest HTML of each of its outputs that has some, in the order in which they came.
        draws: how often each was drawn.
        error: name and words of the exception that ended it.
    """

    text: str = ""
    drawn: dict[str, str] = field(default_factory=dict)
    draws: dict[str, int] = field(default_factory=dict)
    error: tuple[str, str] | None = None


class Kernel:
    """A running kernel."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self._manager = manager
        self._client = client

    def run(self, code: str, interrupt_at: Callable[[str], bool] | None = None, timeout_s: float = 300) -> Output:
        """Runs a cell; interrupts it, as the button does, when what it has printed fits."""
        output = Output()

        def take(message: dict[str, Any]) -> None:
            nonlocal interrupt_at
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                output.text += content["text"]
            elif kind in ("display_data", "update_display_data", "execute_result"):
                key = content.get("transient", {}).get("display_id", f"output {len(output.drawn)}")
                output.drawn[key] = content["data"].get("text/html", content["data"].get("text/plain", ""))
                output.draws[key] = output.draws.get(key, 0) + 1
            elif kind == "error":
                output.error = content["ename"], content["evalue"]
            if interrupt_at is not None and interrupt_at(output.text):
                interrupt_at = None
                self._manager.interrupt_kernel()

        self._client.execute_interactive(code, timeout=timeout_s, output_hook=take)
        return output


@contextmanager
def started_kernel(folder: Path) -> Iterator[Kernel]:
    """Starts a kernel of this Python in a folder; it finds this tree, whose study processes start their own Ray."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    environment |= {
        "PYTHONPATH": str(ROOT),
        "RAY_ADDRESS": "local",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    manager = KernelManager()
    manager.start_kernel(cwd=str(folder), env=environment)
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=240)
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
