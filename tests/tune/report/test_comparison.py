"""Several studies side by side: what may be compared, intervals, progress; the page, on its own and in a browser."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

import tune
from tests.support.accessibility import grave_violations_in_light_and_dark
from tests.support.browser_tab import opened_tab
from tests.support.fixtures_study import emotune
from tests.support.recorded_study import EVIL, SPACE, record_study
from tune.errors import StudyError
from tune.report.comparison import Gap, gaps, incomparable, read_compared, share_gap
from tune.report.comparison_page import Comparison, answer, write_comparison
from tune.report.report import best_study_file
from tune.study.journal import Journal
from tune.study.studies import StudyFiles

PHONE = {"width": 390, "height": 800}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[StudyFiles]:
    """One with a plain space, and one that has only crops, a price and a longer search."""
    folder = tmp_path_factory.mktemp("studies")
    space = {**SPACE, "preprocessing": {"type": "categorical", "choices": ["crop", "augment"], "default": "crop"}}
    crops = {"space": space, "budget": {"node_hour_price": 2.0}}
    return [record_study(folder / "plain", 20), record_study(folder / "crops", 30, seed=1, **crops)]


@pytest.fixture(scope="module")
def comparison(two: list[StudyFiles], tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    return write_comparison(two, tmp_path_factory.mktemp("comparison") / "page")


def test_the_page_says_who_is_ahead_and_what_differed(comparison: Comparison) -> None:
    text = comparison.page.read_text()
    [gap] = comparison.gaps
    low, high = gap.interval
    assert gap.of == "confirmed selection_accuracy" and low < gap.difference < high
    assert gap.verdict == "worse"
    assert f"{-gap.difference:+.4f} (95 % interval {-high:+.4f} to {-low:+.4f}), better" in text
    settings = text[text.index('id="settings"') : text.index('id="values"')]
    assert ">space.preprocessing<" in settings and "choices crop, augment" in settings
    assert ">budget.node_hour_price<" in settings and ">asha.max_epochs<" not in settings
    assert [label for label, _ in comparison.rows] == ["plain", "crops", "crops"]
    assert "30 " not in dict(comparison.rows)["plain"]


def test_progress_is_told_over_time_epochs_and_money(comparison: Comparison, two: list[StudyFiles]) -> None:
    figures = comparison.page.parent / "figures"
    assert {path.stem for path in figures.glob("*.png")} == {
        f"best-over-{unit}" for unit in ("hours", "epochs", "cost")
    }
    with (figures / "best-over-epochs.csv").open() as file:
        rows = list(csv.DictReader(file))
    for study in two:
        mine = [row for row in rows if row["study"] == study.spec.name]
        state = study.state()
        assert len(mine) == state.epochs_trained and int(mine[-1]["epochs_trained"]) == state.epochs_trained
        best = study.ranked(state)[0].best_value("selection_accuracy", "max")
        assert float(mine[-1]["best_so_far"]) == pytest.approx(best, abs=1e-9)


def test_the_answer_follows_the_confirmed_scores_and_says_who_is_ahead_of_whom(two: list[StudyFiles]) -> None:
    first, second = read_compared(two)
    confirmed = Gap(second.label, "confirmed accuracy", -0.02, (-0.03, -0.01))
    sealed = Gap(second.label, "accuracy on the sealed test", 0.001, (-0.02, 0.022))
    assert answer([first, second], [confirmed, sealed], []) == (
        f"{first.label} is ahead of {second.label} in confirmed accuracy: +0.0200 (95 % interval +0.0100 to +0.0300), "
        "better."
    )
    assert answer([first, second], [sealed], []).startswith(f"{second.label} is ahead of {first.label} in accuracy on")


def test_where_a_study_reports_to_is_in_no_page_that_is_passed_on(tmp_path: Path) -> None:
    secret = "https://hooks.example.org/secret"
    where = {"notify": {"url": secret}, "optuna_storage": "postgresql://team@secret.example.org/optuna"}
    studies = [record_study(tmp_path / "a", 4), record_study(tmp_path / "b", 4, **where)]
    compared = write_comparison(studies, tmp_path / "page").page.read_text()
    for page in (compared, best_study_file(studies[1], studies[1].ranked(studies[1].state())[0])):
        assert "secret" not in page and "notify" not in page


def test_scores_of_other_folds_or_images_are_not_compared(two: list[StudyFiles], tmp_path: Path) -> None:
    strange = record_study(tmp_path / "strange", 12, folds={"selection_share": 0.2}, objective="selection_loss")
    compared = read_compared([two[0], strange])
    assert incomparable(compared) == [
        "plain and strange differ in their objective: selection_accuracy, selection_loss",
        "plain and strange differ in their share of the selection fold: 0.15, 0.2",
    ]
    assert gaps(compared) == []
    page = write_comparison([two[0], strange], tmp_path / "page").page.read_text()
    assert "The scores of these studies cannot be compared" in page


def test_sealed_tests_are_compared_as_shares(two: list[StudyFiles], tmp_path: Path) -> None:
    studies = []
    for name, accuracy in (("one", 0.55), ("other", 0.60)):
        study = record_study(tmp_path / name, 12)
        state = study.state()
        best = study.best_run(state)
        assert best is not None
        with_checkpoint: dict[str, Any] = {"trial": best.number, "epoch": best.best_epoch("selection_accuracy", "max")}
        journal = Journal(study.journal)
        journal.append("checkpoint", path="trials/best", **with_checkpoint)
        metrics = {"accuracy": accuracy, "images": 1000, "accuracy_interval": [accuracy - 0.03, accuracy + 0.03]}
        journal.append("sealed", checkpoint="trials/best", metrics=metrics)
        journal.close()
        studies.append(study)
    sealed = [gap for gap in gaps(read_compared(studies)) if gap.of == "accuracy on the sealed test"]
    assert [(gap.label, round(gap.difference, 6), gap.verdict) for gap in sealed] == [("other", 0.05, "better")]


def test_the_interval_of_two_shares_is_newcombes() -> None:
    # Newcombe 1998, table II, case (a): 56/70 and 48/80, method 10
    difference, (low, high) = share_gap((56, 70), (48, 80))
    assert (round(difference, 4), round(low, 4), round(high, 4)) == (0.2, 0.0524, 0.3339)


def test_names_are_text_and_equal_names_are_numbered(two: list[StudyFiles], tmp_path: Path) -> None:
    again = record_study(tmp_path / "elsewhere" / "plain", 12, data=EVIL)
    written = write_comparison([two[0], again], tmp_path / "page")
    assert [label for label, _ in written.rows][:2] == ["plain (1)", "plain (2)"]
    text = written.page.read_text()
    assert EVIL not in text and "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_what_cannot_be_compared_is_refused_and_nothing_is_written(two: list[StudyFiles], tmp_path: Path) -> None:
    none = record_study(tmp_path / "none", 0, finished=False)
    for studies, message in (
        ([two[0]], "two studies or more must be named"),
        ([two[0], two[0]], "two studies or more must be named"),
        ([two[0], none], "'none' has no trial to compare yet"),
    ):
        with pytest.raises(StudyError, match=message):
            write_comparison(studies, tmp_path / "page")
    assert not (tmp_path / "page").exists()


def test_the_command_prints_it_and_the_api_returns_it(
    two: list[StudyFiles], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert emotune("compare", two[0].directory, two[1].directory, "--to", tmp_path / "page") == 0
    said = capsys.readouterr().out
    assert said.startswith("plain ") and "confirmed selection_accuracy" in said and "report.html" in said
    found = tune.compare_studies(["plain", "crops"], tmp_path / "page", storage=two[0].directory.parent)
    assert found.page.exists() and found.gaps[0].label == "crops"


@pytest.mark.browser
def test_in_a_browser_the_page_stands_alone_and_axe_finds_nothing_grave(comparison: Comparison, chromium: Path) -> None:
    with opened_tab(chromium, comparison.page.as_uri(), ("file:", "data:"), viewport=PHONE) as tab:
        assert tab.locator("svg").count() == 3
        assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]  # tables scroll instead
        assert not grave_violations_in_light_and_dark(tab)
        assert not tab.problems


def test_studies_of_other_objectives_are_not_drawn_on_one_axis(two: list[StudyFiles], tmp_path: Path) -> None:
    loss = record_study(tmp_path / "loss", 12, objective="selection_loss")
    page = write_comparison([*two, loss], tmp_path / "page").page
    first, second = (page.parent / "figures" / f"best-over-epochs{suffix}.csv" for suffix in ("", "-2"))
    with first.open() as one, second.open() as other:
        studies = [{row["study"] for row in csv.DictReader(file)} for file in (one, other)]
    assert studies == [{"plain", "crops"}, {"loss"}]
    assert "The best selection_loss of each search" in page.read_text()
