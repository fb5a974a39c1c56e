"""What a RayCluster for KubeRay must say. Knows nothing of the Kubernetes that will run it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from tune.cluster.types import FileProblem, as_number, mapping, mappings
from tune.cluster.versions import Versions, installs_the_lock, other_versions
from tune.errors import nearest
from tune.study.yaml_source import Location

_SPEC = frozenset(
    """authOptions autoscalerOptions enableInTreeAutoscaling gcsFaultToleranceOptions headGroupSpec
    headServiceAnnotations managedBy networkPolicy rayVersion suspend upgradeStrategy workerGroupSpecs""".split()
)
_HEAD = frozenset("enableIngress headService labels rayStartParams resources serviceType template".split())
_WORKERS = frozenset(
    """groupName idleTimeoutSeconds labels maxReplicas minReplicas numOfHosts priority rayStartParams replicas resources
    scaleStrategy suspend template""".split()
)
_GPU = "nvidia.com/gpu"


def schema_problems(raw: dict[str, Any]) -> list[FileProblem]:
    """Returns what keeps Ray's own autoscaler from reading the file."""
    from jsonschema import ValidationError
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    found = list(_header_problems(raw)) or list(_type_problems(raw["spec"]))
    if found:
        return found
    try:
        named = copy.deepcopy(raw)
        named["metadata"].setdefault("namespace", "default")
        _derive_autoscaling_config_from_ray_cr(named)
    except KeyError as error:
        return [FileProblem(("spec",), f"must have the key {error.args[0]!r}: Ray's autoscaler reads it", "Add it")]
    except ValidationError as error:
        place = ".".join(map(str, error.absolute_path))
        return [
            FileProblem(("spec",), f"must be what Ray's autoscaler can read. Received: {error.message}", f"Fix {place}")
        ]
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        return [FileProblem(("spec",), f"must be what Ray's autoscaler can read. Received: {error}", "Fix the value")]
    return []


def _header_problems(raw: dict[str, Any]) -> Iterator[FileProblem]:
    for key, wanted in (("apiVersion", "ray.io/v1"), ("kind", "RayCluster")):
        if raw.get(key) != wanted:
            yield FileProblem((key,), f"must be {wanted}. Received: {raw.get(key)!r}", f"Did you mean {wanted!r}?")
    for key in ("metadata", "spec"):
        if not isinstance(raw.get(key), dict):
            yield FileProblem((key,), "must be a mapping", "Add it")


def _type_problems(spec: dict[str, Any]) -> Iterator[FileProblem]:
    """Yields the values that are of another kind than Ray's autoscaler counts on; what is missing it says itself."""
    groups = spec.get("workerGroupSpecs", [])
    wanted: list[tuple[Location, Any, type, str]] = [
        (("workerGroupSpecs",), groups, list, "a list"),
        (("autoscalerOptions",), spec.get("autoscalerOptions", {}), dict, "a mapping"),
        (("headGroupSpec",), spec.get("headGroupSpec", {}), dict, "a mapping"),
    ]
    idle = mapping(spec.get("autoscalerOptions")).get("idleTimeoutSeconds", 0)
    wanted.append((("autoscalerOptions", "idleTimeoutSeconds"), idle, int, "a whole number"))
    numbered = enumerate(groups) if isinstance(groups, list) else ()
    for place, group in [
        (("headGroupSpec",), spec.get("headGroupSpec")),
        *((("workerGroupSpecs", i), g) for i, g in numbered),
    ]:
        wanted.append((place, group, dict, "a mapping"))
        group = mapping(group)
        for key in ("replicas", "minReplicas", "maxReplicas"):
            wanted.append(((*place, key), group.get(key, 0), int, "a whole number"))
        start = group.get("rayStartParams", {})
        wanted.append(((*place, "rayStartParams"), start, dict, "a mapping"))
        for key, value in mapping(start).items():
            wanted.append(((*place, "rayStartParams", key), value, str, "text, in quotes: Kubernetes takes no other"))
        containers = mapping(mapping(group.get("template")).get("spec")).get("containers", [])
        wanted.append(((*place, "template", "spec", "containers"), containers, list, "a list"))
    for place, value, kind, words in wanted:
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            yield FileProblem(("spec", *place), f"must be {words}. Received: {value!r}", "Fix the value")


