"""What `ray up` on AWS takes on trust: machine types, images, profiles, security groups, disks. Asks no network."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

from tune.cluster.declared_resources import check_declared_resources, check_disk_size
from tune.cluster.instance_catalog import InstanceType, catalog
from tune.cluster.types import ClusterNodeType, FileProblem, as_number, mapping, mappings, node_types
from tune.errors import nearest

_IMAGE = re.compile(r"ami-[0-9a-f]{8}(?:[0-9a-f]{9})?|resolve:ssm:\S+:\d+")
_ANYWHERE = {"0.0.0.0/0", "::/0"}
_RAYS_OWN_KEYS = {"SubnetIds"}  # Ray turns them into one SubnetId


def instance_type_of(node: ClusterNodeType) -> InstanceType | None:
    """Returns the machine of a node type, or None for one that is not in the catalog."""
    return catalog("aws").instance_types.get(str(node.config.get("InstanceType")))


def find_problems(config: dict[str, Any]) -> Iterator[FileProblem]:
    """Yields what is wrong with the node types of a prepared AWS file."""
    yield from _open_to_the_world(config)
    for node in node_types(config):
        yield from _config_problems(node)
        yield from _machine(node)
        yield from _image(node, str(config["provider"].get("region")))
        yield from _profile(node)
        if not node.config.get("SecurityGroupIds") and "NetworkInterfaces" not in node.config:
            yield FileProblem(
                node.location("node_config"),
                "must name its SecurityGroupIds: the group that Ray makes opens SSH to 0.0.0.0/0",
                "Deploy clusters/aws-account.yaml and name the group it makes",
            )
        yield from _disk(node)


def unchecked() -> Iterator[str]:
    """Yields what could not be checked here."""
    if _known_keys() is None:
        yield "the keys of node_config were not checked: that takes boto3. Install it: make setup EXTRAS=aws"


def _open_to_the_world(config: dict[str, Any]) -> Iterator[FileProblem]:
    rules = mappings(mapping(config["provider"].get("security_group")).get("IpPermissions"))
    for index, rule in enumerate(rules):
        ranges = [*mappings(rule.get("IpRanges")), *mappings(rule.get("Ipv6Ranges"))]
        addresses = {str(entry.get("CidrIp", entry.get("CidrIpv6"))) for entry in ranges}
        for address in sorted(_ANYWHERE & addresses):
            location = ("provider", "security_group", "IpPermissions", index)
            rule_text = f"must not open a port to the whole world. Received: {address}"
            yield FileProblem(location, rule_text, "Name your own address, as in 203.0.113.7/32")


def _known_keys() -> dict[str, Any] | None:
    try:
        import botocore.loaders  # noqa: F401
    except ModuleNotFoundError:
        return None
    return _members(_run_instances())


@functools.cache
def _run_instances() -> Any:
    from botocore.loaders import Loader
    from botocore.model import ServiceModel

    model = ServiceModel(Loader().load_service_model("ec2", "service-2"))
    return model.operation_model("RunInstances").input_shape


def _members(shape: Any, depth: int = 4) -> dict[str, Any]:
    """The keys that a shape of EC2's own model takes, each with those inside it."""
    while shape.type_name == "list":
        shape = shape.member
    if shape.type_name != "structure" or not depth:
        return {}
    return {name: _members(inner, depth - 1) for name, inner in shape.members.items()}


def _config_problems(node: ClusterNodeType) -> Iterator[FileProblem]:
    known = _known_keys()
    if known is None:
        return
    yield from _unknown_keys(node.config, known | dict.fromkeys(_RAYS_OWN_KEYS, {}), node.location("node_config"))
    yield from _wrong_choices(node.config, _run_instances(), node.location("node_config"))
    for complaint in _wrong_types(node.config):
        yield FileProblem(node.location("node_config"), complaint, "Fix the value")


