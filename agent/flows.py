"""Flows of this node: from the kernel's events and Envoy's access logs to records with names.

Keeps the newest in memory and hands them to whoever follows. What comes faster than it can be told is lost
and counted, never waited for. Knows no HTTP and no files.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime
from functools import partial

from agent.access_log import LoggedRequest, Refusal
from agent.judgement import judge
from agent.names import Names, judges, pack, protocol_name, refuses
from bpf.layout import Audit, DropReason, Event, EventFlags, EventType, Verdict, address_text
from mesh.answers.flow import Flow, FlowPath, FlowVerdict, Peer, Request
from mesh.dns import PORT, Observation
from mesh.model import ServiceName
from mesh.node import WorkloadRecord

#: Flows kept for `last`, and those that wait for one slow follower.
KEPT = 8192
#: Events told per look at the ring; the rest of that look is counted as lost.
BUDGET = 8192


#: Makes a flow of what was seen. Most flows are never asked for, so none is made before somebody does.
Telling = Callable[[], Flow]

#: src, dst, vip, cookie and audit_cookie of a packed Event.
_NAMED = struct.Struct("=8x16s16s16s8xII")

_AUDITED: dict[int, FlowVerdict] = {
    Audit.DENY: "DROPPED",
    Audit.ALLOW: "FORWARDED",
    Audit.STEER: "REDIRECTED",
}


class FlowLog:
    """The newest flows, and those who follow."""

    def __init__(self) -> None:
        self._flows: deque[Telling] = deque(maxlen=KEPT)
        self._followers: set[asyncio.Queue[Telling]] = set()
        self.lost = 0

    def add(self, flow: Telling) -> None:
        self._flows.append(flow)
        for queue in self._followers:
            if queue.full():
                queue.get_nowait()
                self.lost += 1
            queue.put_nowait(flow)

    def add_all(self, flows: list[Telling]) -> None:
        """The same for many that nobody may be waiting for."""
        if self._followers:
            for flow in flows:
                self.add(flow)
        else:
            self._flows.extend(flows)

    def last(self, count: int) -> list[Flow]:
        """The newest `count` flows, oldest first."""
        return [tell() for tell in self._newest(count)]

    async def follow(self, last: int) -> AsyncIterator[Flow]:
        """The newest `last` flows and then each as it comes; a slow reader loses the oldest."""
        queue: asyncio.Queue[Telling] = asyncio.Queue(KEPT)
        for flow in self._newest(last):
            queue.put_nowait(flow)
        self._followers.add(queue)
        try:
            while True:
                yield (await queue.get())()
        finally:
            self._followers.discard(queue)

    def _newest(self, count: int) -> list[Telling]:
        return list(self._flows)[-count:] if count > 0 else []


class FlowTeller:
    """Makes flows of events and log entries."""

    def __init__(self, names: Names, log: FlowLog) -> None:
        self._names = names
        self._log = log

    def tell(self, records: list[bytes]) -> None:
        """Take in what the ring held."""
        tell, offset = self._telling, _to_epoch()
        self._log.add_all([tell(record, offset) for record in records[:BUDGET]])
        self._log.lost += max(0, len(records) - BUDGET)

    def telling(self, record: bytes) -> Telling:
        """What one event of the ring says, with the names of this moment: an address may change hands."""
        return self._telling(record, _to_epoch())

    def tell_request(self, addresses: tuple[str, ...], request: LoggedRequest) -> None:
        """Take in one entry of the access log of the Envoy of the pod with these addresses."""
        names = self._names
        inbound = request.local.ip in addresses
        target = request.local if inbound or not request.upstream.ip else request.upstream
        # An application that was steered reached its Envoy over loopback: its address is the pod's.
        caller = pack(request.remote.ip if inbound else next(iter(addresses), ""))
        self._log.add(
            partial(
                _of_request,
                request,
                inbound,
                (caller, request.remote.port, names.workload(caller)),
                (pack(target.ip), target.port, names.workload(pack(target.ip))),
                # A request that has come in was for a pod: whoever that one stands behind was meant.
                names.service_at(*request.local) if inbound else names.service(pack(request.local.ip)),
                names.judging(request.route),
                names.logs,
            )
        )

    def tell_refusal(self, addresses: tuple[str, ...], refusal: Refusal) -> None:
        """Take in a connection that the Envoy of the pod with these addresses let nowhere."""
        inbound = refusal.local.ip in addresses
        names, local = self._names, pack(refusal.local.ip)
        service = names.service_at(*refusal.local) if inbound else names.service(local)
        rules = refuses(names.judging(refusal.route), refusal.unproven)
        caller = pack(refusal.remote.ip if inbound else next(iter(addresses), ""))
        flow = Flow(
            time=_rfc3339(refusal.started),
            source=self._peer(caller, refusal.remote.port),
            destination=self._peer(local, refusal.local.port, service=str(service) if service else ""),
            verdict="DROPPED",
            path="envoy",
            direction="ingress" if inbound else "egress",
            protocol="TCP",
            drop_reason="AUTH_REQUIRED" if refusal.unproven else "L7_POLICY",
            policies=rules,
            policy_log=names.logs(rules),
        )
        self._log.add(lambda: flow)

    def tell_query(self, query: Observation) -> None:
        """Take in what the resolver answered."""
        flow = Flow(
            time=_rfc3339(query.time),
            source=self._peer(pack(query.caller), query.caller_port),
            destination=self._peer(pack(query.resolver), PORT),
            verdict="FORWARDED" if query.allowed else "DROPPED",
            path="resolver",
            direction="egress",
            protocol=query.transport,
            type="L7",
            drop_reason="" if query.allowed else "L7_POLICY",
            policies=query.rules,
            audit="" if query.audit is None else "FORWARDED" if query.audit else "DROPPED",
            dns=query.answer,
            policy_log=self._names.logs(query.rules),
        )
        self._log.add(lambda: flow)

    def _telling(self, record: bytes, offset: int) -> Telling:
        src, dst, vip, cookie, audit_cookie = _NAMED.unpack_from(record)
        names = self._names
        workload, rules = names.workload, names.rules
        return partial(
            _of_event,
            record,
            offset,
            workload(src),
            workload(dst),
            names.service(vip),
            rules(cookie),
            rules(audit_cookie),
            names.logs,
        )

    def _peer(self, address: bytes, port: int, security_id: int = 0, service: str = "") -> Peer:
        return _peer(address, port, self._names.workload(address), security_id, service)


def _of_request(
    request: LoggedRequest,
    inbound: bool,
    source: tuple[bytes, int, WorkloadRecord | None],
    destination: tuple[bytes, int, WorkloadRecord | None],
    service: ServiceName | None,
    known: tuple[str, ...],
    logs: Callable[[Iterable[str]], tuple[str, ...]],
) -> Flow:
    found = judge(request.details, request.said, request.tokens)
    # Envoy's name of a route is the key of its rule, before the number of a class; the others have no rule.
    route = (request.route.partition("|")[0],) if " " in request.route else ()
    policies = (*route, *judges(known, found.rules, found.missing))
    audit_policies = judges(known, found.audit_rules, found.audit_missing)
    return Flow(
        time=_rfc3339(request.started),
        source=_peer(*source, principal=request.principals.peer),
        destination=_peer(*destination, 0, str(service) if service else ""),
        verdict="DROPPED" if found.denied else "FORWARDED",
        path="envoy",
        direction="ingress" if inbound else "egress",
        protocol="TCP",
        type="L7",
        drop_reason="L7_POLICY" if found.denied else "",
        policies=policies,
        audit=found.audit,
        audit_policies=audit_policies,
        policy_log=logs((*policies, *audit_policies)),
        l7=Request(
            request.method,
            request.path,
            request.authority,
            request.status,
            round(request.duration * 1000, 3),
        ),
    )


def _of_event(
    record: bytes,
    offset: int,
    source: WorkloadRecord | None,
    destination: WorkloadRecord | None,
    service: ServiceName | None,
    rules: tuple[str, ...],
    audit_rules: tuple[str, ...],
    logs: Callable[[Iterable[str]], tuple[str, ...]],
) -> Flow:
    event = Event.unpack(record)
    dropped = event.verdict == Verdict.DENY or event.type in (EventType.DROP, EventType.END)
    redirected = bool(event.flags & EventFlags.REDIRECTED) or event.verdict == Verdict.STEER
    verdict: FlowVerdict = "DROPPED" if dropped else "REDIRECTED" if redirected else "FORWARDED"
    path: FlowPath = "envoy" if redirected or event.flags & EventFlags.BY_PROXY else "kernel"
    return Flow(
        time=_rfc3339((event.time_ns + offset) / 1e9),
        source=_peer(event.src, event.src_port, source, event.src_id),
        destination=_peer(
            event.dst, event.dst_port, destination, event.dst_id, str(service) if service else ""
        ),
        verdict=verdict,
        path=path,
        direction="egress" if event.flags & EventFlags.EGRESS else "ingress",
        protocol=protocol_name(event.protocol),
        drop_reason=_reason(event) if dropped else "",
        policies=rules,
        audit=_AUDITED.get(event.audit, ""),
        audit_policies=audit_rules,
        policy_log=logs((*rules, *audit_rules)),
    )


def _peer(
    address: bytes,
    port: int,
    owner: WorkloadRecord | None,
    security_id: int = 0,
    service: str = "",
    principal: str = "",
) -> Peer:
    ip = address_text(address)
    if owner is None:
        return Peer(ip, port, security_id=security_id, service=service, principal=principal)
    name = owner.name
    return Peer(ip, port, name.namespace, name.name, security_id or owner.security_id, service, principal)


def _reason(event: Event) -> str:
    if event.type == EventType.END and not event.reason:
        return "POLICY_CHANGED"
    try:
        return DropReason(event.reason).name
    except ValueError:
        return f"REASON_{event.reason}"


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _to_epoch() -> int:
    """Nanoseconds from the clock of events to the epoch, now."""
    return time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
