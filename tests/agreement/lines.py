"""Connections to listeners of an Envoy, kept alive: requests go out as they are written, nothing quoted or
corrected, over HTTP/1.1, HTTP/2 or as gRPC does it."""

from __future__ import annotations

import socket
from typing import Literal

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from mesh.request import Request

Speech = Literal["http/1.1", "http/2", "grpc"]
_PATIENCE = 5.0
#: PERMISSION_DENIED and UNAVAILABLE.
_GRPC = {"7": 403, "14": 503}


class Lines:
    """One connection for each listener and version, opened anew when Envoy closes it."""

    def __init__(self) -> None:
        self._plain: dict[int, socket.socket] = {}
        self._multiplexed: dict[int, Multiplexed] = {}

    def ask(self, port: int, request: Request, speech: Speech = "http/1.1") -> tuple[int, bytes]:
        """Status and head of the answer; status 0 where the connection or the stream ended without one."""
        if speech != "http/1.1":
            return self._ask2(port, request, speech)
        if port not in self._plain:
            self._plain[port] = socket.create_connection(("127.0.0.1", port), _PATIENCE)
        status, head = _ask(self._plain[port], request)
        if status in (0, 400) or b"connection: close" in head.lower():
            self._plain.pop(port).close()
        return status, head

    def _ask2(self, port: int, request: Request, speech: Speech) -> tuple[int, bytes]:
        if port not in self._multiplexed:
            self._multiplexed[port] = Multiplexed(port)
        status = self._multiplexed[port].ask(request, grpc=speech == "grpc")
        if not status:
            self._multiplexed.pop(port).close()
        return status, b""

    def close(self) -> None:
        for connection in (*self._plain.values(), *self._multiplexed.values()):
            connection.close()


class Multiplexed:
    """HTTP/2 with prior knowledge, one stream after the other."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), _PATIENCE)
        config = h2.config.H2Configuration(
            header_encoding="utf-8", validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self._h2 = h2.connection.H2Connection(config)
        self._h2.initiate_connection()

    def ask(self, request: Request, *, grpc: bool) -> int:
        stream = self._h2.get_next_available_stream_id()
        pseudo = [
            (":method", request.method),
            (":scheme", "http"),
            (":path", request.path),
            (":authority", request.authority),
        ]
        more = [("content-type", "application/grpc"), ("te", "trailers")] if grpc else []
        self._h2.send_headers(stream, [*pseudo, *request.headers, *more], end_stream=not grpc)
        if grpc:
            self._h2.send_data(stream, bytes(5), end_stream=True)
        self._socket.sendall(self._h2.data_to_send())
        status = 0
        while data := self._socket.recv(65536):
            for event in self._h2.receive_data(data):
                match event:
                    case h2.events.ResponseReceived() if event.stream_id == stream:
                        found = dict(event.headers)
                        status = int(found[":status"])
                        # What Envoy answers itself it says to gRPC in gRPC's words.
                        if "grpc-status" in found:
                            status = _GRPC.get(found["grpc-status"], 400)
                    case h2.events.DataReceived():
                        self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    case h2.events.StreamEnded() if event.stream_id == stream:
                        return status
                    case h2.events.StreamReset() if event.stream_id == stream:
                        return status
                    case h2.events.ConnectionTerminated():
                        return status
            self._socket.sendall(self._h2.data_to_send())
        return status

    def close(self) -> None:
        self._socket.close()


def _ask(connection: socket.socket, request: Request) -> tuple[int, bytes]:
    lines = [f"{request.method} {request.path} HTTP/1.1", f"host: {request.authority}"]
    lines += [f"{name}: {value}" for name, value in request.headers]
    connection.sendall("\r\n".join([*lines, "content-length: 0", "", ""]).encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        data = connection.recv(65536)
        if not data:
            break
        answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    fields = (line.split(b":", 1) for line in head.lower().split(b"\r\n")[1:])
    length = next((int(value) for name, value in fields if name == b"content-length"), 0)
    while len(body) < length and (data := connection.recv(65536)):
        body += data
    return int(head.split(b" ")[1]) if head else 0, head
