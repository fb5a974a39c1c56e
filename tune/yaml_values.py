"""The one place where text becomes values: study files, search spaces, `--set` and numbers given as options.

The rules are YAML 1.2's core schema. PyYAML reads YAML 1.1; what that reads as another number or as a date is refused.
Knows no rule of a study.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import yaml

_TAG = "tag:yaml.org,2002:"
_STR, _INT, _FLOAT, _REFUSED = f"{_TAG}str", f"{_TAG}int", f"{_TAG}float", "!refused"
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)|0o[0-7]+|0x[0-9a-fA-F]+")
_DECIMAL = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_LONGEST = 400
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), f"{_TAG}null"),
    **dict.fromkeys(("true", "True", "TRUE", "false", "False", "FALSE"), f"{_TAG}bool"),
    "<<": f"{_TAG}merge",
}
_old_tag: Callable[[Any, str, tuple[bool, bool]], Any] = yaml.resolver.Resolver().resolve


class UnclearValue(yaml.constructor.ConstructorError):
    """A plain value that readers of YAML take for different things."""


def parse_number(text: str) -> int | float | None:
    """Returns the number that a text is, None when it is none.

    Raises:
        ValueError: YAML 1.1 reads it as another number, or it is beyond what a float holds.
    """
    if unclear := _unclear(text):
        raise ValueError(f"{unclear[0]}. Write {unclear[1] or 'a number'}")
    if _INTEGER.fullmatch(text):
        if len(text) > _LONGEST or abs(int(text, 0)) >= 2**63:
            raise ValueError(f"{text[:20]}... is beyond what 64 bits hold. Write a smaller number")
        return int(text, 0)
    if _SPECIAL.fullmatch(text):
        return float(text.replace(".", ""))
    if not _DECIMAL.fullmatch(text):
        return None
    value = float(text)
    mantissa = re.split("[eE]", text)[0]
    if math.isinf(value) or (value == 0 and re.search("[1-9]", mantissa)):
        raise ValueError(f"{text} is beyond what a float holds, 4.9e-324 to 1.8e308. Write one within")
    return value


def _unclear(text: str) -> tuple[str, str] | None:
    """Returns why a plain text is refused and what to write instead, None for one that all readers take the same."""
    old = _old_tag(yaml.ScalarNode, text, (True, False))
    if len(text) > _LONGEST or "\n" in text:  # Python's int() refuses thousands of digits; `$` matches before a newline
        return None
    if old == f"{_TAG}timestamp":
        return f"{text} is a date in YAML 1.1 and text in YAML 1.2", ""
    if _LEADING_ZERO.fullmatch(text):
        if old == _INT and int(text, 8) != int(text):
            return f"{text} is {int(text, 8)} in YAML 1.1 and {int(text)} in YAML 1.2", str(int(text))
        return f"{text} begins with 0, as an octal number of YAML 1.1 does", str(int(text))
    if old in (_INT, _FLOAT) and not any(form.fullmatch(text) for form in (_INTEGER, _DECIMAL, _SPECIAL)):
        meant = yaml.safe_load(text)
        time = ", a time as 90s, 30m or 1h30m" if ":" in text else ""
        return f"{text} is {meant} in YAML 1.1 and text in YAML 1.2", f"{meant}{time}"
    return None


def _tag(text: str) -> str:
    if text in _WORDS:
        return _WORDS[text]
    if _unclear(text):
        return _REFUSED
    if _INTEGER.fullmatch(text):
        return _INT
    return _FLOAT if _DECIMAL.fullmatch(text) or _SPECIAL.fullmatch(text) else _STR


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    """Builds a mapping; a repeated key is refused, the second would silently win."""
    own = sum(key_node.tag != f"{_TAG}merge" for key_node, _ in node.value)
    loader.flatten_mapping(node)  # what `<<` brings in stands first, and may be overridden
    merged = len(node.value) - own
    result: dict[Any, Any] = {}
    written: set[Any] = set()
    for index, (key_node, value_node) in enumerate(node.value):
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str | int | float | bool | None):
            raise yaml.constructor.ConstructorError(None, None, "a key must be plain text", key_node.start_mark)
        if key in written:
            raise yaml.constructor.ConstructorError(None, None, f"{key!r} stands here twice", key_node.start_mark)
        if index >= merged:
            written.add(key)
        result[key] = loader.construct_object(value_node, deep=True)
    return result


def _bool(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> bool:
    text = str(loader.construct_scalar(node))
    if _WORDS.get(text) != f"{_TAG}bool":
        raise yaml.constructor.ConstructorError(None, None, f"{text!r} is not true or false", node.start_mark)
    return text.lower() == "true"


def _number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int | float:
    text = str(loader.construct_scalar(node))
    if unclear := _unclear(text):
        remedy = f"Write {unclear[1]}, or quote it" if unclear[1] else "Quote it"
        raise UnclearValue(None, None, f"{unclear[0]}. {remedy}: '{text}'", node.start_mark)
    try:
        found = parse_number(text)
    except ValueError as error:
        raise UnclearValue(None, None, str(error), node.start_mark) from None
    if found is None:
        raise yaml.constructor.ConstructorError(None, None, f"{text!r} is no number", node.start_mark)
    return found


class Yaml11Loader(yaml.SafeLoader):
    """YAML 1.1, for files that other programs read with PyYAML: cluster files."""


class Yaml12Loader(Yaml11Loader):
    """YAML 1.2's core schema."""

    yaml_constructors: ClassVar[dict[Any, Any]] = {
        None: yaml.SafeLoader.construct_undefined,
        **{f"{_TAG}{name}": yaml.SafeLoader.yaml_constructors[f"{_TAG}{name}"] for name in ("null", "str", "seq")},
    }

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        """Returns the tag of a node that has none of its own."""
        if kind is yaml.ScalarNode and implicit[0]:
            return _tag(value)
        return super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]


class WrittenLoader(Yaml12Loader):
    """What emotune wrote itself: earlier versions left text unquoted that only YAML 1.2 takes for a number (`1e5`)."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        """Returns the tag of a node that has none of its own."""
        text = kind is yaml.ScalarNode and implicit[0] and _old_tag(kind, value, implicit) == _STR
        return _STR if text else super().resolve(kind, value, implicit)


Yaml11Loader.add_constructor(f"{_TAG}map", _mapping)
Yaml12Loader.add_constructor(f"{_TAG}map", _mapping)
Yaml12Loader.add_constructor(f"{_TAG}bool", _bool)
for _name in (_INT, _FLOAT, _REFUSED):
    Yaml12Loader.add_constructor(_name, _number)


class _Dumper(yaml.SafeDumper):
    """Quotes every text that YAML 1.1 or 1.2 would take for something else; both read the same from what it writes."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        tag = super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]
        return _tag(value) if kind is yaml.ScalarNode and implicit[0] and tag == _STR else tag


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """Writes several lines, as of a file of code, as they are."""
    return dumper.represent_scalar(_STR, text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)


def parse(text: str, loader: type[Yaml11Loader] = Yaml12Loader) -> Any:
    """Returns the value of a YAML document.

    Raises:
        yaml.YAMLError: it is none; `UnclearValue` where readers of YAML disagree on a value.
        ValueError, RecursionError: a value is beyond what Python takes.
    """
    return yaml.load(text, Loader=loader)  # noqa: S506 (a SafeLoader)


def dump(values: Mapping[str, Any]) -> str:
    """Returns YAML that readers of 1.1 and of 1.2 take for the same values."""
    return yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False, width=120)
