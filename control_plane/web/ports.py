"""Ports that servers listen on."""

from __future__ import annotations

import socket

from penstock.errors import PenstockError


class PortTaken(PenstockError):
    """The server cannot listen where it was told to."""

    code = "port_taken"


def require_free(host: str, port: int) -> None:
    """Raise :class:`PortTaken` unless a server could listen there."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PortTaken(
                f"{host}:{port} cannot be listened on ({error.strerror}): give another --port or --host"
            ) from None
