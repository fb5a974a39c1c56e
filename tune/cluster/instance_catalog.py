"""Machine types of the clouds: what they have, and what an hour of them costs by the list. Knows no cluster."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class InstanceType:
    """One machine type. `gpu_gib`: memory of one GPU; `usd`: list price of an hour, Linux, on demand."""

    cpus: int
    usd: float
    gpus: int = 0
    gpu: str = ""
    gpu_gib: int = 0

    def __str__(self) -> str:
        """Returns `8 vCPUs, 1 L4 of 24 GiB`."""
        gpus = f", {self.gpus} {self.gpu} of {self.gpu_gib} GiB" if self.gpus else ""
        return f"{self.cpus} vCPUs{gpus}"


@dataclass(frozen=True)
class Catalog:
    """What is known of one cloud. `images` maps an image's id to the one region that has it."""

    priced: str
    instance_types: dict[str, InstanceType]
    images: dict[str, str]
    accelerators: dict[str, dict[str, Any]]


@functools.cache
def catalog(cloud: str) -> Catalog:
    """Returns the catalog of `aws` or `gcp`."""
    raw = yaml.safe_load(Path(__file__).with_name("machines.yaml").read_text(encoding="utf-8"))[cloud]
    instance_types = {name: InstanceType(**values) for name, values in raw["machines"].items()}
    return Catalog(raw["priced"], instance_types, raw.get("images", {}), raw.get("accelerators", {}))
