"""A second process that ends this one where nothing within it can: knows neither Ray nor what it waits for.

While Ray 2.60 connects to its own processes it is in C code that holds Python's global lock. For as long as that waits,
no thread and no signal handler of this process runs, so neither a timer nor Ctrl-C can end it from within.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psutil

from tune.nodes.signals import LIMIT_S, SIGNALS, end_words, print_to_terminal, signals_are_obeyed

Message = Callable[[psutil.Process], str]
"""Makes a line of text from the process that is watched."""


@contextmanager
def watchdog(*, report_after_s: float, report: Message, limit_s: float, give_up: Message) -> Iterator[None]:
    """Watches over the block from a copy of this process.

    Kills this process and all that it has started after a limit, or, where `signals.obey_signals` was called,
    `signals.LIMIT_S` after a signal that the block did not obey. Its exit code is then 137 (killed), whatever it would
    have answered.

    Args:
        report_after_s: seconds after which a line says what is waited for.
        report: makes that line.
        limit_s: seconds after which this process is ended.
        give_up: makes the line that says why.
    """
    watched = psutil.Process()
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12: other threads do not live on in the copy
        copy = os.fork()
    if copy == 0:
        try:
            os.setsid()  # a Ctrl-C of the terminal is for the watched process alone
            os.close(writer)
            signal.set_wakeup_fd(-1)
            for number in SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            _watch(watched, reader, report_after_s, report, limit_s, give_up)
        finally:
            os._exit(0)
    os.close(reader)
    os.set_blocking(writer, False)
    # Not where emotune is a guest: a notebook's kernel bears a Ctrl-C, and has children of its own.
    commanded = signals_are_obeyed() and threading.current_thread() is threading.main_thread()
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False) if commanded else -1
    try:
        yield
    finally:
        if commanded:
            signal.set_wakeup_fd(before, warn_on_full_buffer=False)
        os.close(writer)
        with suppress(ChildProcessError, ProcessLookupError):  # who ignores SIGCHLD has none to wait for
            os.kill(copy, signal.SIGKILL)
            os.waitpid(copy, 0)


def _watch(
    watched: psutil.Process, reader: int, report_after_s: float, report: Message, limit_s: float, give_up: Message
) -> None:
    """Reads the numbers of the signals that the watched process received, until it ends or the block does."""
    begun = time.monotonic()
    report_at, end_at = begun + report_after_s, begun + limit_s
    signalled = False
    while (now := time.monotonic()) < end_at:
        if select.select([reader], [], [], max(0.0, min(report_at, end_at) - now))[0]:
            received = os.read(reader, 1)
            if not received:
                return
            if received[0] in SIGNALS and not signalled:
                signalled, report_at = True, float("inf")
                end_at = min(end_at, time.monotonic() + LIMIT_S)
        elif time.monotonic() >= report_at:
            report_at = float("inf")
            print_to_terminal(report(watched))
    reason, interrupted = give_up(watched), end_words()  # the latter cleans up, whichever is printed
    print_to_terminal(interrupted if signalled else reason)
    for process in [watched, *watched.children(recursive=True)]:  # it first: its C code ends it when Ray's processes go
        if process.pid != os.getpid():
            with suppress(psutil.Error):
                process.kill()
