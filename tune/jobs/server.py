"""Studies as jobs on a Ray cluster's jobs server: connect, submit, find, stop, read. Knows nothing of trials."""

from __future__ import annotations

import importlib.metadata
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import ray.exceptions

from trainables.places import is_bucket
from tune.errors import JobError, nearest
from tune.jobs.client import CONNECTION_ERRORS, connect, proxy_of
from tune.jobs.job import Job, read_job
from tune.study.spec import StudySpec
from tune.study.yaml_source import write_yaml

STOP_S = 90
"""Seconds after which Ray kills a stopped driver; it ends itself sooner (`tune.nodes.signals.LIMIT_S`)."""

_CODE = Path(__file__).parents[2]
_PACKAGES = ("tune", "trainables", "search_spaces")
_ENTRYPOINT = "exec python -m tune.jobs.driver run study.yaml --no-calibrate --events -"
_TICK_S, _TIMEOUT_S = 1.0, 60.0


class JobsServer:
    """The jobs server of a Ray cluster."""

    def __init__(self, address: str) -> None:
        """Connects.

        Raises:
            JobError: nothing answers there, or it runs another version of Ray.
        """
        self.address = _url(address)
        try:
            self._client = connect(self.address)
        except ray.exceptions.AuthenticationError:
            raise JobError(
                f"the cluster at {self.address} wants its own token. Set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to "
                "what `ray get-auth-token` prints on its head node"
            ) from None
        except (*CONNECTION_ERRORS, ValueError, LookupError):
            name = proxy_of(self.address)
            proxy = f", or leave the proxy of {name} out: no_proxy={urlsplit(self.address).hostname}" if name else ""
            raise JobError(
                f"--address must be a Ray cluster's jobs server. Received: {self.address}, where none answers. "
                f"Start the cluster (ray up), or open a way to its port 8265 (ray dashboard CLUSTER.yaml){proxy}"
            ) from None
        theirs, ours = self._client.version, importlib.metadata.version("ray")
        if theirs != ours:
            raise JobError(
                f"Ray must have the same version here and on the cluster. Received: {ours} here, {theirs} at "
                f"{self.address}. Install one of them on both sides"
            )

    def jobs(self) -> list[Job]:
        """Returns all jobs that are studies, the latest first.

        Raises:
            JobError: the server has gone.
        """
        try:
            found = [read_job(details) for details in self._client.list_jobs()]
        except CONNECTION_ERRORS as error:
            raise self._server_error(error) from None
        return sorted((job for job in found if job is not None), key=lambda job: job.started, reverse=True)

    def latest(self, study: str) -> Job:
        """Returns the latest job of a study.

        Raises:
            JobError: there is none, or the server has gone.
        """
        jobs = self.jobs()
        for job in jobs:
            if job.study == study:
                return job
        known = sorted({job.study for job in jobs})
        raise JobError(
            f"no study {study!r} was submitted to {self.address}."
            + (nearest(study, known) if known else " Submit it: emotune submit STUDY.yaml --address URL")
        )

    def running(self, study: str) -> Job | None:
        """Returns the job that has a study now, if there is one."""
        return next((job for job in self.jobs() if job.study == study and job.active), None)

    def find(self, job_id: str) -> Job | None:
        """Returns a job, or None when the server does not know it: the head node is a new one.

        Raises:
            JobError: the server does not answer.
        """
        try:
            return read_job(self._client.get_job_info(job_id))
        except CONNECTION_ERRORS as error:
            if "status code 404" in str(error):
                return None
            raise self._server_error(error) from None

    def submit(self, spec: StudySpec) -> Job:
        """Ships a study with this installation's code, and starts it on the head node; the study goes on if it exists.

        Raises:
            JobError: only one node would see its storage or data, or a job has it already.
        """
        check_shared(spec)
        busy = self.running(spec.name)
        if busy is not None:
            raise JobError(
                f"study {spec.name!r} is being run by job {busy.id}. Follow it: emotune logs {spec.name} -f --address "
                f"{self.address}; stop it first: emotune stop {spec.name} --address {self.address}; or choose another "
                "name: --set name=..."
            )
        version = importlib.metadata.version("emotune")
        with tempfile.TemporaryDirectory(prefix="emotune-") as folder:
            _write_working_directory(Path(folder), spec, version)
            try:
                job_id = self._client.submit_job(
                    entrypoint=_ENTRYPOINT,
                    submission_id=f"emotune-{spec.name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}",
                    runtime_env={"working_dir": folder, "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_S)}},
                    metadata={
                        "emotune_study": spec.name,
                        "emotune_storage": spec.storage,
                        "emotune_version": version,
                        # Ray 2.60 gives the driver all of this in one variable, which Linux limits to 128 KiB.
                        "emotune_spec": spec.model_dump_json(exclude={"code"}),
                    },
                )
            except CONNECTION_ERRORS as error:
                raise self._server_error(error) from None
        job = self.find(job_id)
        if job is None:
            raise JobError(f"job {job_id} has vanished from {self.address}. Submit the study again")
        return job

    def stop(self, job: Job) -> Iterator[float]:
        """Asks a job's driver to save its trials and end; yields the seconds waited until it has.

        Raises:
            JobError: the server has gone, or the job does not end.
        """
        asked = time.monotonic()
        try:
            self._client.stop_job(job.id)
        except CONNECTION_ERRORS as error:
            raise self._server_error(error) from None
        while (now := self.find(job.id)) is not None and now.active:
            waited = time.monotonic() - asked
            if waited > STOP_S + _TIMEOUT_S:
                raise JobError(f"job {job.id} does not end. Look into it: ray job logs {job.id}")
            yield waited
            time.sleep(_TICK_S)

    def log(self, job: Job) -> list[str]:
        """Returns the lines that a job has written so far.

        Raises:
            JobError: the server has gone.
        """
        try:
            return self._client.get_job_logs(job.id).splitlines()
        except CONNECTION_ERRORS as error:
            raise self._server_error(error) from None

    def follow(self, job_id: str) -> Iterator[str | None]:
        """Yields a job's lines from its first on until it ends, None about every second in which there is none.

        A stream that breaks is taken up again where it was.

        Raises:
            JobError: the server stays away for a minute.
        """
        yielded, lost = 0, None
        while True:
            whole = False
            try:
                number = 0
                for line in self._client.lines(job_id, lambda: self.find(job_id)):
                    number += line is not None
                    if line is None or number > yielded:
                        yielded = max(yielded, number)
                        yield line
                whole = True
            except (*CONNECTION_ERRORS, JobError):
                pass
            try:
                job = self.find(job_id)
            except JobError:
                lost = lost or time.monotonic()
                if time.monotonic() - lost > _TIMEOUT_S:
                    raise
            else:
                lost = None
                if job is not None and not job.active and not whole:  # what it wrote while the stream was broken
                    with suppress(JobError):
                        yield from self.log(job)[yielded:]
                if job is None or not job.active:
                    return
            yield None
            time.sleep(_TICK_S)

    def _server_error(self, error: Exception) -> JobError:
        first = next(iter(str(error).splitlines()), "")[:200]
        return JobError(
            f"the jobs server at {self.address} does not do as asked: {first}. When the cluster is up again, the same "
            "submit command goes on with the study"
        )


def check_shared(spec: StudySpec) -> None:
    """Refuses a storage or data path that only one node can mean.

    Raises:
        JobError: a path is relative.
    """
    for key, value in (("storage", spec.storage), ("data", spec.data)):
        if not is_bucket(value) and not Path(value).is_absolute():
            remedy = (
                "Draw the faces there first: emotune data synth --to FOLDER" if value == "synthetic" else "Name one"
            )
            raise JobError(
                f"{key} must be what every node of the cluster sees: an absolute path of a shared folder (NFS), "
                f"s3://... or gs://.... Received: {value}. {remedy}: --set {key}=..."
            )


def _url(address: str) -> str:
    address = address.strip().rstrip("/")
    if "://" not in address:
        address = f"http://{address}"
    try:
        parts = urlsplit(address)
    except ValueError:  # an IPv6 address without its end
        parts = urlsplit("")
    if parts.scheme not in ("http", "https"):
        raise JobError(
            f"--address must be the URL of the cluster's jobs server, as in http://head:8265. Received: {address}"
        )
    if parts.username is not None:
        raise JobError(
            f"--address must hold no user and no password: what is printed shows it. Received: {parts.hostname} with "
            "one. Open a tunnel (ray dashboard CLUSTER.yaml), or use RAY_AUTH_TOKEN"
        )
    return address


def _write_working_directory(folder: Path, spec: StudySpec, version: str) -> None:
    """Writes what every node of the job works with: the study, and the code that read it."""
    write_yaml(folder / "study.yaml", spec.model_dump(mode="json"))
    for package in _PACKAGES:
        shutil.copytree(_CODE / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    metadata = folder / f"emotune-{version}.dist-info"  # so that the code also knows its version there
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: emotune\nVersion: {version}\n", encoding="utf-8")
