"""What is done to a resource: one patch after another, each as a whole or not at all.

Where Istio inserts at the end of HTTP filters, this is before the one that ends them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar, cast

import betterproto2
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, Listener
from envoy_data_plane.envoy.config.route.v3 import Route, RouteConfiguration, VirtualHost
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpFilter,
)

from mesh.model import EnvoyPatch, FilterClass, ListenerMatch, PatchOperation, RoutesMatch
from xds.render import naming
from xds.render.encoding import typed
from xds.render.patches.merging import merge
from xds.render.patches.places import Scene, is_chain, is_end, is_host, is_nobodys, is_route
from xds.render.patches.values import value_of

M = TypeVar("M", bound=betterproto2.Message)

#: What ends the filters of a connection.
_ENDS = (naming.TCP_PROXY, naming.HTTP_CONNECTION_MANAGER)

#: What is left of a resource: None, it is removed.
Left = betterproto2.Message | None


def change(found: betterproto2.Message, patch: EnvoyPatch, scene: Scene) -> Left:
    """Changes a resource that the patch means. Raises Unreadable."""
    match found:
        case Listener():
            return _listener(found, patch, scene)
        case RouteConfiguration():
            _routes(found, patch, scene)
            return found
        case Cluster():
            return _whole(found, patch)
    raise AssertionError(f"{type(found).__name__} is never patched")


def _whole(found: M, patch: EnvoyPatch) -> M | None:
    """MERGE or REMOVE; ADD is done elsewhere."""
    if patch.operation == "REMOVE":
        return None
    return merge(found, cast(M, value_of(patch))) if patch.operation == "MERGE" else found


def _listener(found: Listener, patch: EnvoyPatch, scene: Scene) -> Listener | None:
    if patch.target == "LISTENER":
        return _whole(found, patch)
    where = patch.where if isinstance(patch.where, ListenerMatch) else None
    if patch.target == "FILTER_CHAIN" and patch.operation == "ADD":
        found.filter_chains.append(cast(FilterChain, value_of(patch)))
        return found
    if patch.target == "FILTER_CHAIN":
        kept = []
        for chain in found.filter_chains:
            if not is_chain(chain, where, scene):
                kept.append(chain)
            elif (left := _whole(chain, patch)) is not None:
                kept.append(left)
        found.filter_chains = kept
        if found.default_filter_chain is not None and is_chain(found.default_filter_chain, where, scene):
            found.default_filter_chain = _whole(found.default_filter_chain, patch)
        return found
    for chain in _chains(found):
        if is_chain(chain, where, scene):
            if patch.target == "NETWORK_FILTER":
                chain.filters = _filters(chain.filters, patch, where.filter if where else "", _ENDS)
            else:
                _requests(chain, patch, where)
    return found


def _chains(found: Listener) -> Iterator[FilterChain]:
    yield from found.filter_chains
    if found.default_filter_chain is not None:
        yield found.default_filter_chain


def _requests(chain: FilterChain, patch: EnvoyPatch, where: ListenerMatch | None) -> None:
    for filter_ in chain.filters:
        if filter_.name != naming.HTTP_CONNECTION_MANAGER or filter_.typed_config is None:
            continue
        manager = cast(HttpConnectionManager, filter_.typed_config.unpack())
        named = where.sub_filter if where else ""
        manager.http_filters = _filters(manager.http_filters, patch, named, (naming.ROUTER,))
        filter_.typed_config = typed(manager)


#: Filters that ask who somebody is, and what he may.
_WHO = (naming.AUTHENTICATION, naming.JWT_AUTHN)
_ASKING: Mapping[FilterClass, tuple[str, ...]] = {
    "AUTHN": _WHO,
    "AUTHZ": (*_WHO, naming.RBAC, naming.CUSTOM, naming.DENY, naming.ALLOW, naming.NETWORK_RBAC),
}

F = TypeVar("F", Filter, HttpFilter)


def _filters(filters: list[F], patch: EnvoyPatch, named: str, ends: tuple[str, ...]) -> list[F]:
    """`named` is the filter that is meant; behind `ends` there can be none."""
    at = next((index for index, one in enumerate(filters) if one.name == named), None)
    if named and at is None:
        return filters
    last = len(filters) - (bool(filters) and filters[-1].name in ends)
    value = cast(F, value_of(patch)) if patch.operation != "REMOVE" else None
    if value is not None and patch.place:
        index: int = _place([one.name for one in filters], patch.place, last)
        filters.insert(index, value)
        return filters
    return _placed(filters, value, patch.operation, at, last)


def _place(names: Sequence[str], place: FilterClass, last: int) -> int:
    """Where a filter of a class is added. Where nobody is asked it comes before all others."""
    if place == "STATS":
        return names.index(naming.GRPC_STATS) if naming.GRPC_STATS in names else last
    known = _ASKING[place]
    return max((index + 1 for index, name in enumerate(names) if name in known), default=0)


def _placed(items: list[M], value: M | None, operation: PatchOperation, at: int | None, last: int) -> list[M]:
    """`at` is the one that is meant (None: none is named), `last` where the end is."""
    if value is None:
        return [item for index, item in enumerate(items) if at is None or index != at]
    match operation:
        case "MERGE":
            return [merge(item, value) if at in (None, index) else item for index, item in enumerate(items)]
        case "REPLACE":
            return [value if at == index else item for index, item in enumerate(items)]
        case "INSERT_FIRST":
            where = 0
        case "INSERT_BEFORE":
            where = at if at is not None else 0
        case "INSERT_AFTER":
            where = min(at + 1, last) if at is not None else last
        case _:
            where = last
    return [*items[:where], value, *items[where:]]


def _routes(found: RouteConfiguration, patch: EnvoyPatch, scene: Scene) -> None:
    where = patch.where if isinstance(patch.where, RoutesMatch) else None
    if patch.target == "ROUTE_CONFIGURATION":
        merge(found, cast(RouteConfiguration, value_of(patch)))
        return
    if patch.target == "VIRTUAL_HOST" and patch.operation == "ADD":
        added = cast(VirtualHost, value_of(patch))
        kept = [host for host in found.virtual_hosts if "*" not in added.domains or not is_nobodys(host)]
        found.virtual_hosts = [*kept, added]
        return
    meant: Callable[[VirtualHost], bool] = lambda host: is_host(host, where, scene)  # noqa: E731
    if patch.target == "VIRTUAL_HOST":
        hosts = [(_whole(host, patch) if meant(host) else host) for host in found.virtual_hosts]
        found.virtual_hosts = [host for host in hosts if host is not None]
        return
    for host in filter(meant, found.virtual_hosts):
        host.routes = _of_host(host, patch, where)


def _of_host(host: VirtualHost, patch: EnvoyPatch, where: RoutesMatch | None) -> list[Route]:
    routes = host.routes
    last = len(routes) - 1 if routes and is_end(routes[-1], host) else len(routes)
    named = where is not None and bool(where.route or where.action != "ANY")
    fits = [index for index, route in enumerate(routes[:last]) if is_route(route, where)]
    if patch.operation in ("MERGE", "REMOVE"):
        kept = [_whole(route, patch) if index in fits else route for index, route in enumerate(routes)]
        return [route for route in kept if route is not None]
    if named and not fits and patch.operation in ("INSERT_BEFORE", "INSERT_AFTER"):
        return routes
    at = fits[0] if named and fits else None
    return _placed(routes, cast(Route, value_of(patch)), patch.operation, at, last)
