"""The journal: what it remembers, and how it bears a crash."""

from __future__ import annotations

import errno
import fcntl
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from trainables.places import Place, single_process_lock
from tune.errors import StudyError
from tune.study.bucket_study import download_journal
from tune.study.journal import Journal, is_locked, kept_from_drivers, replay


def scores(value: float) -> dict[str, float]:
    return {"selection_accuracy": value, "validation_accuracy": value}


def grown(path: Path) -> Journal:
    journal = Journal(path)
    journal.append("session", number=1, pid=1, fingerprint="f")
    journal.append("trial", trial=0, values={"dropout": 0.5})
    journal.append("started", trial=0)
    for epoch, accuracy in enumerate([0.2, 0.6, 0.5], 1):
        journal.append(
            "epoch", trial=0, epoch=epoch, metrics={"selection_accuracy": accuracy / 2, "validation_accuracy": accuracy}
        )
    journal.append("checkpoint", trial=0, epoch=2, path="trials/a")
    return journal


def test_a_journal_read_again_gives_the_same_record(tmp_path: Path) -> None:
    journal = grown(tmp_path / "journal.jsonl")
    journal.append("end", trial=0, state="complete", reason="trained all its epochs")
    journal.close()
    again = Journal(tmp_path / "journal.jsonl")
    assert again.state == journal.state
    trial = again.state.trials[0]
    assert (trial.best_epoch("selection_accuracy", "max"), trial.best_value("selection_accuracy", "max")) == (2, 0.3)
    assert trial.best_epoch("selection_accuracy", "min") == 1
    again.close()


def test_a_line_torn_by_a_crash_is_cut_off_and_the_next_event_stands_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = grown(path)
    journal.close()
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"event":"epoch","trial":0,"epo')
    again = Journal(path)
    again.append("started", trial=0)
    again.close()
    assert path.read_bytes().startswith(whole)
    events = [json.loads(line)["event"] for line in path.read_text().splitlines()]
    assert events[-2:] == ["checkpoint", "started"]


@pytest.mark.parametrize("damage", [b"nonsense", b"[]", b"{}", b'{"event":"trial"}', b'{"event":"session","number":1}'])
def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"event":"session","time":1,"number":1,"pid":1,"fingerprint":"f"}\n' + damage + b"\n")
    with pytest.raises(StudyError, match=r"journal.jsonl, line 2 is damaged"):
        Journal(path)


def test_trials_that_ran_to_their_end_rank_before_those_that_were_stopped(tmp_path: Path) -> None:
    events = []
    for number, (value, state) in enumerate([(0.5, "complete"), (0.9, "pruned"), (0.7, "failed"), (0.6, "cut")]):
        events += [
            {"event": "trial", "time": 0, "trial": number, "values": {}},
            {"event": "epoch", "time": 0, "trial": number, "epoch": 1, "metrics": scores(value)},
            {"event": "end", "time": 0, "trial": number, "state": state, "reason": ""},
        ]
    path = tmp_path / "journal.jsonl"
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    assert [t.number for t in replay(path)[0].ranked("selection_accuracy", "max")] == [3, 0, 1]


def test_only_a_checkpoint_that_is_still_whole_counts(tmp_path: Path) -> None:
    journal = grown(tmp_path / "journal.jsonl")
    trial = journal.state.trials[0]
    assert trial.existing_checkpoints(Place(str(tmp_path))) == []
    (tmp_path / "trials/a").mkdir(parents=True)
    (tmp_path / "trials/a/state.json").write_text("{}")
    assert trial.existing_checkpoints(Place(str(tmp_path))) == ["trials/a"]
    journal.close()


def test_the_best_epoch_is_inner_validations_choice_and_the_selection_fold_only_scores_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append("trial", trial=0, values={})
    for epoch, (validation, selection) in enumerate([(0.5, 0.9), (0.7, 0.6), (0.6, 0.8)], 1):
        metrics = {"validation_accuracy": validation, "selection_accuracy": selection}
        journal.append("epoch", trial=0, epoch=epoch, metrics=metrics)
    trial = journal.state.trials[0]
    assert (trial.best_epoch("selection_accuracy", "max"), trial.best_value("selection_accuracy", "max")) == (2, 0.6)
    journal.close()


