"""Envoy's access-log stream (envoy.service.accesslog.v3): of each request and connection what flows, metrics
and spans are made of. It must not know names; who the addresses belong to is for others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Struct

from agent.access_log_messages import Address as AddressMessage
from agent.access_log_messages import CertificateProperties, FilterObject, StreamAccessLogsMessage
from mesh.discovery.wire import WireError, fields

#: The gRPC method that Envoy calls.
METHOD = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"

#: Where RBAC filters leave what they said, and where `jwt_authn` says why a rule refused a token.
_RBAC = "envoy.filters.http.rbac"
_JWT = "envoy.filters.http.jwt_authn"
#: Where the counter of gRPC messages leaves them.
_GRPC_STATS = "envoy.filters.http.grpc_stats"

#: The tags of a refused connection (see `xds.render.access_log`).
_REFUSED_BY, _ASKED_FOR = "refused_by", "asked_for"

#: How a URI begins that is an identity (https://github.com/spiffe/spiffe, SPIFFE-ID, 2).
_SPIFFE = "spiffe://"

#: envoy.config.core.v3.RequestMethod
_METHODS = ("", "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")

#: envoy.data.accesslog.v3.AccessLogType: TcpConnectionEnd.
_CONNECTION_END = 3

#: Field number of envoy.data.accesslog.v3.ResponseFlags -> short name.
_FLAGS = {
    1: "LH", 2: "UH", 3: "UT", 4: "LR", 5: "UR", 6: "UF", 7: "UC", 8: "UO", 9: "NR", 10: "DI",
    11: "FI", 12: "RL", 13: "UAEX", 14: "RLSE", 15: "DC", 16: "URX", 17: "SI", 18: "IH", 19: "DPE",
    20: "UMSDR", 21: "RFCF", 22: "NFCF", 23: "DT", 24: "UPE", 25: "NC", 26: "OM", 27: "DF", 28: "DR",
    29: "UDO",
}  # fmt: skip

#: The last digit of a `traceparent`'s flags, and those with the bit that says that the trace is recorded.
_FLAG = slice(54, 55)
_RECORDED = frozenset("13579bdf")


class Address(NamedTuple):
    """A socket address; ip "" where the entry has none."""

    ip: str = ""
    port: int = 0


_NOWHERE = Address()
_NOTHING: Mapping[str, str] = MappingProxyType({})


class Leg(NamedTuple):
    """The connection to the backend that a request took: Envoy's end of it, and seconds from the request's
    start until its first byte left there and its last came."""

    local: Address = _NOWHERE
    first_sent: float = 0.0
    last_got: float = 0.0


_NO_LEG = Leg()


class Principals(NamedTuple):
    """The SPIFFE identities in the certificates of a client's connection, its own and the one that Envoy
    showed it; "" is none. Without a certificate of the client there is neither."""

    peer: str = ""
    local: str = ""


_UNPROVEN = Principals()


@dataclass(slots=True)
class LoggedRequest:
    """One HTTP request. `started` is seconds since the epoch; `remote` is the peer, whatever headers say of
    it; `local` is the address that was dialled; `route` is Envoy's name of the route taken; `said` is what
    RBAC filters left, `tokens` why each rule about tokens refused (see `agent.judgement`). `duration` is the
    seconds until the last byte was sent, `lasted` until the request was over; `received` and `sent` are bytes
    on the wire; `flags` are Envoy's response flags in short ("-": none); `grpc_status` is what the answer
    said of itself, whatever that is; `messages` of gRPC were sent with it and in answer. Where Envoy records
    a trace, `traceparent` is the context of its span (W3C Trace Context), and `leg` is known."""

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
    leg: Leg = _NO_LEG
    principals: Principals = _UNPROVEN


@dataclass(slots=True)
class LoggedConnection:
    """A TCP connection that Envoy does not look into, told when there is a backend and when it has `ended`.
    `remote`, `local`, `upstream`, `cluster` and `flags` are as of a request; `own` is Envoy's end of the
    connection to the backend, nowhere if there never was one. `received` are bytes of the client, `sent` to
    it. `principals` are those of a handshake that was over when this was told: a proxy that does not wait
    for it (`upstream_connect_mode`) tells none before the end."""

    remote: Address = _NOWHERE
    local: Address = _NOWHERE
    own: Address = _NOWHERE
    upstream: Address = _NOWHERE
    received: int = 0
    sent: int = 0
    flags: str = "-"
    cluster: str = ""
    ended: bool = False
    principals: Principals = _UNPROVEN


@dataclass(slots=True)
class Refusal:
    """A connection that was let nowhere by a class, which `route` names. `remote`, `local` and `started` are
    as of a request. Is it `unproven`: in the clear where only mutual TLS will do, or with a handshake that
    failed? Otherwise rules refused it."""

    remote: Address = _NOWHERE
    local: Address = _NOWHERE
    started: float = 0.0
    route: str = ""
    unproven: bool = False


#: What an Envoy may tell.
Logged = LoggedRequest | LoggedConnection | Refusal


def entries(message: bytes) -> Iterator[Logged]:
    """All of one StreamAccessLogsMessage. Raises wire.WireError."""
    try:
        found = StreamAccessLogsMessage.FromString(message)
        for entry in found.http_logs.log_entry:
            yield _request(entry.common_properties, entry.request, entry.response)
        for entry in found.tcp_logs.log_entry:
            common = entry.common_properties
            if _REFUSED_BY in common.custom_tags:
                yield _refusal(common)
            else:
                yield _connection(common, entry.connection_properties)
    except DecodeError as error:
        raise WireError(str(error)) from None


def _refusal(common: Any) -> Refusal:
    tags = common.custom_tags
    return Refusal(
        remote=_address(common.downstream_direct_remote_address),
        local=_address(common.downstream_local_address),
        started=_seconds(common.start_time),
        route=tags[_REFUSED_BY],
        unproven=tags.get(_ASKED_FOR) == "-" or bool(common.downstream_transport_failure_reason),
    )


def _connection(common: Any, connection: Any) -> LoggedConnection:
    return LoggedConnection(
        remote=_address(common.downstream_direct_remote_address),
        local=_address(common.downstream_local_address),
        own=_address(common.upstream_local_address),
        upstream=_address(common.upstream_remote_address),
        received=connection.received_bytes,
        sent=connection.sent_bytes,
        flags=_flags(common.response_flags),
        cluster=common.upstream_cluster,
        ended=common.access_log_type == _CONNECTION_END,
        principals=_principals(common),
    )


def _request(common: Any, request: Any, response: Any) -> LoggedRequest:
    headers, method = request.request_headers, request.request_method
    metadata = common.metadata.filter_metadata
    traceparent = headers.get("traceparent", "")
    recorded = traceparent[_FLAG] in _RECORDED
    return LoggedRequest(
        remote=_address(common.downstream_direct_remote_address),
        local=_address(common.downstream_local_address),
        upstream=_address(common.upstream_remote_address),
        started=_seconds(common.start_time),
        duration=_seconds(common.time_to_last_downstream_tx_byte),
        method=_METHODS[method] if method < len(_METHODS) else "",
        path=request.path,
        authority=request.authority,
        status=response.response_code.value,
        details=response.response_code_details,
        route=common.route_name,
        said=_said(metadata.get(_RBAC, b"")),
        tokens=_tokens(metadata.get(_JWT, b"")),
        lasted=_seconds(common.duration),
        received=common.downstream_wire_bytes_received,
        sent=common.downstream_wire_bytes_sent,
        flags=_flags(common.response_flags),
        cluster=common.upstream_cluster,
        is_grpc=_is_grpc(headers.get("content-type", "")),
        grpc_status=_grpc_status(response),
        messages=_messages(common.filter_state_objects),
        traceparent=traceparent if recorded else "",
        leg=_leg(common) if recorded else _NO_LEG,
        principals=_principals(common),
    )


def _leg(common: Any) -> Leg:
    return Leg(
        _address(common.upstream_local_address),
        _seconds(common.time_to_first_upstream_tx_byte),
        _seconds(common.time_to_last_upstream_rx_byte),
    )


def _principals(common: Any) -> Principals:
    if not common.HasField("tls_properties"):
        return _UNPROVEN
    tls = common.tls_properties
    if not (peer := tls.peer_certificate_properties):
        return _UNPROVEN
    return Principals(_principal(peer), _principal(tls.local_certificate_properties))


@lru_cache(maxsize=1024)
def _principal(certificate: bytes) -> str:
    """The first there is, as Istio takes it."""
    names = (name.uri for name in CertificateProperties.FromString(certificate).subject_alt_name)
    return next((name for name in names if name.startswith(_SPIFFE)), "")


@lru_cache(maxsize=1024)
def _said(struct: bytes) -> Mapping[str, str]:
    """The texts of a google.protobuf.Struct."""
    found = Struct.FromString(struct).fields
    return MappingProxyType({key: value.string_value for key, value in found.items()})


def _tokens(struct: bytes) -> Mapping[str, str]:
    """The messages of failures, which have a Struct each. The claims beside them are nobody's business, and
    nearly always there are only claims, of which each token brings others to be read."""
    if b"message" not in struct:
        return _NOTHING
    found = Struct.FromString(struct).fields
    messages = {key: value.struct_value.fields["message"].string_value for key, value in found.items()}
    return {key: message for key, message in messages.items() if message}


@lru_cache(maxsize=1024)
def _flags(message: bytes) -> str:
    """envoy.data.accesslog.v3.ResponseFlags as %RESPONSE_FLAGS% prints them."""
    found = (_FLAGS[number] for number, _, _ in fields(message) if number in _FLAGS)
    return ",".join(found) or "-"


def _grpc_status(response: Any) -> str:
    """Of the trailers, which have the last word, or the headers."""
    for found in (response.response_trailers, response.response_headers):
        if value := found.get("grpc-status", ""):
            return str(value)
    return ""


def _messages(objects: Any) -> tuple[int, int]:
    """envoy.extensions.filters.http.grpc_stats.v3.FilterObject, in an Any; nothing if there is none."""
    if _GRPC_STATS not in objects:
        return 0, 0
    counts = FilterObject.FromString(objects[_GRPC_STATS].value)
    return counts.request_message_count, counts.response_message_count


def _is_grpc(content_type: str) -> bool:
    rest = content_type.removeprefix("application/grpc")
    return rest != content_type and (not rest or rest[0] in "+;")


@lru_cache(maxsize=8192)
def _address(message: bytes) -> Address:
    """Remembered, as all that is the same in most entries."""
    found = AddressMessage.FromString(message).socket_address
    return Address(found.address, found.port_value)


def _seconds(time: Any) -> float:
    """Of a Timestamp or Duration."""
    seconds: float = time.seconds + time.nanos / 1e9
    return seconds
