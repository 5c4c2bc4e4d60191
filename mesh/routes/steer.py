"""Who goes through an Envoy, and why: routes and DestinationRules bind callers of a service address, L7 rules
bind peers of a workload (rules 1-5, 20). Computes the parts of which `mesh.datapath` makes a `ProxyView`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from mesh import protocols
from mesh.age import age
from mesh.assemble import Mesh
from mesh.caller import Caller
from mesh.model import (
    MESH_GATEWAY,
    NO_TRAFFIC_POLICY,
    Backend,
    Balancer,
    Callers,
    ConnectionMatch,
    ConnectionRule,
    DestinationRule,
    HashKey,
    ObjectRef,
    Route,
    RouteBackend,
    RouteMatch,
    RouteRule,
    Service,
    ServiceName,
    ServicePort,
    TrafficPolicy,
)
from mesh.node import PortVerdict
from mesh.protocols import PortKind, Version, declared
from mesh.proxy import (
    AccessLog,
    ConnectionEntry,
    Destination,
    GatewayPort,
    L7Class,
    Part,
    RoutedPort,
    RouteEntry,
    Target,
    Tracing,
)
from mesh.routes import connection_rules, delegation, nearness

#: Every request.
_ANY = RouteMatch()


def routed_ports(mesh: Mesh, caller: Caller, service: ServiceName) -> tuple[RoutedPort, ...]:
    """The ports of a service at which a caller's connections go through its Envoy."""
    found = mesh.services.get(service)
    vips = mesh.vips.get(service, ())
    if found is None or not (vips or found.headless):
        return ()
    ports = (
        (port, routed)
        for port in found.ports
        if port.protocol == "TCP" and sees(mesh, caller, service, port)
        if (routed := _routed_port(mesh, caller, service, port, vips))
    )
    if found.headless:
        return tuple(one for port, routed in ports for one in _dialled(mesh, routed, port))
    return tuple(routed for _, routed in ports)


def _dialled(mesh: Mesh, routed: RoutedPort, port: ServicePort) -> Iterator[RoutedPort]:
    """A port of a headless service at each of its backends: what is sent to the service goes to the one that
    was dialled (rule 24)."""
    for backend in mesh.service_table.dialled(routed.service, port):

        def aimed(
            found: tuple[RouteBackend, ...], address: str = backend.address
        ) -> tuple[RouteBackend, ...]:
            return tuple(replace(b, address=address) if b.service == routed.service else b for b in found)

        yield replace(
            routed,
            vips=(backend.address,),
            backend=backend,
            entries=tuple(
                replace(entry, rule=replace(entry.rule, backends=aimed(entry.rule.backends)))
                for entry in routed.entries
            ),
            connections=tuple(
                replace(entry, rule=replace(entry.rule, backends=aimed(entry.rule.backends)))
                for entry in routed.connections
            ),
        )


def _routed_port(
    mesh: Mesh, caller: Caller, service: ServiceName, port: ServicePort, vips: tuple[str, ...]
) -> RoutedPort | None:
    kind = declared(port)
    routes = bound(mesh, caller, service, port)
    asked = tuple(entries(mesh, caller, routes, port.port, plain=kind == "plain"))
    connections = connection_rules.entries(mesh, caller, routes, service, port)
    if not asked:
        if connections:
            # Nobody but an Envoy sends on what was meant for one backend.
            alone = bool(vips) and not _need_envoy(mesh, caller, connections)
            return None if alone else RoutedPort(service, port.port, vips, (), connections)
        origin = _unrouted(mesh, caller, service, port)
        if origin is None:
            return None
        itself = (RouteBackend(service, port.port),)
        ref, field = origin
        if kind == "plain":
            through = ConnectionEntry(ref, ConnectionMatch(), ConnectionRule(field, "tcp", (), itself))
            return RoutedPort(service, port.port, vips, (), (through,))
        asked = (RouteEntry(ref, _ANY, RouteRule(field, (_ANY,), itself, lost=503)),)
    if kind == "http" or any(not route.in_order for route in routes):
        return RoutedPort(service, port.port, vips, asked)
    if not connections:
        # On a port that says nothing of itself a VirtualService leaves alone what is not HTTP (rule 21).
        through_it = ConnectionRule("", "tcp", (), (RouteBackend(service, port.port),))
        connections = (ConnectionEntry(asked[0].origin, ConnectionMatch(), through_it),)
    return RoutedPort(service, port.port, vips, asked, connections)


