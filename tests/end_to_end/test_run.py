"""A study from end to end: what the search, the checkpoints, Optuna's file and the export look like afterwards."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from pathlib import Path

import pytest
from optuna.trial import TrialState

from tests.support.fixtures_study import lines, optuna_study, run_here, write_study_file
from trainables.dataset.reader import open_dataset
from tune.errors import StudyError
from tune.session.create_or_resume import reopen
from tune.session.replay import train_again
from tune.session.study_data import trial_context
from tune.study.best_run import run_to_export
from tune.study.studies import StudyFiles, find_study

pytestmark = pytest.mark.slow


def test_every_trial_ends_and_trial_0_is_the_default_configuration(whole_study: StudyFiles) -> None:
    state = whole_study.state()
    assert sorted(state.trials) == list(range(6))
    assert state.trials[0].values == whole_study.spec.space.defaults()
    assert {t.state for t in state.trials.values()} == {"complete", "pruned"}
    assert (state.finished, state.ended_by, state.export) == (True, "finished", "export")


def test_stopped_trials_are_pruned_in_optuna_with_all_their_values(whole_study: StudyFiles) -> None:
    told = {t.number: t for t in optuna_study(whole_study).trials}
    for number, trial in whole_study.state().trials.items():
        reported = {epoch: metrics["selection_accuracy"] for epoch, metrics in trial.epochs.items()}
        assert told[number].intermediate_values == reported
        assert told[number].params == trial.values
        expected = TrialState.PRUNED if trial.state == "pruned" else TrialState.COMPLETE
        assert told[number].state == expected
    assert TrialState.RUNNING not in Counter(t.state for t in told.values())


def test_the_best_value_is_a_best_epochs_whose_checkpoint_exists(whole_study: StudyFiles) -> None:
    told = [t for t in optuna_study(whole_study).trials if t.state == TrialState.COMPLETE]
    best = max(told, key=lambda t: (t.value, -t.number))  # the first of equals; databases of Optuna's have no rule
    trial, checkpoint = run_to_export(whole_study, whole_study.state())
    state = json.loads(whole_study.place.read(f"{checkpoint}/state.json") or b"")
    chosen = max(trial.epochs, key=lambda epoch: trial.epochs[epoch]["validation_accuracy"])
    assert (trial.number, trial.epochs[chosen]["selection_accuracy"]) == (best.number, best.value)
    assert state["epoch"] == state["best"]["epoch"] == chosen


def test_a_trial_keeps_at_most_two_checkpoints(whole_study: StudyFiles) -> None:
    states = [file.path for file in whole_study.place.files("trials") if file.path.endswith("/state.json")]
    by_trial = Counter(path.split("/")[2] for path in states)
    assert len(by_trial) == 6 and set(by_trial.values()) <= {1, 2}


def test_every_epoch_reports_the_whole_set_of_metrics(whole_study: StudyFiles) -> None:
    for trial in whole_study.state().trials.values():
        for metrics in trial.epochs.values():
            for name in ("loss", "accuracy", "macro_precision", "macro_recall", "macro_f1"):
                assert math.isfinite(metrics[f"selection_{name}"])
            assert len(metrics["selection_confusion"]) == len(metrics["selection_per_class_recall"]) == 7
            assert {"training_loss", "training_accuracy", "validation_loss", "validation_accuracy"} <= metrics.keys()
            assert metrics["images_per_s"] > 0 <= metrics["wait_s"]


def test_processes_are_reused_from_trial_to_trial(whole_study: StudyFiles) -> None:
    trials = whole_study.state().trials.values()
    assert len({metrics["process"] for t in trials for metrics in t.epochs.values()}) < len(trials)


def test_the_sealed_test_split_is_opened_once(finished_study: StudyFiles, tmp_path: Path) -> None:
    from tune.session.best_model import export_to

    before = finished_study.journal.read_bytes()
    assert before.count(b'"event":"sealed"') == 1
    export_to(finished_study, str(tmp_path / "again"))
    assert finished_study.journal.read_bytes() == before
    first, again = (json.loads((p / "metrics.json").read_text()) for p in (finished_study.export, tmp_path / "again"))
    assert first["test"] == again["test"]


def test_the_selection_fold_judges_a_temperature_before_the_sealed_test_is_opened(
    finished_study: StudyFiles, tmp_path: Path
) -> None:
    from tune.session.best_model import export_to

    events = lines(finished_study.journal)
    names = [event["event"] for event in events]
    assert names.count("calibration") == 1 and names.index("calibration") < names.index("sealed")
    metrics = json.loads((finished_study.export / "metrics.json").read_text())
    found = next(event["findings"] for event in events if event["event"] == "calibration")
    assert metrics["calibration"] == found
    assert metrics["test"]["temperature"] == (found["temperature"] if found["kept"] else 1)

    # A study whose test was opened by a version that knew of no temperature exports what was scored.
    earlier = StudyFiles(tmp_path / "earlier", finished_study.spec)
    shutil.copytree(finished_study.directory, earlier.directory)
    earlier.journal.write_text("".join(f"{json.dumps(e)}\n" for e in events if e["event"] != "calibration"))
    export_to(earlier, str(tmp_path / "export"), formats=["keras"])
    assert json.loads((tmp_path / "export/metrics.json").read_text())["calibration"] is None
    assert "calibration" not in {event["event"] for event in lines(earlier.journal)}


def test_the_export_of_an_unfinished_study_leaves_the_test_split_sealed(
    finished_study: StudyFiles, tmp_path: Path
) -> None:
    from tune.session.best_model import export_to

    copied = tmp_path / "unfinished"
    shutil.copytree(finished_study.directory, copied)
    journal = copied / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(x for x in lines if json.loads(x)["event"] not in ("session_end", "sealed", "export")))
    export_to(StudyFiles(copied, finished_study.spec), str(tmp_path / "export"))
    assert json.loads((tmp_path / "export/metrics.json").read_text())["test"] is None
    assert "sealed" not in {json.loads(line)["event"] for line in journal.read_text().splitlines()}


def test_fewer_trials_or_less_time_than_used_are_refused(finished_study: StudyFiles) -> None:
    fingerprint = finished_study.state().fingerprint
    with pytest.raises(StudyError, match="--trials must be at least the 6"):
        reopen(finished_study, fingerprint, trials=5, time=None)
    with pytest.raises(StudyError, match="--time counts from the study's beginning"):
        reopen(finished_study, fingerprint, trials=None, time="1s")


def test_a_renamed_study_folder_is_the_same_study(finished_study: StudyFiles, tmp_path: Path) -> None:
    shutil.copytree(finished_study.directory, tmp_path / "renamed")
    found = find_study("renamed", str(tmp_path))
    again = reopen(found, found.state().fingerprint, trials=9, time="2h")
    assert (again.directory, again.spec.trials, again.spec.time) == (tmp_path / "renamed", 9, 7200)


def test_running_a_finished_study_again_trains_nothing(finished_study: StudyFiles, faces: Path) -> None:
    before = finished_study.state()
    again = run_here(finished_study.study_file)
    assert again.state().trials == before.trials


def test_another_study_of_the_same_name_is_refused(finished_study: StudyFiles, faces: Path) -> None:
    with pytest.raises(StudyError, match="exists in .* with another seed, asha"):
        run_here(finished_study.study_file, "seed=7", "asha.max_epochs=9")


def test_a_study_goes_on_only_with_the_data_it_was_begun_on(finished_study: StudyFiles, tmp_path: Path) -> None:
    from tune.dataset.synth import write_faces

    write_faces(tmp_path / "others", train_images=210, test_images=70, seed=5)
    with pytest.raises(StudyError, match="was begun on a data set with fingerprint .* Received: .*others"):
        run_here(finished_study.study_file, f"data={tmp_path / 'others'}")


@pytest.fixture(scope="module")
def face_study(ray_cluster: str, faces: Path, tmp_path_factory: pytest.TempPathFactory) -> StudyFiles:
    """Two trials on faces that have to be found first, with a feed of their own, in processes that outgrow a limit."""
    folder = tmp_path_factory.mktemp("face")
    shutil.copytree(faces, folder / "faces")  # the boxes are kept beside the data set
    space = {
        "preprocessing": {"type": "categorical", "choices": ["face"], "default": "face"},
        "dropout": {"type": "float", "low": 0.1, "high": 0.5, "default": 0.1},
    }
    resources = {"feed_workers": 1, "max_concurrent": 1, "process_memory_mib": 256}  # TensorFlow alone takes more
    changes = {"trials": 2, "space": space, "asha": {"max_epochs": 1}, "resources": resources}
    return run_here(write_study_file(folder, folder / "faces", **changes))


def test_the_face_method_with_a_feed_of_its_own_runs_from_the_boxes_to_the_export(face_study: StudyFiles) -> None:
    data = Path(face_study.spec.data)
    assert (data / "faces.arrow").exists()
    labels = json.loads((face_study.export / "labels.json").read_text())
    assert labels["needs_faces"] and labels["expects_preprocessed_images"]

    spec = face_study.spec
    alone = spec.model_copy(update={"resources": spec.resources.model_copy(update={"feed_workers": 0})})
    context = trial_context(alone, open_dataset(data), face_study.state()).model_dump()
    trial = face_study.state().trials[0]
    config = {"trial": 0, "parameters": alone.trial_config(trial.values).model_dump(), "study": context}
    assert train_again(config, 1)[0]["training_loss"] == trial.epochs[1]["training_loss"]


def test_a_process_past_its_memory_limit_is_replaced_without_losing_a_trial(face_study: StudyFiles) -> None:
    trials = face_study.state().trials.values()
    assert [t.state for t in trials] == ["complete"] * 2
    assert len({t.epochs[1]["process"] for t in trials}) == 2
    assert [t.restarts for t in trials] == [0, 1]
