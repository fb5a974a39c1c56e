"""The documentation as a site: built strictly, complete, opened in a browser; what its pages show loads."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

import tune
from tests import ROOT
from tests.support.accessibility import grave_violations
from tests.support.browser_tab import opened_tab
from tests.support.own_models import own_parameters
from trainables.config import TrialConfig
from trainables.models.own_model import ImageSpec, build_own_model
from tune.cli.main import app
from tune.study.spec import load_spec


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site; a link that leads nowhere fails the build."""
    folder = tmp_path_factory.mktemp("site")
    command = [Path(sys.executable).with_name("mkdocs"), "build", "--strict", "--quiet", "--site-dir", str(folder)]
    built = subprocess.run([str(part) for part in command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.mark.slow
def test_references_have_every_command_and_every_public_name(site: Path) -> None:
    commands = (site / "reference-cli.html").read_text()
    for name in get_command(app).commands:  # type: ignore[attr-defined]
        assert f'id="emotune-{name}"' in commands, name
    names = (site / "reference-python.html").read_text()
    for name in tune.__all__:
        assert f'id="tune.{name}"' in names, name
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    front = (site / "index.html").read_text()
    assert not [page for page in pages if f'href="{page}"' not in front]  # each is in the navigation


@pytest.mark.slow
@pytest.mark.browser
def test_the_front_page_opens_from_a_folder_and_asks_no_other_host(site: Path, chromium: Path) -> None:
    from playwright.sync_api import sync_playwright

    asked: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(chromium), args=["--no-sandbox"])
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.goto((site / "index.html").as_uri())
        assert page.get_by_role("heading", name="emotune").first.is_visible()
        page.get_by_role("link", name="Trust a score").first.click()
        page.get_by_role("heading", name="Trust a score").first.wait_for()
        browser.close()
    assert asked and not [address for address in asked if not address.startswith(("file:", "data:", "blob:"))]


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize(("scheme", "palette"), [("light", "default"), ("dark", "slate")])
def test_axe_finds_nothing_grave_in_the_documentation(site: Path, chromium: Path, scheme: str, palette: str) -> None:
    for page in ("index", "scores"):
        url = (site / f"{page}.html").as_uri()
        with opened_tab(chromium, url, ("file:", "data:", "blob:"), color_scheme=scheme) as tab:
            tab.locator(f"body[data-md-color-scheme={palette}]").wait_for()
            assert not grave_violations(tab)


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs" / page).read_text(), re.S)


def test_what_people_come_with_becomes_study_files_that_load(tmp_path: Path) -> None:
    [model] = [block for block in blocks("coming-from.md", "python") if block.startswith("# my_models.py")]
    (tmp_path / "my_models.py").write_text(model)
    studies = []
    for text in blocks("coming-from.md", "yaml"):
        (tmp_path / "study.yaml").write_text(text)
        studies.append(load_spec(tmp_path / "study.yaml"))
    assert [study.name for study in studies] == ["from-keras-tuner", "from-ray-tune"]
    assert studies[1].points_to_evaluate == [{"learning_rate": 1e-3, "batch_size": 64}]
    config = TrialConfig.model_validate(own_parameters(model, depth=3))
    image = ImageSpec(48, 48, 1, (0.5,), (0.2,))
    built = build_own_model(
        height_px=48, width_px=48, channels=1, classes=7, config=config, mean=image.mean, std=image.std
    )
    assert built.output_shape == (None, 7)


def test_what_people_come_with_is_python() -> None:
    for block in blocks("coming-from.md", "python"):
        compile(block, "coming-from.md", "exec")


def test_the_training_functions_in_the_page_are_in_order(tmp_path: Path) -> None:
    from trainables.models.own_optimizer_check import check

    [text] = blocks("own-training.md", "python")
    (tmp_path / "my_training.py").write_text(text)
    [space] = blocks("own-training.md", "yaml")
    (tmp_path / "study.yaml").write_text("name: page\ndata: synthetic\n" + space)
    spec = load_spec(tmp_path / "study.yaml")
    config = spec.trial_config({**spec.space.defaults(), "optimizer": "my_training.py:make_optimizer"}).model_dump()
    for what, found in (("optimizer", {"kind": "SGD"}), ("schedule", {"least": 0.0625, "most": 1.0})):
        assert check({"config": config, "what": what, "lengths": [4]}, tmp_path) == found
