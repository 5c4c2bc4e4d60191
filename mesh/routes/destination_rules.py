"""Which DestinationRule counts for a caller and a service (rule 3).

Looked for in the client's namespace, the service's, the root namespace; the first that has a match wins, even
a wildcard over an exact name further on. Rules of one namespace for one host are joined as in Istio: the
traffic policy of the oldest that has one, the subsets of all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace

from mesh.age import age
from mesh.caller import Caller
from mesh.index import discard
from mesh.model import NO_TRAFFIC_POLICY, DestinationRule, ObjectRef, ServiceName, Subset, service_of
from mesh.routes.host_pattern import covers, is_pattern, specificity


class DestinationRules:
    def __init__(self) -> None:
        self.all: dict[ObjectRef, DestinationRule] = {}
        self._by_host: defaultdict[str, set[ObjectRef]] = defaultdict(set)
        self._patterns: set[ObjectRef] = set()
        #: Those that send mutual TLS of the mesh, and those that name a Secret.
        self.mutual: set[ObjectRef] = set()
        self.credentialed: set[ObjectRef] = set()

    def at(self, service: ServiceName) -> list[DestinationRule]:
        """All that speak of a service, whomever they are for."""
        refs = self._by_host.get(service.host, set()) | {
            ref for ref in self._patterns if covers(self.all[ref].host, service.host)
        }
        return [self.all[ref] for ref in refs]

    def naming(self, service: ServiceName) -> set[ObjectRef]:
        """Those that have it for their host, and no pattern."""
        return self._by_host.get(service.host, set())

    def find(self, caller: Caller, service: ServiceName, root: str) -> DestinationRule | None:
        """The one that counts for a caller, joined."""
        candidates = [rule for rule in self.at(service) if {"*", caller.namespace} & set(rule.exported)]
        for namespace in (caller.namespace, service.namespace, root):
            found = [rule for rule in candidates if rule.ref.namespace == namespace]
            if chosen := [rule for rule in found if rule.callers and caller.is_among(rule.callers)]:
                first = min(chosen, key=_rank)
                return _joined([rule for rule in chosen if rule.callers == first.callers])
            if chosen := [rule for rule in found if rule.callers is None]:
                return _joined(chosen)
        return None

    def put(self, rule: DestinationRule, services: Iterable[ServiceName]) -> set[ServiceName]:
        """Take in a rule. Returns those of the services of which it speaks."""
        self.all[rule.ref] = rule
        if any(policy.tls and policy.tls.mode == "ISTIO_MUTUAL" for policy in rule.policies):
            self.mutual.add(rule.ref)
        if any(policy.tls and policy.tls.credential for policy in rule.policies):
            self.credentialed.add(rule.ref)
        if is_pattern(rule.host):
            self._patterns.add(rule.ref)
        else:
            self._by_host[rule.host].add(rule.ref)
        return _spoken_of(rule, services)

    def remove(self, ref: ObjectRef, services: Iterable[ServiceName]) -> set[ServiceName]:
        """Forget a rule."""
        rule = self.all.pop(ref)
        self.mutual.discard(ref)
        self.credentialed.discard(ref)
        if is_pattern(rule.host):
            self._patterns.discard(ref)
        else:
            discard(self._by_host, rule.host, ref)
        return _spoken_of(rule, services)

    def spoken_of(self, services: Iterable[ServiceName]) -> Iterator[ServiceName]:
        """Those of the services of which some rule speaks."""
        patterns = [self.all[ref].host for ref in self._patterns]
        for name in services:
            if name.host in self._by_host or any(covers(host, name.host) for host in patterns):
                yield name


def _joined(rules: list[DestinationRule]) -> DestinationRule:
    """Of several for the most specific host."""
    first, *others = sorted(rules, key=_rank)
    same = [first, *(rule for rule in others if rule.host == first.host)]
    speaking = next((rule for rule in same if rule.ports or rule.policy != NO_TRAFFIC_POLICY), first)
    subsets: dict[str, Subset] = {}
    for subset in (subset for rule in same for subset in rule.subsets):
        subsets.setdefault(subset.name, subset)
    return replace(first, policy=speaking.policy, ports=speaking.ports, subsets=tuple(subsets.values()))


def _rank(rule: DestinationRule) -> tuple[tuple[bool, int], tuple[str, ObjectRef]]:
    return specificity(rule.host), age(rule)


def _spoken_of(rule: DestinationRule, services: Iterable[ServiceName]) -> set[ServiceName]:
    if not is_pattern(rule.host) and (service := service_of(rule.host)):
        return {service}
    return {name for name in services if covers(rule.host, name.host)}
