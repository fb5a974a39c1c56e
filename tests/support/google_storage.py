"""Google Cloud Storage on this machine, as a script: prints its port, and serves until it is killed.

A process of its own: pyarrow 25 holds Python's lock while it asks for an object's size.
"""

from __future__ import annotations

import sys
from http.server import ThreadingHTTPServer
from threading import Event
from typing import Any

from gcp_storage_emulator import server as emulator


class ManyAtOnce(ThreadingHTTPServer):
    """The emulator's own server takes one connection at a time, and pyarrow keeps one open while it opens another."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of a client that has read enough and closes its connection."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


if __name__ == "__main__":
    emulator.server.HTTPServer = ManyAtOnce
    server = emulator.create_server("127.0.0.1", 0, in_memory=True, default_bucket="studies")
    server.start()
    print(server._api._httpd.server_port, flush=True)
    Event().wait()  # Python 3.12 starts no thread once the main one has ended
