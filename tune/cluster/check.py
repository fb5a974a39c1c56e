"""Checks a cluster file offline: Ray's own schema first, then what Ray takes on trust. Starts nothing, asks no network.

A `ray up` file (AWS, Google Cloud, machines of one's own) or a RayCluster for KubeRay.
"""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tune.cluster import aws as cluster_aws
from tune.cluster import gcp as cluster_gcp
from tune.cluster import kubernetes as cluster_kubernetes
from tune.cluster.instance_catalog import InstanceType, catalog
from tune.cluster.schema import prepare, provider_keys
from tune.cluster.types import ClusterNodeType, FileProblem, node_types, unfilled_placeholders
from tune.cluster.versions import Versions, installs_the_lock, locked_versions, other_versions
from tune.errors import StudyFileError, nearest
from tune.study.yaml_source import read_yaml
from tune.yaml_values import Yaml11Loader

LONGEST_IDLE_MINUTES = 60
MOST_WORKERS = 10_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|[0-9a-fA-F:]+|FILL-IN.*")
_JOIN = "Start the cluster, and let emotune plan join it: RAY_ADDRESS=HOST:6379"
_CLOUDS = {"aws": cluster_aws, "gcp": cluster_gcp}


@dataclass(frozen=True)
class Report:
    """What a cluster file asks for, what could not be checked, and one line for each problem."""

    summary: list[str]
    notes: list[str]
    problems: list[str]


def check_cluster(path: Path) -> Report:
    """Checks a cluster file.

    Raises:
        StudyFileError: the file cannot be read, or is no YAML mapping.
    """
    raw = read_yaml(path, "a cluster file", Yaml11Loader)  # as Ray reads it
    versions = locked_versions(path.parent)
    notes: list[str] = []
    if "kind" in raw or "apiVersion" in raw:
        found = cluster_kubernetes.schema_problems(raw)
        summary = [] if found else list(cluster_kubernetes.summary(raw))
        found = found or [*unfilled_placeholders(raw), *cluster_kubernetes.find_problems(raw, versions)]
    else:
        config, found = prepare(raw)
        summary = list(_summary(config)) if config else []
        found = found or [*unfilled_placeholders(raw), *_launcher_problems(raw, config, versions)]
        if config and (cloud := _CLOUDS.get(config["provider"]["type"])):
            found += cloud.find_problems(config)
        notes += _notes(config) if config else ()
    if summary:
        summary.append(
            f"versions: Ray {versions.ray} and emotune {versions.emotune} on every node, as in {versions.source}"
        )
    return Report(summary, notes, list(dict.fromkeys(problem.line(path) for problem in found)))


def planned_cluster(path: Path) -> tuple[dict[str, Any], float | None]:
    """Returns a file for `ray up` as Ray completes it, and what an hour of it costs at its largest, if that is known.

    Raises:
        StudyFileError: it is none, or does not say what its machines hold.
    """
    raw = read_yaml(path, "a cluster file", Yaml11Loader)
    if "kind" in raw or "apiVersion" in raw:
        raise StudyFileError(f"{path} must be a file for `ray up`. Received: {raw.get('kind')}. {_JOIN}")
    config, problems = prepare(raw)
    if problems:
        raise StudyFileError(problems[0].line(path))
    cloud = _CLOUDS.get(config["provider"]["type"])
    if cloud is None:
        raise StudyFileError(f"{path} does not say what its machines hold. {_JOIN}")
    machines = {node.name: cloud.instance_type_of(node) for node in node_types(config)}
    return config, (_hour_prices(config, machines) or (0.0, None))[1]


def _launcher_problems(raw: dict[str, Any], config: dict[str, Any], versions: Versions) -> Iterator[FileProblem]:
    yield from _commands(raw, config, versions)
    yield from _mounts(config)
    if not _NAME.fullmatch(str(config["cluster_name"])):
        rule = f"must be letters, digits and -_., at most 60. Received: {config['cluster_name']!r}"
        yield FileProblem(("cluster_name",), rule, "Choose another")
    yield from _provider_keys(config["provider"])
    if config["provider"]["type"] == "local":
        yield from _addresses(raw, config)
        return
    idle = raw.get("idle_timeout_minutes")
    if idle is None or not 0 < idle <= LONGEST_IDLE_MINUTES:
        rule = f"must be over 0 and at most {LONGEST_IDLE_MINUTES}: idle workers cost money. Received: {idle}"
        yield FileProblem(("idle_timeout_minutes",), rule, "Write idle_timeout_minutes: 10")
    for node in node_types(config):
        if node.min_workers > node.max_workers:
            rule = f"must be at most max_workers={node.max_workers}. Received: {node.min_workers}"
            yield FileProblem(node.location("min_workers"), rule, "Lower it")
        if node.is_head:
            yield from _head(node)
    yield from _scale(config)
    if not any(node.max_workers for node in node_types(config) if not node.is_head) or not config["max_workers"]:
        yield FileProblem(("max_workers",), "must let a worker come: the head runs no trial", "Raise max_workers")


