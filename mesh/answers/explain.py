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
from mesh.answers.steering_table import CALLER, DESTINATION, KERNEL, RESOLVER
from mesh.assemble import Mesh
from mesh.model import (
    Authorization,
    Backend,
    Direction,
    EnvoyFilter,
    MeshConfig,
    MutualTls,
    Policy,
    Protocol,
    RateLimit,
    RequestAuthentication,
    RouteBackend,
    ServiceName,
    TierPolicy,
    Workload,
)
from mesh.policies.authorization import Forbidden, Granted, decide
from mesh.policies.policy import Allow, Deny, Party, Steer, caller_of, judge, permits
from mesh.policies.rate_limit import counts
from mesh.policies.references import AnyCondition
from mesh.policies.registry import Registries
from mesh.proxy import HttpRule, RoutedPort, RouteEntry, Target
from mesh.request import Request
from mesh.request_path import normalise
from mesh.routes import routing, steer
from mesh.routes.balance import BalancedPort, balanced_ports, preferring
from mesh.routes.nearness import nearest, preferred
from mesh.routes.route_effects import ALL, effects

Path = Literal["kernel", "envoy"]

#: What REGISTRY_ONLY does.
UNNAMED = "deny (no service that the pod sees names it)"

_BY_PLACE = "by the caller's place"


