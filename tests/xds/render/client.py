"""What a client says to the proxy and hears from it."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mesh.request import Request
from mesh.request_path import normalise

_TIMEOUT = 10.0


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: str

    @cached_property
    def read(self) -> dict[str, Any]:
        """What the backend says it read."""
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def backend(self) -> str | None:
        return self.headers.get("x-backend")

    def sent(self, header: str) -> list[str]:
        """The values that the backend read of one header."""
        return [value for name, value in self.read["headers"] if name == header]


class Client:
    """One keep-alive connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT)

    def ask(self, path: str, method: str = "GET", headers: Iterable[tuple[str, str]] = ()) -> Answer:
        headers = list(headers)
        self._connection.putrequest(
            method, path, skip_accept_encoding=True, skip_host=any(name == "host" for name, _ in headers)
        )
        for name, value in headers:
            self._connection.putheader(name, value)
        self._connection.endheaders()
        response = self._connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, response.read().decode())

    def close(self) -> None:
        self._connection.close()


def ask(port: int, path: str, method: str = "GET", headers: Iterable[tuple[str, str]] = ()) -> Answer:
    """One request on a connection of its own."""
    client = Client(port)
    try:
        return client.ask(path, method, headers)
    finally:
        client.close()


def say(port: int, data: bytes) -> bytes:
    """What the proxy answers to some bytes: until the end of the message, or of the connection."""
    heard = b""
    with socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT) as connection:
        connection.sendall(data)
        while not complete(heard) and (more := connection.recv(4096)):
            heard += more
    return heard


def complete(heard: bytes) -> bool:
    """Is this a whole answer?"""
    head, end, body = heard.partition(b"\r\n\r\n")
    _, found, length = head.lower().partition(b"content-length: ")
    return bool(end and found) and len(body) >= int(length.split(b"\r\n")[0])


def question(method: str, path: str, headers: tuple[tuple[str, str], ...]) -> Request:
    """What is sent with these words, as the reference semantics are asked about it."""
    fields = tuple((name.lower(), value) for name, value in headers)
    authority = next((value for name, value in fields if name == "host"), "")
    return Request(method, normalise(path) or "", authority, tuple(f for f in fields if f[0] != "host"))
