"""From the kernel's events and Envoys' access records to spans. Knows no OpenTelemetry, kernel or clock.

What an event begins ends when the kernel's table of flows says that the connection is closed. A span is told
when it has ended, so one that lasts is told after a while as what it is: open. What an Envoy opened waits for
the access records of the requests that it carries.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent.access_log import LoggedRequest
from agent.flows import Telling
from agent.names import pack
from agent.tracing.span import Attributes, Context, Span, attributes, name, serving
from agent.tracing.traced import Traced
from bpf.layout import (
    DropReason,
    Event,
    EventFlags,
    EventType,
    FlowFlags,
    FlowKey,
    FlowValue,
    Verdict,
    address_text,
)
from mesh.model import ALL
from mesh.node import TracingRecord

#: Connections whose end is awaited, and Envoys' that may carry a request.
OPEN, CARRYING = 1024, 4096
#: Nanoseconds after which a connection that is open is told.
PATIENCE = 60 * 10**9

_TCP = 6
#: Ports as the kernel writes them.
_PORTS = struct.Struct("!HH")
_NOTHING: Attributes = {}
_LASTING: Attributes = {"sluice.connection.open": True}
#: What changes of a connection that a policy ends.
_VERDICT = ("sluice.verdict", "sluice.policy", "sluice.kernel.generation", "error.type")
_BOTH_FINS = FlowFlags.FIN_A | FlowFlags.FIN_B
#: src, protocol, type, verdict, reason and flags of a packed Event.
_CHOSEN = struct.Struct("=8x16s58xBBBBB")
#: Drops that are verdicts on the caller, rather than packets of which nothing is sure.
_REFUSALS = (
    DropReason.POLICY_EGRESS,
    DropReason.POLICY_INGRESS,
    DropReason.NO_BACKEND,
    DropReason.REGISTRY_ONLY,
)


@dataclass(slots=True)
class _Connection:
    """As its first event told it. `first` is the span of the first traced request that it carried, `flow`
    its key in the kernel's table of flows, where it is looked for there."""

    record: TracingRecord
    start: int
    event: bytes
    tell: Telling
    first: Context | None = None
    flow: bytes = b""

    def attributes(self) -> Attributes:
        return attributes(Event.unpack(self.event), self.tell())