@dataclass(frozen=True, slots=True)
class Judgement:
    """One backend as the caller meets it."""

    backend: Backend
    allowed: bool
    steered: bool
    reasons: tuple[dict[str, str], ...]

    def plain(self, share: float | None) -> dict[str, Any]:
        answer: dict[str, Any] = {
            "address": self.backend.address,
            "port": self.backend.port,
            "pod": str(self.backend.workload) if self.backend.workload else None,
            "verdict": "allow" if self.allowed else "deny",
            "path": "envoy" if self.steered else "kernel",
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

    reasons: list[dict[str, str]] = []
    status: int | None = None
    shares: list[tuple[Backend, float | None]]
    asked: dict[Backend, Request] = {}
    if caller is not None and routed is not None:
        entry = routing.choose(routed.entries, request) if request else None
        chosen = [entry] if entry else _rules(routed.entries) if request is None else []
        for taken in chosen:
            effect = "begins mutual TLS" if taken.origin.kind == "PeerAuthentication" else "route"
            reasons.append(_reason(str(taken.origin), taken.rule.field, effect, CALLER))
            reasons += [_reason(str(taken.origin), e.field, e.text, e.row.place) for e in effects(taken)]
        reasons += [_said(key, _BY_PLACE, CALLER) for key in dict.fromkeys(_preferring(mesh, caller, chosen))]
        shares, status = _destinations(mesh, caller, chosen, request, asked, reasons)
        if request is not None and entry is None:
            names = sorted({str(e.origin) for e in routed.entries})
            reasons.append(_reason(", ".join(names), "rules", "no rule matches: 404", CALLER))
            status = 404
    elif service is not None:
        shares = _shared_out(mesh, caller, sources[0], service, port, protocol, host, reasons)
        if not shares:
            reasons.append(_reason(f"Service {service}", "", "no ready backend: connection refused", KERNEL))
    else:
        shares = [(Backend(host, port, mesh.owners.get(host)), None)]

    registries = Registries(mesh)
    begun = _in_mutual_tls(mesh, caller, routed) if caller and routed else frozenset[Backend]()
    judged = [
        (_judge(mesh, registries, sources, b, protocol, asked.get(b, request), begun), share)
        for b, share in shares
    ]
    for judgement, _ in judged:
        reasons += [reason for reason in judgement.reasons if reason not in reasons]
    steered = routed is not None or any(j.steered for j, _ in judged)
    # What no backend can take is denied; what Envoy answers itself (404, 500, a redirect) is not.
    allowed = any(j.allowed for j, _ in judged) or (not judged and status is not None)
    answer: dict[str, Any] = {
        "verdict": "allow" if allowed else "deny",
        "path": "envoy" if steered else "kernel",
        "reasons": reasons,
        "backends": [judgement.plain(share) for judgement, share in judged],
    }
    if not allowed:
        answer["to_allow"] = _remedies(reasons)
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
    reasons: list[dict[str, str]],
) -> list[tuple[Backend, float | None]]:
    """The backends among which the kernel chooses, with their share where a rule says it."""
    ports = balanced_ports(mesh, mesh.callers.of(caller.name), service, ()) if caller else ()
    found = next((b for b in ports if (b.port.port, b.port.protocol) == (port, protocol)), None)
    if found is None:
        ready = mesh.backends[service].get((port, protocol), ())
        return [(b, None) for b in _family(ready, source, host)]
    reasons.append(_said(found.key, _manner(found), KERNEL))
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
    caller = party(mesh, (same_family or list(sources))[0])
    callee = party(mesh, backend.address)
    allowed, steered, refused = True, False, False
    reasons: list[dict[str, str]] = []
    directions: tuple[tuple[Direction, Party, Party, str], ...] = (
        ("egress", caller, callee, CALLER),
        ("ingress", callee, caller, DESTINATION),
    )
    for direction, subject, peer, envoy in directions:
        selecting = [p for p in mesh.all_policies() if p.subject.matches(subject.labels)]
        asked = subject.workload if direction == "egress" else None
        registry = registries.of(asked) if asked else None
        consents = [policy for policy in selecting if isinstance(policy, Authorization)]
        tokens = [policy for policy in selecting if isinstance(policy, RequestAuthentication)]
        limited = [policy for policy in selecting if isinstance(policy, RateLimit)]
        filters = [policy for policy in selecting if isinstance(policy, EnvoyFilter)]
        network = [policy for policy in selecting if isinstance(policy, Policy | TierPolicy)]
        taker = subject.workload if direction == "ingress" else None
        mutual = mesh.peer_authentications.of(taker) if taker else None
        taken = mesh.sidecar_ingress(taker) if taker else None
        # Each on its own: whoever wants to change something must know of all that refuse.
        own: list[Sequence[AnyCondition]] = [[found] for found in (registry, mutual, taken) if found]
        for policies in (network, *own, tokens, consents, limited, filters):
            verdict = judge(policies, direction, subject, peer, protocol, backend.port, mesh.config)
            if not isinstance(verdict, Steer):
                refused = refused or isinstance(verdict, Deny)
                reasons += [_of_key(key, direction, verdict) for key in verdict.rules]
                continue
            steered = True
            if policies == [mutual]:
                effect = "ends mutual TLS"
                if backend not in begun and _strict(mutual, backend.port):
                    allowed, effect = False, "takes mutual TLS only, and nobody begins it"
                reasons += [_said(key, effect, envoy) for key in verdict.keys]
                continue
            if taken and policies == [taken]:
                at = taken.at(backend.port)
                effect = f"hands on to {at.endpoint}" if at and at.endpoint else "takes it in the pod's stead"
                reasons += [_said(key, effect, envoy) for key in verdict.keys]
                continue
            if policies is limited:
                reasons += [_said(key, "limits requests", envoy) for key in _limiting(limited, request)]
                continue
            if policies is filters:
                reasons += [_said(key, "changes the Envoy", envoy) for key in verdict.keys]
                continue
            if request is None:
                reasons += [_said(key, "steer", envoy) for key in verdict.keys]
                continue
            if policies is tokens:
                fits, said = True, [(key, "401 to a bad token; none passes") for key in verdict.keys]
            elif policies is network:
                fits, said = _network_says(verdict, request)
            else:
                fits, said = _authorization_says(consents, peer, backend.port, request, mesh.config)
            reasons += [_said(key, effect, envoy) for key, effect in said]
            allowed = allowed and fits
    # What the kernel refuses meets no Envoy.
    return Judgement(backend, allowed and not refused, steered and not refused, tuple(reasons))


