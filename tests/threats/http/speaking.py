"""What a client may say that no library would: bytes of HTTP/1 and header lists of HTTP/2 as they are."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import h2.config
import h2.connection
import h2.events
import h2.exceptions

_PATIENCE = 10.0
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3}) ")
Fields = Sequence[tuple[str, str]]


def get(path: str, *headers: tuple[str, str], host: str = "api", method: str = "GET") -> bytes:
    """A request of HTTP/1, the last one on its connection. Each character is one byte."""
    lines = [f"{method} {path} HTTP/1.1", f"host: {host}", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "connection: close", "", ""]).encode("latin-1")


def fields(path: str, *headers: tuple[str, str], host: str = "api", method: str = "GET") -> Fields:
    """The same as a header list of HTTP/2."""
    return [(":method", method), (":scheme", "http"), (":path", path), (":authority", host), *headers]


def exchange(port: int, data: bytes, *, answers: int = 1) -> bytes:
    """What comes back: so many answers without a body, or all until one that is the last."""
    heard = b""
    with socket.create_connection(("127.0.0.1", port), _PATIENCE) as connection:
        try:
            connection.sendall(data)
            while heard.count(b"\r\n\r\n") < answers and b"connection: close" not in heard:
                if not (more := connection.recv(65536)):
                    break
                heard += more
        except ConnectionError:
            pass
    return heard


def statuses(heard: bytes) -> list[int]:
    """Of all answers on a connection."""
    return [int(status) for status in _STATUS.findall(heard)]


def ask(port: int, data: bytes) -> int:
    """The status of the first answer; 0 if there is none."""
    return next(iter(statuses(exchange(port, data))), 0)


def ask2(port: int, fields: Fields, *data: bytes) -> int:
    """The status of a request of HTTP/2; 0 if stream or connection end without one, or with a reset."""
    config = h2.config.H2Configuration(
        validate_outbound_headers=False,
        normalize_outbound_headers=False,
        validate_inbound_headers=False,
    )
    connection = h2.connection.H2Connection(config)
    connection.initiate_connection()
    connection.send_headers(1, [(n.encode(), v.encode("latin-1")) for n, v in fields], end_stream=not data)
    for index, piece in enumerate(data, 1):
        connection.send_data(1, piece, end_stream=index == len(data))
    status = 0
    with socket.create_connection(("127.0.0.1", port), _PATIENCE) as line:
        try:
            line.sendall(connection.data_to_send())
            while more := line.recv(65536):
                for event in connection.receive_data(more):
                    match event:
                        case h2.events.ResponseReceived():
                            status = int(next(v for n, v in event.headers if n == b":status"))
                        case h2.events.StreamEnded():
                            return status
                        case h2.events.StreamReset() | h2.events.ConnectionTerminated():
                            return 0
                line.sendall(connection.data_to_send())
        except ConnectionError:
            return 0
    return status


def ask2_each(port: int, requests: Iterable[tuple[Fields, Sequence[bytes]]]) -> list[int]:
    """The status of each request, on connections of their own at the same time: Envoy lets a second pass
    before it closes one whose client broke the protocol."""
    with ThreadPoolExecutor(64) as pool:
        return list(pool.map(lambda request: ask2(port, request[0], *request[1]), requests))
