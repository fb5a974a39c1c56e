"""Turns jobs of a cluster into text for the terminal. Asks nothing."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Iterable

from search_spaces import WRITTEN
from tune.jobs.follow import parse_event, state_from_lines
from tune.jobs.job import Job
from tune.session.trial_table import short_parameters
from tune.study.spec import StudySpec
from tune.study.trial_record import ENDED
from tune.study.wording import duration, spent_text, trial_counts


def job_line(job: Job) -> str:
    """Returns a job in one line: study, state, since when or how long, its id."""
    if job.ended is None:
        when = f"for {duration(time.time() - job.started)}"
    else:
        when = f"after {duration(job.ended - job.started)}"
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
    spec, state = StudySpec.model_validate_json(job.spec, context=WRITTEN), state_from_lines(log)
    ended = sum(trial.state in ENDED - {"repeat"} for trial in state.trials.values())
    ranked = state.ranked(spec.objective, spec.mode)
    best = "none yet"
    if ranked:
        best = (
            f"trial {ranked[0].number}: {spec.objective} {ranked[0].best_value(spec.objective, spec.mode):.4f}; "
            f"{short_parameters(ranked[0].values)}"
        )
    again = sum(trial.state in ENDED for trial in state.confirmations.values())
    lines = [
        job_line(job),
        f"  trials     {ended} of {max(spec.most_trials, state.tried)} ended ({trial_counts(state)})",
        f"  best       {best}",
        f"  spent      {spent_text(spec, state)}",
        *([f"  confirmed  {again} of {len(state.confirmations)} trainings ended"] if state.confirmations else []),
        f"  storage    {spec.storage}",
    ]
    if job.state == "failed" and job.exit_code is None:
        lines.append(f"  why        {' '.join(job.message.split())[:300]}")
    return "\n".join(lines)


def stopped_line(job: Job, log: Iterable[str], address: str) -> str:
    """Returns whether a job that was stopped has saved its running trials, and how its study goes on."""
    exits = [event for line in log if (event := parse_event(line)) is not None and event["event"] == "exit"]
    kept = "everything is kept" if exits else "its driver had to be killed: trials go on from their latest checkpoints"
    return f"stopped {job.id}; {kept}. Go on with: emotune submit STUDY.yaml --address {address}"
