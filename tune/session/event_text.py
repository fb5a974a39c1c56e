"""What the journal's events say in plain words, wherever they are told: terminal, `watch`, the board. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tune.search.why import rung_line
from tune.session.trial_table import short_parameters
from tune.study.budget import ended_words
from tune.study.spec import StudySpec
from tune.study.study_state import StudyState
from tune.study.trial_record import RungDecision, run_label

_SHOWN_LINE = re.compile(
    r"trial \d+( seed \d+| final fit( \d+)?)?"
    r"(, rung \d+: | started: | epoch \d+/| (complete|pruned|cut): | interrupted after )"
)
"""What `event_text` says of the events of `shown_by_table`, and what is said of a trial that goes on another time."""


def event_text(spec: StudySpec, state: StudyState, event: Mapping[str, Any]) -> str:
    """Returns one event in words, "" for what tells people nothing.

    Args:
        spec: the study.
        state: what has happened, the event included.
        event: as it stands in the journal.
    """
    kind, run = event["event"], run_label(event.get("trial", 0))
    match kind:
        case "started":
            return f"{run} started: {short_parameters(state.run(event['trial']).values)}"
        case "epoch":
            return _epoch_text(spec, run, event, state.run(event["trial"]).schedule_epochs or spec.asha.max_epochs)
        case "rung":
            return f"{run}, {rung_line(RungDecision.from_event(event), spec.mode)}"
        case "end":
            return f"{run} {event['state']}: {event['reason']}"
        case "fault":
            return _fault_text(run, event)
        case "repeat":
            return f"{run} is not trained: it has the configuration of trial {event['of']}"
        case "enqueued":
            return f"enqueued, to be tried next: {short_parameters(event['values'])}"
        case "dropped":
            return f"{run} was dropped and ends with its epoch"
        case "reopened":
            return f"{run} goes on: the budget that cut it was raised"
        case "nodes":
            return f"machines in the cluster: {event['count']}"
        case _:
            return _session_text(event)


def shown_by_table(event: Mapping[str, Any]) -> bool:
    """Says whether the live table shows by itself what an event tells, so that no line is needed beside it."""
    return event["event"] in ("started", "epoch", "rung") or (event["event"] == "end" and event["state"] != "failed")


def line_shown_by_table(line: str) -> bool:
    """Says the same of an event's line alone: a job of a cluster prints it, and the event somewhere else."""
    return _SHOWN_LINE.match(line) is not None


def _epoch_text(spec: StudySpec, run: str, event: Mapping[str, Any], epochs: int) -> str:
    metrics = event["metrics"]
    text = f"{run} epoch {event['epoch']}/{epochs}: {spec.objective} {metrics[spec.objective]:.4f}"
    if "training_loss" in metrics:
        text += f", training loss {metrics['training_loss']:.3f}"
    return f"{text}, {metrics['images_per_s']:.0f} images/s" if "images_per_s" in metrics else text


def _fault_text(run: str, event: Mapping[str, Any]) -> str:
    if event["kind"] == "checkpoint":
        return f"{run}: {event['reason']}"
    again = "starts again" if event["retried"] else "broke off"
    return f"{run} {again} ({event['kind'].replace('_', ' ')}): {event['reason']}"


def _session_text(event: Mapping[str, Any]) -> str:
    match event["event"]:
        case "session":
            what = "the search" if event.get("phase", "search") == "search" else "training the best again"
            return f"session {event['number']} begins: {what}"
        case "session_end":
            return f"the session ends: {ended_words(event['ended_by'])}"
        case "confirmed":
            found = event["findings"]
            if found["winner"] is None:
                return f"not confirmed: {found['skipped']}"
            best = next(row for row in found["repeated"] if row["trial"] == found["winner"])
            return f"confirmed: trial {found['winner']} is the best, mean {best['mean']:.4f} over fresh seeds"
        case "ensemble":
            n = len(event["checkpoints"])
            return f"the mean of {n} models is exported" if event["kept"] else "a single model is exported"
        case "sealed":
            return f"the sealed test was opened: accuracy {event['metrics']['accuracy']:.4f}"
        case "export":
            return f"the best model is exported to {event['path']}"
    return ""
