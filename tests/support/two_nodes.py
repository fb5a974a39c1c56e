"""A cluster of two nodes on this machine, the second behind mounts of its own; as a script, a driver on it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

NAMESPACE = ["unshare", "--mount", *(() if os.geteuid() == 0 else ("--user", "--map-root-user"))]


class TwoNodes:
    """A head with two CPUs, a node with one CPU and one counted GPU, and a driver on the head's side."""

    def __init__(self, address: str, driver: subprocess.Popen[str], raylet: psutil.Process) -> None:
        self.address = address
        self.raylet = raylet
        self._driver = driver

    def ask(self, **question: Any) -> dict[str, Any]:
        """Has the driver do something: see `serve`."""
        assert self._driver.stdin and self._driver.stdout
        self._driver.stdin.write(json.dumps(question) + "\n")
        self._driver.stdin.flush()
        return dict(json.loads(self._driver.stdout.readline()))

    def emotune(self, *words: object, address: str | None = None) -> dict[str, Any]:
        """Runs the command; returns `code`, `out` and `err`."""
        return self.ask(argv=[str(word) for word in words], address=address or self.address)


@contextmanager
def two_nodes(folder: Path, there: str, here: str, environment: Mapping[str, str]) -> Iterator[TwoNodes]:
    """Starts the cluster and the driver.

    Args:
        folder: where logs go.
        there: shell lines that arrange the second node's mounts.
        here: the same for the driver.
        environment: the second node's own variables.
    """
    from ray.cluster_utils import Cluster

    if not shutil.which("unshare") or subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("a node with mounts of its own needs root or user namespaces")
    with pytest.MonkeyPatch.context() as patch:  # an earlier `ray.init` of this process may have switched tokens on
        patch.setenv("RAY_AUTH_MODE", "disabled")
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    options = "--num-cpus=1 --num-gpus=1 --object-store-memory=80000000 --disable-usage-stats"
    join = f"exec {sys.executable} -m ray.scripts.scripts start --block --address={cluster.address} {options}"
    names = {**os.environ, "RAY_AUTH_MODE": "disabled"}  # `ray start` wants a token, `Cluster` gives none (Ray 2.60)
    names.pop("CUDA_VISIBLE_DEVICES", None)  # Ray refuses to count GPUs that are hidden
    with (folder / "node.log").open("wb") as log:
        node = subprocess.Popen(
            [*NAMESPACE, "sh", "-ec", f"{there}\n{join}"], stdout=log, stderr=log, env={**names, **environment}
        )
        driver = subprocess.Popen(
            [*NAMESPACE, "sh", "-ec", f"{here}\nexec {sys.executable} -m tests.support.two_nodes"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=names,
        )
    try:
        yield TwoNodes(cluster.address, driver, _raylet(cluster, node, folder / "node.log"))
    finally:
        driver.kill()
        if node.poll() is None:
            for process in [*psutil.Process(node.pid).children(recursive=True), psutil.Process(node.pid)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        for child in (node, driver):
            child.wait()
        for stream in (driver.stdin, driver.stdout):
            assert stream
            stream.close()
        cluster.shutdown()


def _raylet(cluster: Any, node: subprocess.Popen[bytes], log: Path) -> psutil.Process:
    deadline = time.monotonic() + 240
    while len(cluster.global_state.node_table()) < 2:
        assert node.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    return next(p for p in psutil.Process(node.pid).children(recursive=True) if p.name() == "raylet")


def serve() -> None:
    """Answers each line of JSON on standard input with one on standard output."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a command says to the terminal itself goes to the log
    for line in sys.stdin:
        question = json.loads(line)
        os.environ["RAY_ADDRESS"] = question["address"]
        answer = _command(question["argv"]) if "argv" in question else _look(question["answer_s"])
        print(json.dumps(answer), file=answers, flush=True)


def _command(argv: list[str]) -> dict[str, Any]:
    from tune.cli.main import command_line as main

    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["emotune", *argv]
    code: object = None
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as end:
        code = end.code
    return {"code": code, "out": out.getvalue(), "err": err.getvalue()}


def _look(answer_s: float) -> dict[str, Any]:
    from tune.nodes.inspection import inspect_nodes
    from tune.nodes.join import joined_ray
    from tune.nodes.problems import Needs, find_problems

    with joined_ray():
        started = time.monotonic()
        reports = inspect_nodes(answer_s=answer_s)
        took_s = time.monotonic() - started
    return {
        "silent": [report.silent for report in reports],
        "skews": [report.clock_skew_s for report in reports],
        "problems": [problem.message for problem in find_problems(reports, Needs(gpus_per_trial=0))],
        "took_s": took_s,
    }


if __name__ == "__main__":
    serve()
