"""What a machine or a cluster can do, node by node, and what is wrong with it. Changes nothing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from trainables.dataset.node_cache import info_in
from trainables.places import Place, is_bucket
from tune.line_width import fitted_to
from tune.nodes.autoscaler import find_capacity
from tune.nodes.inspection import NodeReport, inspect_nodes
from tune.nodes.output_redirect import redirect_output
from tune.nodes.problems import Needs, NodeProblem, find_problems

_SHOWN = {"ray": "Ray", "emotune": "emotune", "tensorflow": "TensorFlow", "keras": "Keras"}


def examine(address: str | None, storage: str | None, data: str | None) -> tuple[list[NodeReport], list[NodeProblem]]:
    """Asks every node of a cluster, or this machine.

    Args:
        address: as in `tune.nodes.join.joined_ray`.
        storage: folder or URI of the studies, None leaves it out.
        data: data set's folder, or its address, which is looked at from here; None leaves it out.

    Raises:
        ClusterError: the cluster cannot be joined.
        PlaceError: the storage's address is none, or holds a password.
        DatasetError: a bucket has no such data set.
    """
    from tune.nodes.join import joined_ray

    where = storage or ""
    if "://" in where:
        Place(where)  # which refuses one with a password
    elif where:
        where = os.path.abspath(where)
    if data and is_bucket(data):
        info_in(Place(data))
    folder = os.path.abspath(data) if data and not is_bucket(data) else ""
    with tempfile.TemporaryDirectory() as scratch, redirect_output(Path(scratch) / "ray.log") as terminal:
        print("asking every node; TensorFlow's import takes a while", file=terminal, flush=True)
        with joined_ray(address):
            reports = inspect_nodes(where, folder, tensorflow=True)
            may_come = any(kind.capacity.gpus for kind in find_capacity().node_types)
    return reports, find_problems(reports, Needs(storage=where, data=folder, gpus_may_come=may_come))


def node_table(reports: Sequence[NodeReport]) -> Table:
    """Returns a row per node, its GPUs as the driver, Ray and TensorFlow count them."""
    table = Table(box=box.SIMPLE, pad_edge=False, collapse_padding=True)
    table.add_column("node", no_wrap=True)
    table.add_column("versions", no_wrap=True)
    for name in ("driver", "Ray", "TensorFlow"):
        table.add_column(f"GPUs:\n{name}", justify="right", no_wrap=True)
    table.add_column("free disk", no_wrap=True)
    for report in reports:
        table.add_row(*_cells(report))
    return table


def print_report(reports: Sequence[NodeReport], found: Sequence[NodeProblem]) -> None:
    """Prints the table, the GPUs' names, and a line for each problem."""
    console = Console(soft_wrap=True)
    console.print(node_table(reports))
    for report in reports:
        for name, memory_mib in report.gpus_driver:
            console.print(f"{report.address}: {name}, {memory_mib:.0f} MiB", highlight=False)
    for problem in found:
        kind = "problem" if problem.is_fatal else "warning"
        line = fitted_to(console.file, f"{kind}: {problem.message}")
        console.print(line, highlight=False, markup=False)
    if not found:
        console.print("nothing is wrong")


def doctor_exit_code(found: Sequence[NodeProblem]) -> int:
    """Returns 2 where a problem would stop studies, else 0."""
    return 2 if any(problem.is_fatal for problem in found) else 0


def _cells(report: NodeReport) -> list[str]:
    node = [report.address, ("head, " if report.head else "") + f"{report.cpus:g} CPUs"]
    if report.silent:
        return ["\n".join(node), report.silent]
    if report.clock_skew_s is not None:
        node.append(f"clock {report.clock_skew_s:+.1f} s")
    versions = [f"{shown} {report.packages.get(package) or 'none'}" for package, shown in _SHOWN.items()]
    seen = "?" if report.gpus_tensorflow is None else str(report.gpus_tensorflow)
    disk = [f"temp {report.temporary_free_mib / 1024:.1f} GiB"]
    if report.storage_free_mib is not None:
        disk.append(f"storage {report.storage_free_mib / 1024:.1f} GiB")
    if report.storage_shared is not None:
        disk.append(
            "storage refuses" if report.storage_refused else "shared" if report.storage_shared else "not shared"
        )
    gpus = [str(len(report.gpus_driver)), f"{report.gpus_ray:g}", seen]
    return ["\n".join(node), "\n".join([f"Python {report.python}", *versions]), *gpus, "\n".join(disk)]
