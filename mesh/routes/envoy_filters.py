"""Which EnvoyFilters, WasmPlugins among them, change whose Envoy, and which of their patches bring one where
there is none (rule 20).

A patch about requests steers the ports that it names, by number or in one of Istio's names of them, all HTTP
ports if it names none. Any other patch on the way out steers only what it names. Knows no Envoy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from mesh.age import age
from mesh.caller import Caller
from mesh.model import (
    ClusterMatch,
    EnvoyFilter,
    EnvoyPatch,
    ListenerMatch,
    ObjectRef,
    PluginPhase,
    Problem,
    RoutesMatch,
    Service,
    ServiceName,
    ServicePort,
    WasmPlugin,
    WorkloadName,
)
from mesh.protocols import declared
from mesh.proxy import FilterPart, PatchKey, PluginPart
from mesh.proxy_metadata import is_of

#: `inbound|http|8080`, `inbound|8080||`: what Istio calls hosts, routes and clusters of one port of a pod.
_INBOUND = re.compile(r"inbound\|(?:http\|)?([0-9]{1,5})(?:\|.*)?")
#: `0.0.0.0_80`, `80`, `http.80`: what it calls listeners and routes of one port of all services.
_OUTBOUND = re.compile(r"(?:[0-9a-f.:]+_|http\.)?([0-9]{1,5})")
_PHASES: tuple[PluginPhase, ...] = ("AUTHN", "AUTHZ", "STATS", "UNSPECIFIED_PHASE")
_CLUSTER = re.compile(r"outbound\|([0-9]{1,5})\|[^|]*\|(.+)")


# --- inbound ----------------------------------------------------------------------------------------------


def inbound_port(patch: EnvoyPatch) -> int:
    """The one port of a pod that a patch is for; 0: every one."""
    match patch.where:
        case ListenerMatch(port=port, destination_port=other):
            return port or other
        case RoutesMatch(port=port, name=name, host=host):
            found = _INBOUND.fullmatch(host) or _INBOUND.fullmatch(name)
            return port or (int(found[1]) if found else 0)
        case _:
            return 0


def concerns_ports(found: EnvoyFilter) -> bool:
    """Must the ports of those whom it selects be told apart for it?"""
    return any(
        patch.concerns("SIDECAR_INBOUND") and (found.steers or inbound_port(patch)) for patch in found.patches
    )


def inbound(found: EnvoyFilter, port: int) -> Iterator[PatchKey]:
    """Its patches that are for a port of a pod, but for those that are for all and bring no Envoy."""
    for patch in found.patches:
        if patch.concerns("SIDECAR_INBOUND"):
            at = inbound_port(patch)
            if at == port or (at == 0 and found.steers):
                yield PatchKey(found.ref, patch.field, found.steers)


# --- in order ---------------------------------------------------------------------------------------------


def parts(filters: Iterable[EnvoyFilter], root: str, pod: WorkloadName) -> tuple[FilterPart, ...]:
    """What a pod's Envoy is changed by, in the order in which Istio does it."""
    ranked = sorted(
        {one.ref: one for one in filters if not isinstance(one, WasmPlugin)}.values(),
        key=lambda one: (one.ref.namespace != root, one.priority, age(one)),
    )
    return tuple(
        FilterPart(one.ref, tuple(patch for patch in one.patches if is_of(pod, patch.metadata)))
        for one in ranked
    )


def plugins(filters: Iterable[EnvoyFilter]) -> tuple[PluginPart, ...]:
    """What a pod's Envoy runs, in the order in which requests meet it."""
    ranked = sorted(
        {one.ref: one for one in filters if isinstance(one, WasmPlugin)}.values(),
        key=lambda one: (_PHASES.index(one.phase), -one.priority, one.ref),
    )
    return tuple(
        PluginPart(
            one.ref,
            one.patches,
            one.phase,
            one.on_failure,
            one.code,
            one.name,
            one.config,
            one.environment,
        )
        for one in ranked
    )


