"""How long a trial's process is waited for, by a clock of the test's own."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from tune.nodes import autoscaler, process_start
from tune.nodes.capacity import AutoscaledNodeType, ClusterCapacity, NodeCapacity
from tune.nodes.process_start import NO_NODE_AFTER_S, REPORT_AFTER_S, ProcessStart
from tune.study.spec import StudySpec
from tune.study.spec_sections import Resources

LIMIT_S = 180.0


@dataclass
class Cluster:
    """A cluster of one node as `ProcessStart` sees it."""

    now: float = 0.0
    room: bool = True
    cpus: float = 2.0
    said: list[str] = field(default_factory=list)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    found = Cluster()
    monkeypatch.setattr(process_start.time, "monotonic", lambda: found.now)
    monkeypatch.setattr(process_start, "find_capacity", lambda: ClusterCapacity((NodeCapacity(found.cpus),)))
    monkeypatch.setattr(process_start, "_has_reservation", lambda: found.room)
    monkeypatch.setattr(process_start, "ray_log_summary", lambda: "Ray's logs")
    return found


def started(cluster: Cluster) -> ProcessStart:
    space = {"dropout": {"type": "float", "low": 0.0, "high": 0.5, "default": 0.25}}
    faults = {"start_limit_s": LIMIT_S}
    spec = StudySpec.model_validate({"name": "a", "data": "d", "space": space, "faults": faults})
    return ProcessStart(spec, cluster.said.append)


def test_a_process_that_does_not_start_where_there_is_room_is_told_and_then_given_up(cluster: Cluster) -> None:
    start = started(cluster)
    for cluster.now in (0.0, REPORT_AFTER_S - 1):
        assert start.check_waiting() == "" and not cluster.said
    for cluster.now in (REPORT_AFTER_S, REPORT_AFTER_S + 1, LIMIT_S - 1):
        assert start.check_waiting() == ""
    assert [line.partition(";")[0] for line in cluster.said] == ["no trial process has started for 60 s"]
    cluster.now = LIMIT_S
    assert start.check_waiting().startswith("a trial's process must start within 180 s on a node that has room")


def test_on_a_full_cluster_it_waits_and_the_limit_begins_when_there_is_room(cluster: Cluster) -> None:
    start, cluster.room = started(cluster), False
    for cluster.now in (0.0, REPORT_AFTER_S, LIMIT_S, 10 * LIMIT_S):
        assert start.check_waiting() == ""
    assert len(cluster.said) == 1 and cluster.said[0].startswith("no room for a trial now: waiting until other work")
    cluster.room = True
    for cluster.now in (10 * LIMIT_S + 1, 11 * LIMIT_S):
        assert start.check_waiting() == ""
    cluster.now = 11 * LIMIT_S + 1
    assert "must start within 180 s" in start.check_waiting()
    start.note_started()
    assert start.check_waiting() == ""


def test_where_no_machine_comes_it_says_so_now_and_then_and_waits_on(cluster: Cluster) -> None:
    start, cluster.cpus = started(cluster), 0.0
    for step in range(3 * int(NO_NODE_AFTER_S)):
        cluster.now = float(step)
        assert start.check_waiting() == ""
    assert [line.partition(":")[0] for line in cluster.said] == ["no machine with room for a trial has come yet"] * 2
    cluster.cpus = 2.0
    for cluster.now in (1800.0, 1900.0):
        assert start.check_waiting() == ""
    assert len(cluster.said) == 3 and "no trial process has started" in cluster.said[-1]


def test_a_study_waits_for_machines_of_ones_own_that_are_just_joining(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    head, said = NodeCapacity(0.0), []
    own = (AutoscaledNodeType("local.cluster.node", NodeCapacity(), 2),)

    def joined() -> ClusterCapacity:
        workers = (NodeCapacity(4.0, 1.0),) if cluster.now > 30 else ()
        return ClusterCapacity((head, *workers), (head,), own, max_workers=2)

    def sleep(seconds: float) -> None:
        cluster.now += seconds

    monkeypatch.setattr(autoscaler, "find_capacity", joined)
    monkeypatch.setattr(autoscaler.time, "sleep", sleep)
    found = autoscaler.capacity_with_room(Resources(gpus_per_trial=1), said.append)
    assert found.gpus == 1 and len(said) == 1 and 30 < cluster.now < 40
    monkeypatch.setattr(autoscaler, "find_capacity", lambda: ClusterCapacity((head,)))
    assert autoscaler.capacity_with_room(Resources(), said.append).cpus == 0 and len(said) == 1  # nobody is to come
