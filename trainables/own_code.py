"""The user's own Python functions and saved pipelines: how they are named, carried along as text, and imported.

A file is never imported from where it lies: its text travels in a trial's configuration, and every process makes the
module of that text. Another file of the same name, wherever it lies, is never looked at. Knows nothing of Keras.
"""

from __future__ import annotations

import hashlib
import importlib
import linecache
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from pydantic import BaseModel

from trainables.application_names import PREFIX
from trainables.errors import OwnCodeError, OwnImportError, one_line
from trainables.own_signature import own_parameters

MAX_BYTES = 256 * 1024
"""Of a file: its text is written into the study file and travels with every trial."""

ENCODING = "utf-8-sig"
"""Of a file: UTF-8, also with the mark at its beginning that editors on Windows leave there."""

_FILE = re.compile(r"(?P<file>[A-Za-z0-9_][A-Za-z0-9_.-]*\.py):(?P<function>[A-Za-z_]\w*)")
_MODULE = re.compile(r"(?P<file>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*):(?P<function>[A-Za-z_]\w*)")
_SAVED = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.(yaml|yml|json)")


class SourceFile(BaseModel, frozen=True, extra="forbid"):
    """A file of the user's as a study carries it.

    Attributes:
        text: its content.
        origin: where it was read, on the machine where the study was begun.
        installed: it is a module of an installed package, imported as that wherever it has the same content.
    """

    text: str
    origin: str = ""
    installed: bool = False

    @property
    def digest(self) -> str:
        """12 hex digits that change with the content."""
        return hashlib.blake2b(self.text.encode(), digest_size=6).hexdigest()


class Reference(NamedTuple):
    """`my_models.py:build` or `package.module:build`; `mine.yaml`, a saved pipeline, has no function."""

    file: str
    function: str

    @property
    def is_file(self) -> bool:
        """Whether it lies beside the study file; else it is a module of an installed package."""
        return not self.function or self.file.endswith(".py")


def find_reference(name: str) -> Reference | None:
    """Returns what a name refers to, None if it is no function of the user's."""
    if name.startswith(PREFIX):  # one of Keras' applications, not a module of that name
        return None
    found = _FILE.fullmatch(name) or _MODULE.fullmatch(name)
    return Reference(found["file"], found["function"]) if found else None


def find_pipeline(name: str) -> Reference | None:
    """Returns what the name of a preprocessing method refers to, None if it is no function or file of the user's."""
    return Reference(name, "") if _SAVED.fullmatch(name) else find_reference(name)


def source_of(name: str, code: Mapping[str, SourceFile]) -> tuple[Reference, SourceFile]:
    """Returns the reference that a name is, and its file.

    Raises:
        OwnCodeError: the configuration does not carry it.
    """
    reference = find_pipeline(name)
    if reference is None or reference.file not in code:
        raise OwnCodeError(f"{name} must come with its code. Received: {', '.join(code) or 'none'}. Run the study anew")
    return reference, code[reference.file]


def same_text(one: Mapping[str, SourceFile], other: Mapping[str, SourceFile]) -> bool:
    """Says whether two configurations carry the same files with the same content."""
    return {file: source.text for file, source in one.items()} == {file: source.text for file, source in other.items()}


def load_function(name: str, code: Mapping[str, SourceFile]) -> Callable[..., Any]:
    """Returns a function of the user's, from the text that travels with the study.

    Raises:
        OwnCodeError: the module cannot be imported, is another one here, or has no such function.
    """
    reference, source = source_of(name, code)
    module = _installed(reference.file, source) if source.installed else _module_of(reference.file, source)
    function = getattr(module, reference.function, None)
    if not callable(function):
        raise OwnCodeError(f"{name} must be a function. Received: {reference.file} without it. Correct the name")
    return function  # type: ignore[no-any-return]


def bound_function(
    name: str, code: Mapping[str, SourceFile], values: Mapping[str, Any], positional: Sequence[str]
) -> Callable[..., Any]:
    """Returns a function of the user's with those of a trial's values that are parameters of it.

    Args:
        name: as the study has it, `my_models.py:build`.
        code: the files of the study.
        values: by parameter.
        positional: what it is called with by position.

    Raises:
        OwnCodeError: as in `load_function`, or an argument breaks the contract.
    """
    function = load_function(name, code)
    reference, source = source_of(name, code)
    known = own_parameters(source.text, reference.file, reference.function, positional)
    return partial(function, **{one: value for one, value in values.items() if one in known})


def _module_of(file: str, source: SourceFile) -> ModuleType:
    """Makes a module of a text; once in a process, and again when another version of it was wanted meanwhile."""
    name = "own_code_" + re.sub(r"\W", "_", file.removesuffix(".py"))
    known = sys.modules.get(name)
    if known is not None and known.__dict__.get("__digest__") == source.digest:
        _register_again(known)
        return known
    module = ModuleType(name)
    module.__dict__["__digest__"] = source.digest
    module.__file__ = file
    linecache.cache[file] = (len(source.text), None, source.text.splitlines(keepends=True), file)  # for tracebacks
    sys.modules[name] = module
    try:
        exec(compile(source.text, file, "exec", dont_inherit=True), module.__dict__)
    except Exception as error:
        del sys.modules[name]
        raise import_error(file, error) from error
    return module


def _register_again(module: ModuleType) -> None:
    """Makes Keras find a module's registered classes and functions by their names: another file may have some alike."""
    keras: Any = sys.modules.get("keras")
    for one in vars(module).values() if keras else ():
        if isinstance(one, type | FunctionType) and one.__module__ == module.__name__:
            name = keras.saving.get_registered_name(one)
            if name in keras.saving.get_custom_objects():
                keras.saving.get_custom_objects()[name] = one


def line_of(file: str, error: Exception) -> int | None:
    """Returns the last line of a file that an error came through, None if it came through none."""
    line, trace = None, error.__traceback__
    while trace is not None:
        line = trace.tb_lineno if trace.tb_frame.f_code.co_filename == file else line
        trace = trace.tb_next
    return line


def call_error(name: str, what: str, error: Exception) -> OwnCodeError:
    """Returns what a function or pipeline of the user's raised, in one line, with the line of its file if that has one.

    Args:
        name: as the study has it, `my_models.py:build`.
        what: what it could not do, "cannot build a model".
        error: what it raised.
    """
    line = line_of(name.partition(":")[0], error)
    where = f" (line {line})" if line else ""
    words = one_line(error)
    return OwnCodeError(f"{name}{where} {what}: {type(error).__name__}: {words}. Fix it")


def import_error(file: str, error: Exception) -> OwnImportError:
    """Returns what is wrong with a file that cannot be imported, in one line with the line of the file."""
    line = error.lineno if isinstance(error, SyntaxError) else line_of(file, error)
    words = error.msg if isinstance(error, SyntaxError) else one_line(error)
    where = f", line {line}" if line else ""
    remedy = " Install it, or put all of the code into this one file" if isinstance(error, ImportError) else " Fix it"
    return OwnImportError(f"{file}{where}: cannot be imported: {type(error).__name__}: {words[:300]}.{remedy}")


def _installed(name: str, source: SourceFile) -> ModuleType:
    try:
        module = importlib.import_module(name)
    except Exception as error:
        raise import_error(name, error) from error
    file = getattr(module, "__file__", None)
    here = SourceFile(text=Path(file).read_text(encoding=ENCODING)).digest if file else "none"
    if here != source.digest:
        raise OwnImportError(
            f"module {name} must be the one that the study was begun with, {source.digest}. Received: {here} in "
            f"{file}. Install the same version on every machine"
        )
    return module
