"""From the kernel's events to connections that have ended, each end's by itself. Knows no log and no clock.

When a connection began only the event says that opened it, so the newest of those are kept; one whose event
is not there any more is told without a beginning.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from agent.connection_logs.connection import Connection, Endpoint
from agent.connection_logs.logged import Logged
from agent.names import Names
from bpf.layout import NO_ADDRESS, Event, EventFlags, EventType, address_text
from mesh.model import WorkloadName
from mesh.node import ConnectionLog

#: Connections whose beginning is kept: about 200 bytes each.
KEPT = 16384

_TCP = 6
#: src, dst, protocol, type and flags of a packed Event.
_CHOSEN = struct.Struct("=8x16s16s42xBBxxB")
_PORTS = struct.Struct("!HH")
#: Others of its fields: at 0 and 80.
_TIME, _VIP_PORT = struct.Struct("=Q"), struct.Struct("!H")
#: Istio's name for what is passed on to where the client meant it to go.
_PASSED_ON = "PassthroughCluster"


class _Beginning(NamedTuple):
    """When a connection was opened, in nanoseconds since the epoch, and which port of a service was
    dialled."""

    time: int
    vip_port: int


_UNSEEN = _Beginning(0, 0)


class Ends:
    """Remembers what began."""

    def __init__(self, names: Names, logged: Logged) -> None:
        self._names = names
        self._logged = logged
        self._begun: dict[bytes, _Beginning] = {}

    def seen(
        self, records: list[bytes], offset: int
    ) -> Iterator[tuple[WorkloadName, Connection, tuple[ConnectionLog, ...]]]:
        """What has ended by these events, at which pod, and the logs that it may concern; `offset` is from
        their clock to the epoch, in nanoseconds."""
        for packed in records if self._logged.any else ():
            src, dst, protocol, kind, flags = _CHOSEN.unpack_from(packed)
            if kind == EventType.CLOSE:
                record = self._logged.of(src)
                if record is None:
                    continue
                logs = record.egress if flags & EventFlags.EGRESS else record.ingress
                if logs:
                    yield record.pod, self._connection(Event.unpack(packed), offset), logs
            elif (kind, protocol) == (EventType.FLOW, _TCP) and not flags & EventFlags.BY_PROXY:
                if self._logged.of(src) or self._logged.of(dst):
                    self._remember(packed, src, dst, offset)

    def forget(self) -> None:
        """Nobody's connections are logged any more."""
        self._begun.clear()

    def _remember(self, packed: bytes, src: bytes, dst: bytes, offset: int) -> None:
        key = src + dst + packed[76:80]
        self._begun.pop(key, None)  # The newest stands last.
        (at,) = _TIME.unpack_from(packed)
        (vip_port,) = _VIP_PORT.unpack_from(packed, 80)
        self._begun[key] = _Beginning(at + offset, vip_port)
        if len(self._begun) > KEPT:
            del self._begun[next(iter(self._begun))]

    def _connection(self, event: Event, offset: int) -> Connection:
        opened = bool(event.flags & EventFlags.EGRESS)
        near = Endpoint(address_text(event.src), event.src_port)
        far = Endpoint(address_text(event.dst), event.dst_port)
        client, backend = (near, far) if opened else (far, near)
        ends = (event.src, event.dst) if opened else (event.dst, event.src)
        key = b"".join(ends) + _PORTS.pack(client.port, backend.port)
        start, vip_port = self._begun.get(key, _UNSEEN)
        end = event.time_ns + offset
        if not opened:
            cluster, got, sent = f"inbound|{backend.port}||", event.received, event.sent
            return Connection("ingress", start, end, client, backend, backend, cluster, got, sent)
        translated = event.vip != NO_ADDRESS
        dialled = Endpoint(address_text(event.vip), vip_port or backend.port) if translated else backend
        service = self._names.service(event.vip) if translated else None
        cluster = f"outbound|{dialled.port}||{service.host}" if service else _PASSED_ON
        return Connection("egress", start, end, client, dialled, backend, cluster, event.sent, event.received)
