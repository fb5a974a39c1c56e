"""An address of this machine for a server of ours: its socket, or in words why there is none; who asks by its name."""

from __future__ import annotations

import ipaddress
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


def asks_this_machine(host_header: str, host: str) -> bool:
    """Says whether a request names this machine, and not, as by DNS rebinding, a site by its own name.

    An address is no name that a site could have given itself.

    Args:
        host_header: the request's `Host`.
        host: what the server listens at, as the user named it.
    """
    name = host_header.lower()
    name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
    if name.rstrip(".") in {"localhost", host.lower(), socket.gethostname().lower()}:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
