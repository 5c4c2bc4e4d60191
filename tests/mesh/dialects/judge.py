"""What policies grant in a tiny world, judged the slow and obvious way.

Only good for comparing two readings of one object: it is not the mesh's own `judge`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_address, ip_network
from itertools import product
from typing import NamedTuple

from mesh.expression import compile_expression
from mesh.model import (
    NAMESPACE_KEY,
    NAMESPACE_LABEL_PREFIX,
    CidrPeer,
    Direction,
    EntityPeer,
    HttpMatch,
    Peer,
    Policy,
    PortMatch,
    PortName,
    Protocol,
    Rule,
    WorkloadPeer,
)


class Someone(NamedTuple):
    """A pod if it has labels, else an address outside or the host."""

    address: str
    labels: tuple[tuple[str, str], ...] = ()
    host: bool = False


class Access(NamedTuple):
    subject: Someone
    direction: Direction
    peer: Someone
    protocol: Protocol
    port: int
    method: str
    path: str


def pod(address: str, namespace: str, app: str) -> Someone:
    return Someone(
        address, (("app", app), (NAMESPACE_KEY, namespace), (NAMESPACE_LABEL_PREFIX + "team", namespace))
    )


PODS = (pod("10.1.0.1", "shop", "web"), pod("10.1.0.2", "shop", "db"), pod("10.2.0.1", "other", "web"))
OUTSIDE = (Someone("10.9.0.1"), Someone("192.0.2.1"), Someone("10.0.0.1", host=True))
PORTS: tuple[tuple[Protocol, int], ...] = (("TCP", 80), ("TCP", 443), ("UDP", 53))
REQUESTS = (("GET", "/public/1"), ("POST", "/admin"))
PORT_NAMES = {"http": 80, "dns": 53}
DIRECTIONS: tuple[Direction, ...] = ("ingress", "egress")


def granted(policies: Iterable[Policy]) -> set[Access]:
    """Every access that these policies, and no others, leave open (rule 15)."""
    found = tuple(policies)
    return {access for access in _universe() if _is_open(found, access)}


def _universe() -> Iterator[Access]:
    for subject, direction, peer, (protocol, port), request in product(
        PODS, DIRECTIONS, PODS + OUTSIDE, PORTS, REQUESTS
    ):
        yield Access(subject, direction, peer, protocol, port, *request)


def _is_open(policies: tuple[Policy, ...], access: Access) -> bool:
    selecting = [p for p in policies if p.subject.matches(dict(access.subject.labels))]
    sets = [s for p in selecting if (s := p.rules(access.direction)) is not None]
    if any(_fits(rule, access) for s in sets for rule in s.deny):
        return False
    default_deny = any(s.default_deny for s in sets)
    return not default_deny or any(_fits(rule, access) for s in sets for rule in s.allow)


def _fits(rule: Rule, access: Access) -> bool:
    return (
        (rule.peers is None or any(_is_peer(p, access.peer) for p in rule.peers))
        and (rule.ports is None or any(_is_port(p, access) for p in rule.ports))
        and (rule.http is None or any(_is_request(h, access) for h in rule.http))
    )


def _is_peer(peer: Peer, someone: Someone) -> bool:
    match peer:
        case WorkloadPeer(selector):
            return bool(someone.labels) and selector.matches(dict(someone.labels))
        case CidrPeer(cidr, exceptions, reach):
            if reach == "world" and (someone.labels or someone.host):
                return False
            address = ip_address(someone.address)
            return address in ip_network(cidr) and not any(address in ip_network(e) for e in exceptions)
        case EntityPeer("world"):
            return not someone.labels and not someone.host
        case EntityPeer("cluster"):
            return bool(someone.labels) or someone.host
        case EntityPeer("host"):
            return someone.host
        case EntityPeer():
            return True


def _is_port(match: PortMatch, access: Access) -> bool:
    if match.protocol not in (None, access.protocol):
        return False
    if isinstance(match, PortName):
        return PORT_NAMES.get(match.name) == access.port
    return match.first <= access.port <= match.last


def _is_request(match: HttpMatch, access: Access) -> bool:
    pairs = ((match.method, access.method), (match.path, access.path), (match.host, "web"))
    return not match.headers and all(p is None or compile_expression(p).matches(v) for p, v in pairs)
