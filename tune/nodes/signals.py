"""Ctrl-C, SIGTERM and SIGHUP, which are treated alike: in other hands for the length of a block, and always obeyed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, NoReturn

import psutil

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LIMIT_S: Final = 13.0
"""Seconds after the first signal at which the process ends in any case."""

INTERRUPTED: Final = 130
"""Exit code after Ctrl-C."""

_terminal = 2
"""Standard error as it was when the process started: later it may go to a file."""

_obeyed = False

_before_end: Callable[[], str] = lambda: "interrupted"  # noqa: E731


def obey_signals() -> None:
    """Makes SIGTERM and SIGHUP clean up like Ctrl-C, and ends this process `LIMIT_S` after the first of them.

    Something may swallow the KeyboardInterrupt, or the main thread may be inside C code that does not return: the limit
    is kept by another thread, which Python wakes from its C signal handler. `nohup` stays what it is: an ignored SIGHUP
    is left alone.
    """
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    global _terminal, _obeyed
    _terminal, _obeyed = os.dup(2), True
    threading.Thread(target=_keep_limit, args=(reader,), name="interrupt-limit", daemon=True).start()


def signals_are_obeyed() -> bool:
    """Says whether this process is emotune's own command, which `obey_signals` was called for."""
    return _obeyed


def before_forced_exit(action: Callable[[], str]) -> None:
    """Sets what is called if the limit has to end the process; it returns the line that is printed then."""
    global _before_end
    _before_end = action


def _keep_limit(reader: int) -> None:
    while os.read(reader, 1)[0] not in SIGNALS:
        pass
    time.sleep(LIMIT_S)
    _end_this_process(INTERRUPTED)


def print_to_terminal(words: str) -> None:
    """Writes a line to the terminal, from any thread, wherever standard error goes by now."""
    with suppress(OSError):
        os.write(_terminal, f"{words}\n".encode())


def end_words() -> str:
    """Calls what `before_forced_exit` was given, and returns its line."""
    try:
        return _before_end()
    except Exception:  # whatever is broken: the process is ended for it
        return "interrupted"


def _end_this_process(code: int) -> NoReturn:
    """Ends this process and all that it has started, whatever its main thread is doing, and waits until it is gone."""
    print_to_terminal(end_words())
    children = psutil.Process().children(recursive=True)
    for child in children:
        with suppress(psutil.Error):
            child.kill()
    psutil.wait_procs(children, timeout=2)
    os._exit(code)


@contextmanager
def handle_signals(on_signal: Callable[[int, Any], None]) -> Iterator[None]:
    """Calls a function for each of the signals that is not ignored, then gives all back.

    In any other thread than the main one it does nothing: Python hands signals to the main thread alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    mine = [number for number in SIGNALS if before[number] is not signal.SIG_IGN]
    for number in mine:
        signal.signal(number, on_signal)
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, before[number])
