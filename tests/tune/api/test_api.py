"""The Python API: what it loads, what it takes, studies run from Python and from a real notebook's kernel."""

from __future__ import annotations

import io
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import cv2
import nbclient
import nbformat
import numpy as np
import pytest
from PIL import Image

import tune
from tests import ROOT
from tests.support.fixtures_study import TINY, lines, write_study_file
from tests.support.kernel import started_kernel
from tests.support.recorded_study import record_study
from trainables.dataset.reader import open_dataset
from tune.api.tables import trials_dataframe
from tune.errors import DatasetError, ExportError, ImageError, StudyError, StudyFileError
from tune.export.arrays import images_in
from tune.nodes.output_redirect import heard_outside, redirect_output
from tune.nodes.signals import handle_signals

# Keras 3.15.1 reads its own variables with numpy.array(variable), which numpy 2 deprecates for their __array__.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")


def mapping(folder: Path, data: Path, **changes: Any) -> dict[str, Any]:
    return {"name": "tiny", "data": data, "storage": folder / "runs", **TINY, **changes}


# What it loads


def test_importing_tune_is_quick_and_loads_nothing_heavy() -> None:
    code = """
import sys, time
began = time.process_time()
import tune
took = time.process_time() - began
print({"ray", "keras", "tensorflow", "pandas", "numpy"} & set(sys.modules), took < 0.5, took)
tune.EmotuneError, tune.Study, tune.run
print({"ray", "keras", "tensorflow", "pandas"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    first, second = done.stdout.splitlines()
    assert first.startswith("set() True"), done.stdout
    assert second == "set()"


def test_every_name_on_the_page_is_there_and_documented() -> None:
    page = (ROOT / "docs/python.md").read_text()
    for name in tune.__all__:
        assert getattr(tune, name).__doc__, name
        assert f"`{name}" in page or f"tune.{name}" in page, f"{name} is not in docs/python.md"
    assert set(tune.__all__) <= set(dir(tune))
    with pytest.raises(AttributeError, match="module 'tune' has no attribute 'rum'"):
        _ = tune.rum  # type: ignore[attr-defined]


def test_run_stays_a_function_whatever_is_imported() -> None:
    import tune.session.runner  # noqa: F401

    assert callable(tune.run) and tune.run.__module__ == "tune.api.runs"


# What it takes


def test_a_mapping_is_a_study_files_content(faces: Path, tmp_path: Path) -> None:
    file = write_study_file(tmp_path, faces)
    given = mapping(tmp_path, faces, asha={**TINY["asha"], "max_epochs": np.int64(4)})
    before = repr(given)
    assert tune.check_study(given) == tune.check_study(file) == tune.check_study(str(file))
    assert repr(given) == before
    assert not (tmp_path / "runs").exists()


def test_options_and_overrides_replace_keys_and_none_removes_one(faces: Path, tmp_path: Path) -> None:
    given = mapping(tmp_path, tmp_path / "elsewhere", time="2h")
    spec = tune.check_study(
        given, data=open_dataset(faces), trials=3, overrides={"asha.max_epochs": 9, "time": None, "seed": np.int64(7)}
    )
    assert (spec.data, spec.trials, spec.asha.max_epochs, spec.time, spec.seed) == (str(faces), 3, 9, None, 7)
    assert tune.check_study(given, data=faces, time=90, overrides=["asha.max_epochs=5"]).asha.max_epochs == 5


def test_what_is_wrong_with_a_mapping_is_one_line_with_its_place(faces: Path, tmp_path: Path) -> None:
    given = mapping(tmp_path, faces)
    with pytest.raises(StudyFileError, match=r"trails is no key of a study file \(the study's mapping\). .*trials"):
        tune.run({**given, "trails": 3})
    with pytest.raises(StudyFileError, match=r"asha.max_epochs: .*Received: -1 \(overrides: asha.max_epochs\)"):
        tune.run(given, overrides={"asha.max_epochs": -1})
    with pytest.raises(StudyFileError, match=r"--set takes path=value"):
        tune.run(given, overrides=["asha.max_epochs"])
    with pytest.raises(tune.EmotuneError, match=r"no\.yaml does not exist"):
        tune.run(tmp_path / "no.yaml")
    with pytest.raises(DatasetError):
        tune.run(given, data=tmp_path)
    with pytest.raises(StudyError, match="holds no study"):
        tune.load_study("nowhere", storage=tmp_path)
    with pytest.raises(ExportError, match="must be a folder"):
        tune.load_export(tmp_path / "nothing")
    assert not (tmp_path / "runs").exists() and tune.list_studies(tmp_path) == []


def test_a_folder_of_images_becomes_a_data_set_and_is_described(faces: Path, tmp_path: Path) -> None:
    drawn = tune.load_data(faces)
    for row in range(0, len(drawn), 3):
        path = tmp_path / "source" / drawn.paths[row]
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), drawn.image(row))
    (tmp_path / "source/test").rename(tmp_path / "source/holdout")
    seen: list[int] = []
    imported = tune.import_data(
        tmp_path / "source",
        tmp_path / "data",
        split={"holdout": "test"},
        on_image=lambda done, expected: seen.append(done),
    )
    assert not imported.unchanged and len(imported.dataset) == len(range(0, len(drawn), 3)) == len(seen)
    assert tune.import_data(tmp_path / "source", tmp_path / "data", split=["holdout=test"]).unchanged
    report = tune.describe_data(tmp_path / "data")
    assert sum(report.counts["test"].values()) == int((drawn.splits[::3] == 1).sum())
    assert tune.contact_sheet(imported.dataset) == tmp_path / "data/contact-sheet.png"
    sheet = tune.preview(tmp_path / "data", "augment", strengths={"augment_strength": 0.8}, to=tmp_path / "p.png")
    assert cv2.imread(str(sheet)) is not None
    assert tune.draw_faces(tmp_path / "drawn", images=70, seed=3).info.counts["test"]["happy"] == 2


# Pixels


def test_arrays_are_taken_apart_into_images() -> None:
    gray, colour = np.zeros((5, 6), np.uint8), np.zeros((5, 6, 3), np.uint8)
    shapes = {
        (5, 6, 1): [gray, gray[..., None], [gray], [gray[..., None]], Image.fromarray(gray)],
        (5, 6, 3): [colour, [colour], np.zeros((5, 6, 4), np.uint8), Image.fromarray(colour)],
    }
    for shape, every in shapes.items():
        for images in every:
            assert [image.shape for image in images_in(images)] == [shape]  # type: ignore[union-attr]
    many = images_in(np.zeros((7, 5, 6), np.uint8))
    assert [image.shape for image in many] == [(5, 6, 1)] * 7  # type: ignore[union-attr]
    assert [image.shape for image in images_in(np.zeros((2, 5, 6, 4), np.uint8))] == [(5, 6, 3)] * 2  # type: ignore[union-attr]
    assert images_in("a.png") == images_in(["a.png"]) == [Path("a.png")]
    assert images_in(np.zeros((0, 5, 6), np.uint8)) == []


def test_a_palette_is_read_as_its_colours() -> None:
    red = Image.new("RGB", (4, 4), (255, 0, 0)).convert("P")
    [pixels] = images_in(red)
    assert pixels.shape == (4, 4, 3) and pixels[0, 0].tolist() == [255, 0, 0]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((5, 6), np.float32), r"must be a uint8 array.*Received: float32, \(5, 6\)\. Scale it"),
        (np.zeros((5, 6), np.uint16), r"Received: uint16, \(5, 6\)\. Turn it into uint8"),
        (np.zeros((5, 6), bool), "Received: bool"),
        (np.zeros((2, 5, 6, 2), np.uint8), r"Received: \(2, 5, 6, 2\)"),
        (np.zeros((1, 2, 5, 6, 3), np.uint8), r"Received: \(1, 2, 5, 6, 3\)"),
        (np.zeros(5, np.uint8), r"Received: \(5,\)"),
        (np.zeros((2, 0, 6), np.uint8), r"Received: \(2, 0, 6\)"),
        ([[1, 2], [3, 4]], "Received: list in a list. Use numpy.asarray"),
        (7, "Received: int. Give one"),
    ],
)
def test_what_is_no_picture_is_refused_with_the_rule(images: Any, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        images_in(images)


# Where output goes, and signals


def test_where_standard_output_is_an_object_it_is_kept_and_the_rest_goes_to_the_log(tmp_path: Path) -> None:
    cell, log = io.StringIO(), tmp_path / "ray.log"
    handler = logging.StreamHandler(sys.stderr)
    logging.getLogger("ray").addHandler(handler)
    before = handler.stream
    try:
        with redirect_stdout(cell):
            with redirect_output(log) as terminal:
                print("ours", file=terminal)
                print("a library's")
                os.write(1, b"from C\n")
                logging.getLogger("ray").setLevel(logging.WARNING)  # a benchmark's test may have raised it
                logging.getLogger("ray").warning("of Ray")
                with heard_outside():
                    print("of an events function")
            print("after")
    finally:
        logging.getLogger("ray").removeHandler(handler)
    assert cell.getvalue() == "ours\nof an events function\nafter\n"
    assert {"a library's", "from C", "of Ray"} <= set(log.read_text().splitlines())
    assert handler.stream is before


def test_signals_are_left_alone_outside_the_main_thread() -> None:
    entered: list[bool] = []

    def enter() -> None:
        with handle_signals(lambda number, frame: None):
            entered.append(True)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert entered == [True]


# Studies


class Runs:
    """Two studies run in this process: the first from a mapping, the second from a file and in another thread."""

    def __init__(self, folder: Path, faces: Path) -> None:
        self.folder = folder
        self.seen: list[dict[str, Any]] = []
        self.refused = ""
        given = mapping(folder, faces, trials=2, asha={"max_epochs": 2, "grace_epochs": 1, "reduction_factor": 2})
        self.printed = io.StringIO()
        with redirect_stdout(self.printed):
            self.first = tune.run(given, calibrate=False, events=self.on_event)
        file = write_study_file(folder, faces, name="other", asha={"max_epochs": 1})
        found: list[tune.Study] = []
        events = folder / "events.jsonl"
        thread = threading.Thread(
            target=lambda: found.append(tune.run(file, trials=1, calibrate=False, events=str(events)))
        )
        thread.start()
        thread.join()
        [self.second] = found

    def on_event(self, event: dict[str, Any]) -> None:
        self.seen.append(event)
        if event["event"] == "session":
            print("said by the events function")
            try:
                tune.run(self.folder / "tiny.yaml")
            except StudyError as error:
                self.refused = str(error)
        if event["event"] == "checkpoint":
            raise RuntimeError("a mistake in the events function")


@pytest.fixture(scope="module")
def runs(ray_cluster: str, faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    yield Runs(tmp_path_factory.mktemp("api"), faces)


@pytest.mark.slow
def test_two_studies_run_in_one_process_the_second_in_another_thread(runs: Runs) -> None:
    assert (runs.first.ended_by, runs.second.ended_by) == ("finished", "finished")
    assert (len(runs.first.trials), len(runs.second.trials)) == (2, 1)
    assert [event["event"] for event in lines(runs.folder / "events.jsonl")][-1] == "exit"
    assert sorted(tune.list_studies(runs.folder / "runs")) == [str(runs.folder / "runs" / n) for n in ("other", "tiny")]
    assert runs.refused.startswith("a process must run one study at a time")


@pytest.mark.slow
def test_an_events_function_is_called_and_one_that_raises_does_not_stop_the_study(runs: Runs) -> None:
    kinds = [event["event"] for event in runs.seen]
    assert kinds[:2] == ["session", "trial"] and kinds[-1] == "checkpoint" and kinds.count("checkpoint") == 1
    said = runs.printed.getvalue()
    assert said.index("at once   1 trials") < said.index("said by the events function")
    assert "warning: the events function raised at 'checkpoint'. It is not called again" in said
    assert "RuntimeError: a mistake in the events function" in said


@pytest.mark.slow
def test_a_study_tells_of_its_trials_its_best_and_its_curves(runs: Runs) -> None:
    study = tune.load_study("tiny", storage=runs.folder / "runs")
    frame = study.trials_dataframe()
    assert list(frame.index) == [0, 1] and frame.loc[0, "learning_rate"] == study.trials[0].values["learning_rate"]
    best = study.best
    assert best is not None and study.best_score == frame.loc[best.number, "score"]
    assert frame.loc[best.number, "selection_accuracy"] == study.best_score
    last = study.trials[0].epochs[max(study.trials[0].epochs)]
    slowed = [replace(study.trials[0], epochs={1: {**last, "learning_rate": 1e-9}})]  # as a schedule does
    rates = trials_dataframe(study.spec, slowed)["learning_rate"]
    assert rates[0] == study.trials[0].values["learning_rate"]
    curves = study.curves()
    assert curves.loc[1, 0] == study.trials[0].epochs[1]["selection_accuracy"]
    assert (curves.index.name, list(curves.columns)) == ("epoch", [0, 1])
    assert study.curves("training_loss").loc[1, 1] == study.trials[1].epochs[1]["training_loss"]
    with pytest.raises(StudyError, match="Received: training_los.*training_loss"):
        study.curves("training_los")
    assert "trial 1 is " in study.why(1) and "rung 1:" in study.why()
    with pytest.raises(StudyError, match="no trial 9"):
        study.why(9)
    assert study.exported == runs.folder / "runs/tiny/export"
    assert study.sealed_test is not None and 0 <= study.sealed_test["accuracy"] <= 1
    assert repr(study) == f"<Study 'tiny' in {study.location}: {study._status()}>"
    html = study._repr_html_()
    shown = unescape(re.sub(r"<[^>]+>", "", html)).splitlines()
    assert max(len(line) for line in shown) <= 100  # what a cell shows without being scrolled
    assert "<pre" in html and f"trial {best.number}" in html and "sealed test" in html


@pytest.mark.slow
def test_an_export_takes_arrays_as_it_takes_files(runs: Runs, faces: Path, tmp_path: Path) -> None:
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
    model = tune.load_export(runs.first.export(tmp_path / "model"))
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == gpus
    gray = tune.load_data(faces).images(range(6))
    large = np.stack([cv2.resize(image, (100, 60), interpolation=cv2.INTER_NEAREST) for image in gray])
    colour = np.repeat(large[..., None], 3, axis=-1)
    colour[..., 0] //= 2
    for images, write in ((gray, gray), (large, large), (colour, colour[..., ::-1])):
        paths = [tmp_path / f"{n}.png" for n in range(len(images))]
        for path, image in zip(paths, write, strict=True):
            cv2.imwrite(str(path), image)
        by_file, by_array = model.predict(paths), model.predict(images)
        assert [p.path for p in by_array] == [None] * 6 and [p.path for p in by_file] == paths
        assert [p.probabilities for p in by_array] == [p.probabilities for p in by_file]
    one, of_path = model.predict(gray[0]), model.predict(str(paths[0]))
    assert len(one) == len(of_path) == 1
    assert [p.label for p in tune.predict(tmp_path / "model", paths)] == [p.label for p in by_file]
    assert [p.label for p in tune.predict(tmp_path / "model", paths[0])] == [by_file[0].label]


@pytest.mark.slow
def test_a_study_does_not_go_on_with_other_data(runs: Runs, tmp_path: Path) -> None:
    others = tune.draw_faces(tmp_path / "others", images=280, seed=5)
    with pytest.raises(StudyError, match="was begun on a data set with fingerprint"):
        tune.resume(runs.second, data=others)


# Notebooks


@pytest.mark.slow
def test_a_cell_draws_a_live_table_an_interrupt_saves_the_trial_and_the_next_cell_goes_on_with_it_and_another(
    faces: Path, tmp_path: Path
) -> None:
    given = {**mapping(tmp_path, faces, trials=1), "asha": {"max_epochs": 20, "grace_epochs": 20}}
    with started_kernel(tmp_path) as kernel:
        cell = kernel.run(
            f"import time, tune\nfrom pathlib import *\ngiven = {given!r}\n"
            "def follow(event):\n    print(event['event'], event.get('epoch', ''))\n"
            "    time.sleep(3 if event.get('epoch') == 2 else 0)\n"  # while the next epoch is not asked for
            "tune.run(given, calibrate=False, events=follow)",
            interrupt_at=lambda text: "epoch 2" in text,
        )
        assert cell.error is not None and cell.error[0] == "Interrupted", cell
        assert f"tune.resume('{tmp_path}/runs/tiny')" in cell.error[1]
        assert cell.text.startswith("starting Ray\nstudy     tiny: 1 trials")
        assert "stopping: running trials finish their epoch and save it" in cell.text and "checkpoint" in cell.text
        assert "Ray" not in cell.text.replace("starting Ray", "").replace("Ray's own words", "")
        [(table, html)] = cell.drawn.items()  # one output, drawn again and again
        assert cell.draws[table] > 2 and "learning_rate" in html and "/20" in html

        study = tune.load_study(tmp_path / "runs/tiny")
        done = max(study.trials[0].epochs)
        assert not study.finished and done >= 2 and done in study.trials[0].checkpoints

        second = kernel.run(
            f"before = tune.load_study('{tmp_path}/runs/tiny')\n"
            f"study = tune.resume('tiny', storage='{tmp_path}/runs', trials=2, events=(seen := []).append)\n"
            "print([event['epoch'] for event in seen if event['event'] == 'epoch'])\n"
            "print(study.finished, study.spec.trials, len(study.trials), len(before.trials))\nstudy"
        )
        assert second.error is None, second
        assert f"\n{[*range(done + 1, 21), *range(1, 21)]}\nTrue 2 2 2\n" in second.text
        assert "tiny: finished" in list(second.drawn.values())[-1]
        cell = kernel.run("import os; os.system('echo from a child'); time.sleep(2); print('printed')")
        assert cell.text.count("\n") == 2


@pytest.mark.slow
def test_the_tutorial_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    notebook = nbformat.read(ROOT / "docs/tutorial.ipynb", 4)
    assert not [cell for cell in notebook.cells if cell.get("outputs")], "commit it without outputs"
    [study_cell] = [cell for cell in notebook.cells if "study_file = {" in cell.source]
    for given, shorter in (
        ('"trials": 4', '"trials": 2'),
        ('"max_epochs": 9, "grace_epochs": 3', '"max_epochs": 2, "grace_epochs": 1'),
    ):
        assert given in study_cell.source
        study_cell.source = study_cell.source.replace(given, shorter)
    nbclient.NotebookClient(notebook, timeout=500, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    text = "".join(output.text for output in outputs if output.output_type == "stream")
    figures = re.search(r"280 test images: accuracy (0\.\d{4}), in the study's sealed test (0\.\d{4})", text)
    assert figures is not None and figures[1] == figures[2], text
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
    assert not [output for output in outputs if output.get("name") == "stderr"]


def test_a_study_is_the_same_when_the_notebook_changes_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_study(tmp_path / "runs/study", 3)
    monkeypatch.chdir(tmp_path)
    study = tune.load_study("study")
    monkeypatch.chdir("/")
    assert len(study.trials) == 3 and study.best is not None