class Connections:
    """`telling` holds what an event's names are when it comes, `emit` tells a span, `allows` asks the bound,
    `chance` is a random number below 1."""

    def __init__(
        self,
        traced: Traced,
        telling: Callable[[bytes], Telling],
        emit: Callable[[Span], Context],
        allows: Callable[[], bool],
        chance: Callable[[], float],
    ) -> None:
        self._traced = traced
        self._telling = telling
        self._emit = emit
        self._allows = allows
        self._chance = chance
        self._open: dict[bytes, _Connection] = {}
        self._carrying: dict[bytes, _Connection] = {}
        self._requests: list[tuple[Context, LoggedRequest]] = []

    def add_request(self, request: LoggedRequest) -> None:
        """Take in what an Envoy logged. The event of its connection may still be in the ring."""
        if request.traceparent and (parent := Context.sampled(request.traceparent)):
            self._requests.append((parent, request))

    def add_events(self, records: list[bytes], offset: int) -> None:
        """Take in what the ring held; `offset` is from its clock to the epoch, in nanoseconds."""
        for packed in records if self._traced.records else ():
            src, protocol, kind, verdict, reason, flags = _CHOSEN.unpack_from(packed)
            if protocol != _TCP:
                continue
            record = self._traced.of(src)
            if kind == EventType.END:
                self._cut(packed, offset)
            elif record is None:
                continue
            elif kind == EventType.FLOW and flags & EventFlags.BY_PROXY:
                self._remember(record, packed, offset)
            elif kind == EventType.FLOW and flags & EventFlags.EGRESS:
                self._begin(record, packed, offset)
            elif verdict == Verdict.DENY and reason in _REFUSALS and not flags & EventFlags.BY_PROXY:
                self._refuse(record, packed, offset)
        requests, self._requests = self._requests, []
        for parent, request in requests:
            self._join(parent, request)

    @property
    def open(self) -> list[bytes]:
        """Keys of the kernel's table of flows that tell which connections have ended."""
        return [connection.flow for connection in self._open.values()]

    def look(self, flows: Mapping[bytes, bytes | None], offset: int, now: int) -> None:
        """What that table said of them (None: nothing), `offset` from its clock to the epoch."""
        for key, connection in list(self._open.items()):
            if connection.flow not in flows:
                continue
            found = flows[connection.flow]
            flow = FlowValue.unpack(found) if found else None
            if flow is None:
                self._end(key, now)
            elif flow.flags & FlowFlags.CLOSED:
                reset = flow.flags & _BOTH_FINS != _BOTH_FINS
                self._end(key, flow.seen_ns + offset, {"sluice.connection.reset": True} if reset else {})
            elif now - connection.start > PATIENCE:
                self._end(key, now, _LASTING)

    # --- connections of pods ---------------------------------------------------------------------

    def _begin(self, record: TracingRecord, packed: bytes, offset: int) -> None:
        key, at = _key(packed), _time(packed) + offset
        if key in self._open:
            self._end(key, at)
        if not self._is_chosen(record):
            return
        event = Event.unpack(packed)
        if (address_text(event.dst), event.dst_port) in self._traced.addresses(record.collector):
            return  # A pod that tells spans of its own would have one made for each telling.
        if self._allows():
            if len(self._open) >= OPEN:
                self._end(next(iter(self._open)), at, _LASTING)
            found = self._open[key] = self._connection(record, packed, offset)
            found.flow = FlowKey.of(event.src, event.src_port, event.dst, event.dst_port, _TCP).pack()

    def _refuse(self, record: TracingRecord, packed: bytes, offset: int) -> None:
        if self._is_chosen(record) and self._allows():
            found = self._connection(record, packed, offset)
            self._tell(found, found.start, found.attributes())

    def _cut(self, packed: bytes, offset: int) -> None:
        """A sweep has ended it: the newest policy does not allow it (rule 7)."""
        # Of either end's socket.
        key = next((key for key in (_key(packed), _key_back(packed)) if key in self._open), None)
        if key is not None:
            said = attributes(Event.unpack(packed), self._telling(packed)())
            self._end(key, _time(packed) + offset, {name: said[name] for name in _VERDICT if name in said})

    def _end(self, key: bytes, at: int, more: Attributes = _NOTHING) -> None:
        found = self._open.pop(key)
        # Of a flow that nothing answered the table has the time by a coarse clock.
        self._tell(found, max(found.start, at), found.attributes() | more)

    def _tell(self, found: _Connection, end: int, said: Attributes) -> None:
        why = str(said.get("error.type", ""))
        self._emit(Span(found.record, name(said), found.start, end, said, why))

    def _is_chosen(self, record: TracingRecord) -> bool:
        return self._chance() * ALL < record.sampling

    # --- connections of Envoys -------------------------------------------------------------------

    def _remember(self, record: TracingRecord, packed: bytes, offset: int) -> None:
        key = _key(packed)
        self._carrying.pop(key, None)  # The newest stands last.
        self._carrying[key] = self._connection(record, packed, offset)
        if len(self._carrying) > CARRYING:
            del self._carrying[next(iter(self._carrying))]

    def _join(self, parent: Context, request: LoggedRequest) -> None:
        """A span for each request: it would be in the trace of one only, were it of the connection."""
        own, to = request.leg, request.upstream
        found = self._carrying.get(pack(own.local.ip) + pack(to.ip) + _PORTS.pack(own.local.port, to.port))
        if found is None or not self._allows():
            return
        began = round(request.started * 1e9)
        reused = found.start < began
        start = began + round(own.first_sent * 1e9) if reused else found.start
        end = max(start, began + round((own.last_got or request.lasted) * 1e9))
        said = found.attributes() | serving(request.cluster) | {"sluice.connection.reused": reused}
        links = (found.first,) if reused and found.first else ()
        told = self._emit(Span(found.record, name(said), start, end, said, "", parent, links))
        found.first = found.first or told

    def _connection(self, record: TracingRecord, packed: bytes, offset: int) -> _Connection:
        return _Connection(record, _time(packed) + offset, packed, self._telling(packed))


def _key(packed: bytes) -> bytes:
    """Addresses and ports of an Event, the opener's first."""
    return packed[8:40] + packed[76:80]


def _key_back(packed: bytes) -> bytes:
    return packed[24:40] + packed[8:24] + packed[78:80] + packed[76:78]


def _time(packed: bytes) -> int:
    return int.from_bytes(packed[:8], sys.byteorder)
