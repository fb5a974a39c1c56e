"""The source as the architecture's rules see it: modules, packages and what they import. Reads text, imports nothing.

`python -m tests.support.source_tree` writes the rows of the table of packages in docs/design.md as they should be.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests import ROOT

PACKAGES = ("search_spaces", "trainables", "tune")
ENTRANCES = ("tune", "tune.cli.start", "tune.cli.main", "tune.cli.__main__", "tune.jobs.driver")
"""What is started from outside: the Python API, the command, and the entrypoint of a cluster's job."""


@dataclass(frozen=True)
class Import:
    """One imported module; `lazy` inside a function, `typing` under TYPE_CHECKING."""

    module: str
    lazy: bool
    typing: bool


@dataclass(frozen=True)
class PackageRow:
    """A row of the table of packages: its name, those it may import, how many files and lines it has."""

    package: str
    imports: frozenset[str]
    files: int
    lines: int


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def walk(node: ast.AST, lazy: bool = False, typing: bool = False) -> Iterator[tuple[ast.AST, bool, bool]]:
    for child in ast.iter_child_nodes(node):
        inside = lazy or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        guarded = typing or (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test))
        yield child, inside, guarded
        yield from walk(child, inside, guarded)


class SourceTree:
    """The packages below a folder."""

    def __init__(self, root: Path = ROOT) -> None:
        self.root = root
        paths = sorted(path for name in PACKAGES for path in (root / name).rglob("*.py"))
        self.modules = {self.module_name(path): path for path in paths}

    def module_name(self, path: Path) -> str:
        parts = path.relative_to(self.root).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def package(self, path: Path) -> str:
        """The package of a file as the table names it: a folder, the files above the folders, or the API's one file."""
        parts = path.relative_to(self.root).parts
        if len(parts) > 2:
            return "/".join(parts[:2])
        if parts == ("tune", "__init__.py"):
            return "tune/__init__.py"
        return parts[0] if parts[0] == "search_spaces" else f"{parts[0]}/*.py"

    @functools.cached_property
    def imports(self) -> Mapping[str, tuple[Import, ...]]:
        """What each module imports; a name that is a module of ours counts as that."""
        return {name: tuple(dict.fromkeys(self._imports(path))) for name, path in self.modules.items()}

    def _imports(self, path: Path) -> Iterator[Import]:
        for node, lazy, typing in walk(tree(path)):
            if isinstance(node, ast.Import):
                yield from (Import(alias.name, lazy, typing) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0 and node.module, f"{path}:{node.lineno}: imports are absolute"
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                yield from (Import(n if n in self.modules else node.module, lazy, typing) for n in names)

    @functools.cached_property
    def package_imports(self) -> Mapping[str, Mapping[str, str]]:
        """The packages that each package imports, each with one module that does."""
        found: dict[str, dict[str, str]] = {self.package(path): {} for path in self.modules.values()}
        for name, path in self.modules.items():
            for imported in self.imports[name]:
                if imported.module in self.modules:
                    other = self.package(self.modules[imported.module])
                    if other != self.package(path):
                        found[self.package(path)].setdefault(other, name)
        return found

    def backward_imports(self, table: Sequence[PackageRow]) -> list[str]:
        """Imports of packages that the table does not allow, and rows that allow one of a row above."""
        names = [row.package for row in table]
        upward = [
            f"{row.package} is allowed to import {other}, which stands above it"
            for place, row in enumerate(table)
            for other in row.imports
            if other in names[: place + 1]
        ]
        allowed = {row.package: row.imports for row in table}
        return upward + [
            f"{package} imports {other} (in {module})"
            for package, others in self.package_imports.items()
            for other, module in others.items()
            if other not in allowed.get(package, frozenset())
        ]

    def circle(self) -> list[str]:
        """Packages that import one another in a circle."""
        graph = {package: set(others) for package, others in self.package_imports.items()}
        while leaves := [name for name, others in graph.items() if not others & graph.keys()]:
            for name in leaves:
                del graph[name]
        return sorted(graph)

    def unreached(self) -> list[str]:
        """Files that nobody reaches from an entrance, whatever is imported on the way."""
        seen: set[str] = set()
        todo = [name for name in ENTRANCES if name in self.modules]
        while todo:
            name = todo.pop()
            if name in seen or name not in self.modules:
                continue
            seen.add(name)
            todo += [imported.module for imported in self.imports[name]]
            todo += [name.rpartition(".")[0]] if "." in name else []
        return sorted(str(self.modules[name].relative_to(self.root)) for name in self.modules.keys() - seen)

    def too_long(self, limit_lines: int, reasons: Mapping[str, str]) -> list[str]:
        """Files over the limit without a reason, and reasons that nobody needs any more."""
        lengths = {str(path.relative_to(self.root)): len(lines(path)) for path in self.modules.values()}
        long = {name for name, length in lengths.items() if length > limit_lines}
        return [f"{name} has {lengths[name]} lines" for name in sorted(long - reasons.keys())] + [
            f"{name} needs no reason" for name in sorted(reasons.keys() - long)
        ]

    def rows(self) -> dict[str, PackageRow]:
        """The table as the code has it."""
        found = {}
        for package, others in self.package_imports.items():
            paths = [path for path in self.modules.values() if self.package(path) == package]
            total = sum(len(lines(path)) for path in paths)
            found[package] = PackageRow(package, frozenset(others), len(paths), total)
        return found

    def loaded_by(self, module: str) -> set[str]:
        """Every module that importing one of ours brings in, as far as our own source shows it."""
        seen: set[str] = set()
        todo = [module]
        while todo:
            name = todo.pop()
            if name in seen:
                continue
            seen.add(name)
            if name in self.modules:
                todo += [i.module for i in self.imports[name] if not i.lazy and not i.typing]
                todo += [name.rpartition(".")[0]] if "." in name else []
        return seen


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def read_table(page: Path) -> list[PackageRow]:
    """The table of packages of the design record, from above to below."""
    row = re.compile(r"^\| `([^`]+)` \| [^|]+ \| ([^|]*) \| (\d+) \| ([\d,]+) \|$", re.M)
    return [
        PackageRow(package, frozenset(re.findall(r"`([^`]+)`", imports)), int(files), int(total.replace(",", "")))
        for package, imports, files, total in row.findall(page.read_text())
    ]


def write_table(page: Path) -> None:
    """Brings imports, files and lines of the table up to date; what a package is for stays, and so does the order."""
    rows, order = SourceTree().rows(), [row.package for row in read_table(page)]

    def renew(line: re.Match[str]) -> str:
        row = rows[line[1]]
        named = ", ".join(f"`{name}`" for name in sorted(row.imports, key=order.index)) or "nothing of ours"
        return f"| `{row.package}` | {line[2]} | {named} | {row.files} | {round(row.lines, -2):,} |"

    row = r"^\| `([^`]+)` \| ([^|]+) \| [^|]* \| \d+ \| [\d,]+ \|$"
    page.write_text(re.sub(row, renew, page.read_text(), flags=re.M))


if __name__ == "__main__":
    write_table(ROOT / "docs" / "design.md")
