"""What concerns one pod or one Service: its ports, the rules that bind it with the place where each is
enforced, and who may reach it.

Places are told as they are compiled, not as they are written: an L7 rule stands at an Envoy only if that
pod's `ProxyView` holds it (an allow of everything beside it makes it idle). Who may reach what is
`mesh.answers.matrix`'s answer. The result is plain data, ready for JSON; rules bear the keys of
`mesh.answers.explain`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mesh.answers.called import UnknownName
from mesh.answers.matrix import who_can_reach
from mesh.answers.reach import policies_by_identity
from mesh.answers.reasons import UNNAMED
from mesh.answers.steering_reasons import why
from mesh.answers.steering_table import CALLER, DESTINATION, KERNEL, RESOLVER
from mesh.assemble import Mesh
from mesh.backends import standing, target_port
from mesh.model import (
    Authorization,
    Direction,
    EnvoyFilter,
    EnvoyPatch,
    MutualTls,
    ObjectRef,
    PatchContext,
    Policy,
    Problem,
    RateLimit,
    RequestAuthentication,
    Rule,
    Service,
    ServiceName,
    ServicePort,
    TierPolicy,
    WasmPlugin,
    Workload,
    WorkloadName,
)
from mesh.policies.references import AnyPolicy
from mesh.policies.registry import registry_of
from mesh.ports import Port, Ports
from mesh.protocols import selected
from mesh.proxy import ProxyView
from mesh.routes import steer
from mesh.routes.balance import balanced_ports

#: Of an L7 rule that no connection needs: an allow of everything says more, or nobody fits it.
IDLE = "nothing now"

_ENVOY: Mapping[Direction, str] = {"egress": CALLER, "ingress": DESTINATION}
_DIRECTIONS: tuple[Direction, ...] = ("ingress", "egress")

#: Labels by which Istio's telemetry names a workload and its version.
_APP = ("service.istio.io/canonical-name", "app.kubernetes.io/name", "app")
_VERSION = ("service.istio.io/canonical-revision", "app.kubernetes.io/version", "version")

_CONTEXTS: Mapping[Direction, PatchContext] = {
    "egress": "SIDECAR_OUTBOUND",
    "ingress": "SIDECAR_INBOUND",
}

Entry = dict[str, str]


def describe_pod(
    mesh: Mesh, text: str, views: Mapping[str, ProxyView], problems: Iterable[Problem] = ()
) -> dict[str, Any]:
    """The pod `namespace/name`; `views` are the proxies' by pod. Raises UnknownName."""
    name = WorkloadName(*_split(text))
    workload = mesh.workloads.get(name)
    if workload is None:
        raise UnknownName(f"there is no Pod {text}")
    view = views.get(str(name), ProxyView(name))
    services = list(mesh.service_table.selecting(workload))
    routed = [entry for service in services for entry in _routes_at(mesh, service.name)]
    rules = [*_bound(mesh, name, view), *_own_routes(view)]
    return {
        "pod": str(name),
        "addresses": list(workload.addresses),
        "service_account": workload.service_account,
        "node": workload.node,
        "ready": workload.ready,
        "security_id": mesh.identities.of.get(name),
        "ports": [{"name": p.name, "port": p.port, "protocol": p.protocol} for p in workload.ports],
        "path": "envoy" if view.reasons else "kernel",
        "steered_by": list(view.reasons),
        "why": why(view),
        "services": [_service(service, workload) for service in services],
        "rules": rules,
        "routes": routed,
        "reached": _reached_pod(mesh, workload),
        "warnings": [*_pod_warnings(workload, services), *_warnings(services)],
        "problems": _problems(problems, ObjectRef("Pod", *name), services, rules, routed),
    }


