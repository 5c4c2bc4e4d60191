"""Gateways whose requests a policy judges: what the class's listener has of their ports. That it judges, with
real requests, is shown in `tests/node/test_gateways.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.traffic.edge import GATE, Certificate, gate, istio_gateway
from tests.traffic.shop import Object, Shop, object_of, virtual_service
from tests.traffic.test_envoy_filters import WEB, before_router, envoy_filter, patch
from tests.xds.render.standalone import validate
from xds.render import readable, render
from xds.render.resource import Rendered

PLAIN = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["a.example"]}
SECURE = {
    "port": {"number": 443, "name": "https", "protocol": "HTTPS"},
    "hosts": ["a.example", "b.example"],
    "tls": {"mode": "SIMPLE", "credentialName": "a"},
}
PASSED = {
    "port": {"number": 443, "name": "tls", "protocol": "TLS"},
    "hosts": ["c.example"],
    "tls": {"mode": "PASSTHROUGH"},
}
HTTPS = "https.443.https.public.edge"


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Object:
    return Certificate("a.example", tmp_path_factory.mktemp("certificates")).secret("a")


def only(**operation: Any) -> Object:
    spec = {
        "selector": {"matchLabels": {"istio": "ingressgateway"}},
        "rules": [{"to": [{"operation": operation}]}],
    }
    return object_of("security.istio.io/v1", "AuthorizationPolicy", "only", "edge", spec)


def rendered(secret: Object, *objects: Object, servers: tuple[Object, ...] = (PLAIN, SECURE)) -> Rendered:
    route = virtual_service(
        {
            "match": [{"uri": {"prefix": "/a"}}],
            "route": [{"destination": {"host": WEB, "port": {"number": 80}}}],
        },
        hosts=["a.example"],
        gateways=["edge/public"],
    )
    accept = ("enforces policy", "steers nothing")
    shop = Shop(gate(), istio_gateway(*servers), secret, route, *objects, accept=accept)
    return render(shop.view(GATE))


def chains(found: Rendered, listener: str) -> list[Object]:
    (made,) = (one for one in readable(found)["listeners"] if one["name"] == listener)
    return [chain for chain in made["filter_chains"] if chain["filter_chain_match"].get("destination_port")]


def class_of(found: Rendered) -> str:
    (name,) = (r.name for r in found if r.name.startswith("virtualInbound|"))
    return name


def test_a_class_has_a_chain_for_each_server_and_ends_what_none_is_for(
    secret: Object, tmp_path: Path
) -> None:
    found = rendered(secret, only(methods=["GET"]))
    made = chains(found, class_of(found))
    assert [(c.get("name"), c["filter_chain_match"], bool(c.get("filters"))) for c in made] == [
        ("http.80", {"destination_port": 80}, True),
        (
            HTTPS,
            {
                "destination_port": 443,
                "server_names": ["a.example", "b.example"],
                "transport_protocol": "tls",
            },
            True,
        ),
        ("0.0.0.0_443-blackhole", {"destination_port": 443}, False),
    ]
    assert "transport_socket" in made[1] and "transport_socket" not in made[0]
    assert validate(found, tmp_path) == ""


def test_each_answer_of_a_judged_gateway_brings_the_rules(secret: Object) -> None:
    """The filter that judges refuses where no route brings any, so 404 and 421 need one as well."""
    found = rendered(secret, only(methods=["GET"]))
    number = class_of(found).partition("|")[2]
    routes = {route["name"]: route for route in readable(found)["routes"]}
    for name, hosts in (("http.80", ["a.example", "*"]), (HTTPS, ["a.example", "*"])):
        judged = routes[f"{name}|{number}"]
        assert [host["domains"] for host in judged["virtual_hosts"]] == [[host] for host in hosts]
        for host in judged["virtual_hosts"]:
            assert "envoy.filters.http.rbac.allow" in host["typed_per_filter_config"]
            assert host["routes"][-1]["match"] == {"prefix": "/"}
            assert all(route["name"].endswith(f"|{number}") for route in host["routes"])
        plain = routes[name]["virtual_hosts"]
        assert all("typed_per_filter_config" not in host for host in plain)


def test_where_tls_is_passed_on_as_well_a_port_carries_no_requests(secret: Object) -> None:
    """Nothing tells such a connection from one that brings requests, so they fit no rule about them."""
    shop = Shop(gate(), istio_gateway(PLAIN, SECURE, PASSED), secret, only(methods=["GET"]))
    number = shop.node.state.pods[GATE].ingress_set
    verdicts = {port: shop.node.verdict(number, "192.0.2.1", "TCP", port).verdict for port in (80, 443)}
    assert verdicts == {80: "steer", 443: "deny"}


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        (before_router("GATEWAY", portNumber=80), {"0.0.0.0_80", "virtualInbound"}),
        (before_router("GATEWAY", name="0.0.0.0_80"), {"0.0.0.0_80", "virtualInbound"}),
        (before_router("GATEWAY"), {"0.0.0.0_80", "0.0.0.0_443", "virtualInbound"}),
        (before_router("GATEWAY", portNumber=81), set()),
        (before_router("SIDECAR_INBOUND"), set()),
        (
            patch("LISTENER", "MERGE", {"stat_prefix": "mine"}, context="GATEWAY"),
            {"0.0.0.0_80", "0.0.0.0_443"},
        ),
        (
            patch(
                "HTTP_ROUTE",
                "MERGE",
                {"response_headers_to_remove": ["server"]},
                context="GATEWAY",
                routeConfiguration={"name": "http.80"},
            ),
            {"http.80"},
        ),
    ],
)
def test_filters_of_a_gateway_mean_what_is_judged_as_well(
    secret: Object, change: Object, changed: set[str]
) -> None:
    found = rendered(secret, only(methods=["GET"]), envoy_filter(change, namespace="edge"))
    patched = {r.name for r in found if r.unpatched is not None}
    number = class_of(found).partition("|")[2]
    wanted = {f"{name}|{number}" if name == "virtualInbound" else name for name in changed}
    wanted |= {f"{name}|{number}" for name in changed if name.startswith("http.")}
    assert patched == wanted
    touched = {
        chain["name"]
        for chain in chains(found, class_of(found))
        if "envoy.filters.http.lua" in str(chain.get("filters"))
    }
    ports = {"0.0.0.0_80": "http.80", "0.0.0.0_443": HTTPS}
    assert touched == (
        {ports[name] for name in changed & ports.keys()} if "virtualInbound" in changed else set()
    )


def test_a_filter_of_a_gateway_does_not_take_the_judges_away(secret: Object) -> None:
    manager = {"filterChain": {"filter": {"name": "envoy.filters.network.http_connection_manager"}}}
    removing = patch("NETWORK_FILTER", "REMOVE", context="GATEWAY", listener=manager)
    found = rendered(secret, only(methods=["GET"]), envoy_filter(removing, namespace="edge"))
    faults = {r.name: [fault.message for fault in r.faults] for r in found if r.faults}
    assert faults.keys() == {"0.0.0.0_80", "0.0.0.0_443", class_of(found)}
    assert "what enforces policy" in faults[class_of(found)][0]
    assert all(r.unpatched is None for r in found)
