"""Which Sidecar counts for a caller (istio/api, sidecar.proto): one of its namespace that selects it, else
the one there that is for all, else the one of the root namespace that is. Of several the oldest.

What a Sidecar leaves out a caller's Envoy does not know; connections there go as they go without any rule, or
under REGISTRY_ONLY nowhere (rule 23, `mesh.policies.registry`). Look-ups widen it where it says so, for all
of a namespace. Gateways are nobody's caller.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator

from mesh.age import age
from mesh.caller import Caller
from mesh.model import MeshConfig, ObjectRef, Problem, Sidecar


class Scopes:
    def __init__(self) -> None:
        self._of: defaultdict[str, dict[ObjectRef, Sidecar]] = defaultdict(dict)
        self._only: set[ObjectRef] = set()
        self._taking: set[ObjectRef] = set()
        #: Who asked the resolver for a host of a service, by namespace.
        self._looked_up: dict[str, set[str]] = {}

    @property
    def all(self) -> list[Sidecar]:
        return [sidecar for found in self._of.values() for sidecar in found.values()]

    def put(self, sidecar: Sidecar) -> None:
        self._of[sidecar.ref.namespace][sidecar.ref] = sidecar
        if sidecar.outbound == "REGISTRY_ONLY":
            self._only.add(sidecar.ref)
        if sidecar.ingress:
            self._taking.add(sidecar.ref)

    def remove(self, ref: ObjectRef) -> None:
        del self._of[ref.namespace][ref]
        self._only.discard(ref)
        self._taking.discard(ref)

    @property
    def registry_only(self) -> bool:
        """Does some Sidecar let its callers reach only what services name?"""
        return bool(self._only)

    @property
    def ingress(self) -> bool:
        """Does some Sidecar have Envoys take connections?"""
        return bool(self._taking)

    def find(self, caller: Caller, root: str) -> Sidecar | None:
        """The one that counts; None: the caller is told of everything."""
        own = self._of.get(caller.namespace, {}).values()
        chosen = [sidecar for sidecar in own if sidecar.callers and caller.is_among(sidecar.callers)]
        if chosen:
            return min(chosen, key=age)
        return self._default(caller.namespace) or self._default(root)

    def narrowing(self, caller: Caller, config: MeshConfig, host: str) -> Sidecar | None:
        """The one that counts for what a caller is told of a host: none, if it widens and its namespace's
        pods have looked the host up."""
        sidecar = self.find(caller, config.root_namespace)
        if sidecar and _widens(sidecar, config) and caller.namespace in self.looked_up(host):
            return None
        return sidecar

    def looked_up(self, host: str) -> Collection[str]:
        """The namespaces whose pods have looked a host up."""
        return self._looked_up.get(host, ())

    def look_up(self, found: Iterable[tuple[str, str]]) -> set[str]:
        """These (namespace, host) are all that was looked up. Returns the hosts that this changes."""
        before, self._looked_up = self._looked_up, {}
        for namespace, host in found:
            self._looked_up.setdefault(host, set()).add(namespace)
        hosts = before.keys() | self._looked_up.keys()
        return {host for host in hosts if before.get(host) != self._looked_up.get(host)}

    def widening(self, config: MeshConfig) -> tuple[str, ...]:
        """The namespaces whose pods' look-ups may widen what they are told of (`*`: each)."""
        root = config.root_namespace
        places = {
            "*" if sidecar.callers is None and sidecar.ref.namespace == root else sidecar.ref.namespace
            for sidecar in self.all
            if _widens(sidecar, config)
        }
        return tuple(sorted(places))

    def problems(self) -> Iterator[tuple[ObjectRef, list[Problem]]]:
        """Every Sidecar, and what is wrong with it: a namespace has one for all."""
        for namespace, sidecars in self._of.items():
            first = self._default(namespace)
            for ref, sidecar in sidecars.items():
                if sidecar.callers or first is None or first is sidecar:
                    yield ref, []
                else:
                    text = f"{first.ref} is for all of the namespace, and counts: write a workloadSelector"
                    yield ref, [Problem(ref, "spec.workloadSelector", text)]

    def _default(self, namespace: str) -> Sidecar | None:
        found = (s for s in self._of.get(namespace, {}).values() if s.callers is None)
        return min(found, key=age, default=None)


def _widens(sidecar: Sidecar, config: MeshConfig) -> bool:
    """Not under REGISTRY_ONLY, where what is not named is not to be reached."""
    return sidecar.widens and (sidecar.outbound or config.outbound) != "REGISTRY_ONLY"
