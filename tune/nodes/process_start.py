"""Watches over the start of a trial's processes: says when none comes up, and why, and gives up after a limit."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import ray
from ray.util.placement_group import placement_group_table

from tune.errors import ClusterError
from tune.nodes.autoscaler import find_capacity
from tune.nodes.capacity import fits_now
from tune.nodes.outside_watchdog import watchdog
from tune.nodes.ray_options import ray_folder
from tune.study.spec import StudySpec

REPORT_AFTER_S = 60.0
NO_NODE_AFTER_S = 600.0
RAY_START_LIMIT_S = 180.0
"""Seconds that Ray itself has to start on this machine; it takes about three."""

_POLL_S = 0.5
_TAIL_BYTES = 64 * 2**10
_RAYS_PREFIX = re.compile(r"^\[[^]]+\] (\(\w+\) )?\S+\.cc:\d+: ")


class ProcessStart:
    """How long nothing has come up that was asked for."""

    def __init__(self, spec: StudySpec, say: Callable[[str], None]) -> None:
        """Takes the study, and what is told when a process is long in starting."""
        self._resources = spec.resources
        self._limit_s = spec.faults.start_limit_s
        self._say = say
        self._since: float | None = None
        self._said = self._without_room = False
        self._no_node_since: float | None = None

    def note_started(self) -> None:
        """Notes that a process is up, or that none is waited for."""
        self._since, self._said, self._without_room = None, False, False
        self._no_node_since = None

    def _wait_for_node(self, now: float) -> None:
        """Waits anew, and says now and then that no machine comes: an autoscaler asks for ever where there are none."""
        self._since, self._said = None, False
        since = self._no_node_since = self._no_node_since or now
        if now - since > NO_NODE_AFTER_S:
            self._say("no machine with room for a trial has come yet: `ray status` on the head node says why")
            self._no_node_since = now

    def check_waiting(self) -> str:
        """Notes that none is up; returns why to give up, or "" to wait on.

        Waiting for a node that is still to join is no fault, and neither is waiting for another study's trials.
        """
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        waited_s = now - self._since
        if self._without_room:
            if _has_reservation():  # there is room now: the process is waited for from here on
                self._since, self._said, self._without_room = now, False, False
            return ""
        if waited_s < self._limit_s and (self._said or waited_s < REPORT_AFTER_S):
            return ""
        if not fits_now(self._resources, find_capacity()):
            self._wait_for_node(now)
            return ""
        if not _has_reservation():
            self._say("no room for a trial now: waiting until other work on the cluster ends, or for nodes that come")
            self._without_room = True
            return ""
        if waited_s >= self._limit_s:
            return (
                f"a trial's process must start within {self._limit_s:.0f} s on a node that has room. Received: none "
                f"has. {ray_log_summary()}. Fix that, or raise faults.start_limit_s if the machine is only slow"
            )
        self._said = True
        self._say(
            f"no trial process has started for {waited_s:.0f} s; the study ends after {self._limit_s:.0f} s "
            f"(faults.start_limit_s). {ray_log_summary()}"
        )
        return ""

    def wait_for(self, reference: Any) -> None:
        """Waits until Ray has an answer.

        Raises:
            ClusterError: there is none within the limit.
        """
        while not ray.wait([reference], timeout=_POLL_S)[0]:
            if reason := self.check_waiting():
                raise ClusterError(reason)
        self.note_started()


def _has_reservation() -> bool:
    """Whether Ray has set resources of a node aside for this driver; it does so before it starts a process."""
    job = ray.get_runtime_context().get_job_id()
    groups: Any = placement_group_table()
    return any(
        str(number).endswith(job) and found["state"] == "CREATED"  # the number of a group ends with its job's
        for number, found in groups.items()
    )


@contextmanager
def ray_start_limit() -> Iterator[None]:
    """Ends this process if the block, which starts Ray, takes too long: inside it nothing else can."""

    def report(driver: psutil.Process) -> str:
        return f"Ray has not started on this machine in {REPORT_AFTER_S:.0f} s. {_starting(driver)}"

    def give_up(driver: psutil.Process) -> str:
        return (
            f"error: Ray must start on this machine within {RAY_START_LIMIT_S:.0f} s. Received: it has not. "
            f"{_starting(driver)}; Ray's logs: {ray_folder()}/ray/session_latest/logs. Free memory and disk, and "
            "see whether that Python imports ray"
        )

    with watchdog(report_after_s=REPORT_AFTER_S, report=report, limit_s=RAY_START_LIMIT_S, give_up=give_up):
        yield


def session_folder() -> Path | None:
    """Returns the folder of the Ray session that this process takes part in, on this machine."""
    node: Any = getattr(ray._private.worker, "_global_node", None)
    return None if node is None else Path(node.get_session_dir_path())


def ray_log_summary() -> str:
    """Returns what Ray's logs on this machine say of processes that do not start, in one line, and where they lie."""
    session = session_folder()
    if session is None:
        return "Ray's logs are on its nodes, in /tmp/ray/session_latest/logs"
    logs = session / "logs"
    return "; ".join([_starting(psutil.Process()), *_last_lines(logs), f"Ray's logs: {logs}"])


def _last_lines(logs: Path) -> list[str]:
    """Returns the last line that a process wrote that could not start, and the last that Ray wrote of one."""
    own, foreign = "", ""
    for name in ("raylet.err", "raylet.out"):
        path = logs / name
        if not path.exists():
            continue
        for line in reversed(path.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").splitlines()):
            if _RAYS_PREFIX.match(line):
                if not own and "worker process" in line:
                    own = _RAYS_PREFIX.sub("", line).strip()
            elif not foreign and name == "raylet.err" and line.strip() and not line.startswith(("[", "-")):
                foreign = line.strip()
    return [f"{path}: {line}" for path, line in (("a process of Ray's said", foreign), ("Ray says", own)) if line]


def _starting(driver: psutil.Process) -> str:
    """Returns which Python Ray starts, and the process that has not answered if there is one."""
    hanging = []
    for child in driver.children(recursive=True):
        with suppress(psutil.Error):  # it may end meanwhile
            if "default_worker.py" in " ".join(child.cmdline()):
                hanging.append(child.pid)
    return f"Ray starts {sys.executable}" + (f" (process {hanging[-1]} has not answered)" if hanging else "")
