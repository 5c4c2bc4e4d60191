"""One encoded Envoy resource and what shaped it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from operator import attrgetter

from mesh.discovery.envoy import CLUSTER, ENDPOINTS, EXTENSION, LISTENER, ROUTES, SECRET
from mesh.model import ObjectRef, Problem

#: Types in the order of a rendering, and what people call them.
KINDS = {
    SECRET: "secrets",
    CLUSTER: "clusters",
    ENDPOINTS: "endpoints",
    EXTENSION: "extensions",
    LISTENER: "listeners",
    ROUTES: "routes",
}
_ORDER = {type_url: index for index, type_url in enumerate(KINDS)}


@dataclass(frozen=True, slots=True, weakref_slot=True)
class EnvoyResource:
    """`any` is an encoded google.protobuf.Any; `origins` are the objects to blame if Envoy refuses it.

    What EnvoyFilters changed has `unpatched`, what it would be without them (empty: it would not be);
    `faults` are their patches that were left out of it. A WasmPlugin's filter has it, too: what stands in for
    it. Without a module such a `stand_in` is all there is.

    `digest` is the name of its content, `order` where it stands in a rendering: a proxy has thousands of
    resources, of which a change makes a few anew."""

    type_url: str
    name: str
    any: bytes = field(repr=False)  # in Secrets there is a key
    origins: tuple[ObjectRef, ...]
    unpatched: bytes | None = None
    stand_in: bool = False
    faults: tuple[Problem, ...] = ()
    digest: str = field(init=False, compare=False, repr=False)
    order: str = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", blake2b(self.any, digest_size=16).hexdigest())
        object.__setattr__(self, "order", f"{_ORDER[self.type_url]}{self.name}")

    @property
    def kind(self) -> str:
        """`secrets`, `clusters`, `endpoints`, `extensions`, `listeners` or `routes`."""
        return KINDS[self.type_url]


Rendered = tuple[EnvoyResource, ...]


def in_order(found: Iterable[EnvoyResource]) -> Rendered:
    """As they stand in a rendering."""
    return tuple(sorted(found, key=attrgetter("order")))


def blamed(origins: Iterable[ObjectRef]) -> tuple[ObjectRef, ...]:
    """The `origins` of a resource."""
    return tuple(sorted(set(origins)))
