"""What the protocol machine has to know of Envoy's own types, and no more.

Which types exist and in what order they go, which resources of a later type a cluster or listener
waits for before its ACK (found in the encoded bytes, so no sender has to declare it), and what the
absence of endpoints looks like. Nothing here builds configuration: that is `xds.render`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache

from mesh.discovery.resource import Resource
from mesh.discovery.wire import WireError, fields, text, text_field, unpack_any

_PREFIX = "type.googleapis.com/envoy."
SECRET = _PREFIX + "extensions.transport_sockets.tls.v3.Secret"
CLUSTER = _PREFIX + "config.cluster.v3.Cluster"
ENDPOINTS = _PREFIX + "config.endpoint.v3.ClusterLoadAssignment"
LISTENER = _PREFIX + "config.listener.v3.Listener"
ROUTES = _PREFIX + "config.route.v3.RouteConfiguration"
EXTENSION = _PREFIX + "config.core.v3.TypedExtensionConfig"

#: Order of one Envoy's types: what is referred to goes before what refers to it.
ENVOY_TYPES = (SECRET, CLUSTER, ENDPOINTS, EXTENSION, LISTENER, ROUTES)

#: A changed resource of the first type warms again, and its ACK waits (15 s) for one of the second
#: that it refers to, changed or not: so it is sent again.
FORCED: Mapping[str, str] = {CLUSTER: ENDPOINTS, LISTENER: ROUTES}

#: Removals of these wait until nothing that Envoy still serves can refer to them.
REMOVED_LAST: Mapping[str, str] = {CLUSTER: ROUTES, ENDPOINTS: ROUTES}

#: Types that are only ever asked for by name: an empty subscription is none, and in the state of
#: the world a response carries what changed and says nothing about the rest.
BY_NAME = frozenset({SECRET, ENDPOINTS, ROUTES, EXTENSION})

_EDS = 3  # Cluster.DiscoveryType


@lru_cache(maxsize=16384)
def referred(resource: Resource) -> frozenset[str]:
    """Names of the resources of type `FORCED[...]` that this cluster or listener waits for.

    Bytes that cannot be read refer to nothing: it is Envoy that will say what is wrong with them.
    """
    try:
        type_url, body = unpack_any(resource.any)
        if type_url == CLUSTER:
            return frozenset(_endpoint_names(body))
        if type_url == LISTENER:
            return frozenset(_route_names(body))
    except WireError:
        pass
    return frozenset()


def no_endpoints(name: str) -> Resource:
    """An empty ClusterLoadAssignment: Envoy ACKs the removal of endpoints and goes on using them,
    only an empty assignment drains."""
    return Resource.of(ENDPOINTS, name, text_field(1, name))


def _endpoint_names(cluster: bytes) -> Iterator[str]:
    name = service = ""
    discovery = 0
    for number, integer, data in fields(cluster):
        match number:
            case 1:
                name = text(data)
            case 2:
                discovery = integer
            case 3:  # eds_cluster_config
                service = next((text(value) for part, _, value in fields(data) if part == 2), "")
    if discovery == _EDS:
        yield service or name


def _route_names(listener: bytes) -> Iterator[str]:
    for number, _, data in fields(listener):
        match number:
            case 3 | 25:  # filter_chains, default_filter_chain
                for filter_ in _values(data, 3):
                    for config in _values(filter_, 4):
                        yield from _route_name(config)
            case 19:  # api_listener
                for config in _values(data, 1):
                    yield from _route_name(config)


def _route_name(config: bytes) -> Iterator[str]:
    type_url, body = unpack_any(config)
    if type_url.endswith(".HttpConnectionManager"):
        for rds in _values(body, 3):
            yield from (text(name) for name in _values(rds, 2))


def _values(message: bytes, number: int) -> Iterator[bytes]:
    return (data for found, _, data in fields(message) if found == number)