def describe_service(
    mesh: Mesh, text: str, views: Mapping[str, ProxyView], problems: Iterable[Problem] = ()
) -> dict[str, Any]:
    """The Service `namespace/name`, with what binds the pods behind it. Raises UnknownName."""
    name = ServiceName(*_split(text))
    if name in mesh.aliases:
        return _alias(mesh, name, problems)
    service = mesh.services.get(name)
    if service is None:
        raise UnknownName(f"there is no Service {text}")
    backends = mesh.backends[name]
    pods = sorted({b.workload for found in backends.values() for b in found if b.workload is not None})
    bound: dict[tuple[str, ...], Entry] = {}
    for pod in pods:
        for entry in _bound(mesh, pod, views.get(str(pod), ProxyView(pod)), ("ingress",)):
            bound.setdefault(tuple(entry.values()), entry)
    rules, routed = list(bound.values()), list(_routes_at(mesh, name))
    return {
        "service": str(name),
        "addresses": list(mesh.vips.get(name, ())),
        "ports": [
            _port(port) | {"backends": standing(backends[port.port, port.protocol])} for port in service.ports
        ],
        "pods": [
            {"name": str(pod), "path": "envoy" if _is_steered(views.get(str(pod))) else "kernel"}
            for pod in pods
        ],
        "rules": rules,
        "routes": routed,
        "reached": [
            _reached(mesh, f"{name}:{port.port}", (port.protocol, port.port))
            for port in service.ports
            if backends[port.port, port.protocol]
        ],
        "warnings": [
            *_warnings([service]),
            *(
                f"Service {name} port {port.port}: no ready pod is behind it"
                for port in service.ports
                if not backends[port.port, port.protocol]
            ),
        ],
        "problems": _problems(problems, None, [service], rules, routed),
    }


def _alias(mesh: Mesh, name: ServiceName, problems: Iterable[Problem]) -> dict[str, Any]:
    """An ExternalName: nothing binds it and nobody reaches it, whatever is so where it leads."""
    ref, meant = ObjectRef("Service", *name), mesh.aliases.meant(name)
    parts = ("addresses", "ports", "pods", "rules", "routes", "reached", "warnings")
    return {
        "service": str(name),
        "external_name": mesh.aliases.target(name),
        "leads_to": f"Service {meant}" if meant in mesh.services else None,
        **{part: list[Any]() for part in parts},
        "problems": _problems(problems, ref, ()),
    }


def _split(text: str) -> tuple[str, str]:
    namespace, slash, name = text.partition("/")
    if not (slash and namespace and name):
        raise UnknownName(f"{text!r}: want namespace/name")
    return namespace, name


# --- rules ---------------------------------------------------------------------------------------


def _bound(
    mesh: Mesh, name: WorkloadName, view: ProxyView, directions: tuple[Direction, ...] = _DIRECTIONS
) -> Iterator[Entry]:
    """Each rule of each policy that selects the pod."""
    number = mesh.identities.of.get(name)
    told: set[tuple[str, ...]] = set()
    if "egress" in directions and (registry := registry_of(mesh, name)):
        yield _entry(registry.ref, registry.field, UNNAMED, KERNEL)
    if "ingress" in directions and (mutual := mesh.peer_authentications.of(name)):
        yield from _mutual_tls(mutual)
    if "ingress" in directions and (taken := mesh.sidecar_ingress(name)):
        for found in taken.listeners:
            where = f"handed on to {found.endpoint}" if found.endpoint else "taken by the pod's Envoy"
            effect = f"port {found.port} is {where}"
            yield _entry(taken.ref, found.field, effect, DESTINATION)
    for policy in sorted(policies_by_identity(mesh).get(number or 0, ()), key=lambda p: p.ref):
        for entry in _rules(policy, view, directions):
            # What a reference stands for may be several policies of one name.
            if (key := tuple(entry.values())) not in told:
                told.add(key)
                yield entry


def _mutual_tls(mutual: MutualTls) -> Iterator[Entry]:
    """Where a pod's connections come in mutual TLS."""
    for where, found in (*((f"port {port}", own) for port, own in mutual.ports), ("", mutual.others)):
        if found is None:
            continue
        for ref, field in found.origins:
            says = "takes mutual TLS only" if found.mode == "STRICT" else "takes mutual TLS as well"
            yield _entry(ref, field, f"{where} {says}".strip(), DESTINATION)