def _strict(mutual: MutualTls | None, port: int) -> bool:
    found = mutual.at(port) if mutual else None
    return found is not None and found.mode == "STRICT"


Said = list[tuple[str, str]]


def _network_says(verdict: Steer, request: Request) -> tuple[bool, Said]:
    """Whether a request fits the HTTP rules, if there are any, and which."""
    if not verdict.rules:
        return True, []
    http = [rule for rule in verdict.rules if isinstance(rule, HttpRule)]
    fitting = permits(http, request)
    if fitting is not None:
        return True, [(fitting.key, "allow")]
    return False, [(rule.key, "no rule fits the request: 403") for rule in verdict.rules]


def _limiting(policies: Sequence[RateLimit], request: Request | None) -> list[str]:
    """The limits that a request uses up; without one, all."""
    return [
        f"{policy.ref} {limit.field}"
        for policy in policies
        for limit in policy.limits
        if request is None or counts(limit, request)
    ]


def _authorization_says(
    policies: Sequence[Authorization], peer: Party, port: int, request: Request, config: MeshConfig
) -> tuple[bool, Said]:
    match decide(policies, caller_of(peer), port, request, config):
        case Forbidden(keys):
            return False, [(key, "deny: 403") for key in keys]
        case Granted(keys, providers):
            asked = {
                f"{p.ref} {r.field}": p.provider for p in policies for r in p.rules if p.provider in providers
            }
            return True, [(key, "allow") for key in keys] + [
                (key, f"asks provider {provider}") for key, provider in asked.items()
            ]


def _of_key(key: str, direction: Direction, verdict: Allow | Deny) -> dict[str, str]:
    """A key without a field is a policy of which no rule fits."""
    kind, name, *field = key.split(" ", 2)
    effect, enforced_by = "deny" if isinstance(verdict, Deny) else "allow", KERNEL
    if isinstance(verdict, Deny) and verdict.unnamed:
        effect = UNNAMED
    if isinstance(verdict, Allow) and verdict.names is not None:
        patterns = ", ".join(sorted(pattern.text for pattern in verdict.names)) or "no name"
        effect, enforced_by = f"allow queries for {patterns}", RESOLVER
    if field:
        return _reason(f"{kind} {name}", field[0], effect, enforced_by)
    if kind == "AuthorizationPolicy":
        return _reason(f"{kind} {name}", "rules", f"{effect} (no rule fits)", enforced_by)
    return _reason(f"{kind} {name}", direction, f"{effect} ({direction} default)", enforced_by)


def _said(key: str, effect: str, enforced_by: str) -> dict[str, str]:
    kind, name, *field = key.split(" ", 2)
    return _reason(f"{kind} {name}", field[0] if field else "rules", effect, enforced_by)


def _remedies(reasons: Sequence[dict[str, str]]) -> list[str]:
    """What would have to change for what is denied to be allowed."""
    found = []
    for reason in reasons:
        what, rule, effect = reason["object"], reason["rule"], reason["effect"]
        if effect == UNNAMED:
            found.append("a Service or ServiceEntry that the pod sees must name it, with that port")
        elif effect.startswith("deny ("):
            found.append(f"{what} must get a rule under {rule} that allows it")
        elif effect.startswith("no rule fits") or (effect == "deny: 403" and rule == "rules"):
            found.append(f"{what} {rule} must allow such a request")
        elif effect.startswith("deny"):
            found.append(f"{what} {rule} must go, or leave it out")
    return list(dict.fromkeys(found))


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
                reasons.append(_reason(str(entry.origin), rule.field, effect, CALLER))
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


def _reason(name: str, rule: str, effect: str, enforced_by: str) -> dict[str, str]:
    return {"object": name, "rule": rule, "effect": effect, "enforced_by": enforced_by}
