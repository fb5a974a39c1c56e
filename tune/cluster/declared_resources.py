"""What a node of any cloud must have: a disk that is large enough, and the CPUs and GPUs that the file counts on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tune.cluster.instance_catalog import InstanceType
from tune.cluster.types import ClusterNodeType, FileProblem

LARGEST_DISK_GB = 65_536
LEAST_DISK_GB = 100  # image 64 GB with its CUDA versions, environment 8 GB, data sets and spill


def check_declared_resources(node: ClusterNodeType, machine: InstanceType) -> Iterator[FileProblem]:
    """Yields where the resources that a worker type promises are not those of its machine."""
    for name in sorted({"cpu", "gpu"} & node.raw["resources"].keys()):
        yield FileProblem(
            node.location("resources", name), "must be in capitals: Ray counts another", f"Write {name.upper()}"
        )
    for name, there in (("CPU", machine.cpus), ("GPU", machine.gpus)):
        promised = node.raw["resources"].get(name)
        if promised is not None and promised != there:
            rule = f"must be the {there} that the machine has ({machine}). Received: {promised}"
            yield FileProblem(node.location("resources", name), rule, f"Write {name}: {there}")


def check_disk_size(node: ClusterNodeType, sizes_gb: Sequence[float], key: str) -> Iterator[FileProblem]:
    """Yields a problem if a node's largest disk is too small or too large to exist; `key`: where its size stands."""
    if max(sizes_gb, default=0) < LEAST_DISK_GB:
        found = f"{max(sizes_gb):g} GB" if sizes_gb else "none"
        rule = f"must have a disk of {LEAST_DISK_GB} GB: image, environment, data sets. Received: {found}"
        yield FileProblem(node.location("node_config"), rule, f"Set {key} to {LEAST_DISK_GB} or more")
    if not max(sizes_gb, default=0) <= LARGEST_DISK_GB:
        rule = f"must have disks of at most {LARGEST_DISK_GB} GB, the largest there are. Received: {max(sizes_gb):g} GB"
        yield FileProblem(node.location("node_config"), rule, f"Lower {key}")
