"""A server of one connection of HTTP/2 that counts PINGs and, if it is told to, answers them. No header block
is read: each request is answered 200."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress

_PREFACE = 24
_HEADERS, _SETTINGS, _PING = 1, 4, 6
_ACK, _END = 1, 5
#: What HPACK has for `:status: 200`.
_OK = b"\x88"


class Pinged:
    def __init__(self, answers: bool) -> None:
        self.pings = 0
        self.closed = threading.Event()
        self._answers = answers
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def wait_for(self, pings: int) -> None:
        deadline = time.monotonic() + 10
        while self.pings < pings:
            assert time.monotonic() < deadline, f"{self.pings} PINGs"
            time.sleep(0.01)

    def stop(self) -> None:
        self._listening.close()

    def _serve(self) -> None:
        with suppress(OSError):
            connection, _ = self._listening.accept()
            with connection, connection.makefile("rb") as read:
                read.read(_PREFACE)
                connection.sendall(_frame(_SETTINGS))
                while head := read.read(9):
                    kind, flags, stream = head[3], head[4], int.from_bytes(head[5:])
                    body = read.read(int.from_bytes(head[:3]))
                    if kind == _HEADERS:
                        connection.sendall(_frame(_HEADERS, _END, stream, _OK))
                    elif kind == _SETTINGS and not flags & _ACK:
                        connection.sendall(_frame(_SETTINGS, _ACK))
                    elif kind == _PING and not flags & _ACK:
                        self.pings += 1
                        if self._answers:
                            connection.sendall(_frame(_PING, _ACK, 0, body))
        self.closed.set()


def _frame(kind: int, flags: int = 0, stream: int = 0, body: bytes = b"") -> bytes:
    return len(body).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + body
