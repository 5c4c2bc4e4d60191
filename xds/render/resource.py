"""One encoded Envoy resource and what shaped it."""

from __future__ import annotations

from dataclasses import dataclass

from mesh.discovery.envoy import CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET
from mesh.model import ObjectRef, Problem

#: Types in the order of a rendering, and what people call them.
KINDS = {
    SECRET: "secrets",
    CLUSTER: "clusters",
    ENDPOINTS: "endpoints",
    LISTENER: "listeners",
    ROUTES: "routes",
}
_ORDER = {type_url: index for index, type_url in enumerate(KINDS)}


@dataclass(frozen=True, slots=True)
class EnvoyResource:
    """`any` is an encoded google.protobuf.Any; `origins` are the objects to blame if Envoy refuses it. What
    EnvoyFilters changed has `unpatched`, what it would be without them (empty: it would not be); `faults` are
    their patches that were left out of it."""

    type_url: str
    name: str
    any: bytes
    origins: tuple[ObjectRef, ...]
    unpatched: bytes | None = None
    faults: tuple[Problem, ...] = ()

    @property
    def kind(self) -> str:
        """`secrets`, `clusters`, `endpoints`, `listeners` or `routes`."""
        return KINDS[self.type_url]

    @property
    def order(self) -> tuple[int, str]:
        """Where it stands in a rendering."""
        return _ORDER[self.type_url], self.name


Rendered = tuple[EnvoyResource, ...]
