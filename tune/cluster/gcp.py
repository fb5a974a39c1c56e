"""What `ray up` on Google Cloud takes on trust: machine types, images, networks, disks, scopes. Asks no network."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tune.cluster.declared_resources import check_declared_resources, check_disk_size
from tune.cluster.instance_catalog import InstanceType, catalog
from tune.cluster.types import ClusterNodeType, FileProblem, as_number, mapping, mappings, node_types, texts
from tune.errors import nearest

_MODELS = ("SPOT", "STANDARD", "FLEX_START", "RESERVATION_BOUND")
_WRITING_SCOPES = ("/cloud-platform", "/devstorage.read_write", "/devstorage.full_control")
# The fields of Compute Engine's Instance (v1) that a launch may set, and Ray's own two.
_KEYS = frozenset(
    """acceleratorConfig acceleratorType advancedMachineFeatures canIpForward confidentialInstanceConfig
    deletionProtection description disks displayDevice guestAccelerators hostname labels machineType metadata
    minCpuPlatform networkConfig networkInterfaces networkPerformanceConfig params privateIpv6GoogleAccess
    reservationAffinity resourcePolicies runtimeVersion scheduling schedulingConfig serviceAccounts
    shieldedInstanceConfig sourceInstanceTemplate sourceMachineImage tags""".split()
)


def instance_type_of(node: ClusterNodeType) -> InstanceType | None:
    """Returns the machine of a node type with its accelerators, or None if one of them is not in the catalog."""
    known = catalog("gcp")
    machine = known.instance_types.get(str(node.config.get("machineType")))
    for added in mappings(node.config.get("guestAccelerators")):
        accelerator = known.accelerators.get(str(added.get("acceleratorType")))
        if machine is None or accelerator is None:
            return None
        count = int(as_number(added.get("acceleratorCount", 1)))
        usd = machine.usd + count * accelerator["usd"]
        machine = replace(machine, gpus=count, gpu=accelerator["gpu"], gpu_gib=accelerator["gpu_gib"], usd=usd)
    return machine


def find_problems(config: dict[str, Any]) -> Iterator[FileProblem]:
    """Yields what is wrong with the node types of a prepared Google Cloud file."""
    provider = config["provider"]
    if not provider.get("project_id"):
        yield FileProblem(("provider",), "must name the project_id", "Add it")
    region, zone = str(provider.get("region", "")), str(provider.get("availability_zone", ""))
    if zone and zone.rpartition("-")[0] != region:
        rule = f"must be a zone of {region}. Received: {zone!r}"
        yield FileProblem(("provider", "availability_zone"), rule, f"Write {region}-a, or another of its zones")
    for node in node_types(config):
        for key in node.config.keys() - _KEYS:
            hint = nearest(key, _KEYS).partition(" Known:")[0].strip()
            yield FileProblem(
                node.location("node_config", key), "must be a field of Compute Engine's Instance", hint or "Remove it"
            )
        yield from _machine(node)
        yield from _disk_and_image(node)
        yield from _storage(node)
        if not mappings(node.config.get("networkInterfaces")):
            yield FileProblem(
                node.location("node_config"),
                "must name its networkInterfaces: Ray takes the default network, which opens SSH to 0.0.0.0/0",
                "Make the network of docs/cluster-gcp.md and name it",
            )


def _machine(node: ClusterNodeType) -> Iterator[FileProblem]:
    known, machine = catalog("gcp"), instance_type_of(node)
    name = str(node.config.get("machineType"))
    if machine is None and name not in known.instance_types:
        rule = f"must be a machine type whose price and GPUs are known. Received: {name!r}"
        yield FileProblem(
            node.location("node_config", "machineType"), rule, nearest(name, known.instance_types).strip()
        )
    elif machine is None:
        rule = "must be an accelerator whose price is known"
        yield FileProblem(
            node.location("node_config", "guestAccelerators"), rule, nearest("", known.accelerators).strip()
        )
    elif not node.is_head:
        yield from check_declared_resources(node, machine)
        schedule = node.config.get("scheduling")
        schedules = [mapping(schedule), *mappings(schedule)]
        for entry in schedules:
            model = entry.get("provisioningModel", "SPOT")
            if model not in _MODELS:
                rule = f"must be one of Compute Engine's. Received: {model!r}"
                place = node.location("node_config", "scheduling", "provisioningModel")
                yield FileProblem(place, rule, nearest(str(model), _MODELS).strip())
        if machine.gpus and not any(entry.get("onHostMaintenance") == "TERMINATE" for entry in schedules):
            rule = "must have scheduling.onHostMaintenance: TERMINATE: a machine with GPUs cannot be moved"
            yield FileProblem(node.location("node_config"), rule, "Add it")


def _disk_and_image(node: ClusterNodeType) -> Iterator[FileProblem]:
    disks = [mapping(disk.get("initializeParams")) for disk in mappings(node.config.get("disks"))]
    image = next((str(disk["sourceImage"]) for disk in disks if "sourceImage" in disk), "")
    if not image or "/family/" in image or not re.search(r"\d", image.rpartition("/")[2]):
        rule = f"must boot one image for ever, not a family. Received: {image or 'no sourceImage'!r}"
        yield FileProblem(node.location("node_config", "disks"), rule, "Name a dated image, as clusters/gcp.yaml does")
    yield from check_disk_size(
        node, [as_number(disk["diskSizeGb"]) for disk in disks if "diskSizeGb" in disk], "initializeParams.diskSizeGb"
    )


def _storage(node: ClusterNodeType) -> Iterator[FileProblem]:
    if node.is_head:
        return  # Ray gives the head an account of its own
    accounts = mappings(node.config.get("serviceAccounts"))
    scopes = [scope for account in accounts for scope in texts(account.get("scopes"))]
    if not any(scope.endswith(_WRITING_SCOPES) for scope in scopes):
        rule = "must have a service account whose scopes let it write to gs://: Ray gives none to workers"
        yield FileProblem(node.location("node_config"), rule, "Add serviceAccounts with the scope cloud-platform")
