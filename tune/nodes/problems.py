"""What is wrong with the nodes of a cluster, and what fixes it: one line a problem. Pure; asks nobody."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from trainables.gpu import CONTEXT_MIB, LEAST_MIB, memory_limit_mib
from tune.nodes.inspection import NodeReport

DISK_MIB = 1024.0
"""Free space below which a disk counts as almost full, when nothing is known of the study."""

SKEW_S = 5.0
"""Difference between two clocks from which on it is worth a line."""


@dataclass(frozen=True)
class NodeProblem:
    """One line with rule, value and remedy; `is_fatal` says whether a study cannot start so."""

    message: str
    is_fatal: bool = True


@dataclass(frozen=True)
class Needs:
    """What is asked of the nodes.

    Attributes:
        storage: folder or URI of the studies, "" when there is no question of one.
        data: data set folder, "" when there is no question of one.
        fingerprint: of the data set; "" asks only that all nodes see the same.
        gpus_per_trial: what a trial takes; None when nothing is known of the study.
        gpus_may_come: the autoscaler may start nodes with GPUs.
        count_gpus_only: Ray's count of GPUs is to be believed, though the driver does not see them.
        checkpoint_mib: about what one checkpoint takes.
    """

    storage: str = ""
    data: str = ""
    fingerprint: str = ""
    gpus_per_trial: float | None = None
    gpus_may_come: bool = False
    count_gpus_only: bool = False
    checkpoint_mib: float = DISK_MIB


def find_problems(reports: Sequence[NodeReport], needs: Needs) -> list[NodeProblem]:
    """Returns what is wrong, what stops a study first."""
    answered = [report for report in reports if not report.silent]
    found = [
        NodeProblem(
            f"node {r.address} is part of the cluster and {r.silent}. Restart it, or take it out of the cluster"
        )
        for r in reports
        if r.silent
    ]
    for check in (_versions, _gpus, _disk, _storage, _data, _clock):
        found += check(answered, needs)
    return sorted(found, key=lambda problem: not problem.is_fatal)


def _versions(reports: Sequence[NodeReport], needs: Needs) -> Iterator[NodeProblem]:
    if not reports:
        return
    first = next((r for r in reports if r.here), reports[0])
    for report in reports:
        for name in ("Python", "ray", "emotune"):
            mine, theirs = _version(first, name), _version(report, name)
            if mine != theirs:
                yield NodeProblem(
                    f"{name} must be the same on all nodes. Received: {mine or 'none'} on {first.address}, "
                    f"{theirs or 'none'} on {report.address}. Install one version on both"
                )


def _version(report: NodeReport, name: str) -> str:
    return report.python if name == "Python" else report.packages.get(name, "")


def _storage(reports: Sequence[NodeReport], needs: Needs) -> Iterator[NodeProblem]:
    written = any(report.storage_shared for report in reports)
    for report in reports:
        if report.storage_shared is False and (written or not report.storage_refused):
            yield NodeProblem(
                f"storage must be one that all nodes share. Received: {needs.storage}, where {report.address} does not "
                "see what another node has written. Mount one folder (NFS) on all nodes, or use a bucket"
            )
        elif report.storage_refused:
            yield NodeProblem(
                f"storage must be writable on every node. Received: {needs.storage}, on {report.address}: "
                f"{report.storage_refused}. Fix its permissions, or name another storage"
            )


def _data(reports: Sequence[NodeReport], needs: Needs) -> Iterator[NodeProblem]:
    if not needs.data:
        return
    expected = needs.fingerprint or next((r.fingerprint for r in reports if r.fingerprint), "")
    for report in reports:
        if not (report.cpus or report.here):
            continue  # runs no trial
        if not report.fingerprint:
            yield NodeProblem(
                f"data must be a folder that every node sees. Received: {needs.data}, which is not on "
                f"{report.address}. Put it on storage that all nodes share, or copy it there"
            )
        elif report.fingerprint != expected:
            yield NodeProblem(
                f"data must be the same on every node. Received: {needs.data} with fingerprint {report.fingerprint} "
                f"on {report.address} and {expected} elsewhere. Copy the right one there"
            )


def _gpus(reports: Sequence[NodeReport], needs: Needs) -> Iterator[NodeProblem]:
    wanted = needs.gpus_per_trial
    if wanted == 0:
        return
    for report in reports:
        if not (report.cpus or report.gpus_ray):
            continue  # a head that runs no trial, whatever is in it
        seen, address = len(report.gpus_driver), report.address
        usable = min(seen, int(report.gpus_ray)) or seen  # fewer where CUDA_VISIBLE_DEVICES leaves some to others
        if report.driver_message and not needs.count_gpus_only:
            yield NodeProblem(
                f"{address}: {report.driver_message}. Install the driver anew, or reboot; `nvidia-smi` must work",
                is_fatal=wanted is None or report.gpus_ray > 0,
            )
        elif report.gpus_ray > seen and not needs.count_gpus_only:
            yield NodeProblem(
                f"Ray counts {report.gpus_ray:g} GPUs on {address} and the driver sees {seen}. Fix the driver, or "
                "start that node without --num-gpus; where GPUs are counted on purpose: "
                "--set resources.check_gpus=false"
            )
        elif report.gpus_ray < seen:
            yield NodeProblem(
                f"{address} has {seen} GPUs and Ray hands out {report.gpus_ray:g} of them. Restart Ray there without "
                "--num-gpus and without CUDA_VISIBLE_DEVICES, unless the others are somebody else's",
                is_fatal=False,
            )
        for name, memory_mib in report.gpus_driver if wanted and wanted < 1 else ():
            if memory_limit_mib(memory_mib, wanted or 0.0) < LEAST_MIB:
                yield NodeProblem(
                    f"resources.gpus_per_trial={wanted:g} of {name} with {memory_mib:.0f} MiB on {address} leaves less "
                    f"than {LEAST_MIB} MiB beside CUDA's own {CONTEXT_MIB}. Raise it"
                )
        if report.gpus_tensorflow is None:
            if report.tensorflow_message:
                yield NodeProblem(
                    f"TensorFlow does not start on {address}: {report.tensorflow_message}. Install emotune anew",
                    is_fatal=wanted is None or report.gpus_ray > 0,
                )
        elif report.gpus_tensorflow < usable:
            yield NodeProblem(
                f"the driver sees {seen} GPUs on {address} and TensorFlow {report.gpus_tensorflow}"
                + (f": {report.tensorflow_message}. Unset it there" if report.tensorflow_message else "")
                + ("" if report.tensorflow_message else ". Install TensorFlow's CUDA libraries: make setup EXTRAS=gpu"),
                is_fatal=wanted is None or report.gpus_ray > 0,
            )
    if (
        wanted is None
        and not needs.gpus_may_come
        and reports
        and not any(r.gpus_driver or r.gpus_ray or r.driver_message for r in reports)
    ):
        yield NodeProblem("no node has a GPU: trials train on the processor, which takes much longer", is_fatal=False)


def _disk(reports: Sequence[NodeReport], needs: Needs) -> Iterator[NodeProblem]:
    for report in reports:
        free, least = report.storage_free_mib, needs.checkpoint_mib
        if free is not None and free < least:
            what = "one checkpoint of this study takes" if needs.gpus_per_trial is not None else "a study needs"
            yield NodeProblem(
                f"the disk of {needs.storage} is almost full on {report.address}. Received: {free:.1f} MiB free, and "
                f"{what} about {least:.1f}. Free some, or name another storage"
            )
        if report.temporary_free_mib < DISK_MIB:
            yield NodeProblem(
                f"the disk of {report.temporary} is almost full on {report.address}: "
                f"{report.temporary_free_mib:.0f} MiB free, and Ray keeps logs and objects there. Free some",
                is_fatal=False,
            )


def _clock(reports: Sequence[NodeReport], needs: Needs) -> Iterator[NodeProblem]:
    for report in reports:
        skew_s = report.clock_skew_s or 0.0
        if abs(skew_s) > SKEW_S:
            yield NodeProblem(
                f"the clock of {report.address} is {abs(skew_s):.0f} s {'ahead' if skew_s > 0 else 'behind'}. Let NTP "
                "set the clocks: buckets refuse requests that are minutes off",
                is_fatal=False,
            )
