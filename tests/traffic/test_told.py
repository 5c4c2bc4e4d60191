"""What `explain` and `describe` say of traffic rules: what Envoy does besides, where, and why it is there."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.answers.describe import describe_pod
from mesh.request import Request
from tests.traffic.shop import (
    Object,
    Shop,
    destination_rule,
    object_of,
    to,
    versions,
    virtual_service,
)

GET = Request("GET", "/a")


def said(shop: Shop, request: Request | None = GET) -> dict[str, str]:
    """By field: what is told, all of it at the caller's Envoy."""
    reasons = shop.explain("shop/web:80", request)["reasons"]
    assert {reason["enforced_by"] for reason in reasons} == {"caller's Envoy"}
    return {reason["rule"]: reason["effect"] for reason in reasons if reason["effect"] != "route"}


def route(**fields: Any) -> dict[str, str]:
    return said(Shop(virtual_service({"route": [to()]} | fields), versions()))


def test_a_weight_split_of_requests_says_that_it_needs_an_envoy() -> None:
    split = [to(subset="v1", weight=90), to(subset="v2", weight=10)]
    assert said(Shop(virtual_service({"route": split}), versions())) == {
        "http[0].route": "90% to shop/web:80 subset v1, 10% to shop/web:80 subset v2: chosen for each "
        "request, so that an Envoy must"
    }


def test_a_weight_split_of_connections_is_the_kernels() -> None:
    split = [to(subset="v1", weight=90), to(subset="v2", weight=10)]
    answer = Shop(virtual_service(tcp=[{"route": split}]), versions()).explain("shop/web:80")
    assert (answer["path"], {r["enforced_by"] for r in answer["reasons"]}) == ("kernel", {"kernel"})


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (
            {"fault": {"delay": {"fixedDelay": "1.5s", "percentage": {"value": 0.1}}}},
            {"http[0].fault": "delays 0.1% by 1500 ms"},
        ),
        (
            {"fault": {"abort": {"httpStatus": 503, "percentage": {"value": 50}}}},
            {"http[0].fault": "answers 50% with 503 itself"},
        ),
        (
            {"mirror": {"host": "shadow"}, "mirrorPercentage": {"value": 25}},
            {"http[0].mirror": "sends a copy of 25% to shop/shadow:80, whose answers nobody waits for"},
        ),
        (
            {"retries": {"attempts": 3, "perTryTimeout": "2s", "retryOn": "5xx,503"}},
            {"http[0].retries": "up to 3 more attempts on 5xx, 503, 2 s each"},
        ),
        ({"retries": {"attempts": 0}}, {"http[0].retries": "nothing is tried again"}),
        ({"timeout": "10s"}, {"http[0].timeout": "gives up after 10 s: 504"}),
        (
            {"rewrite": {"uri": "/b", "authority": "b.example"}},
            {"http[0].rewrite": "host becomes b.example, matched prefix becomes /b"},
        ),
        (
            {"headers": {"request": {"set": {"x-a": "b"}}, "response": {"remove": ["server"]}}},
            {"http[0].headers": "changes headers of requests and responses"},
        ),
        (
            {"corsPolicy": {"allowOrigins": [{"exact": "https://a.example"}]}},
            {"http[0].corsPolicy": "answers preflights of https://a.example"},
        ),
    ],
)
def test_what_envoy_does_besides_is_told_by_field(fields: Object, told: dict[str, str]) -> None:
    assert route(**fields) == told


@pytest.mark.parametrize(
    ("rule", "status", "told"),
    [
        (
            {"redirect": {"uri": "/b", "redirectCode": 308}},
            308,
            {"http[0].redirect": "answers 308 itself, a redirect to path /b"},
        ),
        (
            {"directResponse": {"status": 418}},
            418,
            {"http[0].directResponse": "answers 418 itself; no backend is asked"},
        ),
        (
            {"route": [to()], "fault": {"abort": {"httpStatus": 503, "percentage": {"value": 100}}}},
            503,
            {"http[0].fault": "answers 100% with 503 itself"},
        ),
    ],
)
def test_what_envoy_answers_itself_is_told(rule: Object, status: int, told: dict[str, str]) -> None:
    shop = Shop(virtual_service(rule))
    assert said(shop) == told
    answer = shop.explain("shop/web:80", GET)
    assert (answer["status"], answer["backends"]) == (status, [])


def test_of_a_request_only_the_route_that_it_takes_is_told() -> None:
    other = {"match": [{"uri": {"prefix": "/b"}}], "route": [to()], "timeout": "1s"}
    shop = Shop(virtual_service(other, {"route": [to()], "timeout": "2s"}))
    assert set(said(shop)) == {"http[1].timeout"}
    assert set(said(shop, None)) == {"http[0].timeout", "http[1].timeout"}


