"""What needs no proxy of a route, DestinationRule, Service or ServiceEntry: whole connections to a service
address, shared out among backends by weight, by the client's address or by where both are. The kernel does it
(rule 20).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from mesh.assemble import Mesh
from mesh.caller import Caller
from mesh.locality import setting_for
from mesh.model import (
    NO_TRAFFIC_POLICY,
    Backend,
    DestinationRule,
    RouteBackend,
    ServiceName,
    ServicePort,
    TrafficPolicy,
)
from mesh.proxy import RoutedPort, Target
from mesh.routes import connection_rules, nearness, steer
from mesh.routes.shares import parts

#: The kernel refuses connections to them.
_NOBODY = (Backend("0.0.0.0", 0), Backend("::", 0))


@dataclass(frozen=True, slots=True)
class BalancedPort:
    """A service port whose connections are shared out among `shares` (backend, weight; none: refused) for one
    caller. `key` is the rule that says so, such as `TCPRoute shop/db rules[0]`; `by_client`: the client's
    address alone chooses; `by_place`: it is about where the caller is."""

    service: ServiceName
    port: ServicePort
    key: str
    shares: tuple[tuple[Backend, Fraction], ...]
    by_client: bool = False
    by_place: bool = False
    #: Address, port and parts of the whole.
    plain: tuple[tuple[str, int, int], ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        counts = parts([weight for _, weight in self.shares])
        found = zip(self.shares, counts, strict=True)
        plain = tuple((backend.address, backend.port, count) for (backend, _), count in found if count)
        object.__setattr__(self, "plain", plain)


def balanced_ports(
    mesh: Mesh, caller: Caller, service: ServiceName, routed: Iterable[RoutedPort]
) -> tuple[BalancedPort, ...]:
    """The ports of a service at which a rule shares a caller's connections out without an Envoy; `routed` are
    those that go through one."""
    found = mesh.services.get(service)
    if found is None or not mesh.vips.get(service):
        return ()
    steered = {port.port for port in routed}
    ports = (port for port in found.ports if port.protocol != "TCP" or port.port not in steered)
    return tuple(one for port in ports if (one := _balanced(mesh, caller, service, port)))


def _balanced(mesh: Mesh, caller: Caller, service: ServiceName, port: ServicePort) -> BalancedPort | None:
    routes = steer.bound(mesh, caller, service, port)
    for entry in connection_rules.entries(mesh, caller, routes, service, port):
        shares = (share for backend in entry.rule.backends for share in _shares(mesh, caller, backend, port))
        return BalancedPort(service, port, f"{entry.origin} {entry.rule.field}", tuple(shares))
    backends = mesh.backends.get(service, {}).get((port.port, port.protocol), ())
    found = None
    if steer.sees(mesh, caller, service, port):
        found = mesh.destination_rules.find(caller, service, mesh.config.root_namespace)
    policy = found.policy_for("", port.port) if found else NO_TRAFFIC_POLICY
    own = nearness.nearest(mesh, caller, service, policy, backends)
    if found is not None and _by_client(policy):
        key = f"{found.ref} trafficPolicy.loadBalancer.consistentHash.useSourceIp"
        return BalancedPort(service, port, key, own, True)
    if dict(own) != {backend: backend.weight for backend in backends}:
        return BalancedPort(service, port, preferring(mesh, service, found, policy), own, by_place=True)
    return BalancedPort(service, port, f"Service {service} weight", own) if weighted(backends) else None


def preferring(mesh: Mesh, service: ServiceName, rule: DestinationRule | None, policy: TrafficPolicy) -> str:
    """The rule that says which places callers of a service prefer."""
    _, said = setting_for(mesh.services[service], policy, mesh.config)
    if said.startswith("trafficPolicy") and rule is not None:
        return f"{rule.ref} {said}"
    return f"Service {service} {said}" if mesh.services[service].near else f"MeshConfig mesh {said}"


def weighted(backends: Iterable[Backend]) -> bool:
    """Do some get more than others?"""
    return len({backend.weight for backend in backends}) > 1


def _by_client(policy: TrafficPolicy) -> bool:
    key = policy.balancer.hash if policy.balancer else None
    return key is not None and key.kind == "source_ip"


def _shares(
    mesh: Mesh, caller: Caller, named: RouteBackend, port: ServicePort
) -> Iterator[tuple[Backend, Fraction]]:
    """Each backend's part of the connections of its family. The share of what is not there, or not ready, is
    refused (Gateway API, TCPRouteRule.backendRefs)."""
    target = Target.of(named, port.protocol)
    found = steer.members(mesh, caller, target) if target else None
    for nobody in _NOBODY:
        like = [b for b in found[0] if (":" in b.address) == (":" in nobody.address)] if found else []
        near = nearness.nearest(mesh, caller, target.service, found[1], like) if target and found else ()
        whole = sum(weight for _, weight in near)
        for backend, weight in near or ((nobody, Fraction(1)),):
            yield backend, named.weight * weight / (whole or 1)
