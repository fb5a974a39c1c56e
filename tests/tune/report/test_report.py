"""A study's report: what it says, that it stands alone, and that it works in a browser."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.support.accessibility import grave_violations, grave_violations_in_light_and_dark
from tests.support.browser_tab import opened_tab
from tests.support.fixtures_study import emotune
from tests.support.recorded_study import CLASSES, EVIL, SPACE, record_study
from tune.errors import StudyError
from tune.report.classes_chart import classes_chart
from tune.report.mistakes_chart import mistakes_chart
from tune.report.parameter_charts import importance, preprocessing
from tune.report.parameter_scale import scored_trials
from tune.report.report import DataDescription, answer, write_report
from tune.report.search_charts import expected_best, learning_curves, random_scores
from tune.report.timeline import read_timeline
from tune.study.journal import read_events
from tune.study.spec import StudySpec, load_spec
from tune.study.studies import StudyFiles
from tune.study.study_state import StudyState

ASHA = {"max_epochs": 12, "grace_epochs": 9, "reduction_factor": 1.5}  # enough trials end for their importance


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> StudyFiles:
    return record_study(tmp_path_factory.mktemp("studies") / "recorded", 60, asha=ASHA)


@pytest.fixture(scope="module")
def page(recorded: StudyFiles, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("report") / "page"
    return write_report(recorded, DataDescription(CLASSES, note=EVIL), to, ["best         trial 7"])


def test_the_report_begins_with_the_confirmed_answer(recorded: StudyFiles, page: Path) -> None:
    text, found = page.read_text(), recorded.state().confirmed
    assert found is not None
    answer = re.search(r'id="answer">(.*?)</p>', text, re.S)
    assert answer is not None
    for word in (f"Trial {found['winner']}", f"{found['repeated'][0]['mean']:.4f}", f"{found['gain']:+.4f}"):
        assert word in answer[1]
    assert text.index(answer[0]) < text.index("<svg")


def test_the_answer_tells_a_default_that_was_stopped_and_what_the_sealed_test_said(tmp_path: Path) -> None:
    study = record_study(tmp_path / "study", 20, finished=False)
    state = study.state()
    best, first = study.best_trial(state), state.trials[0]
    assert best is not None and best.number
    first.state = "complete"
    assert "of the default configuration. It is the best of many" in answer(study, state)
    first.state = "pruned"
    assert f"of the default configuration, which was stopped after epoch {max(first.epochs)}." in answer(study, state)
    epoch = best.best_epoch(study.spec.objective, study.spec.mode)
    assert epoch is not None and "sealed" not in answer(study, state)
    best.checkpoints[epoch] = "checkpoint"
    state.sealed["checkpoint"] = {"accuracy": 0.5, "accuracy_interval": [0.4, 0.6], "images": 100}
    assert answer(study, state).endswith("sealed test is 0.5000 (95 % interval 0.4000 to 0.6000, 100 images).")


def test_the_study_file_to_copy_runs_the_best_configuration_first(recorded: StudyFiles, page: Path) -> None:
    found = re.search(r'<pre id="study-file"[^>]*>(.*?)</pre>', page.read_text(), re.S)
    assert found is not None
    winner = recorded.state().confirmed["winner"]  # type: ignore[index]
    copied = load_spec(yaml.safe_load(found[1].replace("&#39;", "'")))
    assert copied.space.defaults() == recorded.state().trials[winner].values


def test_names_are_text_wherever_they_stand_and_nothing_comes_from_elsewhere(page: Path) -> None:
    text = page.read_text()
    assert EVIL not in text and "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert not re.search(r"""(?:src|href)=["'](?:https?:)?//|@import|url\(["']?http""", text)


def test_every_chart_has_a_picture_and_its_numbers(recorded: StudyFiles, page: Path) -> None:
    figures = page.parent / "figures"
    names = {path.stem for path in figures.glob("*.png")}
    assert names == {path.stem for path in figures.glob("*.csv")}
    assert names == set(re.findall(r'data-chart="([\w-]+)"', page.read_text()))
    assert {
        "learning-curves",
        "history",
        "importance",
        "slices",
        "pairs",
        "timeline",
        "confusion",
        "preprocessing",
        "size",
    } <= names
    with (figures / "learning-curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == recorded.state().epochs_trained


def test_pairs_find_the_two_values_that_the_scores_were_made_of(page: Path) -> None:
    with (page.parent / "figures/pairs.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if {*list(row.values())[:2]} == {"learning_rate", "preprocessing"}]
    rows.sort(key=lambda row: float(row["expected_selection_accuracy"]))
    worst, best = (
        dict(zip(list(row.values())[:2], list(row.values())[2:4], strict=True)) for row in rows[:: len(rows) - 1]
    )
    assert best["preprocessing"] == "crop" and 1e-4 < float(best["learning_rate"]) < 3e-2  # made best at 1e-3
    assert worst["preprocessing"] != "crop"
    assert f"{float(rows[-1]['expected_selection_accuracy']):.4f}, of" in page.read_text()


def test_a_confusion_matrix_of_many_classes_stays_within_a_screen_or_two() -> None:
    few, many = (classes_chart(np.eye(n, dtype=int).tolist(), "it", [f"c{i}" for i in range(n)]) for n in (7, 200))
    assert few is not None and many is not None
    assert few.size_inches[0] < 8 and many.size_inches[0] < 25


def test_the_surest_mistakes_are_shown_with_label_answer_and_confidence() -> None:
    mistakes = [{"row": row, "label": 0, "predicted": row % 2 + 1, "confidence": 0.99 - row / 100} for row in range(8)]
    asked: list[int] = []

    def image(row: int) -> np.ndarray:
        asked.append(row)
        return np.full((48, 48, 1), row, np.uint8)

    assert mistakes_chart([], image, CLASSES) is None
    chart = mistakes_chart(mistakes, image, CLASSES)
    assert chart is not None and "the label angry and is taken for happy, 99% sure" in chart.takeaway
    svg = chart.render().svg
    assert sorted(set(asked)) == list(range(8)) and svg.count("<image") == 8
    assert "98% sure" in svg and EVIL not in svg and "taken for &lt;script&gt;" in svg
    assert chart.csv().splitlines()[1] == "0,angry,happy,0.99"


def test_the_expected_best_of_draws_is_that_of_counting_all_of_them() -> None:
    pairs = [max(a, b) for a in (1, 2, 3) for b in (1, 2, 3)]
    assert expected_best([3, 1, 2], 2, "max") == pytest.approx([2, sum(pairs) / 9])
    assert expected_best([3, 1, 2], 2, "min") == pytest.approx([2, 4 - sum(pairs) / 9])


def test_random_trials_are_those_that_nobody_chose() -> None:
    spec = StudySpec.model_validate({"name": "a", "data": "d", "space": SPACE, "startup_trials": 4})
    state = StudyState()
    state.apply({"event": "session", "time": 0, "number": 1, "pid": 1, "fingerprint": "f"})
    for number, request in enumerate(["", "point-1", "", "", ""]):  # four are known when the fifth is asked for
        asked = {"request": request} if request else {}
        state.apply({"event": "trial", "time": 0, "trial": number, "values": {}, **asked})
        metrics = {"selection_accuracy": number / 10, "validation_accuracy": 0.5}
        state.apply({"event": "epoch", "time": 1, "trial": number, "epoch": 1, "metrics": metrics})
        state.apply({"event": "end", "time": 1, "trial": number, "state": "complete", "reason": ""})
    assert random_scores(spec, state) == [0.2, 0.3]
    near = spec.model_copy(update={"near_points": 1.0})
    assert random_scores(near, state) == []


def test_importance_is_a_share_of_all_variance_and_of_parameters_with_few_choices(recorded: StudyFiles) -> None:
    chart = importance(recorded.spec, recorded.state())
    assert chart is not None
    shares = {str(name): float(share) for name, share, _ in chart.rows}
    assert 0 < sum(shares.values()) < 0.97 and shares["learning_rate"] > shares["batch_size"]
    many = {"type": "categorical", "choices": [16 * n for n in range(1, 13)], "default": 32}
    spec = load_spec({**recorded.spec.model_dump(mode="json"), "space": {**SPACE, "batch_size": many}})
    chart = importance(spec, recorded.state())
    assert chart is not None and "batch_size" not in {name for name, *_ in chart.rows}
    assert "more than 10 choices: batch_size" in chart.takeaway.replace("momentum, ", "")


def test_only_what_a_rung_stopped_is_called_stopped_and_nothing_failed_is_the_best(tmp_path: Path) -> None:
    study = record_study(tmp_path / "study", 20, finished=False)
    state = study.state()
    stopped = sum(any(decision.stopped for decision in trial.rungs) for trial in state.trials.values())
    best = study.ranked(state)[0]
    best.state = "pruned"  # dropped by hand
    curves = learning_curves(study.spec, state, None)
    assert curves is not None and f"{stopped} of 20 trials were stopped" in curves.takeaway
    best.state = "failed"
    assert best.number not in {trial.number for trial, _ in scored_trials(study.spec, state)}


def test_methods_are_compared_where_preprocessing_does_not_always_count(tmp_path: Path) -> None:
    study = record_study(tmp_path / "study", 20, finished=False)
    state = study.state()
    for number in range(0, 20, 2):
        del state.trials[number].values["preprocessing"]
    chart = preprocessing(study.spec, state)
    assert chart is not None and sum(row[1] for row in chart.rows) == 10


def test_the_timeline_shares_all_time_of_the_workers(recorded: StudyFiles) -> None:
    timeline = read_timeline(read_events(recorded.journal))
    assert timeline.lanes == 4
    assert all(s.until - s.began == pytest.approx(sum(s.parts_s), abs=0.01) for s in timeline.stretches)
    total = sum(s.until - s.began for s in timeline.stretches) + timeline.idle_s
    assert total == pytest.approx(4 * recorded.state().search_s, rel=0.01)


def test_a_report_gives_way_to_the_next_and_nothing_else_does(recorded: StudyFiles, page: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(StudyError, match="earlier report. Received: .*thesis"):
        write_report(recorded, DataDescription(), tmp_path, [])
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(StudyError, match="must be a folder of this machine. Received: s3:/bucket/report, an address"):
        write_report(recorded, DataDescription(), Path("s3://bucket/report"), [])
    folder = tmp_path / "opened in a file manager"
    (folder / ".reporting").mkdir(parents=True)  # of one that was killed while it wrote
    (folder / ".DS_Store").write_text("x")
    assert write_report(recorded, DataDescription(), folder, []).exists()


def test_a_study_without_trials_says_that_there_is_nothing_to_report(tmp_path: Path) -> None:
    study = record_study(tmp_path / "none", 0, finished=False)
    with pytest.raises(StudyError, match="no trial to report yet"):
        write_report(study, DataDescription(), tmp_path / "report", [])


@pytest.mark.slow
def test_the_command_reports_a_real_study(finished_study: StudyFiles) -> None:
    assert emotune("report", finished_study.directory) == 0
    text = (finished_study.directory / "report/report.html").read_text()
    assert "sealed test" in text and "test images are in the training images too" in text
    mistakes = finished_study.state().sealed.popitem()[1]["mistakes"]
    assert ('data-chart="mistakes"' in text) == bool(mistakes)


@pytest.fixture(scope="module")
def tab(page: Path, chromium: Path) -> Iterator[Any]:
    with opened_tab(chromium, page.as_uri(), ("file:", "data:")) as tab:
        yield tab


@pytest.mark.browser
def test_in_a_browser_the_trials_sort_and_filter_and_charts_answer_the_pointer(tab: Any, page: Path) -> None:
    rows = tab.locator("#trial-table tbody tr")
    tab.get_by_role("button", name="trial", exact=True).click()
    assert [row.split("\t")[1] for row in rows.all_inner_texts()[:3]] == ["0", "1", "2"]
    tab.get_by_role("button", name="trial", exact=True).click()
    assert rows.first.inner_text().split("\t")[1] == "59"
    tab.get_by_role("searchbox").fill("crop complete")
    shown = [text for text in tab.locator("#trial-table tbody tr:visible").all_inner_texts()]
    assert shown and all("crop" in text and "complete" in text for text in shown)
    assert tab.locator("#trial-table-count").inner_text() == f"{len(shown)} of 60"

    tab.locator("#trial-table tbody tr:visible").first.focus()
    tab.keyboard.press("Enter")
    assert tab.locator("#learning-curves .lit").count() >= 1
    mark = tab.locator("#history [data-tip]").nth(5)
    mark.scroll_into_view_if_needed()
    mark.hover(force=True)
    assert re.match(r"trial \d+: ", tab.locator("#tip").inner_text())
    assert not tab.problems


@pytest.mark.browser
@pytest.mark.parametrize("width", [360, 1200])
def test_the_page_never_scrolls_sideways(tab: Any, width: int) -> None:
    tab.set_viewport_size({"width": width, "height": 800})
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


@pytest.fixture(scope="module")
def printed(tab: Any, page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The report as a PDF, printed by a browser whose owner likes it dark."""
    import pypdfium2

    file = tmp_path_factory.mktemp("printed") / "report.pdf"
    other = tab.context.browser.new_page(color_scheme="dark")  # Playwright drives one browser at a time
    other.goto(page.as_uri())
    other.pdf(path=file, prefer_css_page_size=True)
    assert other.locator("details:not([open])").count() == 1  # as it was before
    other.close()
    document = pypdfium2.PdfDocument(file)
    yield document
    document.close()


@pytest.mark.browser
def test_on_paper_nothing_is_cut_and_what_was_closed_is_open(printed: Any, recorded: StudyFiles) -> None:
    text = " ".join(" ".join(sheet.get_textpage().get_text_range() for sheet in printed).split())
    joined = text.replace(" ", "")
    for trial in recorded.state().trials.values():
        assert trial.reason.replace(" ", "") in joined  # the last column of the widest table
    for word in ("reduction_factor:", "the best trial, from its seeds, epoch by epoch"):
        assert word in text  # of the study file, which was closed, and the end of the longest line of code
    for sheet in printed:
        for box in text_boxes(sheet):
            assert box[0] >= 0 and box[2] <= sheet.get_width(), sheet


@pytest.mark.browser
def test_paper_is_white_and_charts_are_drawn_in_dark_ink(printed: Any) -> None:
    import numpy as np

    sheets = [np.asarray(sheet.render(scale=0.5).to_pil().convert("L")) for sheet in printed]
    for sheet in sheets:
        assert (sheet > 250).mean() > 0.6 and sheet[:8].min() > 250 and sheet[:, :8].min() > 250  # with margins
    assert sum((sheet < 140).mean() for sheet in sheets) / len(sheets) > 0.002


def text_boxes(sheet: Any) -> list[tuple[float, float, float, float]]:
    text = sheet.get_textpage()
    return [text.get_rect(i) for i in range(text.count_rects())]


@pytest.mark.browser
@pytest.mark.slow
def test_axe_finds_nothing_grave_in_the_report(tab: Any) -> None:
    tab.set_viewport_size({"width": 1200, "height": 800})
    tab.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert not grave_violations_in_light_and_dark(tab)


@pytest.mark.browser
def test_axe_finds_what_is_grave(tab: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text('<html lang="en"><title>t</title><main><h1>t</h1><img src="data:,"><p style="color: #aaa">pale</p>')
    other = tab.context.browser.new_page()
    other.goto(page.as_uri())
    found = {line.partition(":")[0] for line in grave_violations(other)}
    other.close()
    assert found == {"critical image-alt", "serious color-contrast"}
