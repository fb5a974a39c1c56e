"""The shape of a `ray up` file by Ray's own schema, its complaints turned into problems. Knows no rule of ours."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tune.cluster.types import FileProblem
from tune.errors import nearest

PROVIDERS = ("aws", "gcp", "local")
_UNNAMED = frozenset(
    """aws_credentials disable_launch_config_check external_head_ip foreground_node_launch use_external_head_ip
    worker_liveness_check""".split()
)


def provider_problem(raw: dict[str, Any]) -> FileProblem | None:
    """Returns what is wrong with `provider.type`, without which nothing else can be judged."""
    provider = raw.get("provider")
    kind = provider.get("type") if isinstance(provider, dict) else None
    if kind in PROVIDERS:
        return None
    if not isinstance(kind, str):
        location = ("provider", "type") if isinstance(provider, dict) else ("provider",)
        return FileProblem(
            location, "must name where the cluster runs", f"Set provider.type to one of {', '.join(PROVIDERS)}"
        )
    hint = nearest(kind, PROVIDERS).strip()
    return FileProblem(("provider", "type"), f"must be a provider that is checked here. Received: {kind!r}", hint)


def prepare(raw: dict[str, Any]) -> tuple[dict[str, Any], list[FileProblem]]:
    """Returns the file as `ray up` completes it, or an empty mapping and what is wrong with its shape."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    if problem := provider_problem(raw):
        return {}, [problem]
    as_written = {key: value for key, value in raw.items() if not (_is_local(raw) and key == "min_workers")}
    completed: dict[str, Any] = {}

    def complete() -> None:
        completed.update(prepare_config(copy.deepcopy(raw)))
        validate_config(completed)

    # The schema first: Ray's own completion trips over a list where it wants a mapping.
    shaped = as_written | {"cluster_synced_files": [], "max_workers": raw.get("max_workers", 1 << 30)}
    problems = list(_complaints(lambda: validate_config(shaped)))
    problems = problems or [*_mount_problems(raw), *_local_problems(raw)] or list(_complaints(complete))
    return ({} if problems else completed), problems


def provider_keys() -> frozenset[str]:
    """Returns the keys of `provider` that Ray's schema names, and those that its launcher reads besides (2.60)."""
    import ray.autoscaler

    schema = json.loads(Path(ray.autoscaler.__file__).with_name("ray-schema.json").read_text(encoding="utf-8"))
    return frozenset(schema["properties"]["provider"]["properties"]) | _UNNAMED


def _is_local(raw: dict[str, Any]) -> bool:
    return bool(raw["provider"]["type"] == "local")


def _mount_problems(raw: dict[str, Any]) -> Iterator[FileProblem]:
    for remote, local in raw.get("file_mounts", {}).items():
        if not isinstance(local, str) or not isinstance(remote, str):
            yield FileProblem(
                ("file_mounts", remote), f"must be a path on this machine. Received: {local!r}", "Write a path"
            )


def _local_problems(raw: dict[str, Any]) -> Iterator[FileProblem]:
    if not _is_local(raw):
        return
    for key in ("head_ip", "worker_ips"):
        if not raw["provider"].get(key):
            yield FileProblem(("provider", key), "must be set on machines of one's own", f"Add {key} to provider")
    for key in ("available_node_types", "head_node_type"):
        if key in raw:
            yield FileProblem(
                (key,), "must not stand in a file for machines of one's own", "Remove it: provider lists them"
            )
    for key in ("min_workers", "max_workers"):
        if not isinstance(raw.get(key, 0), int):
            yield FileProblem((key,), f"must be a whole number. Received: {raw[key]!r}", "Write a number")


def _complaints(check: Any) -> Iterator[FileProblem]:
    from click import ClickException
    from jsonschema import ValidationError

    said = io.StringIO()  # Ray prints before it raises
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            check()
    except ValidationError as error:
        yield _from_schema(error)
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError, AssertionError, ClickException) as error:
        text = str(error) or said.getvalue() or type(error).__name__
        yield FileProblem((), " ".join(text.split()).rstrip("."), "Fix the file as Ray says")
    finally:
        logging.disable(logging.NOTSET)


def _from_schema(error: Any) -> FileProblem:
    location = tuple(error.absolute_path)
    if error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        wrong = next(key for key in error.instance if key not in known)
        hint = nearest(str(wrong), known).strip()
        return FileProblem((*location, wrong), "must be a key that Ray's schema knows", hint)
    if error.validator == "required":
        missing = next(key for key in error.validator_value if key not in error.instance)
        return FileProblem(location, f"must have the key {missing!r}", "Add it")
    if error.validator == "type":
        wanted = error.validator_value if isinstance(error.validator_value, str) else " or ".join(error.validator_value)
        names = {"object": "a mapping", "array": "a list", "string": "text", "integer": "a whole number"}
        return FileProblem(
            location, f"must be {names.get(wanted, wanted)}. Received: {error.instance!r}", "Fix the value"
        )
    return FileProblem(
        location, f"must keep to Ray's schema. Received: {error.instance!r}", f"Ray says: {error.message}"
    )