def _scale(config: dict[str, Any]) -> Iterator[FileProblem]:
    """Yields numbers that Ray's schema takes and no cluster can have."""
    counts = ((node.location("max_workers"), node.max_workers) for node in node_types(config))
    for location, count in ((("max_workers",), config["max_workers"]), *counts):
        if count > MOST_WORKERS:
            rule = f"must be at most {MOST_WORKERS}. Received: {count}"
            yield FileProblem(location, rule, "Lower it")
    speed = config["upscaling_speed"]
    if not 0 < speed < math.inf:
        rule = f"must be a number above 0. Received: {speed}"
        yield FileProblem(("upscaling_speed",), rule, "Write 100: every waiting trial gets its machine in one step")


def _notes(config: dict[str, Any]) -> Iterator[str]:
    key = config["auth"].get("ssh_private_key")
    if key and not Path(str(key)).expanduser().is_file():
        yield f"auth.ssh_private_key {key} is not on this machine: `ray up` needs it where it is run"
    for program in ("ssh", "rsync"):
        if shutil.which(program) is None:
            yield f"{program} is not on this machine: `ray up` needs it where it is run"
    if config["provider"]["type"] == "aws":
        yield from cluster_aws.unchecked()


def _provider_keys(provider: dict[str, Any]) -> Iterator[FileProblem]:
    """Yields what Ray's schema for `provider`, which allows any key, does not name."""
    known = provider_keys()
    for key in provider.keys() - known:
        yield FileProblem(("provider", key), "must be a key that Ray's schema knows", nearest(key, known).strip())


def _head(node: ClusterNodeType) -> Iterator[FileProblem]:
    for name in ("CPU", "GPU"):
        there = node.raw["resources"].get(name, None if name == "CPU" else 0)
        if there != 0:
            rule = f"must be 0: a trial on the head takes the driver down with it. Received: {there}"
            yield FileProblem(node.location("resources"), f"{name} {rule}", f"Write {name}: 0")
    if node.max_workers:
        yield FileProblem(
            node.location("max_workers"), f"must be 0 for the head's type. Received: {node.max_workers}", "Write 0"
        )


def _commands(raw: dict[str, Any], config: dict[str, Any], versions: Versions) -> Iterator[FileProblem]:
    images = config.get("docker") or {}
    for role in ("head", "worker"):
        commands = config[f"{role}_setup_commands"]  # Ray has put setup_commands in front
        image = str(images.get(f"{role}_image") or images.get("image") or "")
        if not installs_the_lock(commands, image):
            rule = "must install the locked environment: no `uv sync --locked`, no pinned ray and emotune"
            yield FileProblem((f"{role}_setup_commands",), rule, "Add: uv sync --locked --no-dev --no-editable")
        for text in (*commands, image):
            for other in other_versions(text, versions):
                name = other.split()[0]
                rule = f"must have {name} {getattr(versions, name)}, as in {versions.source}. Received: {other}"
                key = "docker" if text is image else f"{role}_setup_commands"
                yield FileProblem((key,), rule, f"Write {getattr(versions, name)}")
    for key in ("image", "head_image", "worker_image"):
        image = str(images.get(key) or "")
        tag = image.rpartition("/")[2].partition(":")[2]
        if image and "@sha256:" not in image and (not tag or "latest" in tag or "nightly" in tag):
            yield FileProblem(
                ("docker", key), f"must be one image for ever. Received: {image!r}", "Name a version as its tag"
            )
    yield from _start(raw)