def _wrong_choices(value: Any, shape: Any, location: tuple[str | int, ...]) -> Iterator[FileProblem]:
    """Yields a problem for every word that EC2 does not know where it knows only some."""
    if shape.type_name == "list" and isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _wrong_choices(inner, shape.member, (*location, index))
    elif shape.type_name == "structure" and isinstance(value, dict):
        for key in value.keys() & shape.members.keys() - {"InstanceType"}:  # asked of the catalog
            yield from _wrong_choices(value[key], shape.members[key], (*location, key))
    elif shape.type_name == "string" and shape.enum and isinstance(value, str) and value not in shape.enum:
        rule = f"must be one of EC2's words. Received: {value!r}"
        yield FileProblem(location, rule, nearest(value, shape.enum).strip())


def _wrong_types(config: dict[str, Any]) -> list[str]:
    """What botocore says of values of the wrong type, as it would at the launch."""
    from botocore.validate import ParamValidator

    report = ParamValidator().validate(config, _run_instances()).generate_report()
    return [line for line in report.splitlines() if line.startswith("Invalid type")]


def _unknown_keys(value: Any, known: dict[str, Any], location: tuple[str | int, ...]) -> Iterator[FileProblem]:
    if isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _unknown_keys(inner, known, (*location, index))
    elif isinstance(value, dict) and known:
        for key, inner in value.items():
            if key in known:
                yield from _unknown_keys(inner, known[key], (*location, key))
                continue
            hint = (
                nearest(key, known).strip() if len(known) < 20 else nearest(key, known).partition(" Known:")[0].strip()
            )
            yield FileProblem((*location, key), "must be a key of EC2's RunInstances", hint or "Look it up there")


def _machine(node: ClusterNodeType) -> Iterator[FileProblem]:
    name, machine = str(node.config.get("InstanceType")), instance_type_of(node)
    if machine is None:
        family = [known for known in catalog("aws").instance_types if known.partition(".")[0] == name.partition(".")[0]]
        hint = nearest(name, family or catalog("aws").instance_types).strip()
        rule = f"must be a machine type whose price and GPUs are known. Received: {name!r}"
        yield FileProblem(node.location("node_config", "InstanceType"), rule, hint)
    elif not node.is_head:
        yield from check_declared_resources(node, machine)


def _image(node: ClusterNodeType, region: str) -> Iterator[FileProblem]:
    image, place = node.config.get("ImageId"), node.location("node_config", "ImageId")
    if not image:
        rule = "must be set: Ray's own choice is an Ubuntu 18.04 of 2022"
        yield FileProblem(node.location("node_config"), f"ImageId {rule}", "Name the image of cluster.yaml")
    elif not _IMAGE.fullmatch(str(image)):
        yield FileProblem(
            place, f"must be one image for ever. Received: {image!r}", "Name it by id, as in ami-0123456789abcdef0"
        )
    elif catalog("aws").images.get(str(image), region) != region:
        rule = f"must be an image of {region}. Received: {image}, of {catalog('aws').images[image]}"
        yield FileProblem(place, rule, "Look the image up there; cluster.yaml says how")


def _profile(node: ClusterNodeType) -> Iterator[FileProblem]:
    profile = mapping(node.config.get("IamInstanceProfile"))
    if profile.get("Arn") or profile.get("Name"):
        return
    why = (
        "must have an IamInstanceProfile: the one that Ray makes may not hand the workers theirs (iam:PassRole)"
        if node.is_head
        else "must have an IamInstanceProfile: Ray gives none to workers, and they could not write to s3://"
    )
    name = "emotune-head" if node.is_head else "emotune-worker"
    yield FileProblem(node.location("node_config"), why, f"Deploy clusters/aws-account.yaml and name {name}")


def _disk(node: ClusterNodeType) -> Iterator[FileProblem]:
    disks = mappings(node.config.get("BlockDeviceMappings"))
    sizes_gb = [as_number(mapping(disk.get("Ebs")).get("VolumeSize")) for disk in disks]
    yield from check_disk_size(node, sizes_gb, "Ebs.VolumeSize")
