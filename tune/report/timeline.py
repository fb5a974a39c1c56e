"""Where the time of a study went: its runs on the workers that trained them, from the journal's times. Pure."""

from __future__ import annotations

import heapq
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
    stretches: list[Stretch] = []
    running: dict[int, Stretch] = {}
    sessions: list[tuple[float, float, int]] = []
    opened: tuple[float, int] | None = None
    last = 0.0

    def end(number: int, time: float, state: str) -> None:
        stretch = running.pop(number, None)
        if stretch is not None:
            stretch.until, stretch.state = time, state

    for event in events:
        kind, time, number = event["event"], event["time"], event.get("trial", -1)
        match kind:
            case "session":
                if opened is not None:
                    sessions.append((opened[0], last, opened[1]))
                for open_number in list(running):
                    end(open_number, last, "waiting")
                opened = (time, event.get("at_once", 1))
            case "started":
                end(number, time, "waiting")
                running[number] = Stretch(number, time, time)
                stretches.append(running[number])
            case "epoch" if number in running:
                _add_epoch(running[number], time, event["metrics"])
                running[number].node = event["metrics"].get("node_ip") or event.get("node_ip", "")
            case "fault" if event["kind"] != "checkpoint":
                end(number, time, "failed")
            case "end":
                end(number, time, event["state"])
            case "session_end" if opened is not None:
                for open_number in list(running):
                    end(open_number, time, "waiting")
                sessions.append((opened[0], time, opened[1]))
                opened = None
        if event["event"] not in OUTSIDE_SESSIONS:
            last = max(last, time)
    for stretch in running.values():
        stretch.until = last
    if opened is not None:
        sessions.append((opened[0], last, opened[1]))
    lanes = _share_lanes(stretches)
    busy = sum(s.until - s.began for s in stretches)
    return Timeline(stretches, lanes, max(0.0, sum((end - begin) * n for begin, end, n in sessions) - busy))


def _add_epoch(stretch: Stretch, time: float, metrics: Mapping[str, Any]) -> None:
    epoch_s = float(metrics.get("epoch_s") or 0.0)
    if not stretch.reported:
        stretch.starting_s, stretch.reported = max(0.0, time - stretch.began - epoch_s), True
    waited = min(float(metrics.get("wait_s") or 0.0), epoch_s)
    stretch.waiting_s += waited
    stretch.training_s += epoch_s - waited
    stretch.until = time


def _share_lanes(stretches: Sequence[Stretch]) -> int:
    """Puts each stretch into the lowest lane that is free when it begins; returns how many lanes there are."""
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
        heapq.heappush(busy, (stretch.until, stretch.lane))
    return lanes


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
        return {
            "runs": [
                f"{run_label(s.number)}{' on ' + s.node if s.node else ''}: {s.until - s.began:.0f} s, {s.state}; "
                f"starting {s.starting_s:.0f} s, training {s.training_s:.0f} s, waiting for data {s.waiting_s:.0f} s"
                for s in stretches
            ]
        }

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
