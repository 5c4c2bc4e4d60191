"""Envoy's access-log stream (envoy.service.accesslog.v3), read from the wire: only the fields that somebody
needs. It must not know names; who the addresses belong to is for others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from mesh.discovery.wire import fields, text

#: The gRPC method that Envoy calls.
METHOD = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"

#: Where RBAC filters leave what they said, and where `jwt_authn` says why a rule refused a token.
_RBAC = "envoy.filters.http.rbac"
_JWT = "envoy.filters.http.jwt_authn"
#: Where the counter of gRPC messages leaves them.
_GRPC_STATS = "envoy.filters.http.grpc_stats"
#: The field of google.protobuf.Value that is a text, or a Struct.
_TEXT, _STRUCT = 3, 5

#: envoy.config.core.v3.RequestMethod
_METHODS = ("", "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")


#: envoy.data.accesslog.v3.AccessLogType: TcpConnectionEnd.
_CONNECTION_END = 3

#: Field number -> short name.
_FLAGS = {
    1: "LH", 2: "UH", 3: "UT", 4: "LR", 5: "UR", 6: "UF", 7: "UC", 8: "UO", 9: "NR", 10: "DI",
    11: "FI", 12: "RL", 13: "UAEX", 14: "RLSE", 15: "DC", 16: "URX", 17: "SI", 18: "IH", 19: "DPE",
    20: "UMSDR", 21: "RFCF", 22: "NFCF", 23: "DT", 24: "UPE", 25: "NC", 26: "OM", 27: "DF", 28: "DR",
    29: "UDO",
}  # fmt: skip


class Address(NamedTuple):
    """A socket address; ip "" where the entry has none."""

    ip: str = ""
    port: int = 0


_NOWHERE = Address()
_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(slots=True)
class LoggedRequest:
    """One HTTP request. `started` is seconds since the epoch; `remote` is the peer, whatever headers say of
    it; `local` is the address that was dialled; `route` is Envoy's name of the route taken; `said` is what
    RBAC filters left, `tokens` why each rule about tokens refused (see `agent.judgement`). `duration` is the
    seconds until the last byte was sent, `lasted` until the request was over; `received` and `sent` are bytes
    on the wire; `flags` are Envoy's response flags in short ("-": none); `grpc_status` is what the answer
    said of itself, whatever that is; `messages` of gRPC were sent with it and in answer. `traceparent` is the
    context of Envoy's span where it traces (W3C Trace Context); `common` is for `leg`."""

    remote: Address = _NOWHERE
    local: Address = _NOWHERE
    upstream: Address = _NOWHERE
    started: float = 0.0
    duration: float = 0.0
    method: str = ""
    path: str = ""
    authority: str = ""
    status: int = 0
    details: str = ""
    route: str = ""
    said: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    tokens: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    lasted: float = 0.0
    received: int = 0
    sent: int = 0
    flags: str = "-"
    cluster: str = ""
    is_grpc: bool = False
    grpc_status: str = ""
    messages: tuple[int, int] = (0, 0)
    traceparent: str = ""
    common: bytes = b""


@dataclass(slots=True)
class LoggedConnection:
    """A TCP connection that Envoy does not look into, told when there is a backend and when it has `ended`.
    `remote`, `local`, `upstream`, `cluster` and `flags` are as of a request; `own` is Envoy's end of the
    connection to the backend, nowhere if there never was one. `received` are bytes of the client, `sent` to
    it."""

    remote: Address = _NOWHERE
    local: Address = _NOWHERE
    own: Address = _NOWHERE
    upstream: Address = _NOWHERE
    received: int = 0
    sent: int = 0
    flags: str = "-"
    cluster: str = ""
    ended: bool = False


@dataclass(slots=True)
class Leg:
    """The connection to the backend that a request took: Envoy's end of it, and seconds from the request's
    start until its first byte left there and its last came."""

    local: Address = _NOWHERE
    first_sent: float = 0.0
    last_got: float = 0.0


def leg(request: LoggedRequest) -> Leg:
    """What few ask for. Raises wire.WireError."""
    found = Leg()
    for number, _, data in fields(request.common):
        if number == 7:  # time_to_first_upstream_tx_byte
            found.first_sent = _seconds(data)
        elif number == 10:  # time_to_last_upstream_rx_byte
            found.last_got = _seconds(data)
        elif number == 14:
            found.local = _address(data)
    return found


#: What an Envoy may tell.
Logged = LoggedRequest | LoggedConnection


def entries(message: bytes) -> Iterator[Logged]:
    """All of one StreamAccessLogsMessage. Raises wire.WireError."""
    yield from requests(message)
    yield from connections(message)


def requests(message: bytes) -> Iterator[LoggedRequest]:
    """The HTTP entries of one StreamAccessLogsMessage. Raises wire.WireError."""
    for entry in _submessages(message, 2):
        for logged in _submessages(entry, 1):
            yield _request(logged)


def connections(message: bytes) -> Iterator[LoggedConnection]:
    """The TCP entries of one StreamAccessLogsMessage. Raises wire.WireError."""
    for entry in _submessages(message, 3):
        for logged in _submessages(entry, 1):
            yield _connection(logged)


def _connection(entry: bytes) -> LoggedConnection:
    connection = LoggedConnection()
    for part, _, message in fields(entry):
        for number, integer, data in fields(message):
            match part, number:
                case 1, 3:
                    connection.local = _address(data)
                case 1, 13:
                    connection.upstream = _address(data)
                case 1, 14:
                    connection.own = _address(data)
                case 1, 15:
                    connection.cluster = text(data)
                case 1, 16:
                    connection.flags = _flags(data)
                case 1, 20:  # downstream_direct_remote_address
                    connection.remote = _address(data)
                case 1, 33:  # access_log_type
                    connection.ended = integer == _CONNECTION_END
                case 2, 1:
                    connection.received = integer
                case 2, 2:
                    connection.sent = integer
    return connection


