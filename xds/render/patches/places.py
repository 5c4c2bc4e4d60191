"""What a patch of an EnvoyFilter means: which of a proxy's resources, filter chains, hosts and routes.

Sluice's listeners and routes are called as Istio's where they are the same. Where one is for a class of
callers (`virtualInbound|256`), Istio's name (`virtualInbound`, `inbound|http|8080`) means each that serves
the port. So do those of a Gateway (`0.0.0.0_80`, `http.80`) where a policy judges its requests: they are the
chains of its port in the listener of the class, and routes of their own (`http.80|256`). Changes nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from envoy_data_plane.envoy.config.listener.v3 import FilterChain, FilterChainMatch
from envoy_data_plane.envoy.config.route.v3 import Route, VirtualHost

from mesh.discovery.envoy import CLUSTER, LISTENER, ROUTES
from mesh.model import ClusterMatch, EnvoyPatch, ListenerMatch, PatchContext, PatchTarget, RoutesMatch
from mesh.proxy import GatewayPort, ProxyView
from mesh.routes.envoy_filters import inbound_port, outbound_number
from xds.render import naming
from xds.render.resource import EnvoyResource

#: The resources in which something is changed.
TYPES: dict[PatchTarget, str] = {
    "LISTENER": LISTENER,
    "FILTER_CHAIN": LISTENER,
    "NETWORK_FILTER": LISTENER,
    "HTTP_FILTER": LISTENER,
    "ROUTE_CONFIGURATION": ROUTES,
    "VIRTUAL_HOST": ROUTES,
    "HTTP_ROUTE": ROUTES,
    "CLUSTER": CLUSTER,
}
_CLASS = re.compile(r"(?:virtual)?(in|out)bound\|([0-9]+)", re.IGNORECASE)
#: Istio's names of hosts, routes and clusters of one port of a pod.
_INBOUND = re.compile(r"inbound\|.*")


@dataclass(frozen=True, slots=True)
class Scene:
    """What a proxy knows of one of its resources: its side, the port and the Gateways that it serves (`udp`:
    such a listener has no filter chains), what Istio calls it, if not by its name, and the patches that are
    for the ports of its class (by object and field)."""

    context: PatchContext
    port: int = 0
    gateways: frozenset[str] = frozenset()
    keys: frozenset[str] = frozenset()
    is_class: bool = False
    udp: bool = False
    called: str = ""


def scene(resource: EnvoyResource, view: ProxyView) -> Scene | None:
    """None where no patch can mean the resource."""
    found = _CLASS.fullmatch(resource.name)
    behind = resource.name == naming.INBOUND_PASSTHROUGH or resource.name.startswith(naming.INBOUND)
    inbound = behind or (found is not None and found[1].lower() == "in")
    if inbound and view.gateway:
        return Scene("GATEWAY", is_class=True) if resource.type_url == LISTENER else None
    if inbound:
        keys = {str(k) for l7 in view.ingress if found and l7.number == int(found[2]) for k in l7.patches}
        return Scene("SIDECAR_INBOUND", keys=frozenset(keys), is_class=found is not None)
    if not view.gateway:
        return Scene("SIDECAR_OUTBOUND", is_class=found is not None)
    name = resource.name.partition("|")[0] if resource.type_url == ROUTES else resource.name
    for port in view.gateway:
        is_listener = name == naming.gateway_listener(port)
        served = [server for server in port.servers if is_listener or server.name == name]
        if served:
            gateways = {f"{o.namespace}/{o.name}" for server in served for o in server.origins}
            udp = port.transport == "UDP"
            return Scene("GATEWAY", port.port, frozenset(gateways), udp=udp, called=name)
    return Scene("GATEWAY") if resource.type_url == CLUSTER else None


def means(patch: EnvoyPatch, key: str, scene: Scene, name: str) -> bool:
    """Could a patch mean something in a resource of this name?"""
    if not patch.concerns(scene.context) or (scene.udp and patch.target != "LISTENER"):
        return False
    if scene.context == "SIDECAR_INBOUND" and inbound_port(patch) and key not in scene.keys:
        return False
    name = scene.called or name
    if scene.context == "GATEWAY" and scene.is_class:
        # It is none of a Gateway's, some of its chains are.
        adds = patch.target == "FILTER_CHAIN" and patch.operation == "ADD"
        return patch.target != "LISTENER" and not adds
    match patch.where:
        case ListenerMatch() as where:
            return _means_listener(patch, where, scene, name)
        case RoutesMatch() as where:
            return _means_routes(where, scene, name)
        case ClusterMatch() as where:
            return _means_cluster(where, name)
        case None:
            return True


def _means_listener(patch: EnvoyPatch, where: ListenerMatch, scene: Scene, name: str) -> bool:
    number = where.port or where.destination_port or outbound_number(where.name)
    if scene.context == "GATEWAY":
        return where.port in (0, scene.port) and where.name in ("", name)
    if number and patch.target == "LISTENER":
        return False
    if scene.context == "SIDECAR_OUTBOUND":
        if number and scene.is_class:
            return False
        return not where.name or bool(outbound_number(where.name)) or _is_called(name, where.name)
    return not where.name or _is_called(name, where.name)


def _is_called(name: str, wanted: str) -> bool:
    return name == wanted or name.startswith(f"{wanted}|")


def _means_routes(where: RoutesMatch, scene: Scene, name: str) -> bool:
    if scene.context == "GATEWAY":
        served = where.gateway == "" or where.gateway in scene.gateways
        return served and where.port in (0, scene.port) and where.name in ("", name)
    if where.gateway:
        return False
    if scene.context == "SIDECAR_INBOUND":
        return not where.name or where.name == name or _INBOUND.fullmatch(where.name) is not None
    own = 0 if scene.is_class else int(name.rpartition(":")[2] or 0)
    number = outbound_number(where.name)
    return where.port in (0, own) and (where.name in ("", name) or number == own != 0)


def _means_cluster(where: ClusterMatch, name: str) -> bool:
    direction, _, rest = name.partition("|")
    plain = re.sub(r"~(?:[0-9]+|udp)(?=\|)", "", name)
    if where.name not in ("", name, plain):
        return False
    if not (where.port or where.service or where.subset):
        return True
    if direction != "outbound":
        return False
    port, subset, host = plain.split("|")[1:4] if rest else ("0", "", "")
    return (
        where.port in (0, int(port))
        and where.service in ("", host)
        and (not where.subset or where.subset == subset)
    )


# --- inside ----------------------------------------------------------------------------------------------


def is_chain(chain: FilterChain, where: ListenerMatch | None, scene: Scene) -> bool:
    """Chains that only close connections are nobody's to change (rule 14)."""
    if not chain.filters:
        return False
    match = chain.filter_chain_match
    if scene.context == "GATEWAY" and scene.is_class and not _is_at(match, where):
        return False
    if where is None:
        return True
    if scene.context == "SIDECAR_OUTBOUND" and not scene.is_class:
        number = where.port or where.destination_port or outbound_number(where.name)
        if number and (match is None or match.destination_port != number):
            return False
    elif scene.context == "GATEWAY" and where.destination_port:
        return False
    wanted = {word for word in where.application_protocols.split(",") if word}
    return (
        where.chain in ("", chain.name)
        and (not where.server_name or (match is not None and where.server_name in match.server_names))
        and (not wanted or (match is not None and wanted <= set(match.application_protocols)))
        and (
            not where.transport_protocol
            or (match.transport_protocol if match else "") == where.transport_protocol
        )
        and (not where.filter or any(filter_.name == where.filter for filter_ in chain.filters))
    )


