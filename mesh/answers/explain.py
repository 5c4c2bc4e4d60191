"""What would happen to one connection or request, and which rules decide it.

Asks the reference semantics (`mesh.policies.policy`), not the compiled tables, so that an explanation and
the data path are two witnesses. The result is plain data, ready for JSON.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal

from mesh.answers.called import UnknownName, caller_at, meant, service_at, split_target
from mesh.answers.reasons import Reason, reason, remedies, said
from mesh.answers.stages import Finding, Question, judged
from mesh.answers.steering_table import CALLER, KERNEL
from mesh.assemble import Mesh
from mesh.model import (
    Backend,
    Protocol,
    RouteBackend,
    ServiceName,
    Workload,
)
from mesh.policies.policy import Party
from mesh.policies.registry import Registries
from mesh.proxy import RoutedPort, RouteEntry, Target
from mesh.request import Request
from mesh.request_path import normalise
from mesh.routes import routing, steer
from mesh.routes.balance import BalancedPort, balanced_ports, preferring
from mesh.routes.nearness import nearest, preferred
from mesh.routes.route_effects import ALL, effects

Path = Literal["kernel", "envoy"]

_BY_PLACE = "by the caller's place"


@dataclass(frozen=True, slots=True)
class Judgement:
    """One backend as the caller meets it."""

    backend: Backend
    finding: Finding

    def plain(self, share: float | None) -> dict[str, Any]:
        answer: dict[str, Any] = {
            "address": self.backend.address,
            "port": self.backend.port,
            "pod": str(self.backend.workload) if self.backend.workload else None,
            "verdict": "allow" if self.finding.allowed else "deny",
            "path": "envoy" if self.finding.steered else "kernel",
        }
        return answer if share is None else answer | {"share": round(share, 4)}


def party(mesh: Mesh, address: str) -> Party:
    """Who an address is."""
    owner = mesh.owners.get(address)
    number = mesh.identities.of.get(owner) if owner else None
    if owner is None or number is None:
        return Party(address, host=address in mesh.nodes.hosts, remote_node=address in mesh.nodes.remote)
    return Party(address, owner, mesh.identities.all[number].mapping, declared=mesh.declared(owner))


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
            effect = "begins mutual TLS" if taken.origin.kind == "PeerAuthentication" else "route"
            reasons.append(reason(str(taken.origin), taken.rule.field, effect, CALLER))
            reasons += [reason(str(taken.origin), e.field, e.text, e.row.place) for e in effects(taken)]
        reasons += [said(key, _BY_PLACE, CALLER) for key in dict.fromkeys(_preferring(mesh, caller, chosen))]
        shares, status = _destinations(mesh, caller, chosen, request, asked, reasons)
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
    begun = _in_mutual_tls(mesh, caller, routed) if caller and routed else frozenset[Backend]()
    met = [
        (_judge(mesh, registries, sources, b, protocol, asked.get(b, request), begun), share)
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
    if not allowed:
        answer["to_allow"] = remedies(reasons)
    return answer if status is None else answer | {"status": status}


def _rules(entries: Sequence[RouteEntry]) -> list[RouteEntry]:
    """Of each rule one, whatever it matches."""
    return list({(str(entry.origin), entry.rule.field): entry for entry in reversed(entries)}.values())[::-1]


def _is_at(routed: RoutedPort, host: str, port: int) -> bool:
    """Of a headless service a name means the first of its backends, as all are alike."""
    if routed.backend is None or "/" in host:
        return routed.port == port
    return (routed.backend.address, routed.backend.port) == (host, port)


def _in_mutual_tls(mesh: Mesh, caller: Workload, routed: RoutedPort) -> frozenset[Backend]:
    """Those to whom the caller's Envoy speaks it."""
    found: set[Backend] = set()
    for target in routed.targets:
        if members := steer.members(mesh, mesh.callers.of(caller.name), target):
            found.update(steer.mutual(mesh, target, members[1], members[0]))
    return frozenset(found)


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
        return [(b, None) for b in _family(ready, source, host)]
    reasons.append(said(found.key, _manner(found), KERNEL))
    weights = dict(found.shares)
    alike = _family([b for b in weights if b.port], source, host)
    whole = sum(weights[b] for b in _family(list(weights), source, host))
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


def _judge(
    mesh: Mesh,
    registries: Registries,
    sources: Sequence[str],
    backend: Backend,
    protocol: Protocol,
    request: Request | None,
    begun: Container[Backend],
) -> Judgement:
    """Mutual TLS is `begun` with some backends."""
    same_family = [a for a in sources if (":" in a) == (":" in backend.address)]
    caller, callee = party(mesh, (same_family or list(sources))[0]), party(mesh, backend.address)
    question = Question(caller, callee, protocol, backend.port, request, backend in begun)
    return Judgement(backend, judged(mesh, registries, question))


def _destinations(
    mesh: Mesh,
    caller: Workload,
    entries: Sequence[RouteEntry],
    request: Request | None,
    asked: dict[Backend, Request],
    reasons: list[dict[str, str]],
) -> tuple[list[tuple[Backend, float | None]], int | None]:
    """The backends behind route entries with their share, and the status that Envoy answers itself. Among
    several rules the requests decide, and nobody knows their shares.

    `asked` receives the request that each backend is sent, `reasons` what gets lost."""
    shares: dict[Backend, float] = {}
    status: int | None = None
    for entry in entries:
        rule = entry.rule
        if rule.redirect is not None or rule.direct is not None:
            status = rule.redirect.status if rule.redirect else rule.direct.status if rule.direct else None
            continue
        if rule.fault is not None and rule.fault.status and rule.fault.aborted == ALL:
            status = rule.fault.status
            continue
        total = sum(b.weight for b in rule.backends)
        if not total:
            status = rule.lost
        for target in rule.backends:
            if not target.weight:
                continue
            backends = _backends_of(mesh, caller, target)
            if not backends:
                status = rule.lost if backends is None else 503
                share = "" if target.weight == total else f"{target.weight / total:.0%} of the requests get "
                effect = f"{share}{status}: nothing is behind {_called(target)}"
                reasons.append(reason(str(entry.origin), rule.field, effect, CALLER))
                continue
            whole = sum(weight for _, weight in backends)
            for backend, weight in backends:
                part = target.weight / total * float(weight / whole)
                shares[backend] = shares.get(backend, 0.0) + part
                if request is not None:
                    asked[backend] = routing.forwarded(entry, target, request)
    alone = len(entries) == 1
    found = [(backend, share if alone else None) for backend, share in sorted(shares.items())]
    return found, status if not shares else None


def _called(target: RouteBackend) -> str:
    subset = f", subset {target.subset}" if target.subset else ""
    return f"{target.service}:{target.port}{subset}" if target.service else "a backend that is unknown"


def _backends_of(
    mesh: Mesh, caller: Workload, target: RouteBackend
) -> tuple[tuple[Backend, Fraction], ...] | None:
    """The nearest, with their weights; None where the mesh has no such service port or subset."""
    goal, address, seen = Target.of(target), caller.addresses[0], mesh.callers.of(caller.name)
    found = steer.members(mesh, seen, goal) if goal else None
    if goal is None or found is None:
        return None
    return nearest(mesh, seen, goal.service, found[1], _family(found[0], address, address))


def _family(backends: Sequence[Backend], source: str, target: str) -> list[Backend]:
    """Backends of the family that is dialled; a name prefers the caller's first family."""
    like = target if target.count(":") > 1 or target.replace(".", "").isdigit() else source
    return [b for b in backends if (":" in b.address) == (":" in like)]