def _unrouted(
    mesh: Mesh, caller: Caller, service: ServiceName, port: ServicePort
) -> tuple[ObjectRef, str] | None:
    """The object, and its field, for which connections that no route is for meet an Envoy."""
    root = mesh.config.root_namespace
    rule = mesh.destination_rules.find(caller, service, root)
    if rule and (field := steering_field(rule, port.port, declared(port))):
        return rule.ref, field
    if patch := mesh.envoy_filters.find(caller, service, port, root):
        return patch.origin, patch.field
    if rule and rule.policy_for("", port.port).tls:
        return None
    return mesh.peer_authentications.strict_at(service, port.port)


def bound(mesh: Mesh, caller: Caller, service: ServiceName, port: ServicePort) -> list[Route]:
    """The routes that bind a caller of a service port."""
    if not sees(mesh, caller, service, port):
        return []
    root = mesh.config.root_namespace
    sidecar = mesh.scopes.narrowing(caller, mesh.config, service.host)
    return mesh.routes.binding(caller, service, port.port, root, sidecar)


def sees(mesh: Mesh, caller: Caller, service: ServiceName, port: ServicePort) -> bool:
    """Are rules about a service port for this caller? Not where its Sidecar leaves it out, or where it means
    another service by the host."""
    sidecar = mesh.scopes.narrowing(caller, mesh.config, service.host)
    told = sidecar is None or sidecar.tells(caller.namespace, service.namespace, service.host, port.port)
    return told and mesh.entry_hosts.sees(caller.namespace, service)


def led_to(
    mesh: Mesh, caller: Caller, service: ServiceName, port: ServicePort
) -> Iterator[tuple[ServiceName, int]]:
    """The service ports to which rules send what a caller sends to this one, by Envoy or without."""
    routes = bound(mesh, caller, service, port)
    rules: list[RouteRule | ConnectionRule] = [
        entry.rule for entry in entries(mesh, caller, routes, port.port, plain=declared(port) == "plain")
    ]
    rules += [entry.rule for entry in connection_rules.entries(mesh, caller, routes, service, port)]
    for rule in rules:
        for target in rule.targets:
            if target.service is not None:
                yield target.service, target.port


def _need_envoy(mesh: Mesh, caller: Caller, entries: Sequence[ConnectionEntry]) -> bool:
    """Must somebody look into connections, or do for one of the targets what the kernel cannot?"""
    if any(entry.match.server_names for entry in entries):
        return True
    targets = (Target.of(backend) for entry in entries for backend in entry.rule.backends)
    return any(target and _needs_envoy(mesh, caller, target) for target in targets)


def _needs_envoy(mesh: Mesh, caller: Caller, target: Target) -> bool:
    found = members(mesh, caller, target)
    if found is None:
        return False
    backends, policy = found
    return bool(needs_envoy(policy, "plain") or mutual(mesh, target, policy, backends))


def entries(
    mesh: Mesh, caller: Caller, routes: Sequence[Route], port: int, *, plain: bool
) -> Iterator[RouteEntry]:
    """What requests are asked, in order. The `http` routes of a VirtualService are for ports of HTTP only."""
    found = [
        (
            precedence(match) if not route.in_order else (),
            age(route),
            index,
            RouteEntry(route.ref, match, resolved(mesh, caller, route, rule, port)),
        )
        for route in routes
        if not (plain and route.in_order)
        for index, rule in enumerate(delegation.expanded(route, mesh.routes.all))
        for match in rule.matches or (_ANY,)
        if match.port in (0, port) and not match.claims and _is_for(caller, match.callers)
    ]
    if any(order for order, *_ in found):
        found.sort(key=lambda entry: entry[:3])
    yield from (entry[3] for entry in found)


def _is_for(caller: Caller, callers: Callers) -> bool:
    return caller.is_among(callers) and (callers.gateways is None or MESH_GATEWAY in callers.gateways)


def resolved(mesh: Mesh, caller: Caller, route: Route, rule: RouteRule, dialled: int) -> RouteRule:
    """The rule with ports for all to whom it sends, and without those to whom it may not."""
    return replace(
        rule,
        backends=tuple(connection_rules.aimed(mesh, caller, route, b, dialled) for b in rule.backends),
        mirrors=tuple(connection_rules.aimed(mesh, caller, route, m, dialled) for m in rule.mirrors),
    )


def precedence(match: RouteMatch) -> tuple[int, int, int, int, int]:
    """Gateway API, HTTPRouteRule.matches: exact path, then the longest prefix, a method, most
    headers, most query parameters. Expressions, whose place is ours to choose, follow exact paths.
    GRPCRouteRule.matches: most characters of the service, then of the method, most headers."""
    if match.call is not None:
        service, method = match.call
        return 0 if match.path.kind == "exact" else 2, -service, -method, -len(match.headers), 0
    kind = {"exact": 0, "regex": 1, "prefix": 2, "start": 2}[match.path.kind]
    length = len(match.path.value.rstrip("/")) if match.path.kind == "prefix" else len(match.path.value)
    headers = [header for header in match.headers if header.name != ":method"]
    any_method = len(headers) == len(match.headers)
    return kind, -length, any_method, -len(headers), -len(match.query)


