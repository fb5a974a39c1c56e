"""A server that fails for a time: stands before a real one, as a machine or a network between them would.

`python -m tests.support.failing_server HOST PORT` stands before that one in a process of its own, prints its port, and
is not there for as many seconds as each line of its input says.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Thread, Timer

from tests import ROOT


class FailingServer:
    """Stands before a server and passes bytes on; for a time it answers 503 and hangs up, or is not there at all."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.errors = 0
        self._errors_until = 0.0
        self._target = target
        self._open: list[socket.socket] = []
        self.port = 0
        self._listen()

    def fail_for(self, seconds: float) -> None:
        self._errors_until = time.monotonic() + seconds
        self._hang_up()

    def vanish_for(self, seconds: float) -> None:
        """Refuses connections, as where no server runs, until `seconds` have passed."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._hang_up()
        again = Timer(seconds, self._listen)
        again.daemon = True
        again.start()

    def close(self) -> None:
        self._errors_until = 0.0
        for connection in [self._listening, *self._open]:
            connection.close()

    def _listen(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listening.getsockname()[1]
        Thread(target=self._accept, args=(self._listening,), daemon=True).start()

    def _hang_up(self) -> None:
        for connection in self._open:  # those that are kept alive too
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            self._open.append(client)
            Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client:
            if time.monotonic() < self._errors_until:
                self.errors += 1
                client.recv(65536)
                client.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            with socket.create_connection(self._target) as server:
                self._open.append(server)
                back = Thread(target=_copy, args=(server, client), daemon=True)
                back.start()
                _copy(client, server)
                back.join()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


@contextmanager
def vanishing_server(port: int) -> Iterator[tuple[int, Callable[[float], None]]]:
    """Stands before a server of this machine in another process (pyarrow holds Python's lock while it waits for one);
    gives its port, and a function that makes it vanish for so many seconds."""
    command = [sys.executable, "-m", "tests.support.failing_server", "127.0.0.1", str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as server:
        assert server.stdin and server.stdout

        def vanish(seconds: float) -> None:
            print(seconds, file=server.stdin, flush=True)

        try:
            yield int(server.stdout.readline()), vanish
        finally:
            server.kill()


def main(host: str, port: str) -> None:
    server = FailingServer((host, int(port)))
    print(server.port, flush=True)
    for line in sys.stdin:
        server.vanish_for(float(line))


if __name__ == "__main__":
    main(*sys.argv[1:])
