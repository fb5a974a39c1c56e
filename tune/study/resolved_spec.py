"""Reads the study file that lies with a study: every default in place, also as earlier versions wrote it."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from search_spaces import WRITTEN
from tune.errors import StudyError
from tune.study.spec import StudySpec
from tune.study.yaml_source import read_yaml
from tune.yaml_values import WrittenLoader


def read_spec(path: Path) -> StudySpec:
    """Reads the resolved study file that lies with a study.

    Raises:
        StudyError: it is damaged.
    """
    try:
        raw = read_yaml(path, "a study file", WrittenLoader)
        if isinstance(raw, dict):
            raw.setdefault("export", {"ensemble": 1})  # emotune 0.1 knew none, and its sealed test is opened already
            confirm = raw.get("confirm")
            if isinstance(confirm, dict) and confirm.get("refit") is True and not confirm.get("top", 3):
                confirm["refit"] = 0  # as a switch it did nothing without a confirmation
        return StudySpec.model_validate(raw, context=WRITTEN)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        message = f"{' at ' + place if place else ''}: {first['msg'].removeprefix('Value error, ')}"
        raise StudyError(f"{path} is damaged{message}. Restore it from a copy") from None
