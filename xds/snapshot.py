"""What one node is sent: its records and its proxies' resources, encoded once.

Only what a change touched is encoded again; tables that did not change are the same objects as
before, by which the discovery server knows that it has nothing to look for. Knows no stream.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import replace
from typing import Any

from mesh.assemble import Mesh
from mesh.change import Change
from mesh.datapath import Node
from mesh.discovery.envoy import EXTENSION
from mesh.discovery.resource import Resource, Snapshot
from mesh.model import ObjectRef, Problem
from mesh.node import Generation, Manifest, NodeState
from mesh.proxy import ProxyView
from mesh.resources import BODY_TYPE, GENERATION_TYPE, MANIFEST_TYPE, NODE_TYPES, TABLE_TYPES, encode
from xds.manifests import Manifests, difference
from xds.render import EnvoyResource, Rendered, render
from xds.render.resource import in_order
from xds.tables import SharedTables, Tables

_GENERATION = "generation"
#: Kinds of which Envoy is asked, and the field that holds what it may refuse.
TRIED = {"EnvoyFilter": "spec.configPatches", "WasmPlugin": "spec.url"}

#: What an identity shows in mutual TLS, and whom it believes; nothing while it cannot be had.
Secrets = Callable[[str], Rendered]
#: What Envoy says of a resource that EnvoyFilters changed: "" if it takes it, None if it was not asked yet.
Verdict = Callable[[EnvoyResource], str | None]


class NodeSnapshot:
    """The resources of one node, kept current.

    `digest` stands for all of them. What EnvoyFilters changed is in it only if `verdict` says that Envoy
    takes it; else the version before stays, or the resource as it is without them. So it is
    with modules; before one that is not there the one before stays, too.
    """

    def __init__(
        self,
        mesh: Mesh,
        name: str,
        *,
        default: bool,
        shared: SharedTables | None = None,
        verdict: Verdict = lambda resource: "",
        secrets: Secrets = lambda identity: (),
    ) -> None:
        self._shared = shared or SharedTables(mesh)
        self.node = Node(mesh, name, default=default, shared=self._shared.records)
        self.rendered: dict[str, Rendered] = {}
        self._verdict = verdict
        self._secrets = secrets
        #: By pod: what was rendered and is not served.
        self._held: dict[str, Rendered] = {}
        self._faults: dict[str, tuple[Problem, ...]] = {}
        self._views: dict[str, ProxyView] = {}
        self._manifests = Manifests()
        #: By name of a body: how many resources have that content.
        self._used: Counter[str] = Counter()
        self._own = Tables(kind for kind in NODE_TYPES if kind not in self._shared.tables.resources)
        self._encode()

    @property
    def digest(self) -> str:
        return f"{(self._own.digest + self._shared.tables.digest) % (1 << 128):032x}"

    @property
    def state(self) -> NodeState:
        return self.node.state

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What EnvoyFilters and WasmPlugins do not do, and why."""
        found = {problem for problems in self._faults.values() for problem in problems}
        for pod, held in self._held.items():
            found.update(problem for resource in held for problem in self._refused(pod, resource))
        return tuple(sorted(found))

    def untried(self) -> Iterator[tuple[EnvoyResource, Rendered]]:
        """Resources of which Envoy must be asked, and those beside them."""
        for held in self._held.values():
            for resource in held:
                if resource.unpatched is not None and self._verdict(resource) is None:
                    yield resource, held

    def update(self, change: Change) -> None:
        self._shared.update(change)
        self.node.update(change)
        self._encode()

    def serve_tried(self) -> None:
        """Take up what Envoy was asked about."""
        self._encode_proxies(frozenset(self._held))

    @property
    def identities(self) -> frozenset[str]:
        """Of those who speak mutual TLS."""
        return frozenset(view.identity for view in self._views.values() if view.identity)

    def renew(self, identities: Set[str]) -> None:
        """Take up what these show now."""
        pods = (pod for pod, view in self._views.items() if view.identity in identities)
        self._encode_proxies(frozenset(pods))

    def stamped(self, number: int, trace: str) -> Snapshot:
        """The snapshot, closed by its generation. The number alone is the version of that one:
        another trace is no news."""
        body = encode(Generation(number, trace))
        generation = replace(Resource.of(GENERATION_TYPE, _GENERATION, body), version=str(number))
        whole = self._shared.tables.resources | self._own.resources
        return whole | {GENERATION_TYPE: {_GENERATION: generation}}

    def origins(self, pod: str, type_url: str, name: str) -> tuple[ObjectRef, ...]:
        """The objects to which a resource of a proxy goes back."""
        for resource in self.rendered.get(pod, ()):
            if resource.type_url == type_url and resource.name == name:
                return resource.origins
        return ()

    def proxies(self) -> dict[str, dict[str, dict[str, dict[str, Any]]]]:
        """Pod -> type URL -> name -> the content hash of what its proxy is to be served, and the
        objects behind it; ready for JSON."""
        found: dict[str, dict[str, dict[str, dict[str, Any]]]] = {}
        for pod, rendered in self.rendered.items():
            types = found[pod] = {}
            for resource in rendered:
                entry = {"version": resource.digest, "origins": list(map(str, resource.origins))}
                types.setdefault(resource.type_url, {})[resource.name] = entry
        return found

    def _encode(self) -> None:
        for table, records in self.node.state.tables().items():
            if (type_url := TABLE_TYPES[table]) in self._own.resources:
                self._own.encode(type_url, records)
        self._encode_proxies()

    def _encode_proxies(self, again: frozenset[str] = frozenset()) -> None:
        views = self.node.proxies
        changed = {pod: view for pod, view in views.items() if pod in again or self._views.get(pod) != view}
        gone = self._views.keys() - views.keys()
        if not changed and not gone:
            return
        fresh: list[EnvoyResource] = []
        stale: list[EnvoyResource] = []
        pages: dict[str, Manifest | None] = {}
        for pod, view in changed.items():
            before = self.rendered.get(pod, ())
            rendered = self.rendered[pod] = self._sound(pod, view)
            added, removed = difference(before, rendered)
            fresh += added
            stale += removed
            pages |= self._manifests.update(view.pod, added, removed, len(rendered))
        for pod in gone:
            stale += self.rendered.pop(pod)
            pages |= self._manifests.remove(self._views[pod].pod)
            self._held.pop(pod, None)
            self._faults.pop(pod, None)
        self._views = dict(views)
        self._name_bodies(fresh, stale)
        gone = {name for name, page in pages.items() if page is None}
        manifests = {
            name: Resource.of(MANIFEST_TYPE, name, encode(page)) for name, page in pages.items() if page
        }
        self._own.replace(MANIFEST_TYPE, manifests, gone)

    def _name_bodies(self, fresh: Iterable[EnvoyResource], stale: Iterable[EnvoyResource]) -> None:
        """Count which bodies some manifest names."""
        known = self._own.resources[BODY_TYPE]
        self._used.update(resource.digest for resource in fresh)
        self._used.subtract(resource.digest for resource in stale)
        unused = {resource.digest for resource in stale if not self._used[resource.digest]}
        for name in unused:
            del self._used[name]
        bodies = {
            resource.digest: Resource.of(BODY_TYPE, resource.digest, resource.any)
            for resource in fresh
            if resource.digest not in known and resource.digest not in unused
        }
        self._own.replace(BODY_TYPE, bodies, unused & known.keys())

    def _sound(self, pod: str, view: ProxyView) -> Rendered:
        """What may be served."""
        rendered = render(view)
        if view.identity:
            rendered = in_order((*rendered, *self._secrets(view.identity)))
        self._faults.pop(pod, None)
        self._held.pop(pod, None)
        if not view.patches and not view.plugins:
            return rendered
        if faults := tuple(fault for resource in rendered for fault in resource.faults):
            self._faults[pod] = faults
        if all(map(self._is_good, rendered)):
            return rendered
        self._held[pod] = rendered
        before = {(one.type_url, one.name): one for one in self.rendered.get(pod, ())}
        found: list[EnvoyResource] = []
        for resource in rendered:
            if self._is_good(resource):
                found.append(resource)
            elif (known := before.get((resource.type_url, resource.name))) and not known.stand_in:
                found.append(known)
            elif resource.unpatched:
                stand_in = resource.type_url == EXTENSION
                found.append(replace(resource, any=resource.unpatched, unpatched=None, stand_in=stand_in))
            elif resource.stand_in:
                found.append(resource)
        return tuple(found)

    def _is_good(self, resource: EnvoyResource) -> bool:
        """Does nothing that is served stay before it?"""
        return not resource.stand_in and (resource.unpatched is None or self._verdict(resource) == "")

    def _refused(self, pod: str, resource: EnvoyResource) -> Iterator[Problem]:
        words = self._verdict(resource) if resource.unpatched is not None else ""
        if words:
            message = f"Envoy refuses {resource.name} of Pod {pod} with it, so the one before stays: {words}"
            if resource.type_url == EXTENSION:  # it is refused wherever it would run
                message = f"Envoy refuses it; the one before stays, without one failStrategy decides: {words}"
            for ref in resource.origins:
                if field := TRIED.get(ref.kind):
                    yield Problem(ref, field, message)
