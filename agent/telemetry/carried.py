"""TCP connections that Envoys carry, as these tell of them. One is counted when every Envoy on it has told
it: who takes it for HTTP tells requests instead (rule 25).

An Envoy reports its own end, and the other one where no Envoy is; a Gateway's reports what it opens and not
what comes in, as with Istio. Which ends are Envoys' is in the kernel's table of flows. Knows no kernel.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from agent.access_log import Address, LoggedConnection
from agent.names import Names, pack
from agent.sandbox import Sandbox
from agent.telemetry import traffic
from agent.telemetry.conversation import Conversation, Reporter, party
from agent.telemetry.services import meant, reporter
from bpf.layout import NO_ADDRESS, FlowFlags, FlowKey, FlowValue, TrafficKey
from mesh.model import WorkloadName

#: Connections that are open, and those that have ended of which another Envoy may still tell.
OPEN, ENDED = 65536, 1024

_TCP = 6

#: What the Envoy of a pod told, in the order in which it came; None: it is gone, and its connections with it.
Told = tuple[Sandbox, LoggedConnection | None]
#: Of the kernel's table of flows, packed.
Flows = Mapping[bytes, bytes | None]


class Count(NamedTuple):
    """What one pod has to add to its metrics. `received` are bytes of the end that opened, `sent` to it."""

    pod: WorkloadName
    said: Conversation
    opened: int
    closed: int
    received: int
    sent: int


class _Leg(NamedTuple):
    """A connection of two pods, or of a pod and the world, of which an Envoy has at least one end."""

    opener: Address
    acceptor: Address

    @property
    def flow(self) -> bytes:
        (a, a_port), (b, b_port) = self
        return FlowKey.of(pack(a), a_port, pack(b), b_port, _TCP).pack()


@dataclass(slots=True)
class _Side:
    """What one Envoy reports of it, and the bytes received and sent once it has ended."""

    reports: tuple[tuple[WorkloadName, Conversation], ...]
    volume: tuple[int, int] | None = None
    is_counted: bool = False

    def counts(self) -> Iterator[Count]:
        if self.is_counted and self.volume is None:
            return
        opened, self.is_counted = not self.is_counted, True
        for pod, said in self.reports:
            yield Count(pod, said, int(opened), int(self.volume is not None), *(self.volume or (0, 0)))


@dataclass(slots=True)
class _Connection:
    """So many Envoys are on it; `sides` are those that have told it and not yet that it has ended."""

    envoys: int
    sides: dict[WorkloadName, _Side] = field(default_factory=dict)
    is_tcp: bool = False


class Carried:
    """Remembers what is open. What it yields has to be taken."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._open: dict[_Leg, _Connection] = {}
        self._ended: dict[_Leg, _Connection] = {}

    def flows(self, told: Iterable[Told]) -> set[bytes]:
        """Keys of the flows that `counts` must know of."""
        return {
            leg.flow
            for sandbox, connection in told
            if connection and _begins(connection)
            for leg, _ in self._legs(sandbox, connection)
        }

    def counts(self, told: Iterable[Told], flows: Flows) -> Iterator[Count]:
        """What there is to count by now."""
        for sandbox, connection in told:
            if connection is None:
                for leg in [leg for leg, known in self._open.items() if sandbox.pod in known.sides]:
                    yield from self._end(leg, sandbox.pod, (0, 0))
                continue
            volume = connection.received, connection.sent
            for leg, outward in self._legs(sandbox, connection):
                if _begins(connection) and (flow := flows.get(leg.flow)):
                    yield from self._begin(leg, outward, sandbox.pod, connection, FlowValue.unpack(flow))
                if connection.ended:
                    yield from self._end(leg, sandbox.pod, volume)
            if not connection.own.ip and self._side(sandbox, connection) == "source":
                own = party(self._names.workload(pack(sandbox.addresses[0])))
                service = meant(self._names, connection.cluster, connection.local)
                said = Conversation("source", own, None, service, "tcp", flags=connection.flags)
                yield Count(sandbox.pod, said, 1, 1, *volume)

    def _side(self, sandbox: Sandbox, connection: LoggedConnection) -> Reporter | None:
        return reporter(self._names, sandbox.addresses, connection)

    def _legs(self, sandbox: Sandbox, connection: LoggedConnection) -> Iterator[tuple[_Leg, bool]]:
        """What the Envoy has accepted and what it has opened (True), but for what stays in the pod."""
        side = self._side(sandbox, connection)
        if side and connection.local.ip in sandbox.addresses:
            yield _Leg(connection.remote, connection.local), False
        if side == "source" and connection.own.ip:
            yield _Leg(connection.own, connection.upstream), True

    def _begin(
        self, leg: _Leg, outward: bool, pod: WorkloadName, connection: LoggedConnection, flow: FlowValue
    ) -> Iterator[Count]:
        if flow.flags & FlowFlags.MIDWAY or self._leaves(leg, flow):
            return
        # In a flood of SYNs only the listener of a class is known (`bpf/traffic.h`).
        accepted = flow.flags & FlowFlags.TO_PROXY or flow.listener
        envoys = bool(flow.flags & FlowFlags.BY_PROXY) + bool(accepted)
        known = self._open.pop(leg, None) or self._ended.pop(leg, None)
        if known is None or pod in known.sides:
            known = _Connection(envoys)
        known.sides[pod] = _Side(tuple(self._reports(leg, outward, envoys == 1, connection)))
        _put(self._open, leg, known, OPEN)
        yield from self._settle(leg, known)

    def _leaves(self, leg: _Leg, flow: FlowValue) -> bool:
        """Is the other end a pod of another node, which knows whether an Envoy is there?"""
        is_local = flow.ifindex_a and flow.ifindex_b
        return not is_local and all(self._names.workload(pack(address.ip)) for address in leg)

    def _reports(
        self, leg: _Leg, outward: bool, alone: bool, connection: LoggedConnection
    ) -> Iterator[tuple[WorkloadName, Conversation]]:
        names, (opener, acceptor) = self._names, (pack(address.ip) for address in leg)
        port = leg.acceptor.port
        source, destination = names.workload(opener), names.workload(acceptor)
        if source and (outward or alone):
            said = traffic.conversation(names, TrafficKey(opener, acceptor, NO_ADDRESS, port, True))
            if outward:
                said = said._replace(service=meant(names, connection.cluster, connection.local))
            yield source.name, said
        if destination and (alone or not outward) and not names.is_gateway(*leg.acceptor):
            said = traffic.conversation(names, TrafficKey(acceptor, opener, NO_ADDRESS, port, False))
            if not outward:
                peer, local = connection.principals
                said = said._replace(source_principal=peer, destination_principal=local)
            yield destination.name, said

    def _end(self, leg: _Leg, pod: WorkloadName, volume: tuple[int, int]) -> Iterator[Count]:
        known = self._open.get(leg)
        if known is None or pod not in known.sides:
            return
        known.sides[pod].volume = volume
        yield from self._settle(leg, known)
        if leg in self._open and all(side.volume is not None for side in known.sides.values()):
            # Another Envoy on it has not told it yet, or never will.
            _put(self._ended, leg, self._open.pop(leg), ENDED)

    def _settle(self, leg: _Leg, known: _Connection) -> Iterator[Count]:
        known.is_tcp |= len(known.sides) == known.envoys
        if not known.is_tcp:
            return
        for pod, side in list(known.sides.items()):
            yield from side.counts()
            if side.volume is not None:
                del known.sides[pod]
        if not known.sides:
            del self._open[leg]


def _begins(connection: LoggedConnection) -> bool:
    """Is it told for the first time? Without a backend, when it has ended."""
    return not connection.ended or not connection.own.ip


def _put(into: dict[_Leg, _Connection], leg: _Leg, known: _Connection, most: int) -> None:
    """The oldest makes room."""
    into[leg] = known
    if len(into) > most:
        del into[next(iter(into))]
