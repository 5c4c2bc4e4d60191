"""Backends as Envoy's ClusterLoadAssignment, written straight to bytes.

This is what changes most: the library takes 50 ms for a thousand backends, this one 2 ms and, since it
remembers the bytes of every backend, microseconds for a change of one. A test holds it against the library.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache

from mesh.discovery.envoy import ENDPOINTS
from mesh.discovery.wire import bytes_field, integer_field, pack_any, text_field
from mesh.model import Backend
from mesh.proxy import Place
from xds.render.naming import LABEL, VALUE

#: Field metadata of LbEndpoint: Metadata > filter_metadata > Struct > fields > Value.
_LABEL = bytes_field(
    3,
    bytes_field(
        1,
        text_field(1, "envoy.transport_socket_match")
        + bytes_field(2, bytes_field(1, text_field(1, LABEL) + bytes_field(2, text_field(3, VALUE)))),
    ),
)


@lru_cache(maxsize=8192)
def endpoints(
    cluster: str,
    backends: tuple[Backend, ...],
    places: tuple[Place, ...] = (),
    mutual: tuple[Backend, ...] = (),
) -> bytes:
    """The encoded Any of a cluster's backends, by the places where they are (without any: all in one). Those
    of `mutual` have the label of mutual TLS. Without backends, the assignment is empty, which drains."""
    labelled = frozenset(mutual)
    body = text_field(1, cluster)
    if places:
        by_place: defaultdict[Place, list[Backend]] = defaultdict(list)
        for place, backend in zip(places, backends, strict=True):
            by_place[place].append(backend)
        # Envoy wants priorities without a gap; what is missing may be in another cluster of the target.
        order = {at: index for index, at in enumerate(sorted({place.priority for place in places}))}
        for place, own in sorted(by_place.items()):
            body += bytes_field(2, _at(place, order[place.priority], own, labelled))
    elif backends:
        body += bytes_field(2, _endpoints(backends, labelled))
    return pack_any(ENDPOINTS, body)


def _endpoints(backends: Iterable[Backend], labelled: frozenset[Backend]) -> bytes:
    return b"".join([_endpoint(one.address, one.port, one.weight, one in labelled) for one in backends])


def _at(place: Place, priority: int, backends: Iterable[Backend], labelled: frozenset[Backend]) -> bytes:
    """Fields locality, lb_endpoints, load_balancing_weight and priority of LocalityLbEndpoints."""
    named = enumerate(place.locality, 1)
    body = bytes_field(1, b"".join([text_field(number, name) for number, name in named if name]))
    body += _endpoints(backends, labelled)
    if place.weight:
        body += bytes_field(3, integer_field(1, place.weight))
    return body + (integer_field(5, priority) if priority else b"")


@lru_cache(maxsize=65536)
def _endpoint(address: str, port: int, weight: int, labelled: bool) -> bytes:
    """Field lb_endpoints of LocalityLbEndpoints: LbEndpoint > Endpoint > Address > SocketAddress. For
    Envoy a weight that is not said is 1."""
    socket_address = text_field(2, address) + integer_field(3, port)
    label = _LABEL if labelled else b""
    share = bytes_field(4, integer_field(1, weight)) if weight != 1 else b""
    return bytes_field(2, bytes_field(1, bytes_field(1, bytes_field(1, socket_address))) + label + share)
