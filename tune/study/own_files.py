"""The user's own files in a study: read when its file is loaded, and their functions' parameters checked. Runs none.

`code:` of a resolved study file holds their text, so that whatever has the study has them: its folder, its bucket, a
job of a cluster, an export.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

from search_spaces import CategoricalParameter, SearchSpace, Value
from search_spaces.parameters import AnyParameter
from trainables.application_names import find_application
from trainables.config import MethodName
from trainables.own_code import ENCODING, MAX_BYTES, Reference, SourceFile, find_pipeline, find_reference
from trainables.own_signature import OPTIMIZER, SCHEDULE, OwnParameter, own_parameters, pipeline_parameters
from tune.errors import OwnCodeError, nearest
from tune.study.trial_parameters import LocatedError

BUILTIN_MODELS_ONLY = ("dropout", "normalization", "image_size_px", "width", "stem", "batch_norm")
"""Parameters of a trial that a model of the user's own does not see."""

_NOT_FOR_APPLICATIONS = ("normalization", "width", "stem", "batch_norm")
_FOR_APPLICATIONS: tuple[str, ...] = ("weights",)


@dataclass(frozen=True)
class _Kind:
    """What of a trial may be the user's own: `parameter` names it, `find` and `parameters_of` read it."""

    parameter: str
    what: str
    find: Callable[[str], Reference | None]
    parameters_of: Callable[[str, str, str], dict[str, OwnParameter]]

    @property
    def prefix(self) -> str:
        """With which a study names its parameters."""
        return f"{self.parameter}."


_MODELS = _Kind("model", "a model of your own", find_reference, own_parameters)
_PIPELINES = _Kind("preprocessing", "a pipeline of your own", find_pipeline, pipeline_parameters)
_OPTIMIZERS = _Kind(
    "optimizer", "an optimizer of your own", find_reference, partial(own_parameters, positional=OPTIMIZER)
)
_SCHEDULES = _Kind("schedule", "a schedule of your own", find_reference, partial(own_parameters, positional=SCHEDULE))
_KINDS = (_MODELS, _PIPELINES, _OPTIMIZERS, _SCHEDULES)


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
    for kind in _KINDS:
        for name in _raw_names(raw, kind.parameter):
            reference = kind.find(name)
            if reference is not None and reference.file not in code:
                code[reference.file] = _read(name, reference, folder).model_dump()
    return {**raw, "code": code} if code else dict(raw)


def _raw_names(raw: Mapping[str, Any], parameter: str) -> Iterator[str]:
    fixed, space = raw.get("fixed"), raw.get("space")
    varied = space.get(parameter) if isinstance(space, Mapping) else None
    choices = varied.get("choices") if isinstance(varied, Mapping) else None
    names = [fixed.get(parameter)] if isinstance(fixed, Mapping) else []
    yield from (name for name in [*names, *(choices if isinstance(choices, list) else [])] if isinstance(name, str))


def pipeline_source(method: str) -> tuple[str, dict[str, SourceFile]]:
    """Returns a preprocessing method's name without a path, and its file if it is a pipeline of the user's own.

    Raises:
        OwnCodeError: as in `with_code`.
    """
    path = Path(method)
    reference = None if method in get_args(MethodName) else find_pipeline(path.name)
    if reference is None:
        return method, {}
    return path.name, {reference.file: _read(path.name, reference, path.parent, f"in {path.parent.resolve()}")}


def _read(name: str, reference: Reference, folder: Path, where: str = "beside the study file") -> SourceFile:
    path = folder / reference.file if reference.is_file else _module_file(reference.file)
    if path is None:
        raise OwnCodeError(
            f"{name} must name a function of an installed module, or of a file {where}, as in "
            f"my_code.py:build. Received: {reference.file}, which is not installed. Install it, or correct the name"
        )
    try:
        if path.stat().st_size > MAX_BYTES:
            raise OwnCodeError(
                f"{reference.file} must be smaller than {MAX_BYTES // 1024} KiB, it travels with every trial. "
                f"Received: {path.stat().st_size // 1024} KiB. Keep data out of it"
            )
        text = path.read_text(encoding=ENCODING)
    except UnicodeDecodeError:
        raise OwnCodeError(f"{reference.file} must be UTF-8 text. Received: {path}. Save it as that") from None
    except OSError as error:
        raise OwnCodeError(
            f"{name} must name a file {where}. Received: {path}: {error.strerror}. Put it there"
        ) from None
    return SourceFile(text=text, origin=str(path.resolve()), installed=not reference.is_file)


def _module_file(name: str) -> Path | None:
    """Returns where an installed module lies, without running any of its package."""
    first, *inner = name.split(".")
    try:
        found = importlib.util.find_spec(first)  # also of editable installations, which have finders of their own
    except ValueError:  # of __main__, and of modules that somebody made by hand
        return None
    for part in inner:
        found = found and importlib.machinery.PathFinder.find_spec(part, found.submodule_search_locations)
    return Path(found.origin) if found and found.origin and found.origin.endswith(".py") else None


def _names(parameter: str, space: SearchSpace, fixed: Mapping[str, Value]) -> list[str]:
    """Returns the names that a study gives a parameter; none where it leaves that to the default."""
    varied = space.parameters.get(parameter)
    names = varied.choices if isinstance(varied, CategoricalParameter) else [fixed.get(parameter)]
    return [name for name in names if isinstance(name, str)]


def defaults_with(space: SearchSpace, parameter: str, name: str) -> dict[str, Value]:
    """Returns the configuration that code of the user's own is tried in: the space's defaults where it is chosen."""
    try:
        return space.complete({parameter: name})
    except ValueError:  # it is fixed, or counts in another branch of the space
        return {**space.defaults(), parameter: name}