def _is_at(match: FilterChainMatch | None, where: ListenerMatch | None) -> bool:
    """Is it a chain of a Gateway's port, and of the one that is meant?"""
    if match is None or not match.destination_port:
        return False
    port = match.destination_port
    bind = match.prefix_ranges[0].address_prefix if match.prefix_ranges else ""
    return where is None or (
        where.port in (0, port) and where.name in ("", naming.gateway_listener(GatewayPort(port, bind, ())))
    )


def is_nobodys(host: VirtualHost) -> bool:
    """Is it there only because judges want to be asked of every host?"""
    return host.domains == ["*"] and len(host.routes) == 1 and is_end(host.routes[0], host)


def is_end(route: Route, host: VirtualHost) -> bool:
    """Is it what answers where no route fits?"""
    answers = route.direct_response is not None and route.direct_response.status == 404
    return answers and _unjudged(route.name) == host.name


def is_host(host: VirtualHost, where: RoutesMatch | None, scene: Scene) -> bool:
    if is_nobodys(host):
        return False
    if where is None:
        return True
    known = {host.name, *host.domains, host.name.rpartition(":")[0]}
    inbound = scene.context == "SIDECAR_INBOUND" and _INBOUND.fullmatch(where.host) is not None
    return (where.host in ("", host.name) or inbound) and (not where.domain or where.domain in known)


def is_route(route: Route, where: RoutesMatch | None) -> bool:
    if where is None:
        return True
    acts = {"ROUTE": route.route, "REDIRECT": route.redirect, "DIRECT_RESPONSE": route.direct_response}
    named = where.route in ("", route.name, _unjudged(route.name))
    return named and (where.action == "ANY" or acts[where.action] is not None)


def _unjudged(name: str) -> str:
    """A route's name without the number of the class that judges what it takes."""
    return name.rpartition("|")[0] or name