def _request(entry: bytes) -> LoggedRequest:
    request = LoggedRequest()
    for number, _, data in fields(entry):
        if number == 1:
            request.common = data
            _common(request, data)
        elif number == 3:
            _properties(request, data)
        elif number == 4:
            _response(request, data)
    return request


def _common(request: LoggedRequest, message: bytes) -> None:
    for number, integer, data in fields(message):
        match number:
            case 3:
                request.local = _address(data)
            case 5:
                request.started = _seconds(data)
            case 12:  # time_to_last_downstream_tx_byte
                request.duration = _seconds(data)
            case 13:
                request.upstream = _address(data)
            case 15:
                request.cluster = text(data)
            case 16:
                request.flags = _flags(data)
            case 17:
                request.said, request.tokens = _said(data)
            case 19:
                request.route = text(data)
            case 21:  # filter_state_objects
                request.messages = _messages(data) or request.messages
            case 20:  # downstream_direct_remote_address
                request.remote = _address(data)
            case 23:
                request.lasted = _seconds(data)
            case 29:  # downstream_wire_bytes_sent
                request.sent = integer
            case 30:  # downstream_wire_bytes_received
                request.received = integer


def _properties(request: LoggedRequest, message: bytes) -> None:
    for number, integer, data in fields(message):
        match number:
            case 1:
                request.method = _METHODS[integer] if integer < len(_METHODS) else ""
            case 3:
                request.authority = text(data)
            case 5:
                request.path = text(data)
            case 13:
                name, value = _entry(data)
                request.is_grpc |= name == "content-type" and _is_grpc(value)
                if name == "traceparent":
                    request.traceparent = value


def _response(request: LoggedRequest, message: bytes) -> None:
    for number, _, data in fields(message):
        match number:
            case 1:
                request.status = next((value for part, value, _ in fields(data) if part == 1), 0)
            case 4 | 5:  # headers, and trailers, which have the last word
                name, value = _entry(data)
                if name == "grpc-status":
                    request.grpc_status = value
            case 6:
                request.details = text(data)


@lru_cache(maxsize=1024)
def _said(metadata: bytes) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """envoy.config.core.v3.Metadata: of the RBAC filters the strings, of `jwt_authn` the messages of
    failures, which have a Struct each. The claims beside them are nobody's business."""
    found: dict[str, str] = {}
    tokens: dict[str, str] = {}
    for entry in _submessages(metadata, 1):
        name = next((text(data) for number, _, data in fields(entry) if number == 1), "")
        # Nearly always there are only claims, of which each token brings others to be read.
        if name not in (_RBAC, _JWT) or (name == _JWT and b"message" not in entry):
            continue
        for struct in _submessages(entry, 2):
            for key, value in _pairs(struct):
                if name == _RBAC:
                    found.update((key, text(written)) for written in _submessages(value, _TEXT))
                    continue
                for failure in _submessages(value, _STRUCT):
                    messages = [v for k, v in _pairs(failure) if k == "message"]
                    tokens.update((key, text(t)) for v in messages for t in _submessages(v, _TEXT))
    return MappingProxyType(found), MappingProxyType(tokens)


def _pairs(struct: bytes) -> Iterator[tuple[str, bytes]]:
    """Keys and encoded Values of a google.protobuf.Struct."""
    for pair in _submessages(struct, 1):
        parts = {number: data for number, _, data in fields(pair)}
        yield text(parts.get(1, b"")), parts.get(2, b"")


@lru_cache(maxsize=1024)
def _flags(message: bytes) -> str:
    """envoy.data.accesslog.v3.ResponseFlags as %RESPONSE_FLAGS% prints them."""
    found = (_FLAGS[number] for number, _, _ in fields(message) if number in _FLAGS)
    return ",".join(found) or "-"


def _messages(entry: bytes) -> tuple[int, int] | None:
    """envoy.extensions.filters.http.grpc_stats.v3.FilterObject, in an Any; None if the entry is another's."""
    parts = {number: data for number, _, data in fields(entry)}
    if text(parts.get(1, b"")) != _GRPC_STATS:
        return None
    counts = {
        number: count for data in _submessages(parts.get(2, b""), 2) for number, count, _ in fields(data)
    }
    return counts.get(1, 0), counts.get(2, 0)


def _is_grpc(content_type: str) -> bool:
    rest = content_type.removeprefix("application/grpc")
    return rest != content_type and (not rest or rest[0] in "+;")


@lru_cache(maxsize=1024)
def _entry(message: bytes) -> tuple[str, str]:
    """An entry of a map of strings."""
    parts = {number: data for number, _, data in fields(message)}
    return text(parts.get(1, b"")), text(parts.get(2, b""))


@lru_cache(maxsize=8192)
def _address(message: bytes) -> Address:
    """Remembered, as all that is the same in most entries: reading them is most of what a request costs."""
    ip, port = "", 0
    for socket_address in _submessages(message, 1):
        for number, integer, data in fields(socket_address):
            if number == 2:
                ip = text(data)
            elif number == 3:
                port = integer
    return Address(ip, port)


def _seconds(message: bytes) -> float:
    parts = {number: integer for number, integer, _ in fields(message)}
    return parts.get(1, 0) + parts.get(2, 0) / 1e9


def _submessages(message: bytes, number: int) -> Iterator[bytes]:
    return (data for found, _, data in fields(message) if found == number)
