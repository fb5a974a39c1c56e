"""Where the time of a study went: its runs on the workers that trained them, from the journal's times. Pure."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tune.report.theme import PAPER, STATE_COLOURS, Chart
from tune.study.study_state import OUTSIDE_SESSIONS
from tune.study.trial_record import run_label

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass
class Stretch:
    """A run on a worker without a break: when (seconds since 1970), and what it did in that time, in seconds."""

    number: int
    began: float
    until: float
    lane: int = 0
    starting_s: float = 0.0
    training_s: float = 0.0
    waiting_s: float = 0.0
    state: str = "running"
    node: str = ""
    reported: bool = False

    @property
    def parts_s(self) -> tuple[float, float, float, float]:
        """Seconds of starting, training, waiting for data, and the rest."""
        return self.starting_s, self.training_s, self.waiting_s, self.other_s

    @property
    def other_s(self) -> float:
        """Saving checkpoints, and whatever else lay between epochs."""
        return max(0.0, self.until - self.began - self.starting_s - self.training_s - self.waiting_s)


@dataclass(frozen=True)
class Timeline:
    """All stretches, the lanes they are drawn in, and the seconds for which nobody used a lane."""

    stretches: Sequence[Stretch]
    lanes: int
    idle_s: float


def read_timeline(events: Iterable[Mapping[str, Any]]) -> Timeline:
    """Reads it from the journal's events; a session that was killed ends with its last event."""
    reader = TimelineReader()
    for event in events:
        reader.add(event)
    return reader.timeline()


class TimelineReader:
    """Takes the journal's events one by one; what they tell of the workers may be asked for in between."""

    def __init__(self) -> None:
        self._stretches: list[Stretch] = []
        self._running: dict[int, Stretch] = {}
        self._sessions: list[tuple[float, float, int]] = []
        self._opened: tuple[float, int] | None = None
        self._last = 0.0

    def add(self, event: Mapping[str, Any]) -> None:
        """Takes the next event."""
        kind, time, number = event["event"], event["time"], event.get("trial", -1)
        match kind:
            case "session":
                self._close_session(self._last)
                self._opened = (time, event.get("at_once", 1))
            case "started":
                self._end(number, time, "waiting")
                self._running[number] = Stretch(number, time, time)
                self._stretches.append(self._running[number])
            case "epoch" if number in self._running:
                _add_epoch(self._running[number], time, event["metrics"])
                self._running[number].node = event["metrics"].get("node_ip") or event.get("node_ip", "")
            case "fault" if event["kind"] != "checkpoint":
                self._end(number, time, "failed")
            case "end":
                self._end(number, time, event["state"])
            case "session_end" if self._opened is not None:
                self._close_session(time)
        if kind not in OUTSIDE_SESSIONS:
            self._last = max(self._last, time)

    def timeline(self) -> Timeline:
        """Returns what the events so far add up to; runs that go on end, for now, with the last event."""
        lanes = _share_lanes(self._stretches, going_on=self._running.values())
        for stretch in self._running.values():
            stretch.until = self._last
        opened = [] if self._opened is None else [(self._opened[0], self._last, self._opened[1])]
        busy = sum(s.until - s.began for s in self._stretches)
        open_s = sum((end - begin) * n for begin, end, n in [*self._sessions, *opened])
        return Timeline(self._stretches, lanes, max(0.0, open_s - busy))

    def is_going_on(self, stretch: Stretch) -> bool:
        """Says whether no event has ended it yet."""
        return self._running.get(stretch.number) is stretch

    def _end(self, number: int, time: float, state: str) -> None:
        stretch = self._running.pop(number, None)
        if stretch is not None:
            stretch.until, stretch.state = time, state

    def _close_session(self, time: float) -> None:
        for number in list(self._running):
            self._end(number, time, "waiting")
        if self._opened is not None:
            self._sessions.append((self._opened[0], time, self._opened[1]))
        self._opened = None


def _add_epoch(stretch: Stretch, time: float, metrics: Mapping[str, Any]) -> None:
    epoch_s = float(metrics.get("epoch_s") or 0.0)
    if not stretch.reported:
        stretch.starting_s, stretch.reported = max(0.0, time - stretch.began - epoch_s), True
    waited = min(float(metrics.get("wait_s") or 0.0), epoch_s)
    stretch.waiting_s += waited
    stretch.training_s += epoch_s - waited
    stretch.until = time


