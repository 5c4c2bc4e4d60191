"""Listeners, a row for each filter chain: which connections it takes and where they go. One of UDP has none:
its rows are the branches of its proxy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sluice.proxy_text.dump import Data, address, listeners
from sluice.proxy_text.predicates import ALL, branches, chain_match
from sluice.proxy_text.wanted import Wanted, same

HEAD = ("ADDRESSES", "PORT", "MATCH", "DESTINATION")

#: A filter chain without filters: Envoy closes the connection at once (rule 14).
CLOSED = "Closed"
_HTTP = "envoy.filters.network.http_connection_manager"
_TCP = "envoy.filters.network.tcp_proxy"
_UDP = "envoy.filters.udp_listener.udp_proxy"


def select(dump: Data, wanted: Wanted) -> list[Data]:
    found = (listener for _, listener in listeners(dump) if _fits(listener, wanted))
    return sorted(found, key=lambda listener: (_ports(listener), listener["name"]))


def _fits(listener: Data, wanted: Wanted) -> bool:
    return (
        (wanted.address is None or any(same(wanted.address, host) for host, _ in _addresses(listener)))
        and (wanted.port is None or wanted.port in _ports(listener))
        and same(wanted.type, _type(listener))
    )


def rows(selected: Iterable[Data]) -> list[tuple[str, ...]]:
    return [
        (",".join(host for host, _ in _addresses(listener)), str(_ports(listener)[0]), match, destination)
        for listener in selected
        for match, destination in _matches(listener)
    ]


def _matches(listener: Data) -> Iterator[tuple[str, str]]:
    """In the order in which Envoy asks, where there is one."""
    if proxy := _datagrams(listener):
        for match, name in branches(proxy["matcher"]):
            yield match, _cluster(name)
        return
    chains = listener.get("filter_chains", [])
    if matcher := listener.get("filter_chain_matcher"):
        named = {chain["name"]: chain for chain in chains}
        for match, name in branches(matcher):
            yield match, _destination(named[name])
    else:
        for chain in chains:
            yield chain_match(chain), _destination(chain)
    if default := listener.get("default_filter_chain"):
        yield ALL, _destination(default)


def _destination(chain: Data) -> str:
    for filter_ in chain.get("filters", ()):
        config = filter_.get("typed_config", {})
        if filter_["name"] == _HTTP:
            name = config.get("rds", {}).get("route_config_name")
            return f"Route: {name}" if name else "Inline Route"
        if filter_["name"] == _TCP:
            return _clusters(config)
    return "Non-HTTP/Non-TCP" if chain.get("filters") else CLOSED


def _clusters(proxy: Data) -> str:
    if weighted := proxy.get("weighted_clusters", {}).get("clusters"):
        return "Clusters: " + ", ".join(f"{found['name']} ({found['weight']})" for found in weighted)
    return _cluster(proxy.get("cluster", ""))


def _cluster(name: str) -> str:
    # As istioctl has it: PassthroughCluster needs no word before it.
    return name if "Cluster" in name else f"Cluster: {name}"


def _datagrams(listener: Data) -> Data:
    """The proxy of a listener of UDP; {} if it is none."""
    found = (filter_ for filter_ in listener.get("listener_filters", ()) if filter_["name"] == _UDP)
    return next((filter_["typed_config"] for filter_ in found), {})


def _type(listener: Data) -> str:
    if _datagrams(listener):
        return "UDP"
    chains = [*listener.get("filter_chains", ()), listener.get("default_filter_chain", {})]
    names = {filter_["name"] for chain in chains for filter_ in chain.get("filters", ())}
    return "+".join(word for name, word in ((_HTTP, "HTTP"), (_TCP, "TCP")) if name in names) or "UNKNOWN"


def _addresses(listener: Data) -> list[tuple[str, int]]:
    more = [entry["address"] for entry in listener.get("additional_addresses", ())]
    return [address(found) for found in (listener["address"], *more)]


def _ports(listener: Data) -> list[int]:
    return [port for _, port in _addresses(listener)]