def steering_field(rule: DestinationRule, port: int, kind: PortKind | None) -> str:
    """The field of a DestinationRule that only an Envoy can do for a whole service port; "" if the kernel
    can do all of it, or if what is left rides along (rule 20)."""
    policy = rule.policy_for("", port)
    found = needs_envoy(policy, kind)
    at_port = any(number == port for number, _ in rule.ports) and found != "tunnel"
    where = "trafficPolicy.portLevelSettings" if at_port else "trafficPolicy"
    return f"{where}.{found}" if found else ""


def needs_envoy(policy: TrafficPolicy, kind: PortKind | None) -> str:
    """The part of a traffic policy for which a connection must meet an Envoy; "" if there is none. On a
    plain port there are no requests, so what is said of them says nothing, and a tunnel is for nothing else
    than what is there."""
    plain = kind == "plain"
    balancer, pool, outliers, tls = policy.balancer, policy.pool, policy.outliers, policy.tls
    if balancer and balancer.hash and balancer.hash.kind != "source_ip" and not plain:
        return "loadBalancer.consistentHash"
    if balancer and balancer.warmup_ms:
        return "loadBalancer.warmup"
    if pool and (pool.max_connections is not None or (pool.of_requests and not plain)):
        return "connectionPool"
    if outliers:
        return "outlierDetection"
    if policy.tunnel and kind != "http":
        return "tunnel"
    if policy.proxy_protocol:
        return "proxyProtocol"
    if policy.retry_budget and not plain:
        return "retryBudget"
    return "tls" if tls and tls.mode != "DISABLE" else ""


def members(mesh: Mesh, caller: Caller, target: Target) -> tuple[tuple[Backend, ...], TrafficPolicy] | None:
    """The ready backends of a target and how a caller reaches them; None where there is no such service port
    or subset."""
    backends = mesh.backends.get(target.service, {}).get((target.port, target.protocol))
    if backends is None:
        return None
    rule = mesh.destination_rules.find(caller, target.service, mesh.config.root_namespace)
    policy = rule.policy_for(target.subset, target.port) if rule else NO_TRAFFIC_POLICY
    if rule and rule.callers and policy.tls and policy.tls.credential:
        policy = replace(policy, tls=replace(policy.tls, selected=True))
    policy = _naming(policy, mesh.services[target.service].subject_names)
    if target.address:  # of whatever subset it is, as with Istio
        return tuple(backend for backend in backends if backend.address == target.address), policy
    if not target.subset:
        return backends, policy
    subset = next((s for s in rule.subsets if s.name == target.subset), None) if rule else None
    if subset is None:
        return None
    wanted = set(subset.labels)
    return tuple(b for b in backends if wanted <= _labels(mesh, b)), policy


def mutual(
    mesh: Mesh, target: Target, policy: TrafficPolicy, backends: Iterable[Backend]
) -> tuple[Backend, ...]:
    """Those of a target's backends to which an Envoy speaks mutual TLS of the mesh: all, or none, as a
    DestinationRule says, or else those that take nothing else."""
    if policy.tls:
        return tuple(backends) if policy.tls.mode == "ISTIO_MUTUAL" else ()
    strict = mesh.peer_authentications.strict.get(target.service)
    if not strict or target.protocol != "TCP":
        return ()
    return tuple(backend for backend in backends if backend in strict)


def _labels(mesh: Mesh, backend: Backend) -> set[tuple[str, str]]:
    pod = mesh.workloads.get(backend.workload) if backend.workload else None
    return set(pod.labels if pod else backend.labels)


def _naming(policy: TrafficPolicy, subject_names: tuple[str, ...]) -> TrafficPolicy:
    """What a ServiceEntry says of certificates counts where a DestinationRule leaves it open."""
    if not subject_names or policy.tls is None or policy.tls.names:
        return policy
    return replace(policy, tls=replace(policy.tls, names=subject_names))


def _kept_together(policy: TrafficPolicy, service: Service) -> TrafficPolicy:
    """Session affinity of a Service, where a rule brings the connection to an Envoy and does not say how to
    choose (rule 22). By a hash it has no end, and a backend more takes only its share of callers."""
    balancer = policy.balancer or Balancer()
    if not service.affinity_seconds or balancer != Balancer(locality=balancer.locality):
        return policy
    return replace(policy, balancer=replace(balancer, hash=HashKey("source_ip")))


