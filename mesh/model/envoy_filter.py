"""EnvoyFilter: changes of Envoy's own configuration. The model knows where a change goes, not what it means:
a value is text, which only `xds.render` can read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mesh.model.names import ObjectRef
from mesh.model.selection import Callers, Selector

PatchContext = Literal["ANY", "SIDECAR_INBOUND", "SIDECAR_OUTBOUND", "GATEWAY"]
PatchTarget = Literal[
    "LISTENER",
    "FILTER_CHAIN",
    "NETWORK_FILTER",
    "HTTP_FILTER",
    "ROUTE_CONFIGURATION",
    "VIRTUAL_HOST",
    "HTTP_ROUTE",
    "CLUSTER",
]
PatchOperation = Literal["MERGE", "ADD", "REMOVE", "INSERT_BEFORE", "INSERT_AFTER", "INSERT_FIRST", "REPLACE"]

#: Behind those that ask who somebody is, behind those that ask what he may, before those that count.
FilterClass = Literal["", "AUTHN", "AUTHZ", "STATS"]

#: What a route does with a request.
RouteKind = Literal["ANY", "ROUTE", "REDIRECT", "DIRECT_RESPONSE"]

#: Changes of these are about requests.
_OF_REQUESTS = ("HTTP_FILTER", "ROUTE_CONFIGURATION", "VIRTUAL_HOST", "HTTP_ROUTE")


@dataclass(frozen=True, slots=True)
class ListenerMatch:
    """What a listener, its filter chain and its filter are called; empty or 0: any."""

    port: int = 0
    name: str = ""
    chain: str = ""
    server_name: str = ""
    application_protocols: str = ""
    destination_port: int = 0
    transport_protocol: str = ""
    filter: str = ""
    sub_filter: str = ""


@dataclass(frozen=True, slots=True)
class RoutesMatch:
    """The same of a route configuration. `gateway` is the Gateway `namespace/name` it serves."""

    port: int = 0
    name: str = ""
    gateway: str = ""
    host: str = ""
    domain: str = ""
    route: str = ""
    action: RouteKind = "ANY"


@dataclass(frozen=True, slots=True)
class ClusterMatch:
    """The same of a cluster; `service` is its host."""

    port: int = 0
    service: str = ""
    subset: str = ""
    name: str = ""


PatchMatch = ListenerMatch | RoutesMatch | ClusterMatch


@dataclass(frozen=True, slots=True)
class EnvoyPatch:
    """One change. `value` is canonical JSON of a mapping, "" where the operation needs none; without
    `where` everything in the context is meant. `metadata` is what an Envoy must say of itself, `place` where
    among filters that which is added stands ("": at the end)."""

    field: str
    target: PatchTarget
    context: PatchContext
    operation: PatchOperation
    value: str = ""
    where: PatchMatch | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    place: FilterClass = ""

    @property
    def of_requests(self) -> bool:
        return self.target in _OF_REQUESTS

    def concerns(self, context: PatchContext) -> bool:
        return self.context in ("ANY", context)


@dataclass(frozen=True, slots=True)
class EnvoyFilter:
    """All that select a workload change its Envoy: the root namespace's first, then by `priority`, then the
    older, then by name. Where no Envoy runs `steers` says whether it brings one (rule 20)."""

    ref: ObjectRef
    patches: tuple[EnvoyPatch, ...]
    subject: Selector = Selector()
    labels: tuple[tuple[str, str], ...] = ()
    priority: int = 0
    created: str = ""
    steers: bool = False
    #: Steering was neither asked for nor declined.
    undecided: bool = False

    @property
    def steers_outward(self) -> bool:
        """May it bring an Envoy to those whose connections it changes on their way out?"""
        return self.steers and any(patch.concerns("SIDECAR_OUTBOUND") for patch in self.patches)

    @property
    def callers(self) -> Callers:
        """Whose connections it changes on their way out, but for the namespace."""
        return Callers(labels=self.labels)