def _start(raw: dict[str, Any]) -> Iterator[FileProblem]:
    head = " ".join(raw.get("head_start_ray_commands", []))
    for flag, why in (
        ("--num-cpus=0", "a trial on the head takes the driver down with it"),
        ("--num-gpus=0", "a trial on the head takes the driver down with it"),
        ("--autoscaling-config=", "without it no worker ever comes"),
    ):
        if flag not in head:
            rule = f"must hold {flag}: {why}"
            yield FileProblem(("head_start_ray_commands",), rule, f"Add {flag} to ray start --head")
    if "RAY_HEAD_IP" not in " ".join(raw.get("worker_start_ray_commands", ["RAY_HEAD_IP"])):
        rule = "must join the head"
        yield FileProblem(("worker_start_ray_commands",), rule, "Write: ray start --address=$RAY_HEAD_IP:6379")


def _mounts(config: dict[str, Any]) -> Iterator[FileProblem]:
    for remote, local in config["file_mounts"].items():
        if not Path(str(local)).expanduser().exists():
            rule = f"must mount a path that exists in this folder. Received: {local!r}"
            yield FileProblem(("file_mounts", remote), rule, "Run from the folder that the paths start in, or fix it")


def _addresses(raw: dict[str, Any], config: dict[str, Any]) -> Iterator[FileProblem]:
    provider = config["provider"]
    head, workers = provider["head_ip"], provider["worker_ips"]
    for key, address in (("head_ip", head), *(("worker_ips", worker) for worker in workers)):
        if not _HOST.fullmatch(str(address)) or not isinstance(address, str):
            rule = f"must be an IP address or a host's name. Received: {address!r}"
            yield FileProblem(("provider", key), rule, "Fix it")
    min_workers = raw.get("min_workers", 0)
    if min_workers > len(workers):
        rule = f"must be at most the {len(workers)} of worker_ips. Received: {min_workers}"
        yield FileProblem(("min_workers",), rule, "Lower it")
    for address in sorted({str(worker) for worker in workers if worker == head or workers.count(worker) > 1}):
        rule = f"must name each machine once, and not the head. Received twice: {address}"
        yield FileProblem(("provider", "worker_ips"), rule, "Remove it")
    if not config["auth"].get("ssh_user"):
        yield FileProblem(("auth",), "must name the ssh_user of every machine", "Add it")


def _summary(config: dict[str, Any]) -> Iterator[str]:
    provider = config["provider"]
    if provider["type"] == "local":
        yield f"cluster {config['cluster_name']} on machines of one's own"
        yield f"head: {provider['head_ip']}, runs no trial; workers: {', '.join(map(str, provider['worker_ips']))}"
        return
    cloud = provider["type"]
    yield f"cluster {config['cluster_name']} on {cloud} ({provider.get('region')})"
    instance_types = {node.name: _CLOUDS[cloud].instance_type_of(node) for node in node_types(config)}
    for node in node_types(config):
        name = node.config.get("InstanceType", node.config.get("machineType"))
        what = f"{name} ({instance_types[node.name] or 'unknown'})"
        yield (
            f"head: {what}, runs no trial"
            if node.is_head
            else f"{node.name}: {node.min_workers} to {node.max_workers} x {what}"
        )
    yield _price(config, instance_types)


def _price(config: dict[str, Any], instance_types: dict[str, InstanceType | None]) -> str:
    prices = _hour_prices(config, instance_types)
    if prices is None:
        return "price: not known, as one of the machine types is not"
    listed = catalog(config["provider"]["type"]).priced
    least, most = prices
    return f"price: about ${least:.2f} to ${most:.2f} an hour in {listed}; spot is less, disks and traffic are extra"


def _hour_prices(config: dict[str, Any], instance_types: dict[str, InstanceType | None]) -> tuple[float, float] | None:
    """Returns the price of an hour of the smallest and of the largest cluster, None where a machine's is not known."""
    nodes = node_types(config)
    known = {name: machine.usd for name, machine in instance_types.items() if machine}
    if len(known) < len(nodes):
        return None
    least = sum(known[node.name] * (1 if node.is_head else node.min_workers) for node in nodes)
    dearest = sorted(
        (
            known[node.name]
            for node in nodes
            if not node.is_head
            for _ in range(min(node.max_workers, config["max_workers"], MOST_WORKERS))
        ),
        reverse=True,
    )
    most = sum(known[node.name] for node in nodes if node.is_head) + sum(dearest[: config["max_workers"]])
    return least, most
