"""An address of this machine for a server of ours: its socket, or in words why there is none."""

from __future__ import annotations

import socket

from tune.errors import ServeError


def bound_socket(host: str, port: int) -> socket.socket:
    """Returns a socket that has an address; port 0 takes one that is free.

    Raises:
        ServeError: the address is another's, or none of this machine's.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind)
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(address)
        except BaseException:
            found.close()
            raise
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ServeError(
            f"--host and --port must be a free address of this machine. Received: {host}, {port}: {reason}. "
            "Choose another port, or end what has it"
        ) from None
    return found


def url_of(host: str, port: int) -> str:
    """Returns the address of what listens there, as a browser takes it."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
