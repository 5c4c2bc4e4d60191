"""What would happen to one connection or request, and which rules decide it.

Asks the reference semantics (`mesh.policies.policy`), not the compiled tables, so that an explanation and
the data path are two witnesses. The result is plain data, ready for JSON.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

from mesh.answers import led
from mesh.answers.called import UnknownName, caller_at, meant, service_at, split_target
from mesh.answers.met import in_mutual_tls, judge
from mesh.answers.onward import onward
from mesh.answers.reasons import Reason, reason, remedies, said
from mesh.answers.steering_table import CALLER, KERNEL
from mesh.assemble import Mesh
from mesh.model import (
    Backend,
    Protocol,
    ServiceName,
    Workload,
)
from mesh.policies.registry import Registries
from mesh.proxy import RoutedPort, RouteEntry, Target
from mesh.request import Request
from mesh.request_path import normalise
from mesh.routes import routing, steer
from mesh.routes.balance import BalancedPort, balanced_ports, preferring
from mesh.routes.nearness import preferred

Path = Literal["kernel", "envoy"]

_BY_PLACE = "by the caller's place"


def explain(
    mesh: Mesh,
    source: str,
    target: str,
    protocol: Protocol = "TCP",
    request: Request | None = None,
) -> dict[str, Any]:
    """The verdict, the path, and each rule that matters, for `namespace/pod`, or an address, calling
    `namespace/service:port`, `host:port` or `address:port`. Raises UnknownName."""
    caller, sources = caller_at(mesh, source)
    if request is not None:
        path = normalise(request.path, mesh.config.path_normalization)
        if path is None:
            raise UnknownName(f"Envoy refuses the path {request.path!r} with 400")
        request = replace(request, path=path)
    host, port = split_target(target)
    host = meant(mesh, host, caller)
    service = service_at(mesh, host, port, protocol)
    routed: RoutedPort | None = None
    if caller is not None and service is not None and protocol == "TCP":
        ports = steer.routed_ports(mesh, mesh.callers.of(caller.name), service)
        routed = next((r for r in ports if _is_at(r, host, port)), None)

    reasons: list[Reason] = []
    status: int | None = None
    shares: list[tuple[Backend, float | None]]
    asked: dict[Backend, Request] = {}
    if caller is not None and routed is not None:
        entry = routing.choose(routed.entries, request) if request else None
        chosen = [entry] if entry else _rules(routed.entries) if request is None else []
        for taken in chosen:
            reasons += led.told(taken)
        reasons += [said(key, _BY_PLACE, CALLER) for key in dict.fromkeys(_preferring(mesh, caller, chosen))]
        shares, status = led.destinations(mesh, caller, chosen, request, asked, reasons)
        if request is not None and entry is None:
            names = sorted({str(e.origin) for e in routed.entries})
            reasons.append(reason(", ".join(names), "rules", "no rule matches: 404", CALLER))
            status = 404
    elif service is not None:
        shares = _shared_out(mesh, caller, sources[0], service, port, protocol, host, reasons)
        if not shares:
            reasons.append(reason(f"Service {service}", "", "no ready backend: connection refused", KERNEL))
    else:
        shares = [(Backend(host, port, mesh.owners.get(host)), None)]

    registries = Registries(mesh)
    begun = in_mutual_tls(mesh, caller, routed.targets) if caller and routed else frozenset[Backend]()
    met = [
        (judge(mesh, registries, sources, b, protocol, asked.get(b, request), begun), share)
        for b, share in shares
    ]
    for judgement, _ in met:
        reasons += [told for told in judgement.finding.reasons if told not in reasons]
    steered = routed is not None or any(j.finding.steered for j, _ in met)
    # What no backend can take is denied; what Envoy answers itself (404, 500, a redirect) is not.
    allowed = any(j.finding.allowed for j, _ in met) or (not met and status is not None)
    answer: dict[str, Any] = {
        "verdict": "allow" if allowed else "deny",
        "path": "envoy" if steered else "kernel",
        "reasons": reasons,
        "backends": [judgement.plain(share) for judgement, share in met],
    }
    if status is not None:
        answer["status"] = status
    reached = (judgement.backend for judgement, _ in met if judgement.finding.allowed)
    legs = (onward(mesh, registries, b, protocol, asked.get(b, request)) for b in reached)
    found = next(filter(None, legs), None)
    if found is not None:
        answer |= {"onward": found, "path": "envoy"}
        if "status" in found:
            answer["status"] = found["status"]
        elif found["backends"] and all(one["verdict"] == "deny" for one in found["backends"]):
            answer["verdict"] = "deny"
    if answer["verdict"] == "deny":
        answer["to_allow"] = remedies([*reasons, *(found["reasons"] if found else ())])
    return answer


def _rules(entries: Sequence[RouteEntry]) -> list[RouteEntry]:
    """Of each rule one, whatever it matches."""
    return list({(str(entry.origin), entry.rule.field): entry for entry in reversed(entries)}.values())[::-1]


def _is_at(routed: RoutedPort, host: str, port: int) -> bool:
    """Of a headless service a name means the first of its backends, as all are alike."""
    if routed.backend is None or "/" in host:
        return routed.port == port
    return (routed.backend.address, routed.backend.port) == (host, port)


def _shared_out(
    mesh: Mesh,
    caller: Workload | None,
    source: str,
    service: ServiceName,
    port: int,
    protocol: Protocol,
    host: str,
    reasons: list[Reason],
) -> list[tuple[Backend, float | None]]:
    """The backends among which the kernel chooses, with their share where a rule says it."""
    ports = balanced_ports(mesh, mesh.callers.of(caller.name), service, ()) if caller else ()
    found = next((b for b in ports if (b.port.port, b.port.protocol) == (port, protocol)), None)
    if found is None:
        ready = mesh.backends[service].get((port, protocol), ())
        return [(b, None) for b in led.family(ready, source, host)]
    reasons.append(said(found.key, _manner(found), KERNEL))
    weights = dict(found.shares)
    alike = led.family([b for b in weights if b.port], source, host)
    whole = sum(weights[b] for b in led.family(list(weights), source, host))
    return [(b, float(weights[b] / whole)) for b in alike if weights[b]]


def _manner(found: BalancedPort) -> str:
    if found.by_client:
        return "by the client's address"
    return _BY_PLACE if found.by_place else "route"


def _preferring(mesh: Mesh, caller: Workload, entries: Sequence[RouteEntry]) -> Iterator[str]:
    """The rules by which an Envoy prefers some of the backends to which it sends."""
    seen = mesh.callers.of(caller.name)
    for goal in filter(None, (Target.of(b) for entry in entries for b in entry.rule.backends)):
        found = steer.members(mesh, seen, goal)
        if found and preferred(mesh, seen, goal.service, found[1], found[0]) is not None:
            rule = mesh.destination_rules.find(seen, goal.service, mesh.config.root_namespace)
            yield preferring(mesh, goal.service, rule, found[1])