def test_a_delegates_rule_is_told_behind_the_one_that_names_it() -> None:
    inner = object_of(
        "networking.istio.io/v1",
        "VirtualService",
        "inner",
        "shop",
        {"http": [{"route": [to()], "timeout": "1s"}]},
    )
    told = said(Shop(inner, virtual_service({"delegate": {"name": "inner"}})))
    assert told == {"http[0] > VirtualService shop/inner http[0].timeout": "gives up after 1 s: 504"}


def test_routes_of_the_gateway_api_call_their_fields_by_their_names() -> None:
    parent = {"group": "", "kind": "Service", "name": "web"}
    backends = [{"name": "web", "port": 80, "weight": 3}, {"name": "shadow", "port": 80}]
    rule = {"backendRefs": backends, "timeouts": {"request": "1s", "backendRequest": "500ms"}}
    spec = {"parentRefs": [parent], "rules": [rule]}
    shop = Shop(object_of("gateway.networking.k8s.io/v1", "HTTPRoute", "web", "shop", spec))
    assert said(shop) == {
        "rules[0].backendRefs": "75% to shop/web:80, 25% to shop/shadow:80: chosen for each request, so that "
        "an Envoy must",
        "rules[0].timeouts": "gives up after 1 s: 504, each attempt has 500 ms",
    }


@pytest.mark.parametrize(
    "origins",
    [
        ["https://*.example.com"],
        ["*"],
        ["http://*"],
        ["https://*:8443"],
        ["https://*.a-b.example:8443", "https://plain.example"],
    ],
)
def test_origins_are_told_as_they_were_written(origins: list[str]) -> None:
    parent = {"group": "", "kind": "Service", "name": "web"}
    cors = {"type": "CORS", "cors": {"allowOrigins": origins}}
    rule = {"filters": [cors], "backendRefs": [{"name": "web", "port": 80}]}
    spec = {"parentRefs": [parent], "rules": [rule]}
    shop = Shop(object_of("gateway.networking.k8s.io/v1", "HTTPRoute", "web", "shop", spec))
    assert said(shop) == {"rules[0].filters": f"answers preflights of {', '.join(origins)}"}


def test_of_a_virtual_service_the_expression_is_told_that_the_user_wrote() -> None:
    expression = r"https://[^/:\[\]]+\.example\.com"
    told = route(corsPolicy={"allowOrigins": [{"regex": expression}]})
    assert told == {"http[0].corsPolicy": f"answers preflights of {expression}"}


def test_describe_says_what_of_each_rule_needs_an_envoy() -> None:
    split = {"route": [to(subset="v1", weight=9), to(subset="v2", weight=1)], "timeout": "1s"}
    tester = {"match": [{"headers": {"end-user": {"exact": "tester"}}}], "route": [to(subset="v2")]}
    shop = Shop(
        virtual_service(tester, split),
        versions(),
        destination_rule(
            "shadow", host="shadow", trafficPolicy={"outlierDetection": {"consecutive5xxErrors": 3}}
        ),
    )
    told = describe_pod(shop.mesh, "shop/client", shop.node.proxies)
    assert told["why"] == {
        "VirtualService shop/web http[0]": "only who reads requests can tell them apart",
        "VirtualService shop/web http[1]": "its shares are of requests, not of connections; "
        "single requests are given up, or sent again",
        "DestinationRule shop/shadow trafficPolicy.outlierDetection": "somebody must see what fails",
    }
    assert set(told["why"]) == set(told["steered_by"])


def test_describe_says_what_of_a_policy_needs_an_envoy() -> None:
    port = {"ports": [{"port": "8080", "protocol": "TCP"}], "rules": {"http": [{"method": "GET"}]}}
    spec = {"endpointSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"toPorts": [port]}]}
    shop = Shop(object_of("cilium.io/v2", "CiliumNetworkPolicy", "web", "shop", spec))
    assert describe_pod(shop.mesh, "shop/one", shop.node.proxies)["why"] == {
        "CiliumNetworkPolicy shop/web ingress[0].toPorts[0]": "only who reads requests can tell them apart"
    }


def test_describe_says_what_of_an_authorization_policy_needs_an_envoy() -> None:
    shop = Shop(
        object_of(
            "security.istio.io/v1",
            "AuthorizationPolicy",
            "web",
            "shop",
            {
                "selector": {"matchLabels": {"app": "web"}},
                "rules": [
                    {"from": [{"source": {"requestPrincipals": ["*"]}}]},
                    {"from": [{"source": {"namespaces": ["street"]}}]},
                    {"when": [{"key": "connection.sni", "values": ["web.example"]}]},
                ],
            },
        )
    )
    assert describe_pod(shop.mesh, "shop/one", shop.node.proxies)["why"] == {
        "AuthorizationPolicy shop/web rules[0]": "tokens stand in requests",
        "AuthorizationPolicy shop/web rules[2]": "only who reads the TLS hello knows the name",
    }
