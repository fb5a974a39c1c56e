"""The user's own files in a study: read when its file is loaded, and their functions' parameters checked. Runs none.

`code:` of a resolved study file holds their text, so that whatever has the study has them: its folder, its bucket, a
job of a cluster, an export.
"""

from __future__ import annotations

import importlib.machinery
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from search_spaces import CategoricalParameter, SearchSpace, Value
from search_spaces.parameters import AnyParameter
from trainables.config import OWN_PREFIXES
from trainables.own_code import MAX_BYTES, Reference, SourceFile, find_pipeline, find_reference
from trainables.own_signature import OwnParameter, own_parameters
from tune.errors import OwnCodeError, nearest
from tune.study.trial_parameters import LocatedError

_FINDERS = {"model": find_reference, "preprocessing": find_pipeline}
_POSITIONAL = {"model": ("image", "classes"), "preprocessing": ()}

BUILTIN_MODELS_ONLY = ("dropout", "normalization", "image_size_px", "width", "stem", "batch_norm")
"""Parameters of a trial that a model of the user's own does not see."""


def with_code(raw: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Returns the raw mapping of a study with the files that it names under `code`; those that are there stay.

    Args:
        raw: what a study file holds, overrides applied.
        folder: where the study file lies.

    Raises:
        OwnCodeError: a file is not there, too large or no text; or no such module is installed.
    """
    given = raw.get("code")
    code = dict(given) if isinstance(given, Mapping) else {}
    for parameter, finder in _FINDERS.items():
        for name in _raw_names(raw, parameter):
            reference = finder(name)
            if reference is not None and reference.file not in code:
                code[reference.file] = _read(reference, name, folder).model_dump()
    return {**raw, "code": code} if code else dict(raw)


def _raw_names(raw: Mapping[str, Any], parameter: str) -> Iterator[str]:
    fixed, space = raw.get("fixed"), raw.get("space")
    varied = space.get(parameter) if isinstance(space, Mapping) else None
    choices = varied.get("choices") if isinstance(varied, Mapping) else None
    for name in [
        fixed.get(parameter) if isinstance(fixed, Mapping) else None,
        *(choices if isinstance(choices, list) else []),
    ]:
        if isinstance(name, str):
            yield name


def _read(reference: Reference, name: str, folder: Path) -> SourceFile:
    path = folder / reference.file if reference.is_file else _module_file(reference.file)
    if path is None:
        raise OwnCodeError(
            f"{name} must name a function of an installed module, or of a file beside the study file, as in "
            f"my_models.py:build. Received: {reference.file}, which is not installed. Install it, or correct the name"
        )
    try:
        if path.stat().st_size > MAX_BYTES:
            raise OwnCodeError(
                f"{reference.file} must be smaller than {MAX_BYTES // 1024} KiB, it travels with every trial. "
                f"Received: {path.stat().st_size // 1024} KiB. Keep data out of it"
            )
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise OwnCodeError(f"{reference.file} must be UTF-8 text. Received: {path}. Save it as that") from None
    except OSError as error:
        raise OwnCodeError(
            f"{name} must name a file beside the study file. Received: {path}: {error.strerror}. Put it there"
        ) from None
    return SourceFile(text=text, origin=str(path.resolve()), installed=not reference.is_file)


def _module_file(name: str) -> Path | None:
    """Returns where an installed module lies, without running any of its package."""
    places, found = None, None
    for part in name.split("."):
        found = importlib.machinery.PathFinder.find_spec(part, places)
        if found is None:
            return None
        places = found.submodule_search_locations
    return Path(found.origin) if found and found.origin and found.origin.endswith(".py") else None


def names_in(space: SearchSpace, fixed: Mapping[str, Value], parameter: str) -> list[str]:
    """Returns what a study may choose for `model` or `preprocessing`, without the default of a trial."""
    varied = space.parameters.get(parameter)
    names = varied.choices if isinstance(varied, CategoricalParameter) else [fixed.get(parameter)]
    return [name for name in names if isinstance(name, str)]


def own_names(space: SearchSpace, fixed: Mapping[str, Value], parameter: str) -> list[str]:
    """Returns those among them that are the user's own."""
    return [name for name in names_in(space, fixed, parameter) if _FINDERS[parameter](name)]


def code_of(names: Mapping[str, Any], code: Mapping[str, SourceFile]) -> dict[str, SourceFile]:
    """Returns the files that one trial needs, by its `model` and `preprocessing`."""
    references = [finder(str(names.get(parameter, ""))) for parameter, finder in _FINDERS.items()]
    return {one.file: code[one.file] for one in references if one is not None and one.file in code}


def changed_files(old: Mapping[str, SourceFile], new: Mapping[str, SourceFile]) -> list[str]:
    """Returns a text for every file whose content is another now: what it was, and what it is."""
    return [
        f"{name} ({old[name].digest} then, {new[name].digest} now)"
        for name in sorted(old.keys() & new.keys())
        if old[name].text != new[name].text
    ]


def code_today(code: Mapping[str, SourceFile]) -> dict[str, SourceFile]:
    """Returns the files as they are now where they were read; those that are there no more as they were."""
    today = {}
    for name, source in code.items():
        path = Path(source.origin)
        try:
            text = path.read_text(encoding="utf-8") if source.origin and path.is_file() else source.text
        except (OSError, UnicodeDecodeError):
            text = source.text
        today[name] = source.model_copy(update={"text": text})
    return today


def check_own(space: SearchSpace, fixed: Mapping[str, Value], code: Mapping[str, SourceFile]) -> None:
    """Refuses parameters that the user's functions do not have, and values that they do not take.

    Raises:
        LocatedError: a rule is broken.
    """
    models = names_in(space, fixed, "model")
    if models and models == own_names(space, fixed, "model"):
        for name in BUILTIN_MODELS_ONLY:
            section = "fixed" if name in fixed else "space"
            if name in fixed or name in space.parameters:
                raise LocatedError(
                    (section, name),
                    f"{section}.{name} counts for emotune's own models only. Received: {', '.join(models)}. Give its "
                    f"function a keyword-only argument and name it model.{name}, or remove it",
                )
    known = {prefix: _known(space, fixed, code, prefix.rstrip(".")) for prefix in OWN_PREFIXES}
    for section, names in (("fixed", fixed), ("space", space.parameters)):
        for name in names:
            prefix = next((prefix for prefix in OWN_PREFIXES if name.startswith(prefix)), None)
            if prefix is None:
                continue
            found = {own: parameters[name] for own, parameters in known[prefix].items() if name in parameters}
            if not found:
                every = {one for parameters in known[prefix].values() for one in parameters}
                whose = " or ".join(known[prefix]) or f"a {prefix.rstrip('.')} of your own, and the study has none"
                hint = nearest(name, every) if every else " Remove it"
                raise LocatedError((section, name), f"{section}.{name} is no parameter of {whose}.{hint}")
            if section == "fixed":
                _check_value(("fixed", name), fixed[name], found)
            else:
                _check_parameter(name, space.parameters[name], found)


def _known(
    space: SearchSpace, fixed: Mapping[str, Value], code: Mapping[str, SourceFile], parameter: str
) -> dict[str, dict[str, OwnParameter]]:
    found: dict[str, dict[str, OwnParameter]] = {}
    for name in own_names(space, fixed, parameter):
        reference = _FINDERS[parameter](name)
        if reference is None or reference.file not in code:
            raise LocatedError(("code",), f"code must hold {name.partition(':')[0]}. Received: {', '.join(code)}")
        if reference.function:
            text = code[reference.file].text
            try:
                own = own_parameters(text, reference.file, reference.function, _POSITIONAL[parameter])
            except OwnCodeError as error:
                raise LocatedError(("code",), str(error)) from None
            found[name] = {f"{parameter}.{one}": value for one, value in own.items()}
    return found


def _check_parameter(name: str, parameter: AnyParameter, owners: Mapping[str, OwnParameter]) -> None:
    wanted = parameter.conditions().get(name.partition(".")[0])
    owners = {own: known for own, known in owners.items() if wanted is None or own in wanted} or owners
    for own, known in owners.items():
        fits = {"integer": ("int", "categorical"), "number": ("float", "int", "categorical")}
        types = ("categorical",) if known.choices else fits.get(known.kind, ("categorical",))
        if parameter.type not in types:
            raise LocatedError(
                ("space", name, "type"),
                f"space.{name}: type must be {' or '.join(types)}, as {own} has it. Received: {parameter.type}",
            )
    ends = parameter.choices if isinstance(parameter, CategoricalParameter) else parameter.bounds()
    for value in (*ends, parameter.default):
        _check_value(("space", name), value, owners)


def _check_value(location: tuple[str, ...], value: Value, owners: Mapping[str, OwnParameter]) -> None:
    for own, known in owners.items():
        wanted = known.rejects(value)
        if wanted:
            raise LocatedError(
                location, f"{'.'.join(location)}: must be {wanted}, as {own} has it. Received: {value!r}. Change it"
            )