def own_models(space: SearchSpace, fixed: Mapping[str, Value]) -> list[str]:
    """Returns those of a study's models that are the user's own."""
    return _own_names(_MODELS, space, fixed)


def application_models(space: SearchSpace, fixed: Mapping[str, Value]) -> list[str]:
    """Returns those of a study's models that are Keras' applications."""
    return [name for name in _names("model", space, fixed) if find_application(name)]


def own_pipelines(space: SearchSpace, fixed: Mapping[str, Value]) -> list[str]:
    """Returns those of a study's preprocessing methods that are the user's own."""
    return _own_names(_PIPELINES, space, fixed)


def own_optimizers(space: SearchSpace, fixed: Mapping[str, Value]) -> list[str]:
    """Returns those of a study's optimizers that are the user's own."""
    return _own_names(_OPTIMIZERS, space, fixed)


def own_schedules(space: SearchSpace, fixed: Mapping[str, Value]) -> list[str]:
    """Returns those of a study's learning-rate schedules that are the user's own."""
    return _own_names(_SCHEDULES, space, fixed)


def _own_names(kind: _Kind, space: SearchSpace, fixed: Mapping[str, Value]) -> list[str]:
    return [name for name in _names(kind.parameter, space, fixed) if kind.find(name)]


def code_of(values: Mapping[str, Value], code: Mapping[str, SourceFile]) -> dict[str, SourceFile]:
    """Returns the files that a trial needs, by name; nothing for emotune's own models and methods.

    Args:
        values: its parameters.
        code: the files of the study.
    """
    references = [kind.find(str(values.get(kind.parameter))) for kind in _KINDS]
    return {one.file: code[one.file] for one in references if one is not None and one.file in code}


def changed_files(old: Mapping[str, SourceFile], new: Mapping[str, SourceFile]) -> list[str]:
    """Returns a text for every file whose content is another now: what it was, and what it is."""
    return [
        f"{name} ({old[name].digest} then, {new[name].digest} now)"
        for name in sorted(old.keys() & new.keys())
        if old[name].text.removeprefix("\ufeff") != new[name].text.removeprefix("\ufeff")
    ]


def code_today(code: Mapping[str, SourceFile]) -> dict[str, SourceFile]:
    """Returns the files as they are now where they were read; those that are there no more as they were."""
    today = {}
    for name, source in code.items():
        path = Path(source.origin)
        try:
            text = path.read_text(encoding=ENCODING) if source.origin and path.is_file() else source.text
        except (OSError, UnicodeDecodeError):
            text = source.text
        today[name] = source.model_copy(update={"text": text})
    return today


def check_own(space: SearchSpace, fixed: Mapping[str, Value], code: Mapping[str, SourceFile]) -> None:
    """Refuses parameters that the user's functions do not have, and values that they do not take.

    Raises:
        LocatedError: a rule is broken.
    """
    models, own = _names("model", space, fixed), own_models(space, fixed)
    if own and models == own:
        for name in BUILTIN_MODELS_ONLY:
            section = "fixed" if name in fixed else "space"
            if name in fixed or name in space.parameters:
                raise LocatedError(
                    (section, name),
                    f"{section}.{name} counts for emotune's own models only. Received: {', '.join(models)}. Give its "
                    f"function a keyword-only argument and name it model.{name}, or remove it",
                )
    applications = application_models(space, fixed)
    ignored, whose = _FOR_APPLICATIONS, "Keras' applications"
    if applications:
        ignored, whose = _NOT_FOR_APPLICATIONS if set(models) <= {*own, *applications} else (), "emotune's own models"
    for name in ignored:
        section = "fixed" if name in fixed else "space"
        if name in fixed or name in space.parameters:
            raise LocatedError(
                (section, name),
                f"{section}.{name} counts for {whose} only. Received: {', '.join(models) or 'none'}. Remove it",
            )
    for kind in _KINDS:
        _check_parameters(kind, space, fixed, code)


def _check_parameters(
    kind: _Kind, space: SearchSpace, fixed: Mapping[str, Value], code: Mapping[str, SourceFile]
) -> None:
    known = {name: _parameters_of(name, kind, code) for name in _own_names(kind, space, fixed)}
    for section, names in (("fixed", fixed), ("space", space.parameters)):
        for name in names:
            if not name.startswith(kind.prefix):
                continue
            owners = {model: parameters[name] for model, parameters in known.items() if name in parameters}
            if not owners:
                every = {one for parameters in known.values() for one in parameters}
                whose = " or ".join(known) or f"{kind.what}, and the study has none"
                hint = nearest(name, every) if every else " Remove it"
                raise LocatedError((section, name), f"{section}.{name} is no parameter of {whose}.{hint}")
            if section == "fixed":
                _check_value(("fixed", name), fixed[name], owners)
            else:
                _check_parameter(name, space.parameters[name], owners, kind)


def _parameters_of(name: str, kind: _Kind, code: Mapping[str, SourceFile]) -> dict[str, OwnParameter]:
    reference = kind.find(name)
    if reference is None or reference.file not in code:
        raise LocatedError(
            ("code",), f"code must hold {name.partition(':')[0]}. Received: {', '.join(code) or 'none'}. Remove code"
        )
    try:
        own = kind.parameters_of(code[reference.file].text, reference.file, reference.function)
    except OwnCodeError as error:
        raise LocatedError(("code",), str(error)) from None
    return {kind.prefix + one: value for one, value in own.items()}


def _check_parameter(name: str, parameter: AnyParameter, owners: Mapping[str, OwnParameter], kind: _Kind) -> None:
    wanted = parameter.conditions().get(kind.parameter)
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
