"""Which services stand for a host outside the cluster's own domain, and which of them is meant by whom.

ServiceEntries of several namespaces may speak of one host. Who names it means the one of the own namespace,
without one there of those exported to it one that names the host rather than a pattern, then the oldest. A
Service of the cluster is always itself. Knows no route, no address and no DNS.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator

from mesh.age import since
from mesh.model import Service, ServiceName
from mesh.routes.host_pattern import specificity


def is_entry(name: ServiceName) -> bool:
    """Does it stand for a host of a ServiceEntry?"""
    return "." in name.name


def named_by(service: Service) -> tuple[bool, int]:
    """Sorts services of one host: those that name it, then the longest pattern."""
    return specificity(service.pattern or service.name.host)


class EntryHosts:
    def __init__(self) -> None:
        self._of: defaultdict[str, dict[ServiceName, Service]] = defaultdict(dict)

    def __iter__(self) -> Iterator[str]:
        return iter(self._of)

    def of(self, name: ServiceName) -> Collection[ServiceName]:
        """Every service of that host; of the cluster's own domain it is the one that is named."""
        return self._of.get(name.name, {}).keys() if is_entry(name) else (name,)

    def seen(self, name: ServiceName, namespace: str) -> ServiceName:
        """The service that is meant in a namespace; the name as it is where there is none."""
        found = [s for s in self._of.get(name.name, {}).values() if {"*", namespace} & set(s.exported)]
        if not found:
            return name

        def rank(own: Service) -> tuple[object, ...]:
            return own.name.namespace != namespace, named_by(own), since(own.created), own.name

        return min(found, key=rank).name

    def sees(self, namespace: str, name: ServiceName) -> bool:
        """Is this the service that callers of a namespace mean by its host?"""
        found = self._of.get(name.name, {}).get(name)
        if found is None:
            return not is_entry(name)
        return bool({"*", namespace} & set(found.exported)) and self.seen(name, namespace) == name

    def namespaces(self, host: str) -> set[str]:
        """Those in which a host may mean something else than in the others."""
        services = self._of.get(host, {})
        named = {namespace for service in services.values() for namespace in service.exported}
        return (named | {name.namespace for name in services}) - {"*", "~"}

    def put(self, service: Service) -> None:
        if is_entry(service.name):
            self._of[service.name.name][service.name] = service

    def remove(self, name: ServiceName) -> None:
        if is_entry(name):
            del self._of[name.name][name]
            if not self._of[name.name]:
                del self._of[name.name]
