"""Pages of the site that are made from other files and from the code; a hook of MkDocs (`mkdocs.yml`)."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

_MOVED = {
    "tutorial.ipynb": "tutorial.md",
    "../CONTRIBUTING.md": "contributing.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "LICENSE": "license.txt",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages."""
    root = Path(config.config_file_path).parent
    pages = {
        "index.md": (root / "README.md").read_text(encoding="utf-8").replace("](docs/", "](").replace('"docs/', '"'),
        "contributing.md": (root / "CONTRIBUTING.md").read_text(encoding="utf-8").replace("](docs/", "]("),
        "changelog.md": (root / "CHANGELOG.md").read_text(encoding="utf-8"),
        "license.txt": (root / "LICENSE").read_text(encoding="utf-8"),
        "tutorial.md": notebook_page(json.loads((root / "docs/tutorial.ipynb").read_text(encoding="utf-8"))),
        "reference-cli.md": command_page(root),
        "reference-python.md": "# Python API\n\n`import tune`\n\n::: tune\n    options: {show_root_toc_entry: false}\n",
    }
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Lets links lead to the site's pages."""
    return re.sub(r"\]\(([^)#]+)", lambda link: f"]({_MOVED.get(link[1], link[1])}", markdown)


def notebook_page(notebook: Mapping[str, Any]) -> str:
    """Returns a notebook's text and code as Markdown; its outputs are left out."""
    cells = ((cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"])
    return "\n\n".join(text if kind == "markdown" else f"```python\n{text}\n```" for kind, text in cells)


def command_page(root: Path) -> str:
    """Returns the reference of the command line, as Typer writes it."""
    command = [sys.executable, "-m", "typer", "tune.cli.main", "utils", "docs", "--name", "emotune"]
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
