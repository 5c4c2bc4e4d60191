"""What stands behind the proxy and believes everything: a server of HTTP/1 and HTTP/2 that answers 200 to
whatever looks like a request, but for paths that begin with `/held`, and keeps all that reaches it.

It reads all there is before it answers anything: once somebody has an answer, what was sent before is kept.
"""

from __future__ import annotations

import re
import selectors
import socket
import threading
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events

_HEAD = re.compile(rb"([^\s]+) ([^\r\n]*) HTTP/1\.[01]\r?\n((?:[^\r\n]+\r?\n)*)\r?\n")
_PREFACE = b"PRI * HTTP/2.0\r\n"
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


@dataclass
class Read:
    """One request: pseudo headers, method and path among them, and headers, in the order they came."""

    fields: list[tuple[str, str]]
    body: bytes = b""
    ended: bool = False

    @property
    def path(self) -> str:
        return self.values(":path")[0]

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key == name]


class Application:
    def __init__(self) -> None:
        #: Everything that came over HTTP/1, and every request.
        self.heard = b""
        self.requests: list[Read] = []
        self._selector = selectors.DefaultSelector()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._waking, self._awake = socket.socketpair()
        self.port: int = self._listening.getsockname()[1]
        self._talks: dict[socket.socket, _Talk] = {}
        for readable in (self._listening, self._awake):
            self._selector.register(readable, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def forget(self) -> None:
        self.heard = b""
        self.requests.clear()

    def stop(self) -> None:
        self._waking.close()
        self._thread.join()
        for made in (self._listening, self._awake, *self._talks):
            made.close()
        self._selector.close()

    def _serve(self) -> None:
        while True:
            timeout = None
            while ready := self._selector.select(timeout):
                timeout = 0
                for key, _ in ready:
                    if key.fileobj is self._awake:
                        return
                    self._read(key.fileobj)  # type: ignore[arg-type]
            for made, talk in list(self._talks.items()):
                self._answer(made, talk)

    def _read(self, made: socket.socket) -> None:
        if made is self._listening:
            accepted, _ = made.accept()
            self._talks[accepted] = _Talk(self)
            self._selector.register(accepted, selectors.EVENT_READ)
            return
        try:
            data = made.recv(65536)
        except ConnectionError:
            data = b""
        if data:
            self._talks[made].read(data)
        else:
            self._selector.unregister(made)
            del self._talks[made]
            made.close()

    def _answer(self, made: socket.socket, talk: _Talk) -> None:
        answer, talk.answer = talk.answer, b""
        try:
            made.sendall(answer)
        except ConnectionError:
            return


@dataclass
class _Talk:
    """One connection, whose first bytes say which version it speaks."""

    application: Application
    answer: bytes = b""
    _plain: bytes = b""
    _h2: h2.connection.H2Connection | None = None
    _streams: dict[int, Read] = field(default_factory=dict)

    def read(self, data: bytes) -> None:
        if not self._plain and data.startswith(_PREFACE):
            config = h2.config.H2Configuration(client_side=False, validate_inbound_headers=False)
            self._h2 = h2.connection.H2Connection(config)
            self._h2.initiate_connection()
        if self._h2 is not None:
            self._read2(self._h2, data)
            return
        self.application.heard += data
        self._plain += data
        while found := _HEAD.search(self._plain):
            method, path, lines = found.groups()
            fields = [(":method", method.decode()), (":path", path.decode("latin-1"))]
            for line in lines.decode("latin-1").splitlines():
                name, _, value = line.partition(":")
                fields.append((name.lower(), value.strip(" \t")))
            self.application.requests.append(Read(fields, ended=True))
            self._plain = self._plain[found.end() :] or b"\n"
            if not path.startswith(b"/held"):
                self.answer += _ANSWER

    def _read2(self, connection: h2.connection.H2Connection, data: bytes) -> None:
        for event in connection.receive_data(data):
            match event:
                case h2.events.RequestReceived():
                    found = [(name.decode(), value.decode("latin-1")) for name, value in event.headers]
                    self._streams[event.stream_id] = Read(found)
                    self.application.requests.append(self._streams[event.stream_id])
                case h2.events.DataReceived():
                    self._streams[event.stream_id].body += event.data
                case h2.events.StreamEnded():
                    self._streams[event.stream_id].ended = True
                    connection.send_headers(event.stream_id, [(":status", "200")], end_stream=True)
        self.answer += connection.data_to_send()
