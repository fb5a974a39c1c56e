"""Faults get their names from real exceptions, and silence has a limit."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.exceptions import ActorDiedError, RayActorError, RayTaskError

from tests.tune.study.test_budget import record, session, spec, trial
from trainables.errors import PlaceError
from trainables.training.fault_kinds import TrialFault, classify_error, is_disk_full
from tune.session.watchdog import Watchdog, classify_ray_error


def raised_in_a_task(error: Exception) -> RayTaskError:
    return RayTaskError("step", "Traceback ...", error)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (raised_in_a_task(TrialFault("storage", "x")), "storage"),
        (raised_in_a_task(ValueError("shapes differ")), "exception"),
        (raised_in_a_task(OSError(errno.ENOSPC, "full")), "disk_full"),
        (RayActorError(error_msg="OutOfMemoryError: the node running low on memory"), "host_memory"),
        (RayActorError(error_msg="NodeDiedError: gone"), "preempted"),
        (RayActorError(preempted=True), "preempted"),
        (RayActorError(error_msg="The actor is dead because its node has died."), "preempted"),
        (ActorDiedError(), "process_died"),
        (None, "process_died"),
    ],
    ids=repr,
)
def test_what_ray_reports_gets_a_name(error: BaseException | None, kind: str) -> None:
    assert classify_ray_error(error).kind == kind


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (MemoryError(), "model_memory", "MemoryError"),
        (RuntimeError("RESOURCE_EXHAUSTED: out of memory"), "model_memory", "RuntimeError: RESOURCE_EXHAUSTED"),
        (ValueError("first line\nsecond"), "exception", "ValueError: first line"),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), "disk_full", "Disk quota exceeded"),
    ],
    ids=repr,
)
def test_what_a_step_raises_gets_a_name(error: Exception, kind: str, message: str) -> None:
    fault = classify_error(error)
    assert fault.kind == kind
    assert message in fault.message


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        full.write_bytes(b"x")
    assert is_disk_full(caught.value)


@ray.remote(num_cpus=0.1)
class _Process:
    def exit(self) -> None:
        os._exit(1)

    def fail(self) -> None:
        raise ValueError("a bug")


def test_a_real_process_that_dies_and_a_real_exception(ray_cluster: str) -> None:
    actor = _Process.remote()
    with pytest.raises(RayTaskError) as bug:
        ray.get(actor.fail.remote())
    assert (classify_ray_error(bug.value).kind, classify_ray_error(bug.value).message) == (
        "exception",
        "ValueError: a bug",
    )
    with pytest.raises(RayActorError) as died:
        ray.get(actor.exit.remote())
    assert classify_ray_error(died.value).kind == "process_died"


@ray.remote(num_cpus=0.1)
class _Beginning:
    def __init__(self, error: Exception) -> None:
        raise error

    def step(self) -> None:
        """Is never reached."""


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (
            PlaceError("s3://faces must be in a bucket that answers"),
            ("storage", "s3://faces must be in a bucket that answers"),
        ),
        (ValueError("a bug"), ("exception", "ValueError: a bug")),
    ],
    ids=repr,
)
def test_what_keeps_a_process_from_beginning_gets_a_name(
    ray_cluster: str, error: Exception, fault: tuple[str, str]
) -> None:
    with pytest.raises(RayActorError) as died:
        ray.get(_Beginning.remote(error).step.remote())
    found = classify_ray_error(died.value)
    assert (found.kind, found.message) == fault


def epoch_of(seconds: float, number: int = 0) -> list[dict[str, object]]:
    events = trial(number, 0, 0.5, 0.6)
    for event in events:
        if event["event"] == "epoch":
            event["metrics"]["epoch_s"] = seconds
    return events


def test_silence_is_measured_against_the_trials_own_epochs_then_the_studys_then_the_calibration() -> None:
    study = spec(faults={"silence_factor": 10, "silence_min_s": 5})
    done = record(session(), *epoch_of(3.0), {"event": "trial", "time": 3, "trial": 1, "values": {}})
    assert Watchdog(study, done, None).limit_s(0) == 30
    assert Watchdog(study, done, 100.0).limit_s(1) == 30
    fresh = record(session(), {"event": "trial", "time": 0, "trial": 0, "values": {}})
    assert Watchdog(study, fresh, 2.0).limit_s(0) == 20
    assert Watchdog(study, fresh, 0.1).limit_s(0) == 5
    assert Watchdog(study, fresh, None).limit_s(0) == 24 * 3600
    fetching = study.model_copy(update={"data": "s3://bucket/faces"})  # by a process's first trial
    assert Watchdog(fetching, fresh, 2.0).limit_s(0) == 24 * 3600
    assert Watchdog(fetching, done, None).limit_s(0) == 30
    assert Watchdog(fetching, done, None).limit_s(0, fresh=True) == 24 * 3600  # it goes on in another process


def test_a_trial_that_goes_on_elsewhere_may_fetch_its_data_set_again_before_it_reports(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, killed = [0.0], list[object]()
    monkeypatch.setattr("tune.session.watchdog.time", SimpleNamespace(monotonic=lambda: now[0]))
    fetching = spec(faults={"silence_factor": 10, "silence_min_s": 5}).model_copy(update={"data": "s3://bucket/faces"})
    dog = Watchdog(fetching, record(session(), *epoch_of(3.0)), None, lambda trial: not killed.append(trial))
    moved: Any = SimpleNamespace(trial_id="a", config={"trial": 0})
    dog.note_start(moved)
    for now[0] in range(0, 600, 5):
        dog.check([moved])
    assert not killed
    dog.note_report(moved)
    for now[0] in range(600, 640, 5):
        dog.check([moved])
    assert killed == [moved]


def test_while_the_driver_itself_stands_still_no_trial_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    now, killed = [0.0], list[object]()
    monkeypatch.setattr("tune.session.watchdog.time", SimpleNamespace(monotonic=lambda: now[0]))
    training: Any = SimpleNamespace(trial_id="a", config={"trial": 0})
    done = record(session(), *trial(0, 0))
    dog = Watchdog(spec(faults={"first_epoch_limit_s": "300s"}), done, None, lambda trial: not killed.append(trial))
    dog.note_start(training)
    for now[0] in (1.0, 400.0, 401.0, 690.0):  # two outages of the storage that the journal lies on
        dog.check([training])
    assert not killed
    for now[0] in range(690, 1010, 5):
        dog.check([training])
    assert killed == [training]


def test_a_trial_that_hangs_in_a_studys_very_first_epoch_is_ended_without_a_calibration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, killed = [0.0], list[object]()
    monkeypatch.setattr("tune.session.watchdog.time", SimpleNamespace(monotonic=lambda: now[0]))
    fresh = record(session(), {"event": "trial", "time": 0, "trial": 0, "values": {}})
    hanging: Any = SimpleNamespace(trial_id="a", config={"trial": 0})
    dog = Watchdog(spec(faults={"first_epoch_limit_s": "2h"}), fresh, None, lambda trial: not killed.append(trial))
    dog.note_report(hanging)
    for now[0] in range(0, 7195, 5):
        dog.check([hanging])
    assert not killed
    for now[0] in range(7195, 7300, 5):
        dog.check([hanging])
    fault = dog.forget(hanging)
    assert killed == [hanging] and fault is not None and fault.kind == "hung"
