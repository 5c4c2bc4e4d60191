"""Patches of EnvoyFilters: how messages are merged, what each operation does to what was rendered, and what
may not be taken out of force. What comes of it the real Envoy takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import betterproto2
import pytest
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.route.v3 import Route, VirtualHost
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpFilter,
)

from mesh.model import (
    Backend,
    ClusterMatch,
    ConnectionMatch,
    ConnectionRule,
    EnvoyPatch,
    ListenerMatch,
    ObjectRef,
    PatchContext,
    PatchMatch,
    PatchOperation,
    PatchTarget,
    RouteBackend,
    RouteMatch,
    RouteRule,
    RoutesMatch,
    ServiceName,
    WorkloadName,
)
from mesh.proxy import (
    ConnectionEntry,
    Destination,
    FilterPart,
    GatewayPort,
    GatewayServer,
    HttpRule,
    L7Class,
    Part,
    ProxyView,
    RoutedPort,
    RouteEntry,
    Target,
)
from tests.xds.render.standalone import validate
from xds.render import EnvoyResource, Rendered, readable, render
from xds.render.patches.merging import merge
from xds.render.patches.values import Unreadable, message
from xds.trial import Trying, ask_envoy

TYPE = "type.googleapis.com/envoy.extensions.filters"
HCM = f"{TYPE}.network.http_connection_manager.v3.HttpConnectionManager"
TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
MANAGER, ROUTER = "envoy.filters.network.http_connection_manager", "envoy.filters.http.router"
ORIGIN = ObjectRef("EnvoyFilter", "shop", "f")
WEB = ServiceName("shop", "web")
ALLOW = HttpRule(ObjectRef("CiliumNetworkPolicy", "shop", "web"), "ingress[0]", ())


def lua(name: str = "lua", code: str = "-- nothing") -> dict[str, Any]:
    config = {"@type": f"{TYPE}.http.lua.v3.Lua", "default_source_code": {"inline_string": code}}
    return {"name": name, "typed_config": config}


# --- values -----------------------------------------------------------------------------------------------

OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def options(**fields: Any) -> dict[str, Any]:
    return {"@type": f"type.googleapis.com/{OPTIONS}", **fields}


H1 = options(explicit_http_config={"http_protocol_options": {}})
BROTLI = f"{TYPE}.http.buffer.v3.Buffer"

MERGES: dict[str, tuple[type[betterproto2.Message], Any, Any, Any]] = {
    "a scalar is replaced": (
        Cluster,
        {"name": "a", "alt_stat_name": "b"},
        {"altStatName": "c"},
        {"name": "a", "alt_stat_name": "c"},
    ),
    "a scalar's default says nothing": (
        Cluster,
        {"alt_stat_name": "b"},
        {"alt_stat_name": ""},
        {"alt_stat_name": "b"},
    ),
    "a wrapped default counts": (
        Cluster,
        {"per_connection_buffer_limit_bytes": 5},
        {"per_connection_buffer_limit_bytes": 0},
        {"per_connection_buffer_limit_bytes": 0},
    ),
    "a duration is one value": (
        Cluster,
        {"connect_timeout": "10.5s"},
        {"connect_timeout": "3s"},
        {"connect_timeout": "3s"},
    ),
    "an enum goes by name": (
        Cluster,
        {"lb_policy": "ROUND_ROBIN"},
        {"lb_policy": "RANDOM"},
        {"lb_policy": "RANDOM"},
    ),
    "a message is merged inside": (
        Cluster,
        {"outlier_detection": {"interval": "1s", "consecutive_5xx": 3}},
        {"outlier_detection": {"consecutive_5xx": 5, "max_ejection_percent": 10}},
        {"outlier_detection": {"interval": "1s", "consecutive_5xx": 5, "max_ejection_percent": 10}},
    ),
    "a list is appended": (
        Cluster,
        {"circuit_breakers": {"thresholds": [{"max_connections": 1}]}},
        {"circuit_breakers": {"thresholds": [{"max_connections": 2}]}},
        {"circuit_breakers": {"thresholds": [{"max_connections": 1}, {"max_connections": 2}]}},
    ),
    "a oneof has the newest of its fields": (
        Route,
        {"match": {"prefix": "/"}, "route": {"cluster": "a"}},
        {"direct_response": {"status": 418}},
        {"match": {"prefix": "/"}, "direct_response": {"status": 418}},
    ),
    "a oneof's scalar as well": (
        Route,
        {"match": {"prefix": "/"}},
        {"match": {"path": "/x"}},
        {"match": {"path": "/x"}},
    ),
    "a map is joined by key": (
        VirtualHost,
        {"name": "h", "typed_per_filter_config": {"b": {"@type": BROTLI, "max_request_bytes": 1}}},
        {"typed_per_filter_config": {"a": {"@type": BROTLI, "max_request_bytes": 2}}},
        {
            "name": "h",
            "typed_per_filter_config": {
                "a": {"@type": BROTLI, "max_request_bytes": 2},
                "b": {"@type": BROTLI, "max_request_bytes": 1},
            },
        },
    ),
    "a typed config of one type is merged inside": (
        HttpFilter,
        lua() | {"is_optional": True},
        {"typed_config": {"@type": f"{TYPE}.http.lua.v3.Lua", "stat_prefix": "p"}},
        {"name": "lua", "typed_config": lua()["typed_config"] | {"stat_prefix": "p"}, "is_optional": True},
    ),
    "one of another type is replaced": (
        HttpFilter,
        lua(),
        {"typed_config": {"@type": BROTLI, "max_request_bytes": 2}},
        {"name": "lua", "typed_config": {"@type": BROTLI, "max_request_bytes": 2}},
    ),
    "the same in a map": (
        Cluster,
        {"typed_extension_protocol_options": {OPTIONS: H1}},
        {
            "typed_extension_protocol_options": {
                OPTIONS: options(common_http_protocol_options={"idle_timeout": "5s"})
            }
        },
        {
            "typed_extension_protocol_options": {
                OPTIONS: H1 | {"common_http_protocol_options": {"idle_timeout": "5s"}}
            }
        },
    ),
}


@pytest.mark.parametrize("what", MERGES)
def test_merging(what: str) -> None:
    kind, into, other, wanted = MERGES[what]
    assert bytes(merge(message(kind, into, ""), message(kind, other, ""))) == bytes(message(kind, wanted, ""))


@pytest.mark.parametrize(
    ("value", "path", "words"),
    [
        ({"no_such": 1}, ".no_such", "no field of Cluster"),
        (
            {"circuit_breakers": {"thresholds": [{"max": 1}]}},
            ".circuit_breakers.thresholds[0].max",
            "no field",
        ),
        ({"connect_timeout": 5}, ".connect_timeout", "such as 5s"),
        ({"connect_timeout": "soon"}, ".connect_timeout", "no Duration"),
        ({"lb_policy": "BEST"}, ".lb_policy", "must be one of"),
        ({"type": "STATIC", "cluster_type": {"name": "x"}}, ".cluster_type", "does not go with type"),
        ({"health_checks": {}}, ".health_checks", "a list"),
        ({"ignore_health_on_host_removal": "yes"}, ".ignore_health_on_host_removal", "true or false"),
        ({"typed_extension_protocol_options": {"x": {}}}, ".typed_extension_protocol_options['x']", "@type"),
        (
            {"outlier_detection": {"max_ejection_percent": -1}},
            ".outlier_detection.max_ejection_percent",
            "whole",
        ),
    ],
)
def test_what_is_no_message_is_told_with_its_path(value: Any, path: str, words: str) -> None:
    with pytest.raises(Unreadable) as raised:
        message(Cluster, value, "")
    assert raised.value.path == path
    assert words in raised.value.message


# --- operations -------------------------------------------------------------------------------------------


def view(*patches: EnvoyPatch, **fields: Any) -> ProxyView:
    """A pod that calls `web` by a route, and whose port an HTTP rule judges."""
    rule = RouteRule("rules[0]", (RouteMatch(),), (RouteBackend(WEB, 80),))
    entry = RouteEntry(ObjectRef("HTTPRoute", "shop", "web"), RouteMatch(), rule)
    parts = (Part(0, (Backend("10.64.0.9", 8080, WorkloadName("shop", "web")),)),)
    content: dict[str, Any] = {
        "routed": (RoutedPort(WEB, 80, ("10.128.0.1",), (entry,)),),
        "destinations": (Destination(Target(WEB, 80), parts),),
        "ingress": (L7Class(256, "ingress", (ALLOW,)),),
    }
    return ProxyView(
        WorkloadName("shop", "client"),
        **(content | fields),
        patches=(FilterPart(ORIGIN, patches),) if patches else (),
    )


def patch(
    target: PatchTarget,
    operation: PatchOperation,
    value: Any = None,
    where: PatchMatch | None = None,
    context: PatchContext = "SIDECAR_OUTBOUND",
) -> EnvoyPatch:
    text = "" if value is None else json.dumps(value)
    return EnvoyPatch("configPatches[0]", target, context, operation, text, where)


def named(rendered: Rendered, name: str) -> dict[str, Any]:
    found = [item for items in readable(rendered).values() for item in items if item.get("name") == name]
    return found[0] if found else {}


def http_filters(rendered: Rendered, listener: str = "virtualOutbound") -> list[str]:
    found = named(rendered, listener)
    chains = [*found["filter_chains"], found.get("default_filter_chain", {})]
    (names,) = (
        [one["name"] for one in filter_["typed_config"]["http_filters"]]
        for chain in chains
        for filter_ in chain.get("filters", ())
    )
    return names


def at(filter_: str, **fields: Any) -> ListenerMatch:
    return ListenerMatch(filter=MANAGER, sub_filter=filter_, **fields)


CORS = "envoy.filters.http.cors"
PLAIN = http_filters(render(view()))


@pytest.mark.parametrize(
    ("operation", "where", "wanted"),
    [
        ("INSERT_BEFORE", at(ROUTER), [*PLAIN[:-1], "lua", ROUTER]),
        (
            "INSERT_AFTER",
            at(CORS),
            [name for one in PLAIN for name in ((one, "lua") if one == CORS else (one,))],
        ),
        ("INSERT_AFTER", at(ROUTER), [*PLAIN[:-1], "lua", ROUTER]),
        ("INSERT_FIRST", None, ["lua", *PLAIN]),
        ("ADD", None, [*PLAIN[:-1], "lua", ROUTER]),
        ("INSERT_BEFORE", at("no.such.filter"), PLAIN),
        ("INSERT_BEFORE", at(ROUTER, port=80), [*PLAIN[:-1], "lua", ROUTER]),
        ("INSERT_BEFORE", at(ROUTER, port=81), PLAIN),
        ("INSERT_BEFORE", at(ROUTER, name="0.0.0.0_80"), [*PLAIN[:-1], "lua", ROUTER]),
        ("INSERT_BEFORE", at(ROUTER, chain="web.shop.svc.cluster.local:80"), [*PLAIN[:-1], "lua", ROUTER]),
        ("INSERT_BEFORE", at(ROUTER, server_name="a.example"), PLAIN),
        ("REPLACE", at(CORS), ["lua" if one == CORS else one for one in PLAIN]),
        ("REMOVE", at(CORS), [one for one in PLAIN if one != CORS]),
    ],
)
def test_where_an_http_filter_goes(
    operation: PatchOperation, where: ListenerMatch | None, wanted: list[str]
) -> None:
    value = None if operation == "REMOVE" else lua()
    assert http_filters(render(view(patch("HTTP_FILTER", operation, value, where)))) == wanted


def test_an_http_filter_is_merged_where_it_stands() -> None:
    value = {"typed_config": {"@type": f"{TYPE}.http.router.v3.Router", "dynamic_stats": False}}
    rendered = render(view(patch("HTTP_FILTER", "MERGE", value, at(ROUTER))))
    assert http_filters(rendered) == PLAIN
    text = json.dumps(named(rendered, "virtualOutbound"))
    assert '"dynamic_stats": false' in text and '"suppress_envoy_headers": true' in text


def clusters(rendered: Rendered) -> list[str]:
    return [r.name for r in rendered if r.kind == "clusters" and r.name != "InboundPassthroughCluster"]


OUTBOUND = "outbound|80||web.shop.svc.cluster.local"
HOST = "web.shop.svc.cluster.local:80"
MERGED = {"alt_stat_name": "mine"}
CHAIN = {
    "name": "mine",
    "filter_chain_match": {"destination_port": 81},
    "filters": [
        {
            "name": "tcp",
            "typed_config": {
                "@type": f"{TYPE}.network.tcp_proxy.v3.TcpProxy",
                "stat_prefix": "x",
                "cluster": OUTBOUND,
            },
        }
    ],
}
ELSEWHERE = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 15999}}}
LIMIT = {
    "name": "limit",
    "typed_config": {
        "@type": f"{TYPE}.network.connection_limit.v3.ConnectionLimit",
        "stat_prefix": "x",
        "max_connections": 9,
    },
}
MINE = {"name": "mine", "domains": ["mine.example"], "routes": [{"match": {"prefix": "/"}, "redirect": {}}]}
TEAPOT = {"name": "teapot", "match": {"path": "/t"}, "direct_response": {"status": 418}}
Seen = Callable[[Rendered], object]


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


def test_patches_are_made_in_order_and_each_sees_what_the_one_before_did() -> None:
    first = patch("HTTP_FILTER", "INSERT_BEFORE", lua("one"), at(ROUTER))
    second = patch("HTTP_FILTER", "INSERT_BEFORE", lua("two"), at("one"))
    assert http_filters(render(view(first, second)))[-3:] == ["two", "one", ROUTER]


def test_a_patch_of_one_side_leaves_the_other_alone() -> None:
    outside = render(view(patch("HTTP_FILTER", "ADD", lua(), context="SIDECAR_OUTBOUND")))
    inside = render(view(patch("HTTP_FILTER", "ADD", lua(), context="SIDECAR_INBOUND")))
    nowhere = render(view(patch("HTTP_FILTER", "ADD", lua(), context="GATEWAY")))
    assert [r.name for r in outside if r.unpatched] == ["virtualOutbound"]
    assert [r.name for r in inside if r.unpatched] == ["virtualInbound|256"]
    assert nowhere == render(view())


# --- what may not be taken out of force -------------------------------------------------------------------

RBAC = "envoy.filters.http.rbac"
SET_ASIDE = {RBAC: {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": True}}
ANYWHERE: dict[str, EnvoyPatch] = {
    "the filter that judges goes": patch("HTTP_FILTER", "REMOVE", None, at(RBAC)),
    "another takes its place": patch("HTTP_FILTER", "REPLACE", lua(RBAC), at(RBAC)),
    "it says something else": patch("HTTP_FILTER", "MERGE", {"disabled": True}, at(RBAC)),
    "its rules are another's": patch("VIRTUAL_HOST", "MERGE", {"typed_per_filter_config": SET_ASIDE}),
    "a route sets them aside": patch(
        "HTTP_ROUTE", "INSERT_FIRST", TEAPOT | {"typed_per_filter_config": SET_ASIDE}
    ),
    "the host that has them goes": patch("VIRTUAL_HOST", "REMOVE"),
    "another host takes its requests": patch("VIRTUAL_HOST", "ADD", MINE),
    "the listener goes": patch("LISTENER", "REMOVE"),
    "the listener is elsewhere": patch("LISTENER", "MERGE", ELSEWHERE),
    "the listener has another name": patch("LISTENER", "MERGE", {"name": "mine"}),
    "the chain goes": patch("FILTER_CHAIN", "REMOVE"),
    "another chain takes its connections": patch("FILTER_CHAIN", "ADD", CHAIN),
    "the chain is for others": patch(
        "FILTER_CHAIN", "MERGE", {"filter_chain_match": {"destination_port": 81}}
    ),
    "the manager goes": patch("NETWORK_FILTER", "REMOVE", None, ListenerMatch(filter=MANAGER)),
    "the routes are the patch's": patch(
        "NETWORK_FILTER",
        "MERGE",
        {"typed_config": {"@type": HCM, "route_config": {"virtual_hosts": [MINE]}}},
        ListenerMatch(filter=MANAGER),
    ),
    "paths are read otherwise": patch(
        "NETWORK_FILTER",
        "MERGE",
        {"typed_config": {"@type": HCM, "normalize_path": False}},
        ListenerMatch(filter=MANAGER),
    ),
    "a secret is awaited": patch(
        "FILTER_CHAIN",
        "MERGE",
        {
            "transport_socket": {
                "name": "tls",
                "typed_config": {
                    "@type": TLS,
                    "common_tls_context": {
                        "tls_certificate_sds_secret_configs": [{"name": "x", "sds_config": {"ads": {}}}]
                    },
                },
            }
        },
    ),
}


@pytest.mark.parametrize("what", ANYWHERE)
def test_a_patch_that_would_take_policy_out_of_force_is_left_out_and_told(what: str) -> None:
    one = ANYWHERE[what]
    inbound = EnvoyPatch(one.field, one.target, "SIDECAR_INBOUND", one.operation, one.value, one.where)
    before = {resource.name: resource.any for resource in render(view())}
    rendered = render(view(inbound))
    assert {resource.name: resource.any for resource in rendered} == before
    faults = {fault for resource in rendered for fault in resource.faults}
    assert {fault.object for fault in faults} == {ORIGIN}
    assert all("would " in fault.message or "waits for" in fault.message for fault in faults)


def test_the_judge_of_an_egress_class_stays_in_its_cluster() -> None:
    parts = (Part(256, (Backend("10.64.0.9", 8080, WorkloadName("shop", "web")),)),)
    judged = {
        "destinations": (Destination(Target(WEB, 80), parts),),
        "egress": (L7Class(256, "egress", (ALLOW,)),),
    }
    name = OUTBOUND.replace("||", "|~256|")
    for one in (
        patch("CLUSTER", "REMOVE", None, ClusterMatch(service="web.shop.svc.cluster.local")),
        patch("HTTP_ROUTE", "REMOVE", None, RoutesMatch(action="ROUTE")),
    ):
        rendered = render(view(one, **judged))
        assert [r.name for r in rendered] == [r.name for r in render(view(**judged))]
        (fault,) = {fault for resource in rendered for fault in resource.faults}
        assert "what enforces policy" in fault.message
    harmless = render(view(patch("CLUSTER", "MERGE", MERGED, ClusterMatch(name=OUTBOUND)), **judged))
    assert named(harmless, name)["alt_stat_name"] == "mine"


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


def test_a_filter_may_stand_before_the_judges() -> None:
    one = patch("HTTP_FILTER", "INSERT_BEFORE", lua(), at(RBAC), "SIDECAR_INBOUND")
    rendered = render(view(one))
    names_ = http_filters(rendered, "virtualInbound|256")
    assert names_.index("lua") == names_.index(RBAC) - 1
    changed = [Trying(resource, rendered) for resource in rendered if resource.unpatched is not None]
    assert ask_envoy(changed) == ""


def test_without_patches_nothing_is_made_of_messages() -> None:
    """Equal bytes, and the very objects that were there."""
    assert all(type(r) is EnvoyResource and r.unpatched is None for r in render(view()))