def test_epochs_reported_again_after_a_restart_replace_what_came_after(tmp_path: Path) -> None:
    journal = grown(tmp_path / "journal.jsonl")
    journal.append("epoch", trial=0, epoch=2, metrics=scores(0.1))
    trial = journal.state.trials[0]
    assert (sorted(trial.epochs), trial.checkpoints) == ([1, 2], {})
    journal.close()


def test_a_second_process_is_refused_and_told_who_has_the_study(tmp_path: Path) -> None:
    journal = grown(tmp_path / "journal.jsonl")
    before = journal.path.read_bytes()
    with pytest.raises(StudyError, match="is being run by process 1"):
        Journal(journal.path)
    assert journal.path.read_bytes() == before
    assert is_locked(journal.path)
    journal.close()
    assert not is_locked(journal.path)
    Journal(journal.path).close()


def test_storage_that_knows_no_locks_is_named_and_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path).close()

    def flock(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(StudyError, match="must know file locks .* Received: .*: No locks available. Mount it with"):
        Journal(path)
    assert not is_locked(path)
    with single_process_lock(tmp_path / "lock"):  # keeps work from being done twice, and no more
        assert (tmp_path / "lock").exists()


def test_a_session_that_was_killed_counts_up_to_its_last_event(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    lines = [
        {"event": "session", "time": 100.0, "number": 1, "pid": 1, "fingerprint": "f"},
        {"event": "trial", "time": 130.0, "trial": 0, "values": {}},
        {"event": "session", "time": 900.0, "number": 2, "pid": 2, "fingerprint": "f"},
        {"event": "session_end", "time": 910.0, "search_s": 10.0, "finished": True, "ended_by": "finished"},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert replay(path)[0].search_s == 40.0


def test_an_export_long_after_a_session_that_was_killed_uses_none_of_its_budgets(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    gpu = {"gpus_per_trial": 1.0, "node_hour_price": 3.0}
    lines = [
        {"event": "session", "time": 100.0, "number": 1, "pid": 1, "fingerprint": "f", **gpu},
        {"event": "trial", "time": 100.0, "trial": 0, "values": {}},
        {"event": "started", "time": 100.0, "trial": 0},
        {"event": "epoch", "time": 700.0, "trial": 0, "epoch": 1, "metrics": {}},
        {"event": "calibration", "time": 36700.0, "checkpoint": "c", "findings": {"kept": False}},
        {"event": "ensemble", "time": 36700.0, "checkpoints": ["c"], "kept": False},
        {"event": "session", "time": 36800.0, "number": 2, "pid": 2, "fingerprint": "f", **gpu},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    state = replay(path)[0]
    assert state.search_s == 600.0
    used = state.spent(36800.0)
    assert (used.gpu_hours, used.cost) == (pytest.approx(600 / 3600), pytest.approx(0.5))


def test_a_driver_that_a_reader_is_a_moment_ahead_of_writes_to_the_journal_that_lies_there_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, longer, lock = tmp_path / "journal.jsonl", tmp_path / "longer", fcntl.flock
    with closing(Journal(longer)) as journal:
        journal.append("nodes", count=7)

    def replaced_before_it_is_locked(file: Any, how: int) -> None:
        if longer.exists():
            longer.replace(path)
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", replaced_before_it_is_locked)
    driver = Journal(path)
    assert driver.state.rates.nodes == 7
    driver.append("nodes", count=8)
    assert replay(path)[0].rates.nodes == 8
    with kept_from_drivers(path) as free:
        assert not free
    driver.close()


def test_a_driver_that_begins_while_a_bucket_is_looked_into_keeps_its_journal(tmp_path: Path) -> None:
    bucket, folder = tmp_path / "bucket", tmp_path / "working"
    bucket.mkdir()
    folder.mkdir()
    with closing(Journal(bucket / "journal.jsonl")) as journal:
        journal.append("nodes", count=2)
    drivers: list[Journal] = []

    class Slow(Place):
        def read(self, path: str) -> bytes | None:
            if not drivers:
                drivers.append(Journal(folder / path))
            return super().read(path)

    download_journal(Slow(str(bucket)), folder)
    [driver] = drivers
    driver.append("nodes", count=6)
    assert replay(folder / "journal.jsonl")[0].rates.nodes == 6
    driver.close()