def problems(found: EnvoyFilter) -> Iterator[Problem]:
    """What of it does less than it looks like."""
    sides = ("SIDECAR_INBOUND", "SIDECAR_OUTBOUND")
    if found.undecided and any(patch.context in ("ANY", *sides) for patch in found.patches):
        text = (
            "is not there, so it steers nothing: it changes Envoys that run for another reason. Name "
            'workloads, or say so by the annotation sluice.io/steer, "true" or "false"'
        )
        field = "selector" if isinstance(found, WasmPlugin) else "workloadSelector"
        yield Problem(found.ref, f"spec.{field}", text)
    for patch in found.patches:
        where = patch.where
        if patch.context == "SIDECAR_INBOUND" and isinstance(where, ClusterMatch):
            if where.port or where.service or where.subset or _INBOUND.fullmatch(where.name):
                text = "matches nothing: inbound one cluster is for all ports, InboundPassthroughCluster"
                yield Problem(found.ref, f"spec.{patch.field}.match.cluster", text)
        if patch.target == "LISTENER" and patch.context in sides and isinstance(where, ListenerMatch):
            if where.port:
                text = "matches nothing: a sidecar has no listener for one port; patch a FILTER_CHAIN"
                yield Problem(found.ref, f"spec.{patch.field}.match.listener.portNumber", text)


# --- outbound ---------------------------------------------------------------------------------------------


class EnvoyFilters:
    """Those that steer connections on their way out."""

    def __init__(self) -> None:
        self.all: dict[ObjectRef, EnvoyFilter] = {}

    def put(self, found: EnvoyFilter, services: Iterable[Service]) -> set[ServiceName]:
        """Take one in. Returns those of the services of which it speaks."""
        if found.steers_outward:
            self.all[found.ref] = found
        return _spoken_of(found, services)

    def remove(self, found: EnvoyFilter, services: Iterable[Service]) -> set[ServiceName]:
        self.all.pop(found.ref, None)
        return _spoken_of(found, services)

    def at(self, service: Service) -> list[EnvoyFilter]:
        """All that speak of a service, whomever they are for."""
        return [found for found in self.all.values() if _speaks_of(found, service)]

    def spoken_of(self, services: Iterable[Service]) -> Iterator[ServiceName]:
        """Those of the services of which one speaks."""
        if self.all:
            yield from (service.name for service in services if self.at(service))

    def find(self, caller: Caller, service: ServiceName, port: ServicePort, root: str) -> PatchKey | None:
        """The first patch that steers a caller's connections to a service port."""
        for ref, found in sorted(self.all.items()):
            if ref.namespace in (root, caller.namespace) and caller.is_among(found.callers):
                for patch in found.patches:
                    if _steers(patch, service, port):
                        return PatchKey(ref, patch.field, True)
        return None


def _spoken_of(found: EnvoyFilter, services: Iterable[Service]) -> set[ServiceName]:
    return {service.name for service in services if found.steers and _speaks_of(found, service)}


def _speaks_of(found: EnvoyFilter, service: Service) -> bool:
    return any(_steers(patch, service.name, port) for patch in found.patches for port in service.ports)


def _steers(patch: EnvoyPatch, service: ServiceName, port: ServicePort) -> bool:
    kind = declared(port)
    if port.protocol != "TCP" or kind == "plain" or not patch.concerns("SIDECAR_OUTBOUND"):
        return False
    named = _names(patch, service.host, port.port)
    return named is True or (named is None and patch.of_requests and kind == "http")


def _names(patch: EnvoyPatch, host: str, port: int) -> bool | None:
    """Does a patch name a service port? None: it names none at all."""
    ports: set[int] = set()
    own = f"{host}:{port}"
    names: set[str] = set()
    match patch.where:
        case ListenerMatch() as where:
            ports |= {where.port, where.destination_port, outbound_number(where.name)}
            names |= {where.chain}
        case RoutesMatch() as where:
            ports |= {where.port, outbound_number(where.name)}
            names |= {where.host, where.domain if ":" in where.domain else ""}
            names |= {where.name} if ":" in where.name else set()
        case ClusterMatch() as where:
            found = _CLUSTER.fullmatch(where.name)
            ports |= {where.port, int(found[1]) if found else 0}
            hosts = {where.service, found[2] if found else ""} - {""}
            if hosts - {host}:
                return False
            if hosts and ports <= {0, port}:
                return True
    ports, names = ports - {0}, names - {""}
    if not ports and not names:
        return None
    return ports <= {port} and names <= {own}


def outbound_number(name: str) -> int:
    """The port in Istio's names of listeners and routes for one port of all services; 0: it is none such."""
    found = _OUTBOUND.fullmatch(name)
    return int(found[1]) if found else 0
