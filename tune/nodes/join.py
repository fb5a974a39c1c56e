"""Ray for a study: joined, or started on this machine. Knows nothing of Ray Tune."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import ray
from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available

from tune.errors import ClusterError, EmotuneError
from tune.nodes.head_watch import head_watch
from tune.nodes.process_start import ray_start_limit, session_folder
from tune.nodes.ray_options import joining_options, ray_folder, set_environment, starting_options
from tune.nodes.signals import handle_signals

_LOCAL = "local"
_OTHER_VERSIONS = "versions differ"
_PORT_CHECK_S = 5.0
_CONNECT_TRIES = 3
_REMOVALS = 5


@contextmanager
def joined_ray(address: str | None = None) -> Iterator[None]:
    """Joins the cluster at an address or, without one, that RAY_ADDRESS names, or starts Ray on this machine.

    Leaves alone a Ray that this process runs already.

    Args:
        address: `HOST:PORT` of Ray's head, `ray://HOST:PORT` or `auto`.

    Raises:
        ClusterError: nothing answers there, or it is another version of Ray or Python.
    """
    set_environment()
    if ray.is_initialized():
        yield
        return
    # Without an address Ray would join whatever was started last on this machine, for minutes even if that is gone.
    address = address or os.environ.get("RAY_ADDRESS") or _LOCAL
    _check_port_open(address)
    keeps_logs = True
    try:
        try:
            _connect(address)
        except EmotuneError:
            raise
        except Exception as error:  # Ray raises whatever its parts raise
            if address == _LOCAL:
                raise ClusterError(
                    f"Ray must be able to start on this machine. Received: {_reason_line(str(error))}. See its logs in "
                    f"{ray_folder()}/ray/session_latest/logs, and free memory and disk: emotune doctor"
                ) from error
            reason = _reason_line(str(error))
            if reason.startswith(_OTHER_VERSIONS) or not _show_token():
                raise _unreachable(address, reason) from None
            ray.shutdown()
            try:
                _connect(address)
            except Exception as again:
                raise _unreachable(address, _reason_line(str(again))) from None
        with head_watch() if address == _LOCAL else nullcontext():
            yield
        keeps_logs = False
    except KeyboardInterrupt:
        keeps_logs = False
        raise
    finally:
        session = None if keeps_logs or address != _LOCAL else session_folder()
        ray.shutdown()
        if session is not None:
            _remove_session(session)


def _connect(address: str) -> None:
    with _delay_interrupts(), ray_start_limit() if address == _LOCAL else _connect_timeout(_CONNECT_TRIES):
        ray.init(address=address, **(starting_options() if address == _LOCAL else joining_options(address)))
        ray.nodes()  # makes the rest of its client


def _show_token() -> bool:
    """Lets Ray show the token that lies ready here, if one does and nobody has said otherwise.

    By itself Ray 2.60 shows it only to a cluster that it finds on this machine, and does not say that one is missed.
    """
    if "RAY_AUTH_MODE" in os.environ:
        return False
    return bool(maybe_enable_token_auth_if_token_available(warn_if_disabled=False))


def _remove_session(folder: Path) -> None:
    """Removes what Ray 2.60 keeps of a session that ended well, a MiB each in /tmp/ray, and the link to it."""
    for _ in range(_REMOVALS):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            break
        time.sleep(0.2)  # an agent that is just ending has written something anew
    latest = folder.with_name("session_latest")
    with suppress(OSError):
        if latest.is_symlink() and not latest.exists():
            latest.unlink()


def _check_port_open(address: str) -> None:
    """Finds out in seconds whether anything listens at an address; Ray 2.60 takes minutes to give up."""
    if address in ("auto", _LOCAL):
        return
    named = re.fullmatch(r"(?:ray://)?(\[[^]]+\]|[^:/\[\]]+):(\d{1,5})/?", address)
    if named is None or int(named[2]) > 65535:
        raise ClusterError(
            f"the address of a cluster is HOST:6379, ray://HOST:10001 or auto. Received: {address}. Give one of these"
        )
    try:
        socket.create_connection((named[1].strip("[]"), int(named[2])), timeout=_PORT_CHECK_S).close()
    except OSError as error:
        raise _unreachable(address, error.strerror or str(error)) from None


def _unreachable(address: str, reason: str) -> ClusterError:
    return ClusterError(
        f"no Ray cluster can be joined at the address. Received: {address}: {reason}. Check it, and that the cluster "
        "is up: ray status"
    )


def _reason_line(words: str) -> str:
    """Returns the one line of Ray's words that says what is wrong."""
    if "Authentication token" in words or "Unauthenticated" in words:
        return "its token is not the one here (`ray get-auth-token`, or RAY_AUTH_TOKEN)"
    versions = re.findall(r"(Ray|Python): (\S+)", words)
    if "ersion mismatch" in words and versions:
        return f"{_OTHER_VERSIONS}, " + ", ".join(f"{name} {version}" for name, version in versions)
    return (words.strip().splitlines() or ["it does not answer"])[0].rstrip(".")


@contextmanager
def _delay_interrupts() -> Iterator[None]:
    """Holds a first Ctrl-C or SIGTERM back to the block's end; a second one ends the process.

    Broken off while it makes its client, Ray 2.60 waits for a thread of its own for ever, deaf to every signal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []

    def hold(number: int, frame: Any) -> None:
        if held:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        held.append(number)

    with handle_signals(hold):
        yield
    if held:
        signal.raise_signal(held[0])


@contextmanager
def _connect_timeout(tries: int) -> Iterator[None]:
    """Lets Ray try that often to reach a head, a second apart, instead of 20 times."""
    name = "RAY_gcs_server_port_wait_time_s"
    if name in os.environ:
        yield
        return
    os.environ[name] = str(tries)
    try:
        yield
    finally:
        del os.environ[name]


def refuse_client() -> None:
    """Refuses Ray Client, over which Ray Tune runs on the head and is sent copies of what decides here.

    Raises:
        ClusterError: Ray was joined by `ray://`.
    """
    if ray.util.client.ray.is_connected():
        raise ClusterError(
            "a study runs on a machine of its cluster. Received: ray://, for clients outside. Set "
            "RAY_ADDRESS=HOST:6379 on a node, or send the study there: emotune submit STUDY.yaml "
            "--address http://HOST:8265"
        )
