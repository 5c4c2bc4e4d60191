"""Where Envoy sends the datagrams that come to a Gateway's port.

What one address and port sends is a session, which has one backend until nobody has spoken for 60 s (Envoy's
default). The next one of the address finds the same backend: a client may pause, and when a listener changes
all sessions begin anew. Envoy has no weights for datagrams: here they are shares of addresses, by a hash.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from envoy_data_plane.envoy.config.listener.v3 import ListenerFilter
from envoy_data_plane.envoy.extensions.filters.udp.udp_proxy.v3 import (
    Route,
    UdpProxyConfig,
    UdpProxyConfigHashPolicy,
)

from mesh.proxy import AccessLog, ConnectionEntry, Target
from xds.render import matching, naming
from xds.render.access_logging import asked_for
from xds.render.encoding import typed
from xds.render.matching import Predicate


def onward(entries: Sequence[ConnectionEntry], logs: tuple[AccessLog, ...]) -> ListenerFilter:
    """By the first entry. Without any, and for the share of a backend that cannot be, they are dropped: the
    proxy has no NO_BACKEND, or one without endpoints."""
    shares = list(_shares(entries[0])) if entries else []
    last = shares[-1][0] if shares else naming.NO_BACKEND
    proxy = UdpProxyConfig(
        stat_prefix=last,
        matcher=matching.first_of(_branches(shares), last, _route),
        hash_policies=[UdpProxyConfigHashPolicy(source_ip=True)],
        access_log=asked_for(logs),
    )
    return ListenerFilter(name=naming.UDP_PROXY, typed_config=typed(proxy))


def _branches(shares: Sequence[tuple[str, int]]) -> Iterator[tuple[Predicate, str]]:
    """All but the last, which takes what is left: each takes its part of the range of a hash from above."""
    whole = left = sum(weight for _, weight in shares)
    for name, weight in shares[:-1]:
        left -= weight
        yield matching.hashed_source(left, whole), name


def _shares(entry: ConnectionEntry) -> Iterator[tuple[str, int]]:
    for backend in entry.rule.backends:
        if backend.weight:
            target = Target.of(backend, entry.rule.protocol)
            yield naming.cluster(target, 0) if target else naming.NO_BACKEND, backend.weight


def _route(cluster: str) -> Route:
    return Route(cluster=cluster)
