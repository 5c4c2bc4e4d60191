"""A connection that has ended, in Envoy's words: what its commands and its attributes say of one that a TCP
proxy carried. What only requests have is missing, as it is there.

https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage
"""

from __future__ import annotations

import socket
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from mesh.model import Direction
from mesh.observability.cel import Duration, Time, Value

#: envoy.config.core.v3.TrafficDirection
_DIRECTIONS: dict[Direction, int] = {"ingress": 1, "egress": 2}
_SSL_FREE: dict[str, Value] = {"connection.mtls": False, "connection.requested_server_name": ""}
#: Maps that are there and empty.
_EMPTY: dict[str, Value] = {"request.headers": {}, "response.headers": {}, "response.trailers": {}}


class Endpoint(NamedTuple):
    """One end of it."""

    ip: str
    port: int

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


@dataclass(frozen=True, slots=True)
class Connection:
    """As one end tells it. `dialled` is what the client asked for, `backend` what it got. Times are
    nanoseconds since the epoch, `start` 0 if nobody saw it begin. `received` are bytes of the client, `sent`
    to it."""

    direction: Direction
    start: int
    end: int
    client: Endpoint
    dialled: Endpoint
    backend: Endpoint
    cluster: str
    received: int
    sent: int

    @property
    def began(self) -> int:
        """When it was opened, as far as is known."""
        return self.start or self.end

    def value(self, command: str) -> str | int | None:
        """What a command without an argument says; None: nothing."""
        match command:
            case "RESPONSE_CODE" | "REQUEST_HEADERS_BYTES" | "RESPONSE_HEADERS_BYTES":
                return 0
            case (
                "RESPONSE_TRAILERS_BYTES"
                | "DOWNSTREAM_HEADER_BYTES_RECEIVED"
                | "DOWNSTREAM_HEADER_BYTES_SENT"
            ):
                return 0
            case "UPSTREAM_HEADER_BYTES_RECEIVED" | "UPSTREAM_HEADER_BYTES_SENT":
                return 0
            case "RESPONSE_FLAGS" | "RESPONSE_FLAGS_LONG":
                return "-"
            case "BYTES_RECEIVED" | "DOWNSTREAM_WIRE_BYTES_RECEIVED" | "UPSTREAM_WIRE_BYTES_SENT":
                return self.received
            case "BYTES_SENT" | "DOWNSTREAM_WIRE_BYTES_SENT" | "UPSTREAM_WIRE_BYTES_RECEIVED":
                return self.sent
            case "DURATION":
                return (self.end - self.start) // 10**6 if self.start else None
            case "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW":
                return self.cluster
            case "UPSTREAM_REQUEST_ATTEMPT_COUNT":
                return 1
            case "ACCESS_LOG_TYPE":
                return "TcpConnectionEnd"
            case "HOSTNAME":
                return socket.gethostname()
            case "UNIQUE_ID" | "STREAM_ID":
                return str(uuid.uuid4())
        return _part(command, self._ends())

    def attributes(self) -> dict[str, Value]:
        """What a filter may ask about."""
        found: dict[str, Value] = {
            **_SSL_FREE,
            **_EMPTY,
            "request.time": Time(self.began),
            "request.size": self.received,
            "request.total_size": self.received,
            "response.size": self.sent,
            "response.total_size": self.sent,
            "response.flags": 0,
            "source.address": str(self.client),
            "source.port": self.client.port,
            "destination.address": str(self.dialled),
            "destination.port": self.dialled.port,
            "upstream.address": str(self.backend),
            "upstream.port": self.backend.port,
            "upstream.local_address": str(self.client),
            "upstream.transport_failure_reason": "",
            "upstream.request_attempt_count": 1,
            "xds.cluster_name": self.cluster,
            "xds.filter_chain_name": "",
            "xds.listener_direction": _DIRECTIONS[self.direction],
        }
        if self.start:
            found["request.duration"] = Duration(self.end - self.start)
        return found

    def _ends(self) -> Iterator[tuple[str, Endpoint]]:
        yield "DOWNSTREAM_LOCAL", self.dialled
        yield "DOWNSTREAM_REMOTE", self.client
        yield "DOWNSTREAM_DIRECT_REMOTE", self.client
        yield "UPSTREAM_REMOTE", self.backend
        # There is one connection, whose other end this is.
        yield "UPSTREAM_LOCAL", self.client
        yield "UPSTREAM_HOST", self.backend


def _part(command: str, ends: Iterator[tuple[str, Endpoint]]) -> str | int | None:
    for name, end in ends:
        if command in (name, f"{name}_ADDRESS"):
            return str(end)
        if command == f"{name}_ADDRESS_WITHOUT_PORT":
            return end.ip
        if command == f"{name}_PORT":
            return end.port
    return None
