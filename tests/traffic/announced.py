"""A server whose connections must begin with the PROXY protocol: it tells each client, as JSON, the version
and the addresses that were announced."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from contextlib import suppress

_V2 = b"\r\n\r\n\0\r\nQUIT\n"


class Announced:
    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def stop(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                connection.settimeout(10)
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            said = _announcement(connection)
            if said is None:
                return
            whole = self._tls.wrap_socket(connection, server_side=True) if self._tls else connection
            with whole:
                heard = b""
                while b"\r\n\r\n" not in heard and (more := whole.recv(65536)):
                    heard += more
                body = json.dumps(said).encode()
                whole.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
                whole.recv(1)


def _announcement(connection: socket.socket) -> list[str] | None:
    """Version, source and destination, and no byte more than that is taken; None: there is none."""
    begin = _exactly(connection, 12)
    if begin == _V2:
        command, family, high, low = _exactly(connection, 4)
        block = _exactly(connection, high << 8 | low)
        assert (command, family) == (0x21, 0x11), "a proxied connection of TCP over IPv4"
        ports = int.from_bytes(block[8:10]), int.from_bytes(block[10:12])
        addresses = socket.inet_ntoa(block[:4]), socket.inet_ntoa(block[4:8])
        return ["V2", *(f"{address}:{port}" for address, port in zip(addresses, ports, strict=True))]
    if not begin.startswith(b"PROXY TCP4 "):
        return None
    while not begin.endswith(b"\r\n"):
        begin += _exactly(connection, 1)
    source, destination, *ports_ = begin.decode().split()[2:]
    return ["V1", f"{source}:{ports_[0]}", f"{destination}:{ports_[1]}"]


def _exactly(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        more = connection.recv(size - len(found))
        if not more:
            raise ConnectionError("too short")
        found += more
    return found
