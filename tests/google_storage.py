"""Google Cloud Storage on this machine, as a script: prints its port, and serves until it is killed.

A process of its own: pyarrow 25 holds Python's lock while it asks for an object's size.
"""

from __future__ import annotations

from http.server import ThreadingHTTPServer

from gcp_storage_emulator import server as emulator


class ManyAtOnce(ThreadingHTTPServer):
    """The emulator's own server takes one connection at a time, and pyarrow keeps one open while it opens another."""

    def handle_error(self, request: object, client_address: object) -> None:
        """Says nothing: a client that has read enough closes its connection."""


if __name__ == "__main__":
    emulator.server.HTTPServer = ManyAtOnce
    server = emulator.create_server("127.0.0.1", 0, in_memory=True, default_bucket="studies")
    server.start()
    print(server._api._httpd.server_port, flush=True)
