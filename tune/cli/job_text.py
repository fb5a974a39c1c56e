"""Turns jobs of a cluster into text for the terminal. Asks nothing."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Iterable

from search_spaces import WRITTEN
from tune.jobs.follow import event_of, told
from tune.jobs.server import Job
from tune.session.live_display import short_parameters
from tune.session.study_text import duration, spent_words, states
from tune.study.spec import StudySpec
from tune.study.study_state import ENDED


def job_line(job: Job) -> str:
    """Returns a job in one line: study, state, since when or how long, its id."""
    if job.ended is None:
        when = f"for {duration(time.time() - job.begun)}"
    else:
        when = f"after {duration(job.ended - job.begun)}"
    code = f" ({job.exit_code})" if job.exit_code else ""
    return f"{job.study:24} {job.state + code:14} {when:18} {job.id}"


def job_lines(jobs: Iterable[Job]) -> str:
    """Returns a line for each job."""
    return (
        "\n".join(map(job_line, jobs)) or "no study was submitted. Submit one: emotune submit STUDY.yaml --address URL"
    )


def status_lines(job: Job, log: Iterable[str]) -> str:
    """Returns a job's state and how far its study is: trials ended, the best one, what is spent."""
    ours = importlib.metadata.version("emotune")
    if job.version != ours:
        return f"{job_line(job)}\n  progress   unknown here: submitted by emotune {job.version}, this is {ours}"
    spec, record = StudySpec.model_validate_json(job.spec, context=WRITTEN), told(log)
    ended = sum(trial.state in ENDED for trial in record.trials.values())
    ranked = record.ranked(spec.objective, spec.mode)
    best = "none yet"
    if ranked:
        best = (
            f"trial {ranked[0].number}: {spec.objective} {ranked[0].best_value(spec.objective, spec.mode):.4f}; "
            f"{short_parameters(ranked[0].values)}"
        )
    again = sum(trial.state in ENDED for trial in record.confirmations.values())
    lines = [
        job_line(job),
        f"  trials     {ended} of {max(spec.trials, len(record.trials))} ended ({states(record)})",
        f"  best       {best}",
        f"  spent      {spent_words(spec, record)}",
        *([f"  confirmed  {again} of {len(record.confirmations)} trainings ended"] if record.confirmations else []),
        f"  storage    {spec.storage}",
    ]
    if job.state == "failed" and job.exit_code is None:
        lines.append(f"  why        {' '.join(job.message.split())[:300]}")
    return "\n".join(lines)


def stopped_line(job: Job, log: Iterable[str], address: str) -> str:
    """Returns whether a job that was stopped has saved its running trials, and how its study goes on."""
    exits = [event for line in log if (event := event_of(line)) is not None and event["event"] == "exit"]
    kept = "everything is kept" if exits else "its driver had to be killed: trials go on from their latest checkpoints"
    return f"stopped {job.id}; {kept}. Go on with: emotune submit STUDY.yaml --address {address}"
