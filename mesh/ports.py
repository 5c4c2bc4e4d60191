"""The ports of workloads that are worth asking about: those that have a name, those that Services
lead to, and those that policies name. What a container listens on beyond them is not known here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from mesh.assemble import Mesh
from mesh.identity import PORTS_KEY, named_port
from mesh.model import (
    Authorization,
    Policy,
    PortMatch,
    PortName,
    PortRange,
    Protocol,
    Rule,
    Selector,
    TierPolicy,
    WorkloadName,
    WorkloadPeer,
)
from mesh.policies.references import AnyPolicy

Port = tuple[Protocol, int]

_PORTED: tuple[Protocol, ...] = ("TCP", "UDP", "SCTP")


class Ports:
    """The ports of one mesh as it is now."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._services: defaultdict[tuple[WorkloadName, Port], set[str]] = defaultdict(set)
        self._served: defaultdict[WorkloadName, set[Port]] = defaultdict(set)
        self._named: defaultdict[int, set[Port]] = defaultdict(set)
        for service, ports in mesh.backends.items():
            for (number, protocol), backends in ports.items():
                for backend in backends:
                    if backend.workload is not None:
                        port = (protocol, backend.port)
                        self._served[backend.workload].add(port)
                        self._services[backend.workload, port].add(f"{service}:{number}")
        for policy in mesh.all_policies():
            for selector, matches in _mentioned(policy):
                for identity in mesh.identities.select(selector):
                    labels = mesh.identities.all[identity].mapping
                    self._named[identity].update(_numbers(matches, labels.get(PORTS_KEY, "")))

    def of(self, workload: WorkloadName) -> set[Port]:
        own: set[Port] = {(p.protocol, p.port) for p in self._mesh.workloads[workload].ports}
        return own | self._served[workload] | self._named[self._mesh.identities.of[workload]]

    def services(self, workload: WorkloadName, port: Port) -> set[str]:
        """`namespace/service:port` of the Services that lead to a port of a workload."""
        return self._services.get((workload, port), set())


def _mentioned(policy: AnyPolicy) -> Iterator[tuple[Selector, Iterable[PortMatch]]]:
    """Whose ports a policy names: its subject's for ingress, its peers' for egress."""
    ingress: list[Rule] = []
    egress: list[Rule] = []
    match policy:
        case Policy():
            for rules, found in ((policy.ingress, ingress), (policy.egress, egress)):
                found += (*rules.allow, *rules.deny) if rules is not None else ()
        case TierPolicy():
            ingress = [ranked.rule for ranked in policy.ingress]
            egress = [ranked.rule for ranked in policy.egress]
        case Authorization():
            terms = [
                term
                for rule in policy.rules
                for conjunction in (*(rule.operations or ()), rule.conditions)
                for term in conjunction
                if term.attribute == "destination_port"
            ]
            numbers = [value for term in terms for value in term.values if isinstance(value, int)]
            yield policy.subject, [PortRange("TCP", number, number) for number in numbers]
    for rule in ingress:
        yield policy.subject, rule.ports or ()
    for rule in egress:
        for peer in rule.peers or ():
            if isinstance(peer, WorkloadPeer):
                yield peer.selector, rule.ports or ()


def _numbers(matches: Iterable[PortMatch], named: str) -> Iterator[Port]:
    """The ends of each range; a range of all ports names none."""
    for match in matches:
        if isinstance(match, PortName):
            for protocol in [match.protocol] if match.protocol else _PORTED:
                number = named_port(named, match.name, protocol)
                if number is not None:
                    yield protocol, number
        elif (match.first, match.last) != (0, 65535):
            for protocol in [match.protocol] if match.protocol else _PORTED[:2]:
                yield protocol, match.first
                yield protocol, match.last
