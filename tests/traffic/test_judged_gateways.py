"""Gateways whose requests a policy judges: what the class's listener has of their ports, and what a real
Envoy answers there. That the kernel leads there is shown in `tests/node/test_gateways.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.traffic.edge import GATE, Certificate, Edge, gate, istio_gateway
from tests.traffic.shop import Object, Shop, object_of, virtual_service
from tests.traffic.test_envoy_filters import WEB, before_router, envoy_filter, patch
from tests.traffic.test_virtual_service import Servers
from tests.xds.render.client import ask
from tests.xds.render.conftest import Serve
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
        assert "envoy.filters.http.rbac.allow" in judged["typed_per_filter_config"]
        for host in judged["virtual_hosts"]:
            assert host["routes"][-1]["match"] == {"prefix": "/"}
            assert all(route["name"].endswith(f"|{number}") for route in host["routes"])
        assert "typed_per_filter_config" not in routes[name]


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
        (before_router("GATEWAY", name="10.64.1.10_80"), set()),
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


EVERY = virtual_service(
    {
        "name": "web",
        "match": [{"uri": {"prefix": "/a"}}],
        "corsPolicy": {"allowOrigins": [{"exact": "https://b.example"}], "allowMethods": ["GET"]},
        "route": [{"destination": {"host": WEB, "port": {"number": 80}}}],
    },
    {"match": [{"uri": {"prefix": "/gone"}}], "redirect": {"uri": "/a"}},
    {"match": [{"uri": {"prefix": "/said"}}], "directResponse": {"status": 299, "body": {"string": "so"}}},
    {
        "match": [{"uri": {"prefix": "/fault"}}],
        "fault": {"abort": {"httpStatus": 418, "percentage": {"value": 100}}},
        "route": [{"destination": {"host": WEB, "port": {"number": 80}}}],
    },
    hosts=["a.example"],
    gateways=["edge/public"],
)


def on_routes(target: str, operation: str, value: Object | None = None, **match: Any) -> Object:
    """For what `http.80` serves."""
    return patch(target, operation, value, context="GATEWAY", routeConfiguration={"name": "http.80"} | match)


def answering(status: int, path: str = "/") -> Object:
    return {"name": "mine", "match": {"prefix": path}, "direct_response": {"status": status}}


@pytest.mark.parametrize(
    "change",
    [
        None,
        on_routes("HTTP_ROUTE", "ADD", answering(298)),
        on_routes("HTTP_ROUTE", "INSERT_FIRST", answering(298, "/a/b")),
        on_routes("VIRTUAL_HOST", "ADD", {"name": "b", "domains": ["b.example"], "routes": [answering(298)]}),
        on_routes("VIRTUAL_HOST", "ADD", {"name": "b", "domains": ["*"], "routes": [answering(298)]}),
        on_routes("VIRTUAL_HOST", "REMOVE", vhost={"name": "a.example:80"}),
        on_routes(
            "HTTP_ROUTE",
            "MERGE",
            {"response_headers_to_add": [{"header": {"key": "x-mine", "value": "1"}}]},
            vhost={"route": {"name": "VirtualService shop/web http[0]"}},
        ),
        on_routes("HTTP_ROUTE", "REMOVE", vhost={"route": {"action": "REDIRECT"}}),
        on_routes("HTTP_ROUTE", "REMOVE", vhost={"route": {"action": "DIRECT_RESPONSE"}}),
    ],
)
@pytest.mark.parametrize("redirected", [False, True])
def test_who_may_is_answered_as_where_nobody_judges(
    serve: Serve, servers: Servers, change: Object | None, redirected: bool
) -> None:
    """And who may not gets 403, whatever would be answered."""
    server = PLAIN | ({"tls": {"httpsRedirect": True}} if redirected else {})
    filters = [envoy_filter(change, namespace="edge")] if change else []
    accept = ("enforces policy", "steers nothing")
    edge = Edge(serve, servers, istio_gateway(server), EVERY, only(methods=["GET"]), *filters, accept=accept)

    def get(port: str, path: str, *headers: tuple[str, str], method: str = "GET") -> Any:
        found = ask(edge.proxy.ports[port], path, method, headers)
        kept = ("location", "x-mine", "access-control-allow-origin")
        return found.status, bool(found.backend), [found.headers.get(name) for name in kept]

    for host in ("a.example", "A.example", "a.example:80", "a.example:8080", "b.example", "c.example", ""):
        for path in ("/a", "/a/b", "/gone", "/said", "/fault", "/other"):
            for more in ((), (("origin", "https://b.example"),)):
                named = (("host", host), *more)
                assert get("http.80", path, *named) == get("0.0.0.0_80", path, *named), (host, path, more)
            assert get("http.80", path, ("host", host), method="POST")[0] == 403, (host, path)
        preflight = (("origin", "https://b.example"), ("access-control-request-method", "GET"))
        assert get("http.80", "/a", ("host", host), *preflight, method="OPTIONS")[0] == 403
