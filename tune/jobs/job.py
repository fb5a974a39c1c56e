"""One submission of a study, read from what Ray's jobs server says of a job. Asks nobody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_STATES = {
    "PENDING": "waiting",
    "RUNNING": "running",
    "STOPPED": "stopped",
    "SUCCEEDED": "succeeded",
    "FAILED": "failed",
}


_SUPERVISOR_DEATHS = {
    "JOB_SUPERVISOR_ACTOR_DIED",
    "JOB_SUPERVISOR_ACTOR_START_FAILURE",
    "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE",
}


@dataclass(frozen=True)
class Job:
    """One submission of a study.

    Attributes:
        id: Ray's submission id.
        study: the study's name.
        state: `waiting`, `running`, `stopped`, `succeeded` or `failed`.
        version: of the emotune that submitted it.
        spec: the study's resolved file, as JSON.
        started: seconds since 1970; `ended` is None until it has.
        exit_code: its driver's, None if that did not come to an end by itself.
        died: whether its supervisor or its wrapper died, so that submitting it again goes on with it.
        message: Ray's words on how it is.
    """

    id: str
    study: str
    state: str
    version: str
    spec: str
    started: float
    ended: float | None
    exit_code: int | None
    died: bool
    message: str

    @property
    def active(self) -> bool:
        """Whether it waits or runs."""
        return self.state in ("waiting", "running")


def read_job(details: Any) -> Job | None:
    """Returns what Ray's details of a job say; None for one that is no study of ours."""
    metadata = details.metadata or {}
    if "emotune_study" not in metadata or details.submission_id is None:
        return None
    return Job(
        id=details.submission_id,
        study=metadata["emotune_study"],
        state=_STATES[str(details.status)],
        version=metadata["emotune_version"],
        spec=metadata["emotune_spec"],
        started=(details.start_time or 0) / 1000,
        ended=None if details.end_time is None else details.end_time / 1000,
        exit_code=details.driver_exit_code,
        died=str(details.status) == "FAILED"
        and (
            details.error_type in _SUPERVISOR_DEATHS
            if details.driver_exit_code is None
            else details.driver_exit_code < 0
        ),
        message=details.message or "",
    )
