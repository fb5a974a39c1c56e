"""What all results have: the machine and the versions that they are from, and runs as lines of JSON."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import time
from pathlib import Path
from typing import Any


def processor() -> str:
    """Returns the processor's name and whether it multiplies bfloat16 by itself, which decides over most times here."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    facts = dict(line.split(":", 1) for line in text.partition("\n\n")[0].splitlines() if ":" in line)
    known = {name.strip(): value.strip() for name, value in facts.items()}
    name = known.get("model name", platform.machine())
    return f"{name} (bfloat16)" if "avx512_bf16" in known.get("flags", "") else name


def machine_line(*packages: str, device: str = "") -> str:
    """Returns date, device or processor, cores, Python and versions, for the head of a table."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    python = f"Python {platform.python_version()}"
    return f"{time.strftime('%Y-%m-%d')}, {device or processor()}, {os.cpu_count()} cores, {python}, {versions}"


def tell(text: str, output: Path | None) -> None:
    """Prints a page of results, and writes it where that is wanted."""
    print(text)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text.rstrip("\n") + "\n", encoding="utf-8")


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Returns the runs in a file of JSON lines; none where there is no such file."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
