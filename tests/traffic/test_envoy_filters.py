"""What EnvoyFilters put into Envoys answers real requests: inbound, outbound and at a gateway. And whom they
steer (rule 20)."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from mesh.answers.describe import describe_pod
from mesh.model import ServiceName, WorkloadName
from tests.traffic.edge import Edge, istio_gateway
from tests.traffic.shop import Object, Served, Shop, object_of
from tests.traffic.test_virtual_service import Servers
from tests.xds.render.client import ask
from tests.xds.render.conftest import Serve
from tests.xds.render.standalone import Proxy
from xds.render import render

TYPE = "type.googleapis.com/envoy.extensions.filters"
MANAGER = "envoy.filters.network.http_connection_manager"
WEB = "web.shop.svc.cluster.local"
SCRIPT = """
function envoy_on_response(handle)
  handle:headers():add("x-touched", "by lua")
end
"""
LUA = {
    "name": "envoy.filters.http.lua",
    "typed_config": {"@type": f"{TYPE}.http.lua.v3.Lua", "default_source_code": {"inline_string": SCRIPT}},
}


def envoy_filter(
    *patches: Object, name: str = "lua", app: str = "", steer: str = "", namespace: str = "shop"
) -> Object:
    spec: Object = {"configPatches": list(patches)}
    if app:
        spec["workloadSelector"] = {"labels": {"app": app}}
    found = object_of("networking.istio.io/v1alpha3", "EnvoyFilter", name, namespace, spec)
    if steer:
        found["metadata"]["annotations"] = {"sluice.io/steer": steer}
    return found


def patch(target: str, operation: str, value: Object | None = None, **match: Any) -> Object:
    content = {"operation": operation} | ({} if value is None else {"value": copy.deepcopy(value)})
    return {"applyTo": target, "match": match, "patch": content}


def before_router(context: str, value: Object = LUA, **listener: Any) -> Object:
    """What nine in ten EnvoyFilters are."""
    named = {"name": MANAGER, "subFilter": {"name": "envoy.filters.http.router"}}
    where = {"filterChain": {"filter": named}} | listener
    return patch("HTTP_FILTER", "INSERT_BEFORE", value, context=context, listener=where)


def inbound(serve: Serve, servers: Servers, shop: Shop) -> Proxy:
    """The Envoy of the pod `shop/one`, before the server `one`."""
    return serve(shop.view("shop/one"), ("127.0.0.1", servers["one"].port))


# --- real requests ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("context", ["SIDECAR_OUTBOUND", "ANY"])
def test_a_script_answers_what_a_pod_calls(serve: Serve, servers: Servers, context: str) -> None:
    shop = Served(serve, servers, envoy_filter(before_router(context), app="client"))
    answer = shop.ask("/")
    assert (answer.status, answer.headers["x-touched"]) == (200, "by lua")
    assert shop.steers("shop/client", "web") and not shop.steers("shop/other", "web")


def test_a_script_answers_who_calls_a_pod(serve: Serve, servers: Servers) -> None:
    shop = Shop(envoy_filter(before_router("SIDECAR_INBOUND"), app="web"))
    proxy = inbound(serve, servers, shop)
    (port,) = proxy.ports.values()
    answer = ask(port, "/")
    assert (answer.status, answer.headers["x-touched"], answer.backend) == (200, "by lua", "one")


def test_a_script_answers_at_a_gateway(serve: Serve, servers: Servers) -> None:
    script = envoy_filter(before_router("GATEWAY"), namespace="edge")
    server = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
    route = object_of(
        "networking.istio.io/v1",
        "VirtualService",
        "edge",
        "shop",
        {"hosts": ["*"], "gateways": ["edge/public"], "http": [{"route": [{"destination": {"host": WEB}}]}]},
    )
    edge = Edge(serve, servers, istio_gateway(server), route, script)
    answer = edge.get("/", "a.example")
    assert (answer.status, answer.headers["x-touched"]) == (200, "by lua")
    assert not edge.problems, "a gateway's Envoy is there, so nothing must be steered"


def test_a_filter_for_one_port_of_a_pod_leaves_the_others_alone() -> None:
    shop = Shop(envoy_filter(before_router("SIDECAR_INBOUND", portNumber=8080), app="web"))
    (found,) = shop.view("shop/one").ingress
    assert [str(key) for key in found.patches] == ["EnvoyFilter shop/lua configPatches[0]"]
    number = shop.node.state.pods["shop/one"].ingress_set
    verdicts = {
        port: shop.node.verdict(number, "10.64.0.13", "TCP", port).verdict for port in (8080, 7070, 9090)
    }
    assert verdicts == {8080: "steer", 7070: "allow", 9090: "allow"}


def test_where_an_envoy_runs_anyway_a_filter_for_one_port_changes_that_port_only() -> None:
    tokens = object_of(
        "security.istio.io/v1",
        "RequestAuthentication",
        "jwt",
        "shop",
        {"jwtRules": [{"issuer": "x", "jwks": '{"keys": []}'}]},
    )
    rides = envoy_filter(before_router("SIDECAR_INBOUND", portNumber=8080), steer="false")
    shop = Shop(tokens, rides, accept=("jwks",))
    changed = {r.name for r in render(shop.view("shop/one")) if r.unpatched is not None}
    classes = {l7.number: l7.patches for l7 in shop.view("shop/one").ingress}
    assert len(classes) == 2
    assert changed == {f"virtualInbound|{number}" for number, patches in classes.items() if patches}


def test_headers_of_a_route_and_a_cluster_change_by_name(serve: Serve, servers: Servers) -> None:
    header = {"header": {"key": "x-own", "value": "yes"}}
    on_host = patch(
        "VIRTUAL_HOST",
        "MERGE",
        {"response_headers_to_add": [header]},
        context="SIDECAR_OUTBOUND",
        routeConfiguration={"vhost": {"name": f"{WEB}:80"}},
    )
    first = patch(
        "HTTP_ROUTE",
        "INSERT_FIRST",
        {"name": "teapot", "match": {"path": "/teapot"}, "directResponse": {"status": 418}},
        context="SIDECAR_OUTBOUND",
        routeConfiguration={"name": "80"},
    )
    shop = Served(serve, servers, envoy_filter(on_host, first, app="client"))
    assert shop.ask("/").headers["x-own"] == "yes"
    assert shop.ask("/teapot").status == 418
    assert not shop.steers("shop/client", "web", 70), "only what the names mean is steered"


# --- whom they steer --------------------------------------------------------------------------------------


def test_a_filter_without_a_selector_steers_nothing_unless_it_says_so() -> None:
    shop = Shop(envoy_filter(before_router("ANY")), accept=("steers nothing",))
    (problem,) = shop.problems
    assert problem.field == "spec.workloadSelector" and "sluice.io/steer" in problem.message
    assert not shop.node.proxies
    asked = Shop(envoy_filter(before_router("ANY"), steer="true"))
    assert set(asked.node.proxies) == {f"shop/{name}" for name in ("one", "two", "three", "client", "other")}
    assert not Shop(envoy_filter(before_router("ANY"), steer="false")).node.proxies


def test_the_root_namespaces_filters_are_everybodys_and_first() -> None:
    own = envoy_filter(before_router("SIDECAR_INBOUND"), name="a", app="web")
    root = envoy_filter(before_router("SIDECAR_INBOUND"), name="z", steer="false", namespace="istio-system")
    early = envoy_filter(before_router("SIDECAR_INBOUND"), name="early", app="web")
    early["spec"]["priority"] = -5
    parts = Shop(own, root, early).view("shop/one").patches
    assert [part.origin.name for part in parts] == ["z", "early", "a"]


@pytest.mark.parametrize(
    ("match", "steered"),
    [
        ({}, {("web", 80), ("shadow", 80), ("nobody", 80)}),
        ({"listener": {"portNumber": 70}}, {("web", 70), ("shadow", 70), ("nobody", 70)}),
        ({"listener": {"portNumber": 90}}, set()),
        ({"listener": {"name": "0.0.0.0_70"}}, {("web", 70), ("shadow", 70), ("nobody", 70)}),
        ({"listener": {"filterChain": {"name": f"{WEB}:80"}}}, {("web", 80)}),
    ],
)
def test_what_is_steered_is_what_the_match_names(match: Object, steered: set[tuple[str, int]]) -> None:
    found = Shop(
        envoy_filter(patch("HTTP_FILTER", "ADD", LUA, context="SIDECAR_OUTBOUND", **match), app="client")
    )
    ports = [(name, port) for name in ("web", "shadow", "nobody") for port in (70, 80, 90)]
    assert {(n, p) for n, p in ports if found.steers("shop/client", n, p)} == steered


def test_a_cluster_that_is_named_is_steered_and_others_ride_along() -> None:
    def merging(**cluster: Any) -> Shop:
        value = {"alt_stat_name": "x"}
        return Shop(
            envoy_filter(
                patch("CLUSTER", "MERGE", value, context="SIDECAR_OUTBOUND", cluster=cluster), app="client"
            )
        )

    assert not merging().node.proxies
    named = merging(service=WEB, portNumber=80)
    assert named.view().routed[0].service == ServiceName("shop", "web") and len(named.view().routed) == 1
    assert merging(name=f"outbound|80||{WEB}").view().routed == named.view().routed


def test_describe_names_the_patches_of_a_pod_and_where_they_are_made() -> None:
    shop = Shop(envoy_filter(before_router("SIDECAR_INBOUND"), app="web"))
    told = describe_pod(shop.mesh, str(WorkloadName("shop", "one")), shop.node.proxies)
    assert told["rules"] == [
        {
            "object": "EnvoyFilter shop/lua",
            "rule": "configPatches[0]",
            "effect": "INSERT_BEFORE HTTP_FILTER in SIDECAR_INBOUND",
            "enforced_by": "destination's Envoy",
        }
    ]
    assert told["steered_by"] == ["EnvoyFilter shop/lua configPatches[0]"]