def _share_lanes(stretches: Sequence[Stretch], going_on: Iterable[Stretch]) -> int:
    """Puts each stretch into the lowest lane that is free when it begins; returns how many lanes there are."""
    open_ids = set(map(id, going_on))  # theirs are not free again, whatever `until` says
    free: list[int] = []
    busy: list[tuple[float, int]] = []
    lanes = 0
    for stretch in sorted(stretches, key=lambda s: s.began):
        while busy and busy[0][0] <= stretch.began:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if not free:
            heapq.heappush(free, lanes)
            lanes += 1
        stretch.lane = heapq.heappop(free)
        heapq.heappush(busy, (math.inf if id(stretch) in open_ids else stretch.until, stretch.lane))
    return lanes


def stretch_text(stretch: Stretch) -> str:
    """Returns a stretch in words: whose it is, where and how long it was, and what it did in that time."""
    where = f" on {stretch.node}" if stretch.node else ""
    return (
        f"{run_label(stretch.number)}{where}: {stretch.until - stretch.began:.0f} s, {stretch.state}; starting "
        f"{stretch.starting_s:.0f} s, training {stretch.training_s:.0f} s, waiting for data {stretch.waiting_s:.0f} s"
    )


def timeline_chart(timeline: Timeline) -> Chart | None:
    """Returns the runs over time, a lane for each that went on at the same time; None before the first."""
    stretches = timeline.stretches
    if not stretches:
        return None
    zero = min(s.began for s in stretches)
    shares = _shares(timeline)
    total = sum(seconds for _, seconds in shares) or 1.0
    unit_s, unit = (3600.0, "hours") if max(s.until for s in stretches) - zero > 7200 else (60.0, "minutes")

    def draw(figure: Figure) -> Mapping[str, Sequence[str]]:
        from matplotlib.collections import PolyCollection

        axes = figure.add_subplot()
        boxes = []
        for s in stretches:
            left, right = (s.began - zero) / unit_s, (s.until - zero) / unit_s
            low, high = s.lane + 0.62, s.lane + 1.38
            boxes.append([(left, low), (right, low), (right, high), (left, high)])
        bars = PolyCollection(
            boxes, facecolors=[STATE_COLOURS[s.state] for s in stretches], edgecolors=PAPER, linewidths=0.6, alpha=0.85
        )
        bars.set_gid("runs")
        axes.add_collection(bars)
        axes.set_xlim(0, max(b[1][0] for b in boxes) or 1)
        axes.set_ylim(timeline.lanes + 0.6, 0.4)
        axes.set_yticks(range(1, timeline.lanes + 1) if timeline.lanes <= 16 else [1, timeline.lanes])
        axes.set_ylabel("worker")
        axes.set_xlabel(f"{unit} since the first run")
        axes.grid(axis="y", visible=False)
        return {"runs": [stretch_text(s) for s in stretches]}

    words = ", ".join(f"{name} {seconds / total:.0%}" for name, seconds in shares)
    return Chart(
        "timeline",
        "Where the time went",
        f"Of the workers' time: {words}. A worker is a place for a run; a run that goes on after a fault or in another "
        "session begins a new bar.",
        ("run", "worker", "began_s", "ended_s", "starting_s", "training_s", "waiting_for_data_s", "other_s", "state"),
        [
            (
                run_label(s.number),
                s.lane + 1,
                *(round(x, 2) for x in (s.began - zero, s.until - zero, *s.parts_s)),
                s.state,
            )
            for s in stretches
        ],
        (9.2, 1.1 + min(0.3 * timeline.lanes, 5.0)),
        draw,
        trials={"runs": [s.number for s in stretches]},
    )


def _shares(timeline: Timeline) -> list[tuple[str, float]]:
    stretches = timeline.stretches
    return [
        ("training", sum(s.training_s for s in stretches)),
        ("waiting for data", sum(s.waiting_s for s in stretches)),
        ("starting", sum(s.starting_s for s in stretches)),
        ("saving and other", sum(s.other_s for s in stretches)),
        ("idle", timeline.idle_s),
    ]
