"""The parameters of a function of the user's, read from its text without running it.

Those of a model, an optimizer and a schedule are its keyword-only arguments, `*, depth: int = 3`; a pipeline's are all
its arguments but `shape`, `strength: float = 0.5`.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from trainables.errors import OwnCodeError, nearest

Value = bool | int | float | str

EVALUATION = "evaluation"
"""The function that builds evaluation's pipeline, in the file of the one that builds training's."""

MODEL, OPTIMIZER, SCHEDULE = ("image", "classes"), ("learning_rate",), ("epoch", "max_epochs")
"""What a function of each kind is called with by position."""

_SHAPE = "shape"
_KINDS: Mapping[str, str] = {"int": "integer", "float": "number", "bool": "boolean", "str": "text"}


@dataclass(frozen=True)
class OwnParameter:
    """One argument that a study may set: `kind` as in `trainables.config.ParameterKind`; `choices` of a `Literal`."""

    name: str
    kind: str
    default: Value
    choices: tuple[Value, ...] = ()

    def rejects(self, value: object) -> str:
        """Returns what a value must be if it is not that, else nothing."""
        if self.choices:
            fits = any(type(value) is type(choice) and value == choice for choice in self.choices)
            return "" if fits else f"one of {', '.join(map(str, self.choices))}"
        if self.kind == "boolean":
            return "" if isinstance(value, bool) else "true or false"
        if self.kind == "text":
            return "" if isinstance(value, str) else "text"
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if self.kind == "integer":
            return "" if number and isinstance(value, int) else "a whole number"
        return "" if number else "a number"


def own_parameters(text: str, file: str, function: str, positional: Sequence[str] = MODEL) -> dict[str, OwnParameter]:
    """Returns the parameters of a function by name.

    Args:
        text: the file's content.
        file: its name, for messages.
        function: the function's name.
        positional: what it is called with by position.

    Raises:
        OwnCodeError: the text is no Python, it has no such function, or an argument breaks the contract.
    """
    node = _function(text, file, function)
    place = f"{file}, line {node.lineno}: {function}"
    arguments = node.args
    by_position = [*arguments.posonlyargs, *arguments.args]
    required = len(by_position) - len(arguments.defaults)
    if arguments.vararg or arguments.kwarg or not len(by_position) == required == len(positional):
        names = ", ".join(argument.arg for argument in by_position) or "none"
        raise OwnCodeError(
            f"{place} must take {', '.join(positional)}, then keyword-only arguments after a *. Received: {names}"
            f"{' and more by position' if arguments.vararg else ''}{' and any keyword' if arguments.kwarg else ''}. "
            f"Write def {function}({', '.join((*positional, '*, strength: float = 0.5'))})"
        )
    return {
        argument.arg: _parameter(place, argument, default)
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    }


class PipelineSignature(NamedTuple):
    """What a function that builds a pipeline is called with: the images' shape, or only its parameters."""

    takes_shape: bool
    parameters: dict[str, OwnParameter]


