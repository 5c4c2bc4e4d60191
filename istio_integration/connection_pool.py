"""ConnectionPoolSettings: limits of connections and of what goes over them. 0 is mostly "no limit"."""

from __future__ import annotations

from typing import Literal, cast

from istio_integration.duration import duration_ms
from mesh.dialects.reading import Fields, Reader, shown
from mesh.model import ConnectionPool

POOL = Fields(("tcp", "http"))
TCP = Fields(("maxConnections", "connectTimeout", "tcpKeepalive", "maxConnectionDuration", "idleTimeout"))
KEEPALIVE = Fields(("probes", "time", "interval"))
HTTP = Fields(
    (
        "http1MaxPendingRequests",
        "http2MaxRequests",
        "maxRequestsPerConnection",
        "maxRetries",
        "idleTimeout",
        "h2UpgradePolicy",
        "useClientProtocol",
        "maxConcurrentStreams",
        "http2KeepAlive",
    )
)
PINGS = Fields(("interval", "timeout"))

_LARGEST = 2**31 - 1
_UPGRADES = ("DEFAULT", "UPGRADE", "DO_NOT_UPGRADE")


def connection_pool(reader: Reader) -> ConnectionPool | None:
    if not reader.fields(POOL).present:
        return None
    tcp, http = reader.at("tcp").fields(TCP), reader.at("http").fields(HTTP)
    if reader.sound and not tcp.present and not http.present:
        reader.refuse("says nothing: write tcp or http")
    upgrade = http.at("h2UpgradePolicy").choice(_UPGRADES, "DEFAULT")
    use_client_protocol = http.at("useClientProtocol").boolean()
    if upgrade == "UPGRADE" and use_client_protocol:
        http.at("useClientProtocol").refuse("cannot stand beside h2UpgradePolicy UPGRADE")
    return ConnectionPool(
        max_connections=_limit(tcp.at("maxConnections")),
        connect_timeout_ms=_time(tcp.at("connectTimeout")),
        keepalive=_keepalive(tcp.at("tcpKeepalive")),
        connection_lifetime_ms=_time(tcp.at("maxConnectionDuration")),
        tcp_idle_ms=_time(tcp.at("idleTimeout"), at_least=0),
        max_pending=_limit(http.at("http1MaxPendingRequests")),
        max_requests=_limit(http.at("http2MaxRequests")),
        requests_per_connection=_limit(http.at("maxRequestsPerConnection"), 1 << 29),
        max_retries=_limit(http.at("maxRetries")),
        idle_ms=_time(http.at("idleTimeout")),
        max_streams=_limit(http.at("maxConcurrentStreams")),
        upgrade=cast(Literal["DEFAULT", "UPGRADE", "DO_NOT_UPGRADE"], upgrade),
        use_client_protocol=use_client_protocol,
        pings=_pings(http.at("http2KeepAlive")),
    )


def _limit(reader: Reader, largest: int = _LARGEST) -> int | None:
    return reader.integer(0, largest) or None


def _time(reader: Reader, at_least: int = 1) -> int | None:
    return duration_ms(reader, at_least=at_least) if reader.present else None


def _keepalive(reader: Reader) -> tuple[int, int, int] | None:
    """(probes, milliseconds idle before the first, milliseconds between them); 0 is the system's default."""
    if not reader.fields(KEEPALIVE).present:
        return None
    times = []
    for field in KEEPALIVE.read[1:]:
        times.append(duration_ms(reader.at(field)))
        if times[-1] % 1000:
            reader.at(field).refuse(f"is {shown(reader.at(field).value)}; TCP counts whole seconds")
    return reader.at("probes").integer(0, _LARGEST), times[0], times[1]


def _pings(reader: Reader) -> tuple[int, int] | None:
    if not reader.fields(PINGS).present:
        return None
    for field in PINGS.read:
        reader.at(field).require()
    return duration_ms(reader.at("interval")), duration_ms(reader.at("timeout"))
