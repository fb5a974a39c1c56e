"""A bound on the resident memory that a block of code takes in this process, by Linux' own count."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def memory_bound(*, mib: float) -> Iterator[None]:
    """Fails if at any moment of the block so much more memory is resident than at its start; an error goes through."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew from here
    before = _resident_kib("VmRSS")
    try:
        yield
    finally:
        more = (_resident_kib("VmHWM") - before) / 1024
        assert more < mib, f"{more:.0f} MiB more than at the start"


def _resident_kib(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])
