"""Conditions on several parameters at once, as text: `batch_size * image_size_px <= 8192`. Read as a tree, never run.

Names are parameters, also with a dot (`model.depth`). Numbers, texts, True and False; + - * / // %; comparisons, also
with `in (a, b)`; and, or, not; min, max, abs. Nothing else is taken. Numbers are compared to twelve digits.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_MAX_CHARACTERS = 300

_ARITHMETIC: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.In: lambda one, several: one in several,
    ast.NotIn: lambda one, several: one not in several,
}
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {"min": min, "max": max, "abs": abs}


@dataclass(frozen=True)
class Constraint:
    """One condition.

    Attributes:
        text: as it was written.
        names: the parameters in it.
    """

    text: str
    names: frozenset[str]
    _tree: ast.expr

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Says whether it holds for the values of its parameters.

        Raises:
            ValueError: it cannot be worked out for these, or is no condition.
        """
        try:
            found = _value(self._tree, values)
        except (TypeError, ArithmeticError) as error:
            raise ValueError(f"{self.text!r} cannot be worked out: {error}") from None
        if not isinstance(found, bool):
            raise ValueError(f"{self.text!r} must be true or false. Received: {found!r}. Compare it with something")
        return found


def parse_constraint(text: str) -> Constraint:
    """Reads a condition.

    Raises:
        ValueError: it is none, or holds what the language does not have.
    """
    if len(text) > _MAX_CHARACTERS:
        raise ValueError(f"a constraint has at most {_MAX_CHARACTERS} characters. Received: {len(text)}. Split it")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(
            f"a constraint is a condition on parameters, as in batch_size * image_size_px <= 8192. Received: {text!r}"
        ) from None
    return Constraint(text, frozenset(_names(tree, text)), tree)


def _names(node: ast.expr, text: str) -> set[str]:
    """Returns the parameters in a tree; refuses whatever is not in the language."""
    name = _parameter(node)
    if name:
        return {name}
    inner: list[ast.expr] = []
    match node:
        case ast.Constant(value=bool() | int() | float() | str()):
            pass
        case ast.BinOp(left, op, right) if type(op) in _ARITHMETIC:
            inner = [left, right]
        case ast.BoolOp(values=values):
            inner = values
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            inner = [operand]
        case ast.Compare(left, ops, comparators) if all(type(op) in _COMPARISONS for op in ops):
            inner = [left, *comparators]
            for relation, several in zip(ops, comparators, strict=True):
                if isinstance(relation, ast.In | ast.NotIn) and not isinstance(several, ast.Tuple | ast.List):
                    raise ValueError(
                        f"what follows in must be several values. Received: {ast.unparse(several)} in {text!r}. "
                        f"Write [{ast.unparse(several)}]"
                    )
        case ast.Tuple(elts=elements) | ast.List(elts=elements):
            inner = elements
        case ast.Call(func=ast.Name(id=called), args=arguments, keywords=[]) if called in _FUNCTIONS and arguments:
            inner = arguments
        case _:
            raise ValueError(
                f"a constraint has parameters, values, + - * / // %, comparisons, and, or, not, min, max and abs. "
                f"Received: {ast.unparse(node)} in {text!r}. Leave it out"
            )
    return {name for part in inner for name in _names(part, text)}


def _parameter(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return ""


def _value(node: ast.expr, values: Mapping[str, Any]) -> Any:
    name = _parameter(node)
    if name:
        return values[name]
    match node:
        case ast.Constant(value=value):
            return value
        case ast.BinOp(left, op, right):
            one, other = _value(left, values), _value(right, values)
            for part in (one, other):
                if isinstance(part, str | tuple):
                    raise TypeError(f"{part!r} is no number")
            return _ARITHMETIC[type(op)](one, other)
        case ast.BoolOp(op, parts):
            found = (_truth(_value(part, values)) for part in parts)
            return all(found) if isinstance(op, ast.And) else any(found)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _truth(_value(operand, values))
        case ast.UnaryOp(operand=operand):
            return -_value(operand, values)
        case ast.Compare(left, ops, comparators):
            sides = [_rounded(_value(side, values)) for side in (left, *comparators)]
            return all(
                _COMPARISONS[type(op)](one, other) for one, op, other in zip(sides, ops, sides[1:], strict=False)
            )
        case ast.Tuple(elts=elements) | ast.List(elts=elements):
            return tuple(_value(element, values) for element in elements)
        case ast.Call(func=ast.Name(id=called), args=arguments):
            return _FUNCTIONS[called](*(_value(argument, values) for argument in arguments))
    raise TypeError(ast.unparse(node))


def _rounded(value: Any) -> Any:
    """Returns a number without what counting in steps leaves in its last digits: 0.30000000000000004 is 0.3."""
    if isinstance(value, tuple):
        return tuple(map(_rounded, value))
    return float(f"{value:.12g}") if isinstance(value, float) else value


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is neither true nor false")
    return value
