"""Real servers for tests: S3 (moto), Google's storage and PostgreSQL; `conftest.py` lists this module as a plugin."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from pyarrow import fs

from tests import ROOT


@pytest.fixture(scope="session")
def bucket() -> Iterator[str]:
    """A bucket's address on an S3 server; `.format("path")` puts a path in it."""
    with _server("tests.support.s3_storage") as port:
        address = f"s3://studies/{{}}?endpoint_override=http://127.0.0.1:{port}&scheme=http"
        system, _ = fs.FileSystem.from_uri(address.format("") + "&allow_bucket_creation=true")
        system.create_dir("studies")
        yield address


@pytest.fixture(scope="session")
def google_bucket() -> Iterator[str]:
    """A bucket's address on a server of Google Cloud Storage; `.format("path")` puts a path in it."""
    with _server("tests.support.google_storage") as port:
        yield f"gs://anonymous@studies/{{}}?endpoint_override=127.0.0.1:{port}&scheme=http&retry_limit_seconds=5"


def free_port() -> int:
    """Returns a port of the loopback that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def _server(module: str) -> Iterator[int]:
    """Runs a module that prints its port and serves; gives the port."""
    server = subprocess.Popen(
        [sys.executable, "-m", module], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT
    )
    try:
        assert server.stdout
        yield int(server.stdout.readline())
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def _program(name: str) -> str | None:
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    return shutil.which(name) or next((str(path) for path in versions), None)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of an empty database on a PostgreSQL server."""
    initdb, postgres = _program("initdb"), _program("postgres")
    if initdb is None or postgres is None:
        pytest.skip("needs PostgreSQL: run `bash tests/support/install_servers.sh`")
    folder = Path(tempfile.mkdtemp(prefix="emotune-postgresql-"))
    as_user: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL does not run as root
        shutil.chown(folder, "postgres")
        as_user = ["runuser", "-u", "postgres", "--"]
    subprocess.run(
        [*as_user, initdb, "-D", folder / "db", "-U", "team", "-A", "trust", "--no-sync"],
        check=True,
        capture_output=True,
        cwd=folder,
    )
    port = free_port()
    options = ["-p", str(port), "-k", str(folder), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [*as_user, postgres, "-D", folder / "db", *options], stdout=log, stderr=log, cwd=folder
        )
    try:
        _wait_for(port, server)
        yield f"postgresql://team@127.0.0.1:{port}/postgres"
    finally:
        server.terminate()
        server.wait(timeout=30)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        assert server.poll() is None, "PostgreSQL did not start"
        try:
            psycopg.connect(host="127.0.0.1", port=port, user="team", dbname="postgres", connect_timeout=2).close()
            return
        except psycopg.OperationalError:
            time.sleep(0.1)
    pytest.fail("PostgreSQL did not answer for 30 s")