def destination(
    mesh: Mesh, caller: Caller, target: Target, verdict_of: Callable[[Backend], PortVerdict]
) -> Destination | None:
    """A target as one caller may reach it: backends grouped by egress verdict (rule 4).

    None where there is no such target."""
    found = members(mesh, caller, target)
    if found is None:
        return None
    backends, policy = found
    policy = _kept_together(policy, mesh.services[target.service])
    verdicts = {backend: verdict_of(backend) for backend in backends}
    allowed = tuple(backend for backend in backends if verdicts[backend].verdict != "deny")
    order = nearness.preferred(mesh, caller, target.service, policy, allowed)
    parts: dict[int, list[Backend]] = {0: []}
    for backend in allowed if order is None else (one.backend for one in order):
        parts.setdefault(verdicts[backend].listener, []).append(backend)
    if len(parts) > 1 and not parts[0]:
        del parts[0]
    listeners = {backend: verdicts[backend].listener for backend in allowed}
    places = nearness.places(order, listeners) if order else {}
    made = (
        Part(number, tuple(sorted(own)), tuple(places[backend] for backend in sorted(own) if places))
        for number, own in sorted(parts.items())
    )
    # Who asks for a tunnel has heard no client speak HTTP.
    spoken = version(mesh, target) if policy.tunnel else "client"
    rule = mesh.destination_rules.find(caller, target.service, mesh.config.root_namespace)
    return Destination(
        target,
        tuple(made),
        *_secured(mesh, target, policy, allowed),
        spoken,
        rule.ref if rule else None,
    )


def _secured(
    mesh: Mesh, target: Target, policy: TrafficPolicy, backends: Sequence[Backend]
) -> tuple[TrafficPolicy, tuple[Backend, ...], tuple[str, ...], str]:
    """What is said of TLS: the policy without mutual TLS of the mesh, and of that with whom, the names that
    certificates may hold, and what is asked for."""
    spoken_to, tls = tuple(sorted(mutual(mesh, target, policy, backends))), policy.tls
    names = mesh.peer_authentications.names(spoken_to)
    if tls and tls.mode == "ISTIO_MUTUAL":
        return replace(policy, tls=None), spoken_to, tls.names or names, tls.sni
    return policy, spoken_to, names, ""


def version(mesh: Mesh, target: Target) -> Version:
    """In what a gateway, or who asks for a tunnel, speaks to a target: by what its Service says of the port,
    as in Istio."""
    ports = mesh.services[target.service].ports
    return next(
        (
            protocols.version(port)
            for port in ports
            if (port.port, port.protocol) == (target.port, target.protocol)
        ),
        "http/1.1",
    )


def providers(mesh: Mesh, l7: L7Class) -> set[Target]:
    """The services of the mesh that a class asks: for consent, or to count."""
    parts = (*l7.authorization, *(l7.plain or ()))
    asked = {(part.provider.service, part.provider.port) for part in parts if part.provider}
    asked |= {(p.counted_by.host, p.counted_by.port) for p in l7.limits if p.counted_by}
    found: set[Target] = set()
    for host, port in asked:
        found |= in_mesh(mesh, host, port)
    return found


def collectors(mesh: Mesh, tracings: Iterable[Tracing | None]) -> set[Target]:
    """The services of the mesh that take a pod's spans."""
    found: set[Target] = set()
    for tracing in tracings:
        if tracing is not None:
            found |= in_mesh(mesh, tracing.provider.service, tracing.provider.port)
    return found


def log_services(mesh: Mesh, logs: Iterable[AccessLog]) -> set[Target]:
    """The services of the mesh that take a pod's access logs."""
    found: set[Target] = set()
    for log in logs:
        if log.provider.service:
            found |= in_mesh(mesh, log.provider.service, log.provider.port)
    return found


def in_mesh(mesh: Mesh, host: str, port: int) -> set[Target]:
    """`namespace/name.namespace.svc.cluster.local` in full (MeshConfig, service of a provider)."""
    name, _, namespace = host.rpartition("/")[2].partition(".")
    service = ServiceName(namespace.partition(".")[0], name)
    return {Target(service, port)} if service in mesh.services else set()


def reasons(
    routed: tuple[str, ...], found: Iterable[L7Class], served: Iterable[GatewayPort] = ()
) -> tuple[str, ...]:
    """Why a pod needs an Envoy: the routes (their keys, sorted) and rules that steer its connections, the
    Gateways it serves, or the rules that bind ports of its loopback."""
    keys = {key for l7 in found for key in l7.keys}
    for port in served:
        origins = (str(ref) for server in port.servers for ref in server.origins)
        keys.update((port.bound_by,) if port.bound_by else origins)
    return tuple(sorted(keys.union(routed))) if keys else routed
