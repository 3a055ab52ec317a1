"""Where rank 0 listens."""

from __future__ import annotations

import socket
from typing import Any


def _parse_address(address: str) -> tuple[str, Any]:
    if address.startswith("unix:/"):
        return "unix", address[len("unix:") :]
    if address.startswith("tcp:"):
        host, _, port = address[len("tcp:") :].removeprefix("//").rpartition(":")
        if host and port.isdecimal() and int(port) < 65536:
            return "tcp", (host.strip("[]"), int(port))
    raise ValueError(f'the address of a link is "unix:/path" or "tcp:host:port", not "{address}"')


def _dial(target: tuple[str, Any], timeout: float) -> socket.socket:
    kind, place = target
    if kind == "unix":
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(timeout)
            connection.connect(place)
        except BaseException:
            connection.close()
            raise
    else:
        connection = socket.create_connection(place, timeout=timeout)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return connection
