"""How a study ends, on real runs of the command: exit codes, event lines, confirmation, replay, why."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from optuna.trial import TrialState

from tests import ROOT
from tests.support.fixtures_study import emotune, lines, optuna_study, run_here, write_study_file
from tune.errors import EveryTrialFailed, StudyError
from tune.study.best_run import run_to_export
from tune.study.studies import StudyFiles, load_study_folder
from tune.study.trial_record import SEED_STRIDE

pytestmark = pytest.mark.slow


def test_each_budget_ends_the_study_with_an_export_and_its_exit_code_and_goes_on_when_it_is_raised(
    ray_cluster: str, faces: Path, tmp_path: Path
) -> None:
    file, events = write_study_file(tmp_path, faces, trials=50), tmp_path / "events.jsonl"

    def run(budget: str, *options: str) -> int:
        return emotune("run", file, "--no-calibrate", "--set", f"budget={budget}", "--events", events, *options)

    assert run("{epochs: 1, node_hour_price: 100}") == 3
    study = load_study_folder(tmp_path / "runs/tiny")
    first = study.state()
    assert (first.ended_by, "cut" in {t.state for t in first.trials.values()}) == ("epochs", True)
    assert (study.export / "model.keras").exists()
    last = lines(events)[-1]
    exported = {"ended_by": "epochs", "exit_code": 3, "export": str(study.export)}
    assert last == {"event": "exit", "time": last["time"], **exported}

    assert run("{stagnation: 1}") == 3
    state = study.state()
    assert (state.ended_by, len(state.trials) < 50, state.sessions) == ("stagnation", True, 2)
    assert "reopened" in {e["event"] for e in lines(study.journal)}
    for number, trial in first.trials.items():  # what was cut went on, and nothing was trained again
        assert {epoch: state.trials[number].epochs[epoch] for epoch in trial.epochs} == trial.epochs
    assert optuna_study(study).best_trial.number in state.trials
    assert TrialState.RUNNING not in {t.state for t in optuna_study(study).trials}

    before = study.journal.read_bytes()
    assert emotune("resume", study.directory) == 3  # nothing is left to spend
    assert run("{cost: 0.01, node_hour_price: 100}") == 3  # other budgets, met already
    assert run("{target: 0.01}") == 4
    assert run("{}", "--time", "1s") == 3
    assert study.journal.read_bytes() == before


def test_events_are_the_journals_and_a_finished_study_exits_with_0(finished_study: StudyFiles) -> None:
    seen, journal = lines(finished_study.directory.parents[1] / "events.jsonl"), lines(finished_study.journal)
    assert seen[:-1] == journal
    documented = (ROOT / "docs/events.md").read_text()
    for event in seen:
        assert f"| `{event['event']}` |" in documented
        assert all(f"`{name}`" in documented for name in event if name not in ("event", "time", "at_once"))


def test_every_trial_failing_says_so_in_the_events(ray_cluster: str, faces: Path, tmp_path: Path) -> None:
    steep = {"learning_rate": {"type": "float", "low": 9.0, "high": 10.0, "default": 10.0}}
    fixed = {"image_size_px": 48, "width": 0.0625, "optimizer": "sgd", "momentum": 0.99, "batch_norm": False}
    changes = {"space": steep, "fixed": fixed, "faults": {"in_a_row": 3}}
    file = write_study_file(tmp_path, faces, trials=50, **changes)
    with pytest.raises(EveryTrialFailed, match="no trial of study 'tiny' ended with a score") as failed:
        emotune("run", file, "--no-calibrate", "--events", tmp_path / "events.jsonl")
    assert failed.value.exit_code == 5
    assert lines(tmp_path / "events.jsonl")[-1]["exit_code"] == 5
    study = load_study_folder(tmp_path / "runs/tiny")
    state = study.state()
    assert (state.ended_by, len(state.trials)) == ("failures", 3)
    assert all("not finite in epoch 1" in t.reason for t in state.trials.values())
    assert {t.state for t in optuna_study(study).trials} == {TrialState.FAIL}
    assert [f.kind for t in state.trials.values() for f in t.faults] == ["not_finite"] * 3


def test_an_events_file_that_cannot_be_written_is_refused_before_anything_starts(
    ray_cluster: str, faces: Path, tmp_path: Path
) -> None:
    file = write_study_file(tmp_path, faces)
    with pytest.raises(StudyError, match="--events must be a file that can be written"):
        emotune("run", file, "--events", tmp_path / "gone/events.jsonl")


@pytest.fixture(scope="module")
def confirmed(ray_cluster: str, faces: Path, tmp_path_factory: pytest.TempPathFactory) -> StudyFiles:
    """A study whose best two configurations and default were trained again twice, the winner on all images."""
    folder = tmp_path_factory.mktemp("confirmed")
    confirm = {"top": 2, "seeds": 2, "refit": True}
    file = write_study_file(folder, faces, trials=3, asha={"max_epochs": 2, "grace_epochs": 2}, confirm=confirm)
    return run_here(file)


def test_the_best_are_trained_again_before_the_sealed_test_is_opened(confirmed: StudyFiles) -> None:
    events = [event["event"] for event in lines(confirmed.journal)]
    assert events.count("sealed") == 1
    assert events.index("confirmed") < events.index("sealed") < events.index("export")
    state = confirmed.state()
    found = state.confirmed
    assert found is not None
    repeated = {row["trial"]: row["scores"] for row in found["repeated"]}
    assert 0 in repeated and all(len(scores) == 2 for scores in repeated.values())
    assert found["winner"] == max(repeated, key=lambda trial: sum(repeated[trial]))
    seeds = {n: [m["training_loss"] for m in run.epochs.values()] for n, run in state.confirmations.items()}
    assert len({tuple(losses) for losses in seeds.values()}) == len(seeds)  # fresh seeds draw fresh numbers


def test_the_final_fit_is_exported_with_its_evidence(confirmed: StudyFiles) -> None:
    state, metrics = confirmed.state(), json.loads((confirmed.export / "metrics.json").read_text())
    refit, checkpoint = run_to_export(confirmed, state)
    assert state.confirmed is not None
    assert refit.number == state.confirmed["winner"] + 900 * SEED_STRIDE
    assert json.loads((confirmed.directory / checkpoint / "state.json").read_text())["epoch"] == max(refit.epochs)
    assert metrics["selection"] == {}  # it was trained on those images
    assert metrics["confirmation"] == state.confirmed
    assert metrics["test"]["opening"] == 1
    assert len(metrics["test"]["by_seed"]) == 2  # the final fit is no seed


def test_the_searchs_best_is_fitted_on_all_images_by_several_seeds_whose_mean_is_exported(
    ray_cluster: str, faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"trials": 2, "asha": {"max_epochs": 2, "grace_epochs": 2}, "confirm": {"top": 0, "refit": 2}}
    study = run_here(write_study_file(tmp_path, faces, export={"formats": ["keras"]}, **changes))
    state, metrics = study.state(), json.loads((study.export / "metrics.json").read_text())
    best = study.ranked(state)[0]
    fits = [best.number + seed * SEED_STRIDE for seed in (900, 901)]
    assert sorted(state.confirmations) == fits and state.ensemble is not None
    assert {len(state.run(fit).epochs) for fit in fits} == {best.best_epoch(study.spec.objective, "max")}
    assert state.ensemble["runs"] == [member["trial"] for member in metrics["ensemble"]["members"]] == fits
    losses = [state.run(fit).epochs[1]["training_loss"] for fit in fits]
    assert losses[0] != losses[1]  # seeds of their own
    assert (metrics["selection"], metrics["calibration"], metrics["test"]["opening"]) == ({}, None, 1)
    assert list(state.sealed) == ["+".join(state.ensemble["checkpoints"])]
    assert emotune("show", study.directory) == 0
    told = capsys.readouterr().out
    assert f"final fit    trial {best.number}, on all training images: 2 seeds, whose mean is exported" in told
    assert f"trial {best.number} final fit 2" in (study.export / "model_card.md").read_text()

    before = study.journal.read_bytes()
    assert emotune("resume", study.directory) == 0 and study.journal.read_bytes() == before
    assert emotune("replay", study.directory, fits[1]) == 0
    assert emotune("why", study.directory, fits[1]) == 0
    assert "no fold is left to score it" in capsys.readouterr().out
    assert emotune("export", study.directory, "--to", tmp_path / "again") == 0
    assert json.loads((tmp_path / "again/metrics.json").read_text())["test"] == metrics["test"]

    assert emotune("run", study.study_file, "--no-calibrate", "--set", "confirm.refit=3") == 0  # wanted only now
    more = study.state()
    assert more.final_fits() == [*fits, best.number + 902 * SEED_STRIDE] and more.ensemble is not None
    assert more.ensemble["runs"] == more.final_fits()
    assert {number: more.run(number).epochs for number in fits} == {n: state.run(n).epochs for n in fits}
    assert more.sealed["+".join(more.ensemble["checkpoints"])]["opening"] == 2
    shutil.rmtree(study.directory / more.ensemble["checkpoints"][1])
    with pytest.raises(StudyError, match="all 3 models of the study's ensemble are needed"):
        emotune("export", study.directory, "--to", tmp_path / "lost")

    longer = ("--set", "confirm.refit=1", "--set", "confirm.refit_epochs=3")
    assert emotune("run", study.study_file, "--no-calibrate", *longer) == 0
    (number,) = study.state().final_fits()
    assert number == best.number + 903 * SEED_STRIDE and len(study.state().run(number).epochs) == 3
    assert "epoch 3/3" in capsys.readouterr().out
    assert emotune("replay", study.directory, number) == 0


def test_the_mean_of_the_winners_seeds_is_exported_if_it_gains_and_the_sealed_test_opened_once_for_what_is(
    ray_cluster: str, faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"trials": 1, "asha": {"max_epochs": 2, "grace_epochs": 2}, "confirm": {"top": 1, "seeds": 2}}
    study = run_here(write_study_file(tmp_path, faces, export={"formats": ["keras"]}, **changes))
    state, metrics = study.state(), json.loads((study.export / "metrics.json").read_text())
    found = state.ensemble
    assert found is not None and len(found["candidates"]) == 3  # both seeds and the search's trial
    assert found["checkpoints"][0] == found["candidates"][0] and len(found["runs"]) == len(found["checkpoints"])
    assert found["kept"] == (found["mean"] > found["single"])
    exported = found["checkpoints"] if found["kept"] else found["checkpoints"][:1]
    assert list(state.sealed) == ["+".join(exported)]
    assert (metrics["ensemble"] is not None) is found["kept"] and len(metrics["test"]["by_seed"]) == 2
    if found["kept"]:
        assert len(metrics["ensemble"]["members"]) == len(exported) and metrics["ensemble"]["mean"] == found["mean"]
    assert emotune("show", study.directory) == 0
    assert "ensemble     " in capsys.readouterr().out

    assert emotune("export", study.directory, "--to", tmp_path / "again") == 0
    assert json.loads((tmp_path / "again/metrics.json").read_text())["test"] == metrics["test"]
    assert len(study.state().sealed) == 1
    # the mean is only told, and lost with one of its models: the journal says that it was kept
    events = lines(study.journal)
    names = found["candidates"]
    told = {"ensemble": {"kept": True, "checkpoints": names}, "sealed": {"checkpoint": "+".join(names)}}
    kept = [{**event, **told.get(event["event"], {})} for event in events]
    study.journal.write_text("".join(f"{json.dumps(event)}\n" for event in kept))
    shutil.rmtree(study.directory / found["candidates"][1])
    with pytest.raises(StudyError, match="all 3 models of the study's ensemble are needed.*--trial"):
        emotune("export", study.directory, "--to", tmp_path / "lost")


def test_a_final_fit_whose_checkpoint_is_gone_is_not_replaced_by_a_repetition(
    confirmed: StudyFiles, tmp_path: Path
) -> None:
    copied, state = StudyFiles(tmp_path / "gone", confirmed.spec), confirmed.state()
    shutil.copytree(confirmed.directory, copied.directory)
    assert state.confirmed is not None
    winner = state.confirmed["winner"]
    for path in state.confirmations[winner + 900 * SEED_STRIDE].checkpoints.values():
        shutil.rmtree(copied.directory / path, ignore_errors=True)
    with pytest.raises(
        StudyError, match=f"trial {winner} final fit is the best and its checkpoint is gone .*--trial"
    ) as e:
        emotune("export", copied.directory, "--to", tmp_path / "out")
    repetition = int(str(e.value).partition("--trial ")[2].split()[0])
    assert repetition % SEED_STRIDE == winner and repetition > SEED_STRIDE
    assert emotune("export", copied.directory, "--to", tmp_path / "out", "--trial", repetition) == 0
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert (metrics["trial"], metrics["confirmation"]) == (repetition, state.confirmed)
    other = next(number for number in state.trials if number != winner)
    assert emotune("export", copied.directory, "--to", tmp_path / "out", "--trial", other) == 0
    assert json.loads((tmp_path / "out/metrics.json").read_text())["confirmation"] is None


def test_show_tells_mean_spread_interval_and_luck(confirmed: StudyFiles, capsys: pytest.CaptureFixture[str]) -> None:
    assert emotune("show", confirmed.directory) == 0
    text = capsys.readouterr().out
    for part in ("confirmed", "mean", "spread", "95 % interval", "luck", "tuning", "final fit", "sealed test"):
        assert part in text


def test_a_confirmed_study_trains_nothing_more(confirmed: StudyFiles) -> None:
    before = confirmed.journal.read_bytes()
    run_here(confirmed.study_file)
    assert confirmed.journal.read_bytes() == before


def test_the_sealed_test_stays_sealed_between_search_and_confirmation(confirmed: StudyFiles, tmp_path: Path) -> None:
    from tune.session.best_model import export_to

    copied = tmp_path / "unconfirmed"
    shutil.copytree(confirmed.directory, copied)
    kept, events = [], lines(copied / "journal.jsonl")
    for event in events:
        kept.append(json.dumps(event))
        if event["event"] == "session_end":
            break
    (copied / "journal.jsonl").write_text("\n".join(kept) + "\n")
    export_to(StudyFiles(copied, confirmed.spec), str(tmp_path / "export"))
    assert json.loads((tmp_path / "export/metrics.json").read_text())["test"] is None


def test_a_replayed_trial_is_identical_to_the_last_digit(
    confirmed: StudyFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    assert emotune("replay", confirmed.directory, 1) == 0
    assert "all 2 epochs are identical to the last digit" in capsys.readouterr().out


def test_a_replay_names_what_differs(confirmed: StudyFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copied = tmp_path / "changed"
    shutil.copytree(confirmed.directory, copied)
    journal, changed = copied / "journal.jsonl", []
    for event in lines(journal):
        if event["event"] == "session":
            event["provenance"]["packages"]["keras"] = "1.0.0"
        if event["event"] == "epoch" and (event["trial"], event["epoch"]) == (0, 1):
            event["metrics"]["training_loss"] += 1e-12
        changed.append(json.dumps(event))
    journal.write_text("\n".join(changed) + "\n")
    assert emotune("replay", copied, 0, "--epochs", 1) == 1
    text = capsys.readouterr().out
    assert "not as it was: keras: 1.0.0 then" in text
    assert "epoch 1: training_loss" in text and "1 of 1 epochs differ" in text


def test_why_is_answered_for_a_trial_and_for_the_study(
    finished_study: StudyFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    state = finished_study.state()
    pruned = next(t for t in state.trials.values() if t.state == "pruned")
    assert emotune("why", finished_study.directory, pruned.number) == 0
    text = capsys.readouterr().out
    decision = pruned.rungs[-1]
    assert f"rung {decision.epoch}: {decision.value:.4f}, below the cutoff {decision.cutoff:.4f}" in text
    assert f"rank {decision.rank} of the {decision.among}" in text
    assert emotune("why", finished_study.directory) == 0
    assert "rung 1:" in capsys.readouterr().out


def test_an_extended_study_may_have_a_wider_space_and_no_narrower_one(
    finished_study: StudyFiles, faces: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished_study.directory, tmp_path / "runs/tiny")
    before, space = finished_study.state(), finished_study.spec.space.model_dump(mode="json", exclude_unset=True)

    def extended(trials: int, low: float, high: float) -> Path:
        wider = {
            "dropout": {**space["dropout"], "low": low, "high": high},
            "optimizer": {**space["optimizer"], "choices": ["sgd", *space["optimizer"]["choices"]]},
            "momentum": {"type": "float", "low": 0.5, "high": 0.9, "default": 0.9, "when": {"optimizer": "sgd"}},
        }
        return write_study_file(tmp_path, faces, trials=trials, space={**space, **wider}, export={})

    after = run_here(extended(8, 0.0, 0.9)).state()
    assert {n: after.trials[n] for n in before.trials} == before.trials
    assert len(after.trials) == 8 and {t.state for t in after.trials.values()} == {"complete", "pruned"}
    assert after.sessions == before.sessions + 1
    with pytest.raises(StudyError, match=r"another space \(dropout: its bounds shrink from 0-0.9 to 0.1-0.9\)"):
        run_here(extended(9, 0.1, 0.9))
