"""The reference semantics of network policy: `semantics.md` rules 10, 11, 15-17 as code.

`judge` decides one direction of one connection by asking every policy, in the words of the rules
and without any index. The compiler (`mesh.classes`) must agree with it, the kernel and Envoy must
agree with the compiler; tests compare all four. It shares nothing with them but the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mesh.cidr import matches
from mesh.expression import compile_expression
from mesh.identity import PORTS_KEY, named_port
from mesh.model import (
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
    WorkloadName,
    WorkloadPeer,
)
from mesh.proxy import HttpRule
from mesh.request import Request


@dataclass(frozen=True, slots=True)
class Party:
    """One end of a connection: a workload (with identity labels), the node, or the world."""

    address: str
    workload: WorkloadName | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    host: bool = False


@dataclass(frozen=True, slots=True)
class Allow:
    """Allowed, by these rules; by none of them where no policy selects the subject."""

    rules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Deny:
    """Refused: by deny rules, or because these policies select the subject and none allows it."""

    rules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Steer:
    """Allowed for the requests that one of the HTTP rules fits: through Envoy."""

    rules: tuple[HttpRule, ...]


Verdict = Allow | Deny | Steer


def judge(
    policies: Iterable[Policy],
    direction: Direction,
    subject: Party,
    peer: Party,
    protocol: Protocol | int,
    port: int,
) -> Verdict:
    """What `subject`'s policies of one direction say of a connection with `peer`.

    `port` is the destination's, 0 for protocols without ports; protocols that policies cannot
    name are given by number.
    """
    if subject.workload is None or subject.workload == peer.workload:
        return Allow()  # rule 10; and only workloads are subjects
    if direction == "ingress" and peer.host:
        return Allow()  # rule 11

    selecting = [
        (policy, rules)
        for policy in policies
        if (rules := policy.rules(direction)) is not None and policy.subject.matches(subject.labels)
    ]
    destination = peer if direction == "egress" else subject

    def fits(rule: Rule) -> bool:
        return _peer_fits(rule, peer) and _port_fits(rule, destination, protocol, port)

    denying = [
        f"{policy.ref} {rule.field}" for policy, rules in selecting for rule in rules.deny if fits(rule)
    ]
    if denying:
        return Deny(tuple(sorted(denying)))

    allowing = [(policy, rule) for policy, rules in selecting for rule in rules.allow if fits(rule)]
    whole = [f"{policy.ref} {rule.field}" for policy, rule in allowing if rule.http is None]
    if whole:
        return Allow(tuple(sorted(whole)))  # rule 16: an L4 allow is an L7 allow of everything
    http = {
        HttpRule(policy.ref, rule.field, rule.http)
        for policy, rule in allowing
        if rule.http is not None and protocol == "TCP"
    }
    if http:
        return Steer(tuple(sorted(http, key=lambda rule: rule.key)))

    defaults = {str(policy.ref) for policy, rules in selecting if rules.default_deny}
    return Deny(tuple(sorted(defaults))) if defaults else Allow()


def permits(rules: Iterable[HttpRule], request: Request) -> HttpRule | None:
    """The first rule that allows the request, as Cilium's PortRuleHTTP means it; None: 403."""
    return next((rule for rule in rules if any(_request_fits(m, request) for m in rule.matches)), None)


def _request_fits(match: HttpMatch, request: Request) -> bool:
    headers = request.fields
    return (
        (match.method is None or compile_expression(match.method).matches(request.method))
        and (match.path is None or compile_expression(match.path).matches(request.path))
        and (match.host is None or compile_expression(match.host).matches(request.authority))
        and all(
            header.name in headers and header.value in (None, headers[header.name])
            for header in match.headers
        )
    )


def _peer_fits(rule: Rule, peer: Party) -> bool:
    return rule.peers is None or any(peer_matches(candidate, peer) for candidate in rule.peers)


def peer_matches(candidate: Peer, party: Party) -> bool:
    """Is the party one of those that the peer names?"""
    match candidate:
        case WorkloadPeer(selector):
            return party.workload is not None and selector.matches(party.labels)
        case CidrPeer():
            # Rule 17: NetworkPolicy's blocks match every address, Cilium's only the world's.
            kind = "workload" if party.workload else "nodes" if party.host else "world"
            return candidate.reach in ("anyone", kind) and matches(candidate, party.address)
        case EntityPeer("all"):
            return True
        case EntityPeer("cluster"):
            return party.workload is not None or party.host
        case EntityPeer("host"):
            return party.host
        case EntityPeer("world"):
            return party.workload is None and not party.host
    raise AssertionError(f"unknown peer {candidate!r}")


def _port_fits(rule: Rule, destination: Party, protocol: Protocol | int, port: int) -> bool:
    return rule.ports is None or any(_port_matches(m, destination, protocol, port) for m in rule.ports)


def _port_matches(match: PortMatch, destination: Party, protocol: Protocol | int, port: int) -> bool:
    with_ports = protocol in ("TCP", "UDP", "SCTP")
    if isinstance(match, PortName):
        if not with_ports or match.protocol not in (None, protocol):
            return False
        return named_port(destination.labels.get(PORTS_KEY, ""), match.name, str(protocol)) == port
    if match.protocol is None:
        everything = (match.first, match.last) == (0, 65535)
        return everything or (with_ports and match.first <= port <= match.last)
    return match.protocol == protocol and match.first <= port <= match.last
