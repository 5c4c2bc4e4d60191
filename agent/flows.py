"""Flows of this node: from the kernel's events and Envoy's access logs to records with names.

Keeps the newest in memory and hands them to whoever follows. What comes faster than it can be told is lost
and counted, never waited for. Knows no HTTP and no files.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from agent.access_log import LoggedRequest
from agent.names import Names, pack, protocol_name
from bpf.layout import NO_ADDRESS, DropReason, Event, EventFlags, EventType, Verdict, address_text
from mesh.flow import Flow, FlowPath, FlowVerdict, Peer, Request

#: Flows kept for `last`, and those that wait for one slow follower.
KEPT = 8192
#: Events told per look at the ring; the rest of that look is counted as lost.
BUDGET = 2048


class FlowLog:
    """The newest flows, and those who follow."""

    def __init__(self) -> None:
        self._flows: deque[Flow] = deque(maxlen=KEPT)
        self._followers: set[asyncio.Queue[Flow]] = set()
        self.lost = 0

    def add(self, flow: Flow) -> None:
        self._flows.append(flow)
        for queue in self._followers:
            if queue.full():
                queue.get_nowait()
                self.lost += 1
            queue.put_nowait(flow)

    def last(self, count: int) -> list[Flow]:
        """The newest `count` flows, oldest first."""
        return list(self._flows)[-count:] if count > 0 else []

    async def follow(self, last: int) -> AsyncIterator[Flow]:
        """The newest `last` flows and then each as it comes; a slow reader loses the oldest."""
        queue: asyncio.Queue[Flow] = asyncio.Queue(KEPT)
        for flow in self.last(last):
            queue.put_nowait(flow)
        self._followers.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._followers.discard(queue)


class FlowTeller:
    """Makes flows of events and log entries."""

    def __init__(self, names: Names, log: FlowLog) -> None:
        self._names = names
        self._log = log

    def tell(self, events: list[Event]) -> None:
        """Take in what the ring held."""
        offset = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        for event in events[:BUDGET]:
            self._log.add(self._of_event(event, offset))
        self._log.lost += max(0, len(events) - BUDGET)

    def tell_request(self, addresses: tuple[str, ...], request: LoggedRequest) -> None:
        """Take in one entry of the access log of the Envoy of the pod with these addresses."""
        self._log.add(self._of_request(addresses, request))

    def _of_event(self, event: Event, offset: int) -> Flow:
        dropped = event.verdict == Verdict.DENY or event.type in (EventType.DROP, EventType.END)
        redirected = bool(event.flags & EventFlags.REDIRECTED) or event.verdict == Verdict.STEER
        verdict: FlowVerdict = "DROPPED" if dropped else "REDIRECTED" if redirected else "FORWARDED"
        path: FlowPath = "envoy" if redirected or event.flags & EventFlags.BY_PROXY else "kernel"
        service = self._names.service(event.vip) if event.vip != NO_ADDRESS else None
        destination = self._peer(event.dst, event.dst_port, event.dst_id, str(service) if service else "")
        return Flow(
            time=_rfc3339((event.time_ns + offset) / 1e9),
            source=self._peer(event.src, event.src_port, event.src_id),
            destination=destination,
            verdict=verdict,
            path=path,
            direction="egress" if event.flags & EventFlags.EGRESS else "ingress",
            protocol=protocol_name(event.protocol),
            drop_reason=_reason(event) if dropped else "",
            policies=self._names.rules(event.cookie),
        )

    def _of_request(self, addresses: tuple[str, ...], request: LoggedRequest) -> Flow:
        inbound = request.local.ip in addresses
        service = self._names.service(pack(request.local.ip))
        target = request.local if inbound or not request.upstream.ip else request.upstream
        # An application that was steered reached its Envoy over loopback: its address is the pod's.
        caller = request.remote.ip if inbound else next(iter(addresses), "")
        source = self._peer(pack(caller), request.remote.port)
        denied = request.status == 403 and request.details.startswith("rbac_access_denied")
        return Flow(
            time=_rfc3339(request.started),
            source=source,
            destination=self._peer(pack(target.ip), target.port, 0, str(service) if service else ""),
            verdict="DROPPED" if denied else "FORWARDED",
            path="envoy",
            direction="ingress" if inbound else "egress",
            protocol="TCP",
            type="L7",
            drop_reason="L7_POLICY" if denied else "",
            policies=self._names.judges(request.route, request.rule),
            l7=Request(
                request.method,
                request.path,
                request.authority,
                request.status,
                round(request.duration * 1000, 3),
            ),
        )

    def _peer(self, address: bytes, port: int, security_id: int = 0, service: str = "") -> Peer:
        ip = address_text(address)
        found = self._names.workload(address)
        if found is None:
            return Peer(ip, port, security_id=security_id, service=service)
        name, known_id = found
        return Peer(ip, port, name.namespace, name.name, security_id or known_id, service)


def _reason(event: Event) -> str:
    if event.type == EventType.END and not event.reason:
        return "POLICY_CHANGED"
    try:
        return DropReason(event.reason).name
    except ValueError:
        return f"REASON_{event.reason}"


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
