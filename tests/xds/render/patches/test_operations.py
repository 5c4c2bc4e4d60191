"""What each operation does to what was rendered. What comes of it the real Envoy takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mesh.model import (
    ClusterMatch,
    ConnectionMatch,
    ConnectionRule,
    EnvoyPatch,
    FilterClass,
    ListenerMatch,
    ObjectRef,
    PatchOperation,
    PatchTarget,
    RouteBackend,
    RoutesMatch,
)
from mesh.proxy import ConnectionEntry, GatewayPort, GatewayServer
from tests.xds.render.patches.one_pod import (
    CHAIN,
    HCM,
    LIMIT,
    MANAGER,
    MERGED,
    MINE,
    ORIGIN,
    OUTBOUND,
    ROUTER,
    TEAPOT,
    WEB,
    lua,
    named,
    patch,
    view,
)
from tests.xds.render.standalone import validate
from xds.render import EnvoyResource, Rendered, readable, render
from xds.trial import Trying, ask_envoy

HOST = "web.shop.svc.cluster.local:80"
Seen = Callable[[Rendered], object]


def clusters(rendered: Rendered) -> list[str]:
    return [r.name for r in rendered if r.kind == "clusters" and r.name != "InboundPassthroughCluster"]


def of(name: str, *path: str | int) -> Seen:
    def look(rendered: Rendered) -> object:
        found: Any = named(rendered, name)
        for step in path:
            found = found[step]
        return found

    return look


def names(name: str, *path: str | int) -> Seen:
    return lambda rendered: [item["name"] for item in of(name, *path)(rendered)]  # type: ignore[attr-defined]


OPERATIONS: dict[str, tuple[EnvoyPatch, Seen, object]] = {
    "merge a cluster": (
        patch("CLUSTER", "MERGE", MERGED, ClusterMatch(service="web.shop.svc.cluster.local")),
        of(OUTBOUND, "alt_stat_name"),
        "mine",
    ),
    "merge a cluster by its name": (
        patch("CLUSTER", "MERGE", MERGED, ClusterMatch(name=OUTBOUND)),
        of(OUTBOUND, "alt_stat_name"),
        "mine",
    ),
    "add a cluster": (
        patch("CLUSTER", "ADD", {"name": "mine", "type": "STATIC", "connect_timeout": "1s"}),
        clusters,
        ["mine", OUTBOUND],
    ),
    "remove a cluster": (patch("CLUSTER", "REMOVE", None, ClusterMatch(port=80)), clusters, []),
    "leave a cluster of another port": (
        patch("CLUSTER", "REMOVE", None, ClusterMatch(port=81)),
        clusters,
        [OUTBOUND],
    ),
    "merge a listener": (
        patch("LISTENER", "MERGE", {"stat_prefix": "mine"}),
        of("virtualOutbound", "stat_prefix"),
        "mine",
    ),
    "add a chain": (
        patch("FILTER_CHAIN", "ADD", CHAIN),
        names("virtualOutbound", "filter_chains"),
        [HOST, "virtualOutbound-blackhole", "mine"],
    ),
    "merge a chain": (
        patch("FILTER_CHAIN", "MERGE", {"transport_socket_connect_timeout": "3s"}, ListenerMatch(chain=HOST)),
        of("virtualOutbound", "filter_chains", 0, "transport_socket_connect_timeout"),
        "3s",
    ),
    "remove a chain": (
        patch("FILTER_CHAIN", "REMOVE", None, ListenerMatch(port=80)),
        names("virtualOutbound", "filter_chains"),
        ["virtualOutbound-blackhole"],
    ),
    "put a network filter before": (
        patch("NETWORK_FILTER", "INSERT_BEFORE", LIMIT, ListenerMatch(filter=MANAGER)),
        names("virtualOutbound", "filter_chains", 0, "filters"),
        ["limit", MANAGER],
    ),
    "put a network filter first": (
        patch("NETWORK_FILTER", "INSERT_FIRST", LIMIT),
        names("virtualOutbound", "filter_chains", 0, "filters"),
        ["limit", MANAGER],
    ),
    "add a network filter": (
        patch("NETWORK_FILTER", "ADD", LIMIT),
        names("virtualOutbound", "filter_chains", 0, "filters"),
        ["limit", MANAGER],
    ),
    "merge a network filter": (
        patch(
            "NETWORK_FILTER",
            "MERGE",
            {"typed_config": {"@type": HCM, "via": "me"}},
            ListenerMatch(filter=MANAGER),
        ),
        of("virtualOutbound", "filter_chains", 0, "filters", 0, "typed_config", "via"),
        "me",
    ),
    "merge a route configuration": (
        patch("ROUTE_CONFIGURATION", "MERGE", {"request_headers_to_remove": ["x"]}, RoutesMatch(name="80")),
        of(HOST, "request_headers_to_remove", -1),
        "x",
    ),
    "merge a virtual host": (
        patch("VIRTUAL_HOST", "MERGE", {"include_request_attempt_count": True}, RoutesMatch(host=HOST)),
        of(HOST, "virtual_hosts", 0, "include_request_attempt_count"),
        True,
    ),
    "add a virtual host": (patch("VIRTUAL_HOST", "ADD", MINE), names(HOST, "virtual_hosts"), [HOST, "mine"]),
    "remove a virtual host": (
        patch("VIRTUAL_HOST", "REMOVE", None, RoutesMatch(port=80)),
        lambda found: named(found, HOST).get("virtual_hosts", []),
        [],
    ),
    "put a route first": (
        patch("HTTP_ROUTE", "INSERT_FIRST", TEAPOT),
        names(HOST, "virtual_hosts", 0, "routes"),
        ["teapot", "HTTPRoute shop/web rules[0]"],
    ),
    "put a route before another": (
        patch("HTTP_ROUTE", "INSERT_BEFORE", TEAPOT, RoutesMatch(route="HTTPRoute shop/web rules[0]")),
        names(HOST, "virtual_hosts", 0, "routes"),
        ["teapot", "HTTPRoute shop/web rules[0]"],
    ),
    "put a route after another": (
        patch("HTTP_ROUTE", "INSERT_AFTER", TEAPOT, RoutesMatch(action="ROUTE")),
        names(HOST, "virtual_hosts", 0, "routes"),
        ["HTTPRoute shop/web rules[0]", "teapot"],
    ),
    "add a route": (
        patch("HTTP_ROUTE", "ADD", TEAPOT),
        names(HOST, "virtual_hosts", 0, "routes"),
        ["HTTPRoute shop/web rules[0]", "teapot"],
    ),
    "merge a route": (
        patch(
            "HTTP_ROUTE", "MERGE", {"stat_prefix": "mine"}, RoutesMatch(route="HTTPRoute shop/web rules[0]")
        ),
        of(HOST, "virtual_hosts", 0, "routes", 0, "stat_prefix"),
        "mine",
    ),
    "remove a route": (
        patch("HTTP_ROUTE", "REMOVE", None, RoutesMatch(action="ROUTE")),
        lambda found: named(found, HOST)["virtual_hosts"][0].get("routes", []),
        [],
    ),
    "leave what another action does": (
        patch("HTTP_ROUTE", "REMOVE", None, RoutesMatch(action="REDIRECT")),
        names(HOST, "virtual_hosts", 0, "routes"),
        ["HTTPRoute shop/web rules[0]"],
    ),
}


@pytest.mark.parametrize("what", OPERATIONS)
def test_an_operation_does_what_it_says_and_envoy_takes_it(what: str, tmp_path: Path) -> None:
    one, look, wanted = OPERATIONS[what]
    rendered = render(view(one))
    assert not [fault for resource in rendered for fault in resource.faults]
    assert look(rendered) == wanted
    assert validate(rendered, tmp_path) == "" or what == "add a chain"
    changed = [Trying(resource, rendered) for resource in rendered if resource.unpatched is not None]
    assert ask_envoy(changed) == "" if changed else what.startswith(("remove", "leave"))
    untouched = {(resource.kind, resource.name): resource for resource in render(view())}
    for resource in rendered:
        if resource.unpatched:
            assert (
                resource.unpatched == untouched[resource.kind, resource.name].any
                and ORIGIN in resource.origins
            )


AUTHENTICATION, ALLOW, STATS = (
    f"envoy.filters.http.{name}" for name in ("filter_chain.jwt", "rbac.allow", "grpc_stats")
)


@pytest.mark.parametrize(
    ("place", "before", "after"),
    [("AUTHN", AUTHENTICATION, ""), ("AUTHZ", ALLOW, ""), ("STATS", "", STATS), ("", STATS, ROUTER)],
)
def test_a_filter_is_added_beside_those_of_its_class(place: FilterClass, before: str, after: str) -> None:
    one = patch("HTTP_FILTER", "ADD", lua(), context="SIDECAR_INBOUND", place=place)
    rendered = render(view(one))
    (chain, *_) = (
        found
        for listener in readable(rendered)["listeners"]
        if listener["name"] == "virtualInbound|256"
        for found in (*listener["filter_chains"], listener["default_filter_chain"])
        if found.get("filters")
    )
    known = ["", *(item["name"] for item in chain["filters"][0]["typed_config"]["http_filters"])]
    at = known.index("lua")
    assert (before or known[at - 1], after or known[at + 1]) == (known[at - 1], known[at + 1])
    assert ask_envoy([Trying(r, rendered) for r in rendered if r.unpatched is not None]) == ""


def test_where_nobody_is_asked_a_filter_of_authentication_comes_first() -> None:
    for place in ("AUTHN", "AUTHZ"):
        one = patch("HTTP_FILTER", "ADD", lua(), place=place)
        chain = named(render(view(one)), "virtualOutbound")["filter_chains"][0]
        assert chain["filters"][0]["typed_config"]["http_filters"][0]["name"] == "lua"


@pytest.mark.parametrize("target", ["FILTER_CHAIN", "NETWORK_FILTER", "LISTENER"])
def test_a_listener_of_udp_has_no_filter_chains(target: PatchTarget) -> None:
    """One of TCP at the same port has, and a patch of the listener is for both."""
    ref = ObjectRef("Gateway", "shop", "talk")
    rule = ConnectionRule("rules[0]", "tcp", backends=(RouteBackend(WEB, 80),))
    tcp = GatewayServer("", (ref,), connections=(ConnectionEntry(ref, ConnectionMatch(), rule),), http=False)
    ports = (
        GatewayPort(53, "", (tcp,)),
        GatewayPort(53, "", (GatewayServer("", (ref,), http=False),), "UDP"),
    )
    value = {"LISTENER": {"stat_prefix": "mine"}, "FILTER_CHAIN": CHAIN, "NETWORK_FILTER": LIMIT}[target]
    operation: PatchOperation = "MERGE" if target == "LISTENER" else "ADD"
    one = patch(target, operation, value, ListenerMatch(port=53), "GATEWAY")
    rendered = render(view(one, routed=(), ingress=(), gateway=ports))
    patched = {r.name for r in rendered if r.unpatched is not None}
    assert patched == {"0.0.0.0_53"} | ({"udp_0.0.0.0_53"} if target == "LISTENER" else set())
    changed = [Trying(r, rendered) for r in rendered if r.unpatched is not None and target == "LISTENER"]
    assert ask_envoy(changed) == ""


def test_without_patches_nothing_is_made_of_messages() -> None:
    """Equal bytes, and the very objects that were there."""
    assert all(type(r) is EnvoyResource and r.unpatched is None for r in render(view()))
