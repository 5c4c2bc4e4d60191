"""Traffic from outside, by the Gateways of both APIs, through a real Envoy."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from tests.traffic.edge import Certificate, Edge, gate, gateway, http_route, istio_gateway
from tests.traffic.shop import Shop, object_of, to, versions, virtual_service
from tests.traffic.test_virtual_service import Servers
from tests.xds.render.conftest import Serve
from tests.xds.render.standalone import validate
from xds.render import readable, render

HTTP = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}}
LISTENER: dict[str, Any] = {
    "name": "http",
    "port": 80,
    "protocol": "HTTP",
    "allowedRoutes": {"namespaces": {"from": "All"}},
}
WEB, SHADOW = {"name": "web", "port": 80}, {"name": "shadow", "port": 80}


@pytest.fixture(scope="module")
def certificates(folder: Path) -> dict[str, Certificate]:
    return {name: Certificate(name, folder) for name in ("a.example", "b.example", "client.example")}


def prefix(path: str, *backends: dict[str, Any]) -> dict[str, Any]:
    match = {"path": {"type": "PathPrefix", "value": path}}
    return {"matches": [match], "backendRefs": list(backends)}


# --- Istio ----------------------------------------------------------------------------------------------


def test_virtual_services_attach_by_gateway_and_host(serve: Serve, servers: Servers) -> None:
    bound = {"gateways": ["edge/public"]}
    web = virtual_service({"route": [to(subset="v1")]}, hosts=["a.example"], **bound)
    rest = virtual_service({"route": [to("shadow")]}, name="rest", hosts=["*.example"], **bound)
    inside = virtual_service({"route": [to(subset="v2")]}, name="inside")
    edge = Edge(serve, servers, istio_gateway(HTTP | {"hosts": ["*.example"]}), versions(), web, rest, inside)
    assert edge.get("/", "a.example").backend == "one"
    assert edge.get("/", "a.example:80").backend == "one"
    assert edge.get("/", "x.example").backend == "three"
    assert edge.get("/", "web.shop.svc.cluster.local").status == 404, "that one is for the mesh"
    assert edge.get("/", "other.org").status == 404
    assert edge.node.state.pods["edge/gate"].reasons == ("Gateway.networking.istio.io edge/public",)
    assert not edge.steers("shop/client", "shadow"), "routes of a gateway bind nobody in the mesh"


def test_a_gateway_takes_hosts_of_the_namespaces_that_it_names_only(serve: Serve, servers: Servers) -> None:
    bound = {"gateways": ["edge/public"]}
    own = virtual_service({"route": [to(subset="v1")]}, hosts=["a.example"], **bound)
    thief = virtual_service(
        {"route": [to("shadow.shop.svc.cluster.local")]}, namespace="street", hosts=["b.example"], **bound
    )
    served = HTTP | {"hosts": ["shop/*"]}
    edge = Edge(serve, servers, istio_gateway(served), versions(), own, thief)
    assert edge.get("/", "a.example").backend == "one"
    assert edge.get("/", "b.example").status == 404


def test_plain_http_is_sent_to_https(serve: Serve, servers: Servers) -> None:
    route = virtual_service({"route": [to()]}, hosts=["a.example"], gateways=["edge/public"])
    edge = Edge(serve, servers, istio_gateway(HTTP | {"hosts": ["*"], "tls": {"httpsRedirect": True}}), route)
    answer = edge.get("/x?y", "a.example")
    assert (answer.status, answer.headers["location"]) == (301, "https://a.example/x?y")


def test_tls_ends_with_the_certificate_of_the_name_that_is_asked_for(
    serve: Serve, servers: Servers, certificates: dict[str, Certificate]
) -> None:
    def server(name: str, **tls: Any) -> dict[str, Any]:
        port = {"number": 443, "name": f"https-{name}", "protocol": "HTTPS"}
        return {"port": port, "hosts": [f"{name}.example"], "tls": {"credentialName": name} | tls}

    def web(version: str) -> dict[str, Any]:
        return {"destination": {"host": "web", "subset": version, "port": {"number": 80}}}

    bound = {"gateways": ["edge/public"]}
    a, b, client = certificates.values()
    edge = Edge(
        serve,
        servers,
        istio_gateway(server("a", mode="SIMPLE"), server("b", mode="MUTUAL"), server("c", mode="SIMPLE")),
        a.secret("a"),
        b.secret("b", authority=client),
        a.secret("c", namespace="shop"),
        versions(),
        virtual_service({"route": [web("v1")]}, name="a", hosts=["a.example"], **bound),
        virtual_service({"route": [web("v2")]}, name="b", hosts=["b.example"], **bound),
        virtual_service({"route": [to()]}, name="c", hosts=["c.example"], **bound),
        accept=["there is no Secret edge/c"],
    )
    assert edge.tls("a.example", a) == "one"
    assert edge.tls("b.example", b, client=client) == "two"
    for trust, name, shown in ((b, "b.example", None), (b, "b.example", a), (a, "c.example", None)):
        with pytest.raises((OSError, ssl.SSLError)):
            edge.tls(name, trust, client=shown)


def test_a_client_whose_certificate_was_taken_back_is_refused(
    serve: Serve, servers: Servers, certificates: dict[str, Certificate]
) -> None:
    own, _, client = certificates.values()
    port = {"number": 443, "name": "https", "protocol": "HTTPS"}
    served = {"port": port, "hosts": ["a.example"], "tls": {"mode": "MUTUAL", "credentialName": "a"}}
    web = {"destination": {"host": "web.shop.svc.cluster.local", "port": {"number": 80}}}
    routed = virtual_service({"route": [web]}, hosts=["a.example"], gateways=["edge/public"])

    def edge(*revoked: Certificate) -> Edge:
        secret = own.secret("a", authority=client, revoked=client.revocations(*revoked))
        return Edge(serve, servers, istio_gateway(served), secret, routed)

    assert edge().tls("a.example", own, client=client) in ("one", "two")
    with pytest.raises((OSError, ssl.SSLError)):
        edge(client).tls("a.example", own, client=client)


# --- Gateway API -----------------------------------------------------------------------------------------


def test_http_routes_attach_by_parent_and_hostname(serve: Serve, servers: Servers) -> None:
    edge = Edge(
        serve,
        servers,
        gateway(LISTENER | {"hostname": "*.example"}),
        http_route(prefix("/", WEB), hostnames=["a.example"]),
        http_route(prefix("/", SHADOW), name="rest"),
        http_route(prefix("/", SHADOW), name="other", hostnames=["a.org"]),
    )
    assert edge.get("/", "a.example").backend in ("one", "two")
    assert edge.get("/", "b.example").backend == "three"
    assert edge.get("/", "a.org").status == 404


def test_a_narrower_host_comes_first_and_a_wider_one_after_it(serve: Serve, servers: Servers) -> None:
    """HTTPRouteSpec, hostnames: precedence by host comes before precedence by path."""
    edge = Edge(
        serve,
        servers,
        gateway(LISTENER),
        http_route(prefix("/a", WEB), hostnames=["a.example"]),
        http_route(prefix("/a/b", SHADOW), prefix("/c", SHADOW), name="wide", hostnames=["*.example"]),
    )
    assert edge.get("/a/b", "a.example").backend in ("one", "two")
    assert edge.get("/c", "a.example").backend == "three"
    assert edge.get("/a/b", "x.example").backend == "three"


def test_routes_attach_from_namespaces_that_the_listener_allows(serve: Serve, servers: Servers) -> None:
    same = LISTENER | {"allowedRoutes": {"namespaces": {"from": "Same"}}}
    edge = Edge(serve, servers, gateway(same), http_route(prefix("/", WEB)))
    assert edge.get("/", "a.example").status == 404


def test_a_backend_of_another_namespace_needs_leave_for_as_long_as_it_lasts() -> None:
    """Threat N51."""
    far = http_route(prefix("/", WEB | {"namespace": "shop"}), namespace="edge")
    leave = object_of(
        "gateway.networking.k8s.io/v1beta1",
        "ReferenceGrant",
        "leave",
        "shop",
        {
            "from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "edge"}],
            "to": [{"group": "", "kind": "Service", "name": "web"}],
        },
    )

    def service(*objects: dict[str, Any]) -> object:
        from tests.traffic.edge import gate

        shop = Shop(gate(), gateway(LISTENER), far, *objects, accept=["ReferenceGrant"])
        (port,) = shop.view("edge/gate").gateway
        (host,) = port.servers[0].hosts
        return host.entries[0].rule.backends[0].service

    assert service() is None
    assert service(leave) is not None
    for wrong in ({"kind": "GRPCRoute"}, {"namespace": "street"}):
        other = leave | {"spec": leave["spec"] | {"from": [leave["spec"]["from"][0] | wrong]}}
        assert service(other) is None
    named = leave | {"spec": leave["spec"] | {"to": [{"group": "", "kind": "Service", "name": "shadow"}]}}
    assert service(named) is None


def test_a_class_of_somebody_else_is_left_to_them() -> None:
    from tests.traffic.edge import gate

    theirs = object_of(
        "gateway.networking.k8s.io/v1", "GatewayClass", "acme", "", {"controllerName": "acme.io/gateway"}
    )
    del theirs["metadata"]["namespace"]
    shop = Shop(gate(), theirs, gateway(LISTENER, class_name="acme"))
    assert shop.node.proxies == {}


def test_tls_of_the_gateway_api_ends_or_is_passed_on_by_name(
    serve: Serve, servers: Servers, certificates: dict[str, Certificate]
) -> None:
    a = certificates["a.example"]
    https = LISTENER | {
        "name": "https",
        "port": 443,
        "protocol": "HTTPS",
        "hostname": "a.example",
        "tls": {"certificateRefs": [{"name": "a"}]},
    }
    edge = Edge(serve, servers, gateway(https), a.secret("a"), http_route(prefix("/", SHADOW)))
    assert edge.tls("a.example", a) == "three"
    lost = Edge(
        serve,
        servers,
        gateway(LISTENER, https),
        http_route(prefix("/", SHADOW)),
        accept=["there is no Secret edge/a"],
    )
    assert "0.0.0.0_443" not in lost.proxy.ports, "without its certificate nobody answers"


@pytest.mark.parametrize(
    ("redirect", "location"),
    [
        ({}, "https://a.example/x"),
        ({"hostname": "b.example"}, "https://b.example/x"),
        ({"scheme": "http"}, "http://a.example/x"),
        ({"port": 8443}, "https://a.example:8443/x"),
    ],
)
def test_a_redirect_behind_tls_does_not_name_its_usual_port(
    redirect: dict[str, Any],
    location: str,
    serve: Serve,
    servers: Servers,
    certificates: dict[str, Certificate],
) -> None:
    a = certificates["a.example"]
    https = LISTENER | {"port": 443, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "a"}]}}
    moved = {**redirect, "path": {"type": "ReplaceFullPath", "replaceFullPath": "/x"}}
    rule = {"filters": [{"type": "RequestRedirect", "requestRedirect": moved}]}
    edge = Edge(serve, servers, gateway(https), a.secret("a"), http_route(rule))
    head, _ = edge.over_tls("a.example", a)
    assert f"location: {location}\r\n" in head


# --- what cannot be told apart -----------------------------------------------------------------------------


def server(name: str, protocol: str, port: int = 80, **more: Any) -> dict[str, Any]:
    return {"port": {"number": port, "name": name, "protocol": protocol}, "hosts": ["*"], **more}


#: Every connection, and by name those of TLS.
WHOLE = [{"route": [{"destination": {"host": "web", "port": {"number": 90}}}]}]
NAMED = [{"match": [{"sniHosts": ["a.example"]}], "route": [{"destination": {"host": "web"}}]}]
PASSED = {"tls": {"mode": "PASSTHROUGH"}}


@pytest.mark.parametrize(
    "objects",
    [
        [istio_gateway(server("http", "HTTP"), server("tcp", "TCP"))],
        [istio_gateway(server("tcp", "TCP"), server("http", "HTTP"))],
        [istio_gateway(server("a", "TCP"), server("b", "TCP"))],
        [istio_gateway(server("a", "TCP")), istio_gateway(server("b", "TCP"), name="other")],
        [istio_gateway(server("http", "HTTP")), istio_gateway(server("tcp", "TCP"), name="another")],
        [istio_gateway(server("tls", "TLS", 443, **PASSED), server("more", "TLS", 443, **PASSED))],
    ],
)
def test_envoy_takes_what_gateways_want_of_one_port(objects: list[dict[str, Any]], tmp_path: Path) -> None:
    """It refuses two filter chains for the same connections, and with them the port."""
    bound = {"gateways": ["edge/public", "edge/other", "edge/another"]}
    route = {"hosts": ["*"], "tcp": WHOLE, "tls": NAMED, **bound}
    routes = [virtual_service({"route": [to("web")]}, name=name, **route) for name in ("first", "second")]
    shop = Shop(gate(), *routes, http_route(prefix("/", WEB)), *objects, accept=[""])
    assert validate(render(shop.view("edge/gate")), tmp_path) == ""


def test_envoy_takes_a_port_from_which_no_route_leads_on(tmp_path: Path) -> None:
    """It refuses a listener without chains, and would keep the one of before."""
    passed = server("tls", "TLS", 443, **PASSED)
    shop = Shop(gate(), istio_gateway(server("tcp", "TCP", 9000), passed), accept=[""])
    rendered = render(shop.view("edge/gate"))
    assert validate(rendered, tmp_path) == ""
    found = {one["name"]: one for one in readable(rendered)["listeners"]}
    for name in ("0.0.0.0_9000", "0.0.0.0_443"):
        assert found[name]["filter_chains"] == [{"name": f"{name}-blackhole"}]


def test_of_istios_servers_at_one_port_the_first_is_served_and_the_other_is_told_so() -> None:
    shop = Shop(gate(), istio_gateway(server("tcp", "TCP"), server("http", "HTTP")), accept=["not served"])
    told = [(p.field, p.message) for p in shop.problems if "not served" in p.message]
    assert told == [("spec.servers[1].port", "port 80 is TCP's, by tcp, so this one is not served")]
