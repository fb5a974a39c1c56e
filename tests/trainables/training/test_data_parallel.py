"""One model on two workers: the loss curve of one process, through a stop, a resumption and a killed worker."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from tests.support.faulty import train_faulty_replica
from tests.support.fixtures_study import lines, write_study_file
from trainables.dataset.reader import open_dataset
from tune.errors import ClusterError, StudyFileError
from tune.nodes.capacity import ClusterCapacity, NodeCapacity
from tune.nodes.trial_process import trial_process
from tune.session.create_or_resume import open_or_create
from tune.session.plan import make_plan
from tune.session.replay import train_again
from tune.session.runner import Outcome, run_study
from tune.session.study_data import trial_context
from tune.study.spec import StudySpec, load_spec
from tune.study.studies import StudyFiles
from tune.study.study_state import StudyState
from tune.study.trial_record import SEED_STRIDE, run_name

# Ray 2.60: making a trainer reads the settings of Ray Data, which warn of themselves.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),  # five starts of Ray Train, where several others share the cores
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

EPOCHS, KILLED_AT, REFIT = 5, 4, 900 * SEED_STRIDE
FIRST, SECOND = 1 * SEED_STRIDE, 2 * SEED_STRIDE  # trial 0 with its two fresh seeds

OWN = """
import keras
from keras import layers


def build(image, classes, *, width: int = 24) -> keras.Model:
    x = image.input()
    y = image.standardized(x)
    for stage in (1, 2, 4):  # smooth: a ReLU that tips over is no rounding any more
        inner = [layers.Conv2D(width * stage, 3, kernel_regularizer="l2"), layers.BatchNormalization()]
        y = layers.AveragePooling2D(2)(layers.Activation("tanh")(keras.Sequential(inner)(y)))
    return keras.Model(x, layers.Dense(classes)(layers.GlobalAveragePooling2D()(y)))


def make_optimizer(learning_rate: float) -> keras.optimizers.Optimizer:
    return keras.optimizers.SGD(learning_rate, momentum=0.9, global_clipnorm=0.1)
"""
"""What several workers could get wrong: statistics inside a block, losses of a layer's own, a norm of the gradient."""

CHANGES: dict[str, Any] = {
    "space": {"learning_rate": {"type": "float", "low": 1e-3, "high": 1e-1, "log": True, "default": 2e-2}},
    # 15 images among two: shares of 8 and 7; and no dropout, as each worker draws masks of its own
    "fixed": {
        "model": "my_own.py:build",
        "optimizer": "my_own.py:make_optimizer",
        "batch_size": 15,
        "preprocessing": "shifts",
    },
    "trials": 1,
    "asha": {"max_epochs": EPOCHS, "grace_epochs": EPOCHS},
    "folds": {"max_images_per_fold": 50},
    "confirm": {"top": 1, "seeds": 2, "refit": True, "workers": 2},
}


@dataclass(frozen=True)
class Sessions:
    """A study whose first session was stopped while it confirmed, and whose second lost a worker."""

    study: StudyFiles
    outcomes: tuple[Outcome, Outcome]
    stopped: list[dict[str, Any]]
    later: list[dict[str, Any]]
    free_after_stop: dict[str, float]
    left_after_stop: list[str]
    one_process: dict[int, list[dict[str, Any]]]

    @property
    def events(self) -> list[dict[str, Any]]:
        return self.stopped + self.later


def journal(study: StudyFiles) -> list[dict[str, Any]]:
    return lines(study.journal)


def workers_left() -> list[str]:
    """Ray Train's processes of our own Ray; the coordinator, which serves all drivers of a cluster, stays with it."""
    named = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            named.append(" ".join(process.cmdline()))
    return [
        name for name in named if re.match(r"ray::(?!_Autoscaling|IDLE)\w*(Train|Sync|Placement|Preempt|Queue)", name)
    ]


def wait_until(condition: Callable[[], bool], timeout_s: float = 120) -> None:
    until = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < until:
        time.sleep(0.1)