def pipeline_signature(text: str, file: str, function: str) -> PipelineSignature:
    """Returns what a function that builds a pipeline takes; arguments and errors as in `own_parameters`."""
    node = _function(text, file, function)
    place, arguments = f"{file}, line {node.lineno}: {function}", node.args
    required = [one.arg for one in arguments.args[: len(arguments.args) - len(arguments.defaults)]]
    if arguments.vararg or arguments.kwarg or arguments.posonlyargs or required not in ([], [_SHAPE]):
        more = [f"*{one.arg}" for one in (arguments.vararg, arguments.kwarg) if one]
        names = ", ".join([*(one.arg for one in arguments.posonlyargs), *required, *more])
        raise OwnCodeError(
            f"{place} must take parameters with a default, and before them nothing or {_SHAPE}. Received: {names}. "
            f"Write def {function}(strength: float = 0.5)"
        )
    given = [
        *zip(arguments.args[len(required) :], arguments.defaults, strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    return PipelineSignature(bool(required), {one.arg: _parameter(place, one, default) for one, default in given})


def evaluation_signature(text: str, file: str, function: str) -> PipelineSignature | None:
    """Returns what the file's `evaluation` takes, None if it has none.

    Args:
        text: the file's content.
        file: its name, for messages.
        function: the one that builds training's pipeline, whose parameters evaluation may take.

    Raises:
        OwnCodeError: it breaks the contract, or takes a parameter that the other has not.
    """
    if EVALUATION not in _functions(text, file):
        return None
    signature = pipeline_signature(text, file, EVALUATION)
    known = pipeline_signature(text, file, function).parameters
    for name in signature.parameters:
        if name not in known:
            hint = nearest(name, known) if known else f" Give {function} that parameter too"
            raise OwnCodeError(f"{file}: {EVALUATION} must take parameters of {function}. Received: {name}.{hint}")
    return signature


def pipeline_parameters(text: str, file: str, function: str) -> dict[str, OwnParameter]:
    """Returns the parameters of a pipeline by name; a saved one, whose function is empty, has none.

    Arguments and errors as in `own_parameters`.
    """
    if not function:
        return {}
    evaluation_signature(text, file, function)
    return pipeline_signature(text, file, function).parameters


def _functions(text: str, file: str) -> dict[str, ast.FunctionDef]:
    try:
        tree = ast.parse(text, file)
    except (SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise OwnCodeError(f"{file}{line}: must be Python. Received: {error.args[0]}. Fix that line") from None
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


def _function(text: str, file: str, function: str) -> ast.FunctionDef:
    functions = _functions(text, file)
    if function not in functions:
        if not functions:
            raise OwnCodeError(f"{file} must define {function}. Received: no function at all. Add it")
        raise OwnCodeError(f"{file} must define {function}. Received: none.{nearest(function, functions)}")
    return functions[function]


def _parameter(place: str, argument: ast.arg, default: ast.expr | None) -> OwnParameter:
    name = argument.arg
    if default is None:
        raise OwnCodeError(f"{place}: {name} must have a default. Received: none. Write {name}: ... = VALUE")
    if argument.annotation is None:
        raise OwnCodeError(f"{place}: {name} must have a type. Received: none. Write {name}: int, float, bool or str")
    try:
        value = ast.literal_eval(default)
    except ValueError:
        value = None
    if not isinstance(value, bool | int | float | str):
        raise OwnCodeError(
            f"{place}: the default of {name} must be one number, text, True or False. Received: {ast.unparse(default)}"
        )
    annotation = argument.annotation
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):  # a quoted type
        with suppress(SyntaxError, ValueError):  # it is no type, which is told below
            annotation = ast.parse(annotation.value, mode="eval").body
    parameter = _typed(name, annotation, value)
    if parameter is None:
        raise OwnCodeError(
            f"{place}: the type of {name} must be int, float, bool, str or a Literal of values of one kind. "
            f"Received: {ast.unparse(annotation)}"
        )
    wanted = parameter.rejects(value)
    if wanted:
        raise OwnCodeError(f"{place}: the default of {name} must be {wanted}. Received: {value!r}. Change it")
    return parameter


def _typed(name: str, annotation: ast.expr, default: Value) -> OwnParameter | None:
    if isinstance(annotation, ast.Name) and annotation.id in _KINDS:
        return OwnParameter(name, _KINDS[annotation.id], default)
    if not isinstance(annotation, ast.Subscript) or ast.unparse(annotation.value).rpartition(".")[2] != "Literal":
        return None
    inner = annotation.slice
    try:
        choices = [ast.literal_eval(part) for part in (inner.elts if isinstance(inner, ast.Tuple) else [inner])]
    except ValueError:
        return None
    kinds = {type(choice) for choice in choices}
    if len(kinds) != 1 or kinds.isdisjoint({bool, int, str}):
        return None
    return OwnParameter(name, _KINDS[kinds.pop().__name__], default, tuple(choices))
