"""A server of bytes on loopback, that knows nothing of HTTP."""

from __future__ import annotations

import socket
import threading


class Echo:
    """Greets, says back what it is told, and says `goodbye` when it is told no more."""

    def __init__(self, greeting: bytes, goodbye: bytes = b"") -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._greeting, self._goodbye = greeting, goodbye
        self.port: int = self._listening.getsockname()[1]
        self.accepted = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection:
            connection.sendall(self._greeting)
            while data := connection.recv(4096):
                connection.sendall(data)
            connection.sendall(self._goodbye)

    def stop(self) -> None:
        self._listening.close()
