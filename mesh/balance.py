"""What needs no proxy of a route, DestinationRule or ServiceEntry: whole connections to a service address,
shared out among backends by weight, or by the client's address. The kernel does it (rule 20).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

from mesh import connection_rules, steer
from mesh.assemble import Mesh
from mesh.caller import Caller
from mesh.model import Backend, RouteBackend, ServiceName, ServicePort, TrafficPolicy
from mesh.proxy import RoutedPort, Target
from mesh.shares import parts

#: The kernel refuses connections to them.
_NOBODY = (Backend("0.0.0.0", 0), Backend("::", 0))


@dataclass(frozen=True, slots=True)
class BalancedPort:
    """A service port whose connections are shared out among `shares` (backend, weight; none: refused) for one
    caller. `key` is the rule that says so, such as `TCPRoute shop/db rules[0]`; `by_client`: the client's
    address alone chooses."""

    service: ServiceName
    port: ServicePort
    key: str
    shares: tuple[tuple[Backend, Fraction], ...]
    by_client: bool = False

    @property
    def plain(self) -> tuple[tuple[str, int, int], ...]:
        """Address, port and parts of the whole."""
        counts = parts([weight for _, weight in self.shares])
        found = zip(self.shares, counts, strict=True)
        return tuple((backend.address, backend.port, count) for (backend, _), count in found if count)


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
    own = tuple((backend, Fraction(backend.weight)) for backend in backends)
    found = None
    if steer.sees(mesh, caller, service, port):
        found = mesh.destination_rules.find(caller, service, mesh.config.root_namespace)
    if found is not None and _by_client(found.policy_for("", port.port)):
        key = f"{found.ref} trafficPolicy.loadBalancer.consistentHash.useSourceIp"
        return BalancedPort(service, port, key, own, True)
    return BalancedPort(service, port, f"Service {service} weight", own) if weighted(backends) else None


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
    target = Target.of(named)
    found = steer.members(mesh, caller, target, port.protocol) if target else None
    for nobody in _NOBODY:
        like = [b for b in found[0] if (":" in b.address) == (":" in nobody.address)] if found else []
        whole = sum(backend.weight for backend in like)
        for backend in like or (nobody,):
            yield backend, Fraction(named.weight * backend.weight, whole or 1)