def stop_when_confirming(study: StudyFiles, gate: Path) -> None:
    """Sends Ctrl-C when the first confirmation has reported its first epoch, then lets its second begin."""

    def confirming() -> bool:
        text = study.journal.read_text() if study.journal.exists() else ""
        return '"epoch","time"' in text and bool(re.search(rf'"event":"epoch","time":[\d.]+,"trial":{FIRST},', text))

    try:
        wait_until(confirming, 300)
        if confirming():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
    finally:
        gate.unlink()


@pytest.fixture(scope="module")
def sessions(ray_cluster: str, faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Sessions:
    folder = tmp_path_factory.mktemp("workers")
    data = folder / "faces"
    shutil.copytree(faces, data)
    (data / "fault.json").write_text(json.dumps({FIRST: {"kind": "killed", "epoch": KILLED_AT, "times": 1}}))
    (folder / "my_own.py").write_text(OWN)
    spec = load_spec(write_study_file(folder, data, **CHANGES))
    dataset = open_dataset(data)
    study = open_or_create(spec, dataset.info.fingerprint)

    def session() -> Outcome:
        return run_study(study, dataset, calibrate=False, announce=lambda plan: "")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tune.session.distributed.train_replica", train_faulty_replica)
        gate = data / f"gate-{FIRST}"
        gate.touch()
        stopper = threading.Thread(target=stop_when_confirming, args=(study, gate), daemon=True)
        stopper.start()
        first = session()
        stopper.join()
        wait_until(lambda: not (workers_left() or "_group_" in str(ray.available_resources())))
        wait_until(lambda: ray.available_resources()["CPU"] == 4)
        free = {n: v for n, v in ray.available_resources().items() if "memory" not in n}
        left = workers_left()
        stopped = journal(study)
        second = session()
    state = study.state()
    configs = [
        {
            "trial": number,
            "parameters": spec.trial_config(state.run(number).values).model_dump(),
            "study": trial_context(spec, dataset, StudyState()).model_dump(),
            "refit_epochs": len(state.run(REFIT).epochs) if number == REFIT else None,
        }
        for number in (FIRST, REFIT)
    ]
    with trial_process(spec) as call:
        alone = {config["trial"]: call(train_again, config, config["refit_epochs"] or EPOCHS) for config in configs}
    return Sessions(study, (first, second), stopped, journal(study)[len(stopped) :], free, left, alone)


def test_two_workers_have_the_loss_curve_of_one_process_with_the_same_batches(sessions: Sessions) -> None:
    losses = ("training_loss", "validation_loss", "selection_loss")
    unlike = {"epoch", "metrics", "unreadable", "should_checkpoint", "checkpoint_score", "diverged", "stalled", "done"}
    for number, alone in sessions.one_process.items():  # the first of them was stopped and killed on its way
        together = sessions.study.state().run(number).epochs
        assert sorted(together) == list(range(1, len(alone) + 1))
        for epoch, expected in enumerate(alone, 1):
            found = together[epoch]
            assert set(found) == set(expected) - unlike
            assert {n: found[n] for n in losses} == pytest.approx({n: expected[n] for n in losses}, rel=1e-4), epoch
            assert found["selection_accuracy"] == pytest.approx(
                expected["selection_accuracy"], abs=1.1 / 50
            )  # one image


def test_both_workers_hold_the_same_weights_after_every_epoch(sessions: Sessions) -> None:
    folder = Path(sessions.study.spec.data)
    for number, alone in sessions.one_process.items():
        for epoch in range(1, len(alone) + 1):
            one, other = (json.loads((folder / f"weights-{number}-{epoch}-{r}.json").read_text()) for r in (0, 1))
            assert one == other and any(one)


def test_a_stopped_fit_leaves_no_process_and_no_reservation_and_goes_on_from_its_checkpoint(sessions: Sessions) -> None:
    assert sessions.outcomes[0].ended_by == "interrupted"
    assert sessions.left_after_stop == []
    total = {n: v for n, v in ray.cluster_resources().items() if not re.search("memory|_group_", n)}
    assert sessions.free_after_stop == total  # and nothing of a group, which is what Ray reserves
    assert not [e for e in sessions.stopped if e["event"] in ("fault", "end") and e["trial"] == FIRST]
    done = [e["epoch"] for e in sessions.stopped if e["event"] == "epoch" and e["trial"] == FIRST]
    saved = [e["epoch"] for e in sessions.stopped if e["event"] == "checkpoint" and e["trial"] == FIRST]
    assert done and saved == done
    again = [e["epoch"] for e in sessions.later if e["event"] == "epoch" and e["trial"] == FIRST]
    assert again == list(range(done[-1] + 1, EPOCHS + 1))  # also past the killed worker: every epoch is saved


def test_a_killed_worker_costs_only_the_epoch_it_was_in(sessions: Sessions) -> None:
    events = [(e["event"], e.get("kind")) for e in sessions.later if e.get("trial") == FIRST]
    at = events.index(("fault", "process_died"))
    assert events.count(("fault", "process_died")) == 1
    assert events[at + 1 :][:2] == [("started", None), ("epoch", None)]
    (fault,) = sessions.study.state().run(FIRST).faults
    assert fault.retried  # the killed one is named, or the other, which hears of it first now and then
    assert fault.reason in ("its process died", "another worker broke off")
    assert 1 <= fault.epoch < KILLED_AT  # those right before it may not have been heard of


def test_the_study_ends_with_its_confirmations_a_final_fit_and_an_export(sessions: Sessions) -> None:
    study, state = sessions.study, sessions.study.state()
    assert sessions.outcomes[1].ended_by == "finished"
    assert sorted(state.confirmations) == [FIRST, SECOND, REFIT]
    assert {run.state for run in state.confirmations.values()} == {"complete"}
    metrics = json.loads((study.export / "metrics.json").read_text())
    assert metrics["trial"] == REFIT
    assert len(metrics["test"]["by_seed"]) == 2
    assert metrics["epoch"] == len(state.run(REFIT).epochs)
    for number in (FIRST, SECOND):
        assert (study.tensorboard / run_name(number)).is_dir()
        assert state.run(number).checkpoint(study.place, state.run(number).best_epoch("selection_accuracy", "max"))
    import keras

    model = keras.saving.load_model(study.export / "model.keras", compile=False)
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    assert norms and not any(layer.synchronized for layer in norms)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"confirm": {"workers": 0}}, "confirm.workers: .*greater than or equal to 1. Received: 0"),
        (
            {"confirm": {"workers": 2}, "resources": {"gpus_per_trial": 0.5}},
            "whole GPUs or none.*Received: 2, with resources.gpus_per_trial=0.5",
        ),
        ({"confirm": {"workers": 64}}, "images of the smallest batch. Received: 64, with a batch of 32"),
        (
            {"confirm": {"workers": 4}, "folds": {"max_images_per_fold": 3}},
            "images of the smallest batch. Received: 4, with a batch of 3",
        ),
    ],
)
def test_workers_that_could_not_share_a_batch_are_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(StudyFileError, match=words):
        load_spec(write_study_file(tmp_path, tmp_path, **changes))


def test_workers_that_do_not_fit_are_refused_before_the_search(tmp_path: Path) -> None:
    def spec(*overrides: str) -> StudySpec:
        return load_spec(write_study_file(tmp_path, tmp_path), ["confirm={top: 1, workers: 3}", *overrides])

    capacity = ClusterCapacity((NodeCapacity(8, 2),))
    assert make_plan(spec(), capacity, 1, None).cpus == 8
    with pytest.raises(ClusterError, match="confirm.workers=3: .* 3 CPUs and 0 GPUs, and Ray has room for 2 at once"):
        make_plan(spec("resources.cpus_per_trial=2", "resources.feed_workers=1"), capacity, 1, None)
    with pytest.raises(ClusterError, match="confirm.workers=3: .* 1 CPUs and 1 GPUs, and Ray has room for 2 at once"):
        make_plan(spec("resources.gpus_per_trial=1"), capacity, 1, None)
    assert make_plan(spec("resources.gpus_per_trial=1", "confirm.top=0"), capacity, 1, None).at_once == 1
