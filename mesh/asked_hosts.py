"""Hosts that are services because somebody asks for them: names under the patterns of ServiceEntries with
resolution DYNAMIC_DNS, of which the resolver was asked, or which a route names.

A name is every matching pattern's, of each namespace; whom a caller means by it `EntryHosts` says. Knows no
address and no DNS.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from mesh.index import discard
from mesh.model import HostPattern, ObjectRef, Service

#: A service, and the object that it is of.
Offer = tuple[ObjectRef, Service]


class AskedHosts:
    def __init__(self) -> None:
        self._asked: dict[ObjectRef, frozenset[str]] = {}
        self._askers: defaultdict[str, set[ObjectRef]] = defaultdict(set)
        self._patterns: defaultdict[str, set[tuple[ObjectRef, HostPattern]]] = defaultdict(set)

    def patterns(self) -> dict[str, tuple[str, ...]]:
        """Each pattern, with the namespaces that it is for (`*`: each)."""
        return {
            host: tuple(sorted({to for _, pattern in found for to in pattern.template.exported}))
            for host, found in sorted(self._patterns.items())
        }

    def put(self, ref: ObjectRef, pattern: HostPattern) -> list[Offer]:
        """Returns what comes with a pattern, `remove` what goes with it."""
        self._patterns[pattern.template.name.host].add((ref, pattern))
        return self._of(ref, pattern)

    def remove(self, ref: ObjectRef, pattern: HostPattern) -> list[Offer]:
        discard(self._patterns, pattern.template.name.host, (ref, pattern))
        return self._of(ref, pattern)

    def ask(self, asker: ObjectRef, hosts: Iterable[str]) -> tuple[list[Offer], list[Offer]]:
        """These are all that somebody asks for; what goes and what comes with that."""
        before, now = self._asked.pop(asker, frozenset()), frozenset(hosts)
        if now:
            self._asked[asker] = now
        gone: list[Offer] = []
        new: list[Offer] = []
        for host in sorted(now - before):
            if host not in self._askers:
                new += self._offers(host)
            self._askers[host].add(asker)
        for host in sorted(before - now):
            discard(self._askers, host, asker)
            if host not in self._askers:
                gone += self._offers(host)
        return gone, new

    def _of(self, ref: ObjectRef, pattern: HostPattern) -> list[Offer]:
        own = pattern.template.name.host
        return [(ref, pattern.service(host)) for host in sorted(self._askers) if own in patterns_of(host)]

    def _offers(self, host: str) -> Iterator[Offer]:
        for above in patterns_of(host):
            for ref, pattern in sorted(self._patterns.get(above, ()), key=lambda found: found[0]):
                yield ref, pattern.service(host)


def patterns_of(host: str) -> list[str]:
    """All that stand for a host."""
    labels = host.split(".")
    return [".".join(("*", *labels[at:])) for at in range(1, len(labels))]
