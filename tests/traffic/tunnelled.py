"""A proxy that takes connections on to one server when it is asked to with CONNECT; to POST it says hello. It
remembers what it was asked."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress


class Tunnelled:
    def __init__(self, onward: int = 0, tls: ssl.SSLContext | None = None) -> None:
        """`onward` is the server's port on loopback."""
        self.asked: list[str] = []
        self._tls = tls
        self._onward = onward
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
                threading.Thread(target=self._take, args=(connection,), daemon=True).start()

    def _take(self, accepted: socket.socket) -> None:
        with suppress(OSError), accepted:
            connection = self._tls.wrap_socket(accepted, server_side=True) if self._tls else accepted
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                if not (more := connection.recv(1)):
                    return
                head += more
            lines = head.decode().split("\r\n")
            host = next((line for line in lines if line.lower().startswith("host: ")), "no host")
            self.asked.append(f"{lines[0]}, {host}")
            if not lines[0].startswith("CONNECT "):
                connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
                connection.recv(65536)
                return
            with socket.create_connection(("127.0.0.1", self._onward), timeout=10) as onward:
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                threading.Thread(target=_pass, args=(connection, onward), daemon=True).start()
                _pass(onward, connection)


def _pass(read: socket.socket, write: socket.socket) -> None:
    with suppress(OSError):
        while heard := read.recv(65536):
            write.sendall(heard)
        write.shutdown(socket.SHUT_WR)