def _rules(policy: AnyPolicy, view: ProxyView, directions: tuple[Direction, ...]) -> Iterator[Entry]:
    if isinstance(policy, RequestAuthentication):
        if "ingress" in directions:
            for jwt in policy.rules:
                yield _entry(policy.ref, jwt.field, f"a token of {jwt.issuer} must be good", DESTINATION)
        return
    if isinstance(policy, RateLimit):
        if "ingress" in directions:
            for limit in policy.limits:
                effect = f"at most {limit.requests} requests per {limit.unit}"
                yield _entry(policy.ref, limit.field, effect, DESTINATION)
        return
    if isinstance(policy, EnvoyFilter):
        for patch in policy.patches:
            contexts: list[PatchContext] = ["GATEWAY"] if view.gateway else []
            contexts += [_CONTEXTS[direction] for direction in directions]
            if any(map(patch.concerns, contexts)):
                what = f"module of {policy.phase}" if isinstance(policy, WasmPlugin) else patch.target
                effect = f"{patch.operation} {what} in {patch.context}"
                yield _entry(policy.ref, patch.field, effect, _patched(policy, patch, view, directions))
        return
    prefix = "audit: would " if policy.audit else ""
    if isinstance(policy, Authorization):
        if "ingress" in directions:
            yield from _authorization(policy, view, prefix)
        return
    for direction in directions:
        for effect, rule in _written(policy, direction):
            where = _place(policy.ref, rule, direction, view)
            yield _entry(policy.ref, rule.field, f"{prefix}{effect}", where)
        if isinstance(policy, Policy) and (found := policy.rules(direction)) and found.default_deny:
            yield _entry(policy.ref, direction, f"{prefix}deny ({direction} default)", KERNEL)


def _patched(
    policy: EnvoyFilter, patch: EnvoyPatch, view: ProxyView, directions: tuple[Direction, ...]
) -> str:
    """At which side an Envoy is there that the patch can change."""
    if view.gateway:
        return DESTINATION if patch.concerns("GATEWAY") else IDLE
    if "ingress" in directions and view.ingress and patch.concerns("SIDECAR_INBOUND"):
        return DESTINATION
    if (view.routed or view.egress) and patch.concerns("SIDECAR_OUTBOUND"):
        return CALLER
    return IDLE


def _written(policy: Policy | TierPolicy, direction: Direction) -> Iterator[tuple[str, Rule]]:
    if isinstance(policy, TierPolicy):
        for ranked in policy.rules(direction):
            yield ranked.action, ranked.rule
    elif found := policy.rules(direction):
        yield from ((f"allow{_condition(rule)}", rule) for rule in found.allow)
        yield from (("deny", rule) for rule in found.deny)


def _condition(rule: Rule) -> str:
    kinds = (("requests", rule.http), ("TLS hellos", rule.server_names), ("DNS queries", rule.dns))
    return "".join(f" {what} that fit" for what, asked in kinds if asked is not None)


def _place(ref: ObjectRef, rule: Rule, direction: Direction, view: ProxyView) -> str:
    if f"{ref} {rule.field}" in _keys(view, direction):
        return _ENVOY[direction]
    if rule.dns is not None:
        return RESOLVER
    return KERNEL if rule.http is None and rule.server_names is None else IDLE


def _authorization(policy: Authorization, view: ProxyView, prefix: str) -> Iterator[Entry]:
    keys = _keys(view, "ingress")
    places = [DESTINATION if f"{policy.ref} {rule.field}" in keys else KERNEL for rule in policy.rules]
    effect = f"ask provider {policy.provider}" if policy.action == "custom" else policy.action
    for rule, place in zip(policy.rules, places, strict=True):
        yield _entry(policy.ref, rule.field, f"{prefix}{effect}", place)
    if policy.action == "allow":
        place = DESTINATION if DESTINATION in places else KERNEL
        yield _entry(policy.ref, "rules", f"{prefix}deny (no rule fits)", place)


def _keys(view: ProxyView, direction: Direction) -> frozenset[str]:
    classes = view.ingress if direction == "ingress" else view.egress
    return frozenset(key for l7 in classes for key in l7.keys)


def _entry(ref: ObjectRef, rule: str, effect: str, where: str) -> Entry:
    return {"object": str(ref), "rule": rule, "effect": effect, "enforced_by": where}


# --- routes --------------------------------------------------------------------------------------


def _doing(kind: str, calls: str) -> str:
    return f"begin mutual TLS for {calls}" if kind == "PeerAuthentication" else f"route {calls}"


def _own_routes(view: ProxyView) -> Iterator[Entry]:
    """Routes that bind what the pod itself calls."""
    told = dict.fromkeys(
        (entry.origin, entry.rule.field, f"{routed.service}:{routed.port}")
        for routed in view.routed
        for entry in routed.all
        if entry.rule.field
    )
    for ref, field, called in told:
        yield _entry(ref, field, f"{_doing(ref.kind, 'its calls')} to {called}", CALLER)