def find_problems(raw: dict[str, Any], versions: Versions) -> Iterator[FileProblem]:
    """Yields what is wrong with a RayCluster of sound shape."""
    spec = raw["spec"]
    yield from _unknown_keys(spec, _SPEC, ("spec",))
    yield from _unknown_keys(spec["headGroupSpec"], _HEAD, ("spec", "headGroupSpec"))
    if str(spec.get("rayVersion")) != versions.ray:
        rule = f"must be {versions.ray}, as in {versions.source}. Received: {spec.get('rayVersion')!r}"
        yield FileProblem(("spec", "rayVersion"), rule, f"Write {versions.ray}")
    if spec.get("enableInTreeAutoscaling") is not True:
        rule = "must be true: without Ray's autoscaler no worker comes or goes"
        yield FileProblem(("spec", "enableInTreeAutoscaling"), rule, "Write true")
    if not spec.get("autoscalerOptions", {}).get("idleTimeoutSeconds"):
        rule = "must set idleTimeoutSeconds: Ray's own is one minute, shorter than a pause between two trials"
        yield FileProblem(("spec", "autoscalerOptions"), rule, "Add idleTimeoutSeconds: 600")
    start = spec["headGroupSpec"].get("rayStartParams", {})
    if str(start.get("num-cpus")) != "0" or str(start.get("num-gpus", "0")) != "0":
        rule = "must have num-cpus and num-gpus of 0: a trial on the head takes the driver down with it"
        yield FileProblem(("spec", "headGroupSpec", "rayStartParams"), rule, 'Write num-cpus: "0", num-gpus: "0"')
    yield from _pods(spec["headGroupSpec"], ("spec", "headGroupSpec"), versions)
    for index, group in enumerate(spec["workerGroupSpecs"]):
        yield from _workers(group, ("spec", "workerGroupSpecs", index), versions)


def _workers(group: dict[str, Any], place: Location, versions: Versions) -> Iterator[FileProblem]:
    yield from _unknown_keys(group, _WORKERS, place)
    yield from _pods(group, place, versions)
    if group["minReplicas"] > group["maxReplicas"]:
        rule = f"must be at most maxReplicas={group['maxReplicas']}. Received: {group['minReplicas']}"
        yield FileProblem((*place, "minReplicas"), rule, "Lower it")
    pod = group["template"]["spec"]
    if as_number(_limits(group).get(_GPU)) < 1:
        rule = f"must have a limit of {_GPU}: Kubernetes gives a GPU to no container without one"
        yield FileProblem((*place, "template", "spec", "containers", 0), rule, f"Add {_GPU}: 1 to resources.limits")
    container = pod["containers"][0]
    volumes = [volume for volume in mappings(pod.get("volumes")) if {"persistentVolumeClaim", "nfs"} & volume.keys()]
    if not (pod.get("serviceAccountName") or container.get("envFrom") or container.get("env") or volumes):
        rule = "must be able to write the storage: it has no service account, no credentials and no shared volume"
        yield FileProblem(
            (*place, "template", "spec"), rule, "Add serviceAccountName; docs/cluster-kubernetes.md says which"
        )


def _limits(group: dict[str, Any]) -> dict[str, Any]:
    return mapping(mapping(group["template"]["spec"]["containers"][0].get("resources")).get("limits"))


def _pods(group: dict[str, Any], place: Location, versions: Versions) -> Iterator[FileProblem]:
    for index, container in enumerate(group["template"]["spec"]["containers"]):
        image = str(container.get("image", ""))
        at = (*place, "template", "spec", "containers", index, "image")
        for other in other_versions(image, versions):
            name = other.split()[0]
            rule = f"must have {name} {getattr(versions, name)}, as in {versions.source}. Received: {image!r}"
            yield FileProblem(at, rule, "Build clusters/Dockerfile again and name its tag")
        if index == 0 and not installs_the_lock([], image):
            rule = f"must be an image of emotune with its version as tag. Received: {image!r}"
            yield FileProblem(
                at, rule, f"Build clusters/Dockerfile and name it, as in REGISTRY/emotune:{versions.emotune}"
            )


def _unknown_keys(value: dict[str, Any], known: frozenset[str], place: Location) -> Iterator[FileProblem]:
    for key in value.keys() - known:
        yield FileProblem((*place, key), "must be a key of ray.io/v1", nearest(key, known).strip())


def summary(raw: dict[str, Any]) -> Iterator[str]:
    """Yields what the file asks for, a line each."""
    yield f"cluster {raw['metadata'].get('name')} on Kubernetes"
    for group in raw["spec"]["workerGroupSpecs"]:
        limits = _limits(group)
        counts = f"{group['minReplicas']} to {group['maxReplicas']}"
        yield f"workers: {counts} pods {group['groupName']}, {limits.get('cpu')} CPUs, {limits.get(_GPU)} GPU each"
    yield "price: what the nodes of the pool cost"
