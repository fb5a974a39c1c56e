"""The directions of imports, what the command line may load, and that the documentation says what the commands take."""

from __future__ import annotations

import ast
import functools
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("search_spaces", "trainables", "tune")
HEAVY = {"keras", "tensorflow"}
SOURCES = sorted(path for name in (*PACKAGES, "tests", "benchmarks") for path in (ROOT / name).rglob("*.py"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@dataclass(frozen=True)
class Import:
    """One imported module; `lazy` inside a function, `typing` under TYPE_CHECKING."""

    module: str
    lazy: bool
    typing: bool


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


OURS = {module_name(path): path for path in SOURCES if path.relative_to(ROOT).parts[0] in PACKAGES}


def walk(node: ast.AST, lazy: bool = False, typing: bool = False) -> Iterator[tuple[ast.AST, bool, bool]]:
    for child in ast.iter_child_nodes(node):
        inside = lazy or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        guarded = typing or (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test))
        yield child, inside, guarded
        yield from walk(child, inside, guarded)


@functools.cache
def imports(path: Path) -> tuple[Import, ...]:
    found = []
    for node, lazy, typing in walk(tree(path)):
        if isinstance(node, ast.Import):
            found += [Import(alias.name, lazy, typing) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path}:{node.lineno}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [Import(name if name in OURS else node.module, lazy, typing) for name in names]
    return tuple(dict.fromkeys(found))


def loaded_by(module: str) -> set[str]:
    """Every module that importing one of ours brings in, as far as our own source shows it."""
    seen: set[str] = set()
    todo = [module]
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in OURS:
            todo += [i.module for i in imports(OURS[name]) if not i.lazy and not i.typing]
            todo += [name.rpartition(".")[0]] if "." in name else []
    return seen


def top(module: str) -> str:
    return module.partition(".")[0]


@pytest.mark.parametrize("path", [p for p in OURS.values() if p.parent.name == "search_spaces"], ids=module_name)
def test_search_spaces_import_only_pydantic_yaml_and_optunas_distributions(path: Path) -> None:
    allowed = {"search_spaces", "pydantic", "yaml", *sys.stdlib_module_names}
    strangers = {i.module for i in imports(path) if top(i.module) not in allowed} - {"optuna.distributions"}
    assert not strangers


def test_trainables_never_import_tune() -> None:
    assert not [
        f"{name} imports {i.module}"
        for name, path in OURS.items()
        if top(name) == "trainables"
        for i in imports(path)
        if top(i.module) in {"tune", "search_spaces"}
    ]


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {
        name: {i.module for i in imports(path) if i.module in OURS and not i.typing and i.module != name}
        for name, path in OURS.items()
    }
    while leaves := [name for name, targets in graph.items() if not targets & graph.keys()]:
        for name in leaves:
            del graph[name]
    assert not graph, f"these modules import one another: {sorted(graph)}"


def test_importing_a_room_of_the_driver_loads_neither_keras_nor_tensorflow() -> None:
    guilty = {name: sorted({top(m) for m in loaded_by(name)} & HEAVY) for name in OURS if top(name) == "tune"}
    assert not {name: heavy for name, heavy in guilty.items() if heavy}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_name_tune_is_never_rays(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            bound = [a.asname for a in node.names if top(a.name) != "tune"]
        elif isinstance(node, ast.ImportFrom):
            bound = [a.asname or a.name for a in node.names]
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound = [node.id]
        else:
            continue
        assert "tune" not in bound, f"{path.relative_to(ROOT)}:{node.lineno}: `tune` is our package; name what you use"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(tree(path)) or not path.read_text().strip()


def test_help_loads_neither_ray_nor_tensorflow_nor_keras() -> None:
    code = """
import sys
from tune.cli.main import main
sys.argv = ["emotune", "--help"]
try:
    main()
except SystemExit as end:
    heavy = {"ray", "tensorflow", "keras", "matplotlib", "albumentations"}
    print("loaded:", sorted(heavy & set(sys.modules)), end.code)
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert "loaded: [] 0" in shown.stdout, shown.stdout + shown.stderr


def root_command() -> Any:
    import typer.main

    from tune.cli.main import app

    return typer.main.get_command(app)


def commands(command: Any, path: tuple[str, ...] = ("emotune",)) -> Iterator[tuple[str, ...]]:
    for name, inner in getattr(command, "commands", {}).items():
        if not inner.hidden:
            yield from commands(inner, (*path, name)) if hasattr(inner, "commands") else [(*path, name)]


def test_every_command_is_in_the_documentation() -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    missing = [" ".join(path) for path in commands(root_command()) if " ".join(path) not in text]
    assert not missing, f"name them in README.md or docs/: {missing}"


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """Every `emotune ...` and `make ...` line of the pages' code blocks, the study files' headers and the Makefile."""
    sources = {page.name: "\n".join(re.findall(r"^```\w*\n(.*?)^```", page.read_text(), re.M | re.S)) for page in PAGES}
    for study in sorted((ROOT / "studies").glob("*.yaml")):
        sources[study.name] = "\n".join(re.findall(r"^# *(?:\w+: *)?(.*)$", study.read_text(), re.M))
    sources["Makefile"] = (ROOT / "Makefile").read_text().replace("\t$(BIN)/", "")
    for name, text in sources.items():
        for line in text.replace("\\\n", " ").splitlines():
            words = line.strip().removeprefix("$ ").removeprefix(".venv/bin/")
            if words.startswith(("emotune ", "make ")):
                yield f"{name}: {words}", shlex.split(words.partition(" || ")[0], comments=True)


@pytest.mark.parametrize("words", [pytest.param(words, id=line) for line, words in command_lines()])
def test_every_command_line_we_publish_parses(words: list[str]) -> None:
    program, *rest = words
    if program == "make":
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
        assert {word for word in rest if "=" not in word} <= targets
        return
    command = root_command()
    while hasattr(command, "commands"):
        assert rest and rest[0] in command.commands, f"no command {rest[:1]} among {sorted(command.commands)}"
        command, rest = command.commands[rest[0]], rest[1:]
    context = command.context_class(command, info_name=command.name)
    given, left_over, _ = command.make_parser(context).parse_args(args=list(rest))
    missing = [p.name for p in command.params if p.required and given.get(p.name) in (None, ())]
    assert not left_over and not missing, f"left over: {left_over}, missing: {missing}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_a_page_names_exists(page: Path) -> None:
    text = page.read_text()
    links = [page.parent / target for target in re.findall(r"\]\(((?!https?:)[^)#]+)\)", text)]
    named = [ROOT / path for path in re.findall(r"\b((?:studies|benchmarks|search_spaces)/[\w./-]+\.\w+)", text)]
    assert not [str(path.relative_to(ROOT)) for path in links + named if not path.exists()]


def test_no_file_is_longer_than_a_reader_can_hold() -> None:
    limit_lines = 400
    lengths = {str(path.relative_to(ROOT)): path.read_text().count("\n") for path in OURS.values()}
    assert not {name: n for name, n in lengths.items() if n > limit_lines}