def _routes_at(mesh: Mesh, service: ServiceName) -> Iterator[dict[str, Any]]:
    """Rules that route callers of a Service, or share them out, and whom they bind (rule 3)."""
    found: defaultdict[tuple[str, int, str], set[str]] = defaultdict(set)
    for caller in mesh.callers.all:
        steered = steer.routed_ports(mesh, caller, service)
        for routed in steered:
            for key in routed.keys:
                found[key, routed.port, CALLER].add(str(caller))
        for balanced in balanced_ports(mesh, caller, service, steered):
            found[balanced.key, balanced.port.port, KERNEL].add(str(caller))
    for (key, port, where), bound in sorted(found.items()):
        kind, name, field = key.split(" ", 2)
        whom = "all" if len(bound) == len(mesh.callers) else ", ".join(sorted(bound))
        effect = f"{_doing(kind, 'calls')} to {service}:{port}"
        entry = {"object": f"{kind} {name}", "rule": field, "effect": effect}
        yield entry | {"enforced_by": where, "callers": whom}


# --- ports, and who reaches them -------------------------------------------------------------------


def _service(service: Service, workload: Workload) -> dict[str, Any]:
    return {
        "name": str(service.name),
        "ports": [_port(port) | {"pod_port": target_port(workload, port) or None} for port in service.ports],
    }


def _port(port: ServicePort) -> dict[str, Any]:
    """`selects` is the protocol that name or appProtocol select; without one the first bytes decide."""
    selects = (selected(port) or "auto-detect") if port.protocol == "TCP" else port.protocol.lower()
    return {"name": port.name, "port": port.port, "protocol": port.protocol, "selects": selects}


def _reached_pod(mesh: Mesh, workload: Workload) -> list[dict[str, Any]]:
    if not workload.addresses:
        return []
    host = workload.addresses[0]
    return [
        _reached(mesh, f"[{host}]:{number}" if ":" in host else f"{host}:{number}", (protocol, number))
        for protocol, number in sorted(Ports(mesh).of(workload.name))
        if number
    ]


def _reached(mesh: Mesh, target: str, port: Port) -> dict[str, Any]:
    """Groups of callers, by what they get; where backends differ, a caller stands in several."""
    protocol, number = port
    by: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    columns = who_can_reach(mesh, target, protocol).plain()["columns"]
    for column in columns:
        for access in column["access"]:
            known = by[access["verdict"], access["path"]]
            known += [name for name in access["from"] if name not in known]
    return {
        "protocol": protocol,
        "port": number,
        "by": [{"verdict": verdict, "path": path, "from": names} for (verdict, path), names in by.items()],
    }


def _is_steered(view: ProxyView | None) -> bool:
    return bool(view and view.reasons)


# --- what is odd -----------------------------------------------------------------------------------


def _pod_warnings(workload: Workload, services: list[Service]) -> Iterator[str]:
    labels = {key for key, _ in workload.labels}
    if not services:
        yield f"no Service selects Pod {workload.name}"
    for what, keys in (("name", _APP), ("version", _VERSION)):
        if labels.isdisjoint(keys):
            yield f"Pod {workload.name} has no label for its {what} in telemetry: {keys[-1]}, or {keys[1]}"


def _warnings(services: Iterable[Service]) -> Iterator[str]:
    """Ports whose protocol nothing selects (rule 21)."""
    for service in services:
        for port in service.ports:
            if port.protocol == "TCP" and not selected(port):
                named = f'name "{port.name}"' if port.name else "missing name"
                yield (
                    f"Service {service.name} port {port.port}: its {named} selects no protocol, so the first "
                    f"bytes decide; name it http-... or tcp-..., or set appProtocol"
                )


def _problems(
    problems: Iterable[Problem],
    pod: ObjectRef | None,
    services: Iterable[Service],
    *entries: Iterable[Mapping[str, Any]],
) -> list[dict[str, str]]:
    """What is wrong with the objects that were told of."""
    told = {str(pod), *(f"Service {service.name}" for service in services)}
    told |= {entry["object"] for group in entries for entry in group}
    return [
        {"object": str(problem.object), "field": problem.field, "message": problem.message}
        for problem in problems
        if str(problem.object) in told
    ]
