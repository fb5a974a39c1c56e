"""Which package may import which, what the command may load, and that the documentation says what commands take."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests import ROOT
from tests.support.source_tree import PACKAGES, PackageRow, SourceTree, read_table, tree

HEAVY = {"keras", "tensorflow"}
SOURCES = sorted(path for name in (*PACKAGES, "tests", "benchmarks") for path in (ROOT / name).rglob("*.py"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OURS = SourceTree()
TABLE = read_table(ROOT / "docs" / "design.md")
LIMIT_LINES = 300
LONGER_BECAUSE: dict[str, str] = {}
"""Files that may have more lines, each with the reason why it is not split."""


def top(module: str) -> str:
    return module.partition(".")[0]


@pytest.mark.parametrize(
    "path", [p for p in OURS.modules.values() if p.parent.name == "search_spaces"], ids=OURS.module_name
)
def test_search_spaces_import_only_pydantic_yaml_and_optunas_distributions(path: Path) -> None:
    allowed = {"search_spaces", "pydantic", "yaml", *sys.stdlib_module_names}
    others = {i.module for i in OURS.imports[OURS.module_name(path)] if top(i.module) not in allowed}
    assert not others - {"optuna.distributions"}


def test_imports_between_packages_are_those_of_the_design_record() -> None:
    assert not OURS.backward_imports(TABLE)


def test_no_packages_import_one_another_in_a_circle() -> None:
    assert not OURS.circle()


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {
        name: {i.module for i in found if i.module in OURS.modules and not i.typing and i.module != name}
        for name, found in OURS.imports.items()
    }
    while leaves := [name for name, targets in graph.items() if not targets & graph.keys()]:
        for name in leaves:
            del graph[name]
    assert not graph, f"these modules import one another: {sorted(graph)}"


def test_every_file_is_reached_from_the_command_or_the_python_api() -> None:
    assert not OURS.unreached()


def test_the_tests_have_the_folders_of_the_packages() -> None:
    folders = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    assert not [str(folder) for folder in folders - {Path(), Path("end_to_end")} if not (ROOT / folder).is_dir()]


def test_no_file_is_longer_than_a_reader_can_hold() -> None:
    assert not OURS.too_long(LIMIT_LINES, LONGER_BECAUSE)


def test_the_design_record_has_every_package_as_it_is() -> None:
    rows = OURS.rows()
    assert {row.package: (row.imports, row.files) for row in TABLE} == {
        name: (row.imports, row.files) for name, row in rows.items()
    }, "python -m tests.support.source_tree writes the rows as they should be"
    for row in TABLE:
        assert abs(row.lines - rows[row.package].lines) <= max(100, 0.1 * row.lines), row.package


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """A small sound tree; the tests below plant something wrong in it."""
    for name, text in {
        "tune/__init__.py": "",
        "tune/cli/__init__.py": "",
        "tune/cli/main.py": "from tune.session import session\n",
        "tune/session/__init__.py": "",
        "tune/session/session.py": "from tune.study.spec import StudySpec\n",
        "tune/study/__init__.py": "",
        "tune/study/spec.py": "class StudySpec: ...\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


PLANTED_TABLE = [
    PackageRow("tune/__init__.py", frozenset(), 1, 0),
    PackageRow("tune/cli", frozenset({"tune/session"}), 2, 1),
    PackageRow("tune/session", frozenset({"tune/study"}), 2, 1),
    PackageRow("tune/study", frozenset(), 2, 1),
]


def faults_of(root: Path) -> list[list[str]]:
    found = SourceTree(root)
    return [found.backward_imports(PLANTED_TABLE), found.circle(), found.unreached(), found.too_long(LIMIT_LINES, {})]


def test_a_sound_tree_has_no_faults(planted: Path) -> None:
    assert faults_of(planted) == [[], [], [], []]


def test_a_planted_backward_import_is_found_even_inside_a_function(planted: Path) -> None:
    (planted / "tune/study/late.py").write_text("def late():\n    from tune.cli import main\n")
    (planted / "tune/study/spec.py").write_text("import tune.study.late\nclass StudySpec: ...\n")
    backward, circle, *_ = faults_of(planted)
    assert backward == ["tune/study imports tune/cli (in tune.study.late)"]
    assert circle == ["tune/cli", "tune/session", "tune/study"]


def test_a_planted_circle_is_found_whatever_the_table_allows(planted: Path) -> None:
    (planted / "tune/study/spec.py").write_text("from tune.session import session\nclass StudySpec: ...\n")
    lenient = [replace(row, imports=frozenset({"tune/session", "tune/study"}) - {row.package}) for row in PLANTED_TABLE]
    assert SourceTree(planted).circle()[-2:] == ["tune/session", "tune/study"]
    assert "tune/study is allowed to import tune/session, which stands above it" in SourceTree(
        planted
    ).backward_imports(lenient)


def test_a_planted_file_that_nobody_imports_is_found(planted: Path) -> None:
    (planted / "tune/study/forgotten.py").write_text("from tune.study import spec\n")
    assert faults_of(planted)[2] == ["tune/study/forgotten.py"]


def test_a_planted_long_file_needs_a_reason_and_a_reason_needs_a_long_file(planted: Path) -> None:
    (planted / "tune/study/spec.py").write_text("class StudySpec: ...\n" + "# one more\n" * LIMIT_LINES)
    assert faults_of(planted)[3] == ["tune/study/spec.py has 301 lines"]
    reasons = {"tune/study/spec.py": "one table", "tune/cli/main.py": "was long once"}
    assert SourceTree(planted).too_long(LIMIT_LINES, reasons) == ["tune/cli/main.py needs no reason"]


def test_importing_a_module_of_the_driver_loads_neither_keras_nor_tensorflow() -> None:
    guilty = {n: sorted({top(m) for m in OURS.loaded_by(n)} & HEAVY) for n in OURS.modules if top(n) == "tune"}
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


def test_every_test_and_every_name_that_the_pages_for_developers_mention_exists() -> None:
    tests = {(path.name, node.name) for path in (ROOT / "tests").rglob("*.py") for node in functions(tree(path))}
    surprises = re.findall(r"(test_\w+\.py)::(test_\w+)", (ROOT / "docs" / "surprises.md").read_text())
    assert surprises and not set(surprises) - tests
    pages = "\n".join((ROOT / page).read_text() for page in ("CONTRIBUTING.md", "docs/design.md", "docs/surprises.md"))
    missing = [
        path for path in re.findall(r"`((?:tune|trainables|tests|docs)/[\w./-]+\.\w+)`", pages) if "*" not in path
    ]
    assert not [path for path in missing if not (ROOT / path).exists()]
    rows = re.findall(
        r"`((?:tune|trainables)/[\w/]+\.py)`: ((?:`\w+(?:\.\w+)?`(?:, )?)+)", (ROOT / "CONTRIBUTING.md").read_text()
    )
    named = [(path, name) for path, names in rows for name in re.findall(r"`(?:\w+\.)?(\w+)`", names)]
    assert len(named) > 20
    assert not [f"{path}: {name}" for path, name in named if not re.search(rf"\b{name}\b", (ROOT / path).read_text())]


def functions(module: ast.Module) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(module) if isinstance(node, ast.FunctionDef))
