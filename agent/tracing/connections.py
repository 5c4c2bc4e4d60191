"""From the kernel's events and Envoys' access records to spans. Knows no OpenTelemetry, kernel or clock.

What an event begins ends when the kernel's table of flows says that the connection is closed. A span is told
when it has ended, so one that lasts is told after a while as what it is: open. What an Envoy opened waits for
the access records of the requests that it carries.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent.access_log import LoggedRequest, leg
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
from mesh.flow import Flow
from mesh.model import ALL
from mesh.node import TracingRecord

#: Connections whose end is awaited, and Envoys' that may carry a request.
OPEN, CARRYING = 1024, 4096
#: Nanoseconds after which a connection that is open is told.
PATIENCE = 60 * 10**9

_TCP = 6
_BOTH_FINS = FlowFlags.FIN_A | FlowFlags.FIN_B
#: src, protocol, type, verdict, reason and flags of a packed Event.
_CHOSEN = struct.Struct("=8x16s58xBBBBB")
#: Drops that are verdicts on the caller, rather than packets of which nothing is sure.
_REFUSALS = (DropReason.POLICY_EGRESS, DropReason.POLICY_INGRESS, DropReason.NO_BACKEND)


@dataclass(slots=True)
class _Connection:
    """Seen by the kernel at `start`. `first` is the span of the first traced request that it carried."""

    record: TracingRecord
    start: int
    attributes: Attributes
    first: Context | None = None


class Connections:
    """`flow` gives an event its names, `emit` tells a span, `allows` asks the bound, `chance` is a random
    number below 1."""

    def __init__(
        self,
        traced: Traced,
        flow: Callable[[bytes], Flow],
        emit: Callable[[Span], Context],
        allows: Callable[[], bool],
        chance: Callable[[], float],
    ) -> None:
        self._traced = traced
        self._flow = flow
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
        return list(self._open)

    def look(self, flows: Mapping[bytes, bytes | None], offset: int, now: int) -> None:
        """What that table said of them (None: nothing), `offset` from its clock to the epoch."""
        for key, value in flows.items():
            connection = self._open.get(key)
            if connection is None:
                continue
            flow = FlowValue.unpack(value) if value else None
            if flow is None:
                self._end(key, now)
            elif flow.flags & FlowFlags.CLOSED:
                if flow.flags & _BOTH_FINS != _BOTH_FINS:
                    connection.attributes["sluice.connection.reset"] = True
                self._end(key, flow.seen_ns + offset)
            elif now - connection.start > PATIENCE:
                self._give_up(key, now)

    # --- connections of pods ---------------------------------------------------------------------

    def _begin(self, record: TracingRecord, packed: bytes, offset: int) -> None:
        event = Event.unpack(packed)
        key, at = _key(event), event.time_ns + offset
        if key in self._open:
            self._end(key, at)
        if (address_text(event.dst), event.dst_port) in self._traced.addresses(record.collector):
            return  # A pod that tells spans of its own would have one made for each telling.
        if self._is_chosen(record) and self._allows():
            if len(self._open) >= OPEN:
                self._give_up(next(iter(self._open)), at)
            self._open[key] = self._connection(record, event, packed, offset)

    def _give_up(self, key: bytes, now: int) -> None:
        self._open[key].attributes["sluice.connection.open"] = True
        self._end(key, now)

    def _refuse(self, record: TracingRecord, packed: bytes, offset: int) -> None:
        if self._is_chosen(record) and self._allows():
            found = self._connection(record, Event.unpack(packed), packed, offset)
            why = str(found.attributes["error.type"])
            self._emit(Span(record, name(found.attributes), found.start, found.start, found.attributes, why))

    def _cut(self, packed: bytes, offset: int) -> None:
        """A sweep has ended it: the newest policy does not allow it (rule 7)."""
        event = Event.unpack(packed)
        key = _key(event)
        if connection := self._open.get(key):
            flow = self._flow(packed)
            connection.attributes |= {
                "sluice.verdict": "denied",
                "sluice.policy": "; ".join(flow.policies),
                "sluice.kernel.generation": event.generation,
                "error.type": flow.drop_reason,
            }
            self._end(key, event.time_ns + offset)

    def _end(self, key: bytes, at: int) -> None:
        found = self._open.pop(key)
        why = str(found.attributes.get("error.type", ""))
        # The table's clock is coarse.
        end = max(found.start, at)
        self._emit(Span(found.record, name(found.attributes), found.start, end, found.attributes, why))

    def _is_chosen(self, record: TracingRecord) -> bool:
        return self._chance() * ALL < record.sampling

    # --- connections of Envoys -------------------------------------------------------------------

    def _remember(self, record: TracingRecord, packed: bytes, offset: int) -> None:
        event = Event.unpack(packed)
        key = _key(event)
        self._carrying.pop(key, None)  # The newest stands last.
        self._carrying[key] = self._connection(record, event, packed, offset)
        if len(self._carrying) > CARRYING:
            del self._carrying[next(iter(self._carrying))]

    def _join(self, parent: Context, request: LoggedRequest) -> None:
        """A span for each request: it would be in the trace of one only, were it of the connection."""
        own, to = leg(request), request.upstream
        key = FlowKey.of(pack(own.local.ip), own.local.port, pack(to.ip), to.port, _TCP).pack()
        found = self._carrying.get(key)
        if found is None or not self._allows():
            return
        began = round(request.started * 1e9)
        reused = found.start < began
        start = began + round(own.first_sent * 1e9) if reused else found.start
        end = max(start, began + round((own.last_got or request.lasted) * 1e9))
        said = found.attributes | serving(request.cluster) | {"sluice.connection.reused": reused}
        links = (found.first,) if reused and found.first else ()
        told = self._emit(Span(found.record, name(said), start, end, said, "", parent, links))
        found.first = found.first or told

    def _connection(self, record: TracingRecord, event: Event, packed: bytes, offset: int) -> _Connection:
        """Names are those of this moment: an address may change hands."""
        flow = self._flow(packed)
        return _Connection(record, event.time_ns + offset, attributes(event, flow))


def _key(event: Event) -> bytes:
    return FlowKey.of(event.src, event.src_port, event.dst, event.dst_port, event.protocol).pack()
