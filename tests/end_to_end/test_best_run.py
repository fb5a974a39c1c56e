"""The best trial's checkpoint is gone: it is told, and no other model takes its place unasked. On real studies."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from tests.support.fixtures_study import emotune, lines
from trainables.errors import DatasetError
from tune.dataset.synth import write_faces
from tune.errors import StudyError
from tune.study.best_run import run_to_export
from tune.study.studies import StudyFiles

pytestmark = pytest.mark.slow


def copy_without(
    study: StudyFiles, folder: Path, trials: list[int] | None, *events: str, names: tuple[str, ...] = ("",)
) -> StudyFiles:
    """Copies a study without the checkpoints of some trials (None: of all), and without some of its events."""
    shutil.copytree(study.directory, folder)
    copied, state = StudyFiles(folder, study.spec), study.state()
    for trial in state.trials.values():
        for path in trial.checkpoints.values():
            for name in names if trials is None or trial.number in trials else ():
                shutil.rmtree(folder / path, ignore_errors=True) if not name else (folder / path / name).unlink(
                    missing_ok=True
                )
    kept = [event for event in lines(copied.journal) if event["event"] not in events]
    copied.journal.write_text("".join(json.dumps(event) + "\n" for event in kept))
    if "export" in events:
        shutil.rmtree(copied.export)
    return copied


def best_two(study: StudyFiles) -> tuple[int, int]:
    ranked = study.ranked(study.state())
    return ranked[0].number, ranked[1].number


@pytest.mark.parametrize("lost", ["", "model.keras", "average.npz", "state.json"])
def test_export_refuses_where_the_bests_checkpoint_is_gone_and_names_what_can_be_done(
    finished_study: StudyFiles, lost: str, tmp_path: Path
) -> None:
    best, second = best_two(finished_study)
    study = copy_without(finished_study, tmp_path / "s", [best], "sealed", "export", names=(lost,))
    journal = study.journal.read_bytes()
    with pytest.raises(StudyError) as refused:
        emotune("export", study.directory, "--to", tmp_path / "out")
    said = str(refused.value)
    value = finished_study.state().trials[best].best_value("selection_accuracy", "max")
    assert f"trial {best}, with selection_accuracy {value:.4f}, is the best and its checkpoint is gone" in said
    assert f"emotune replay {study.directory} {best} --restore" in said
    assert f"trial {second}: emotune export {study.directory} --trial {second} --to FOLDER" in said
    assert "resume" not in said and "\n" not in said
    assert not (tmp_path / "out").exists() and study.journal.read_bytes() == journal


def test_show_and_list_say_that_the_bests_checkpoint_is_gone(
    finished_study: StudyFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best, second = best_two(finished_study)
    study = copy_without(finished_study, tmp_path / "runs/s", [best], "sealed", "export")
    assert emotune("show", study.directory) == 0
    text = capsys.readouterr().out
    assert f"best         trial {best}: " in text and "; its checkpoint is gone" in text
    assert f"--trial {second} --to FOLDER" in text and f"replay {study.directory} {best} --restore" in text
    assert emotune("list", "--storage", tmp_path / "runs") == 0
    assert "its checkpoint is gone" in capsys.readouterr().out
    assert emotune("show", finished_study.directory) == 0
    assert "gone" not in capsys.readouterr().out


def test_another_trial_is_exported_when_it_is_asked_for(finished_study: StudyFiles, tmp_path: Path) -> None:
    best, second = best_two(finished_study)
    study = copy_without(finished_study, tmp_path / "s", [best])
    assert emotune("export", study.directory, "--trial", second, "--to", tmp_path / "out") == 0
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert (metrics["trial"], metrics["test"]["opening"]) == (second, 2)  # the first was the best's, at the study's end
    with pytest.raises(StudyError, match=f"trial {best}, .* is asked for and its checkpoint is gone"):
        emotune("export", study.directory, "--trial", best, "--to", tmp_path / "again")
    with pytest.raises(StudyError, match="--trial must be a trial of the study, 0 to 5.* Received: 77"):
        emotune("export", study.directory, "--trial", 77, "--to", tmp_path / "again")


def test_a_finished_study_without_any_checkpoint_is_not_told_to_run(finished_study: StudyFiles, tmp_path: Path) -> None:
    study = copy_without(finished_study, tmp_path / "s", None)
    with pytest.raises(StudyError) as refused:
        emotune("export", study.directory, "--to", tmp_path / "out")
    said = str(refused.value)
    assert "--restore" in said and "Runs with a checkpoint: none" in said and "emotune resume" not in said
    assert f"use what was exported at the study's end, {study.export}" in said
    assert emotune("resume", study.directory) == 0  # it is finished and exported


def test_the_end_of_a_study_exports_no_other_model_in_its_place(
    finished_study: StudyFiles, ray_cluster: str, tmp_path: Path
) -> None:
    best, _ = best_two(finished_study)
    study = copy_without(finished_study, tmp_path / "s", [best], "sealed", "export")
    journal = study.journal.read_bytes()
    for _ in range(2):  # the second time neither, as if all were well
        with pytest.raises(StudyError, match=f"trial {best}, .* is the best and its checkpoint is gone"):
            emotune("resume", study.directory)
    assert study.journal.read_bytes() == journal and not study.export.exists()


def test_an_export_from_before_the_search_went_on_is_not_its_result(
    finished_study: StudyFiles, ray_cluster: str, tmp_path: Path
) -> None:
    study = copy_without(finished_study, tmp_path / "s", [])
    event = next(event for event in lines(study.journal) if event["event"] == "session")
    end = next(event for event in lines(study.journal) if event["event"] == "session_end")
    with study.journal.open("a") as journal:  # a session that added nothing, and was killed before it exported
        journal.write(json.dumps({**event, "number": 2}) + "\n" + json.dumps(end) + "\n")
    assert emotune("resume", study.directory) == 0
    assert [event["event"] for event in lines(study.journal)].count("export") == 2


def test_a_lost_checkpoint_is_put_back_by_training_the_trial_again(
    finished_study: StudyFiles, ray_cluster: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best, _ = best_two(finished_study)
    study = copy_without(finished_study, tmp_path / "s", [best], "export")
    with pytest.raises(StudyError, match="--restore needs a checkpoint that is gone"):
        emotune("replay", finished_study.directory, best, "--restore")
    assert emotune("replay", study.directory, best, "--restore") == 0
    found = run_to_export(study, study.state())
    assert found[0].number == best
    assert f"its checkpoint is back: {study.directory / found[1]}" in capsys.readouterr().out
    states = [json.loads((s.directory / found[1] / "state.json").read_text()) for s in (study, finished_study)]
    assert states[0] == states[1]
    assert emotune("export", study.directory, "--to", tmp_path / "out") == 0
    first, again = (json.loads((p / "metrics.json").read_text()) for p in (finished_study.export, tmp_path / "out"))
    assert first == again


def test_a_checkpoint_that_would_be_another_model_is_not_put_back(
    finished_study: StudyFiles, ray_cluster: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best, _ = best_two(finished_study)
    study = copy_without(finished_study, tmp_path / "s", [best])
    changed = lines(study.journal)
    next(e for e in changed if e["event"] == "epoch" and e["trial"] == best)["metrics"]["training_loss"] += 1e-12
    study.journal.write_text("".join(json.dumps(event) + "\n" for event in changed))
    assert emotune("replay", study.directory, best, "--restore") == 1
    assert "its checkpoint was not put back" in capsys.readouterr().out
    with pytest.raises(StudyError, match="checkpoint is gone"):
        run_to_export(study, study.state())


def test_in_a_bucket_the_bests_checkpoint_is_missed_as_well(bucket_study: StudyFiles, tmp_path: Path) -> None:
    found = run_to_export(bucket_study, bucket_study.state())
    name = f"{found[1]}/model.keras"
    content = bucket_study.place.read(name)
    assert content is not None
    bucket_study.place.delete(name)
    try:
        with pytest.raises(StudyError, match=f"trial {found[0].number}, .* is the best and its checkpoint is gone"):
            emotune("export", bucket_study.name, "--to", tmp_path / "out")
    finally:
        bucket_study.place.write(name, content)
    assert run_to_export(bucket_study, bucket_study.state()) == found


def test_a_best_epoch_that_was_interrupted_before_it_was_saved_is_not_called_gone(
    finished_study: StudyFiles, tmp_path: Path
) -> None:
    best, second = best_two(finished_study)
    study = copy_without(finished_study, tmp_path / "s", [], "session_end", "sealed", "export")
    kept = [
        event
        for event in lines(study.journal)
        if not (event.get("trial") == best and event["event"] in ("checkpoint", "end"))
    ]
    study.journal.write_text("".join(json.dumps(event) + "\n" for event in kept))
    run = study.best_run(study.state())
    assert run is not None and run.number != best  # it goes on with the next session, and trains that epoch again
    assert emotune("export", study.directory, "--to", tmp_path / "out") == 0


def test_the_time_between_a_killed_driver_and_the_next_is_nobodys(finished_study: StudyFiles, tmp_path: Path) -> None:
    later = ("session_end", "confirmed", "ensemble", "calibration", "sealed", "export")
    study = copy_without(finished_study, tmp_path / "s", [], *later)
    events = [{**event, "time": event["time"] - 86400} for event in lines(study.journal)]
    while events[-1]["event"] != "end":  # its last trial trains, and the epochs are spent
        events.pop()
    events[0]["node_hour_price"] = 1.0
    study.journal.write_text("".join(json.dumps(event) + "\n" for event in events[:-1]))
    killed = study.state()
    limit = {"budget": {"epochs": killed.epochs_trained}}
    study.study_file.write_text(yaml.safe_dump(yaml.safe_load(study.study_file.read_text()) | limit, sort_keys=False))
    assert emotune("resume", study.directory, "--no-calibrate") == 3
    state = study.state()
    assert (state.finished, state.ended_by) == (True, "epochs")
    assert {trial.state for trial in state.trials.values()} <= {"complete", "pruned", "cut", "failed"}
    assert state.search_s == pytest.approx(killed.search_s) and state.cost == pytest.approx(killed.cost)


def test_a_study_whose_data_was_moved_says_so_and_takes_the_new_place(
    finished_study: StudyFiles, faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best = best_two(finished_study)[0]
    study = copy_without(finished_study, tmp_path / "s", [])
    text = study.study_file.read_text()
    assert str(faces) in text
    study.study_file.write_text(text.replace(str(faces), str(tmp_path / "was")))
    for words in (
        ["export", study.directory, "--to", tmp_path / "out"],
        ["replay", study.directory, best],
        ["resume", study.directory],
    ):
        with pytest.raises(DatasetError, match=r"was, which does not exist\. If it was moved, .*: --data FOLDER"):
            emotune(*words)
    assert emotune("show", study.directory) == 0
    assert emotune("export", study.directory, "--to", tmp_path / "out", "--data", faces) == 0
    assert (tmp_path / "out/model.keras").exists()
    assert emotune("replay", study.directory, best, "--epochs", 1, "--data", faces) == 0
    assert "all 1 epochs are identical to the last digit" in capsys.readouterr().out
    other = write_faces(tmp_path / "other", train_images=70, test_images=14).directory
    with pytest.raises(StudyError, match="was begun on a data set with fingerprint"):
        emotune("export", study.directory, "--to", tmp_path / "out", "--data", other)
