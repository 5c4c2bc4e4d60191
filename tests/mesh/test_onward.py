"""explain at a Gateway: which host and route take a request, and what meets it where that leads."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.answers.asked_request import asked_request
from mesh.answers.explain import explain
from tests.traffic.edge import gate, gateway, http_route, istio_gateway
from tests.traffic.shop import Object, Shop, object_of, to, versions, virtual_service

HTTP = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}}
WORLD, GATE = "192.0.2.1", "10.64.1.10:80"
LISTENER = {"name": "http", "port": 80, "protocol": "HTTP", "allowedRoutes": {"namespaces": {"from": "All"}}}


def asked(shop: Shop, host: str, path: str = "/", method: str = "GET") -> Any:
    return explain(shop.mesh, WORLD, GATE, "TCP", asked_request(method, path, host, (), ()))


def shop(*objects: Object) -> Shop:
    bound: dict[str, Any] = {"hosts": ["a.example"], "gateways": ["edge/public"]}
    route = virtual_service(
        {"match": [{"uri": {"prefix": "/v1"}}], "route": [to(subset="v1")]},
        {"match": [{"uri": {"prefix": "/moved"}}], "redirect": {"uri": "/there", "redirectCode": 308}},
        {"match": [{"uri": {"prefix": "/nobody"}}], "route": [to("nobody")]},
        **bound,
    )
    return Shop(gate(), istio_gateway(HTTP | {"hosts": ["*.example"]}), versions(), route, *objects)


def test_a_route_leads_to_what_it_names() -> None:
    answer = asked(shop(), "A.example:80", "/v1/x")
    assert (answer["verdict"], answer["path"], "status" in answer) == ("allow", "envoy", False)
    assert answer["onward"]["pod"] == "edge/gate"
    assert answer["onward"]["reasons"][0]["object"] == "VirtualService shop/web"
    assert [(b["pod"], b["verdict"], b["share"]) for b in answer["onward"]["backends"]] == [
        ("shop/one", "allow", 1.0)
    ]


@pytest.mark.parametrize(
    ("host", "path", "status", "says"),
    [
        ("b.example", "/v1", 404, "no route is for host b.example: 404"),
        ("other.org", "/v1", 404, "no route is for host other.org: 404"),
        ("a.example", "/v2", 404, "no rule matches: 404"),
        ("a.example", "/moved", 308, "redirect"),
        ("a.example", "/nobody", 503, "nothing is behind shop/nobody:80"),
    ],
)
def test_what_its_envoy_answers_itself(host: str, path: str, status: int, says: str) -> None:
    answer = asked(shop(), host, path)
    assert (answer["verdict"], answer["status"]) == ("allow", status)
    assert answer["onward"]["backends"] == []
    assert any(says in reason["effect"] for reason in answer["onward"]["reasons"])


def test_policy_behind_it_counts() -> None:
    """The pod that serves is the caller."""
    only_get = object_of(
        "security.istio.io/v1",
        "AuthorizationPolicy",
        "web",
        "shop",
        {
            "selector": {"matchLabels": {"app": "web"}},
            "rules": [
                {"from": [{"source": {"namespaces": ["edge"]}}], "to": [{"operation": {"methods": ["GET"]}}]}
            ],
        },
    )
    assert asked(shop(only_get), "a.example", "/v1")["verdict"] == "allow"
    refused = asked(shop(only_get), "a.example", "/v1", "POST")
    assert refused["verdict"] == "deny"
    assert refused["to_allow"] == ["AuthorizationPolicy shop/web rules must allow such a request"]


def test_without_a_host_it_says_what_decides() -> None:
    answer = explain(shop().mesh, WORLD, GATE)
    assert (answer["verdict"], answer["onward"]["backends"]) == ("allow", [])
    assert "say its host and path" in answer["onward"]["reasons"][0]["effect"]


def test_routes_of_the_gateway_api_and_whole_connections() -> None:
    rule = {"backendRefs": [{"name": "shadow", "port": 80}]}
    front = Shop(gate(), gateway(LISTENER), http_route(rule, hostnames=["a.example"]))
    answer = asked(front, "a.example")
    assert answer["onward"]["reasons"][0]["object"] == "HTTPRoute shop/web"
    assert [b["pod"] for b in answer["onward"]["backends"]] == ["shop/three"]
    parent = {"name": "public", "namespace": "edge"}
    tcp = object_of(
        "gateway.networking.k8s.io/v1alpha2",
        "TCPRoute",
        "all",
        "shop",
        {"parentRefs": [parent], "rules": [{"backendRefs": [{"name": "shadow", "port": 90}]}]},
    )
    whole = Shop(gate(), gateway(LISTENER | {"protocol": "TCP"}), tcp)
    answer = explain(whole.mesh, WORLD, GATE)
    assert [(b["pod"], b["port"]) for b in answer["onward"]["backends"]] == [("shop/three", 9090)]


def test_a_pod_that_serves_none_has_no_second_leg() -> None:
    assert "onward" not in explain(shop().mesh, "shop/client", "shop/web:80")
