"""Which of several servers and routes answer for a host, at one port of a Gateway's real Envoy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mesh.discovery.envoy import ROUTES
from tests.traffic.edge import Certificate, Edge, gate, gateway, http_route, istio_gateway
from tests.traffic.shop import Object, Shop, to, versions, virtual_service
from tests.traffic.test_gateways import HTTP, LISTENER, SHADOW, WEB, prefix
from tests.traffic.test_virtual_service import Servers
from tests.xds.render.conftest import Serve
from xds.render import render

BOUND: dict[str, Any] = {"gateways": ["edge/public", "edge/second"]}


def to_prefix(path: str, destination: Object) -> Object:
    return {"match": [{"uri": {"prefix": path}}], "route": [destination]}


# --- Istio ----------------------------------------------------------------------------------------------


def test_a_server_that_redirects_does_so_beside_one_that_does_not(serve: Serve, servers: Servers) -> None:
    redirecting = HTTP | {"hosts": ["a.example", "b.example"], "tls": {"httpsRedirect": True}}
    plain = {"port": {"number": 80, "name": "plain", "protocol": "HTTP"}, "hosts": ["c.example"]}
    routes = [
        virtual_service({"route": [to()]}, name=name, hosts=[f"{name}.example"], **BOUND) for name in "ac"
    ]
    edge = Edge(serve, servers, istio_gateway(redirecting, plain), versions(), *routes)
    assert [edge.get("/x", f"{name}.example").status for name in "abcd"] == [301, 301, 200, 404]
    assert edge.get("/x", "b.example").headers["location"] == "https://b.example/x"


def test_a_redirect_counts_for_a_host_that_another_server_has_too(serve: Serve, servers: Servers) -> None:
    redirecting = HTTP | {"hosts": ["*.example"], "tls": {"httpsRedirect": True}}
    route = virtual_service({"route": [to()]}, hosts=["a.example", "other.org"], **BOUND)
    second = istio_gateway(HTTP | {"hosts": ["*"]}, name="second")
    edge = Edge(serve, servers, istio_gateway(redirecting), second, versions(), route)
    hosts = ("a.example", "b.example", "other.org")
    assert [edge.get("/", host).status for host in hosts] == [301, 301, 200]


def test_a_virtual_service_is_for_gateways_in_namespaces_to_which_it_is_exported(
    serve: Serve, servers: Servers
) -> None:
    def route(name: str, *namespaces: str) -> Object:
        hosts = [f"{name}.example"]
        return virtual_service({"route": [to()]}, name=name, hosts=hosts, exportTo=list(namespaces), **BOUND)

    routes = [route("own", "."), route("there", "edge"), route("every", "*"), route("other", "street")]
    served = istio_gateway(HTTP | {"hosts": ["*"]})
    edge = Edge(serve, servers, served, versions(), *routes)
    hosts = ("own", "there", "every", "other")
    assert [edge.get("/", f"{host}.example").status for host in hosts] == [404, 200, 200, 404]


def test_what_takes_every_request_comes_last_where_virtual_services_are_joined(
    serve: Serve, servers: Servers
) -> None:
    """The older one's last rule takes what the younger one's do not; what stands behind it is never used."""
    hidden = to_prefix("/hidden", to("shadow"))
    older = virtual_service(
        to_prefix("/old", to(subset="v1")),
        {"route": [to(subset="v2")]},
        hidden,
        name="older",
        hosts=["a.example"],
        **BOUND,
    )
    older["metadata"]["creationTimestamp"] = "2020-01-01T00:00:00Z"
    younger = virtual_service(to_prefix("/", to("shadow")), name="younger", hosts=["a.example"], **BOUND)
    specific = virtual_service(to_prefix("/new", to("shadow")), name="new", hosts=["a.example"], **BOUND)
    served = istio_gateway(HTTP | {"hosts": ["*"]})
    edge = Edge(serve, servers, served, versions(), older, younger, specific)
    paths = ("/old", "/new", "/x", "/hidden")
    assert [edge.get(path, "a.example").backend for path in paths] == ["one", "three", "two", "two"]


def test_a_route_that_two_servers_take_is_asked_once(serve: Serve, servers: Servers) -> None:
    route = virtual_service({"route": [to()]}, hosts=["a.example"], **BOUND)
    second = istio_gateway(HTTP | {"hosts": ["*"]}, name="second")
    edge = Edge(serve, servers, istio_gateway(HTTP | {"hosts": ["*.example"]}), second, versions(), route)
    ((server,),) = (port.servers for port in edge.view("edge/gate").gateway)
    assert [len(host.entries) for host in server.hosts] == [1]


def test_one_port_at_two_addresses_has_routes_of_its_own_at_each() -> None:
    at = [
        {
            "port": {"number": 80, "name": name, "protocol": "HTTP"},
            "hosts": ["*"],
            "bind": f"127.0.0.{number}",
        }
        for number, name in enumerate("ab", 1)
    ]
    routes = [
        virtual_service({"route": [to()]}, name=name, hosts=[f"{name}.example"], **BOUND) for name in "ab"
    ]
    shop = Shop(gate(), istio_gateway(*at), versions(), *routes)
    found = {r.name: r for r in render(shop.view("edge/gate")) if r.type_url == ROUTES}
    assert sorted(found) == ["http.80.127.0.0.1", "http.80.127.0.0.2"]


def test_an_address_is_one_host_however_it_is_written(serve: Serve, servers: Servers) -> None:
    """Envoy refuses a host that is there twice."""
    routes = [
        virtual_service({"route": [to()]}, name=name, hosts=[host], **BOUND)
        for name, host in (("a", "FD00:0::1"), ("b", "fd00::1"))
    ]
    edge = Edge(serve, servers, istio_gateway(HTTP | {"hosts": ["*"]}), versions(), *routes)
    assert edge.get("/", "[fd00::1]").status == 200


# --- Gateway API ----------------------------------------------------------------------------------------


def listener(name: str, hostname: str | None = None, **more: Any) -> Object:
    return LISTENER | {"name": name} | ({"hostname": hostname} if hostname else {}) | more


def attached(name: str, path: str, backend: Object, *hostnames: str) -> Object:
    parent = {"name": "public", "namespace": "edge", "sectionName": name}
    hosts = {"hostnames": list(hostnames)} if hostnames else {}
    return http_route(prefix(path, backend), name=name, parentRefs=[parent], **hosts)


def test_a_listener_answers_for_its_hosts_alone(serve: Serve, servers: Servers) -> None:
    """The cases of the suite's GatewayHTTPListenerIsolation."""
    names = {
        "empty": None,
        "example": "*.example.com",
        "foo": "*.foo.example.com",
        "abc": "abc.foo.example.com",
        "bare": "bare.example.com",
    }
    hosts = ("bar.com", "*.example.com", "*.foo.example.com", "abc.foo.example.com", "bare.example.com")
    routes = [attached(name, f"/{name}", WEB, *hosts) for name in names if name != "bare"]
    edge = Edge(
        serve, servers, gateway(*(listener(name, host) for name, host in names.items())), versions(), *routes
    )
    owners = {
        "bar.com": "empty",
        "bar.example.com": "example",
        "bar.foo.example.com": "foo",
        "abc.foo.example.com": "abc",
        "bare.example.com": None,
    }
    for host, owner in owners.items():
        answered = [name for name in names if edge.get(f"/{name}", host).status == 200]
        assert answered == ([owner] if owner else []), host


def test_the_more_specific_match_comes_first_whichever_listener_it_came_by(
    serve: Serve, servers: Servers
) -> None:
    parent = {"name": "public", "namespace": "edge"}
    everything = http_route(prefix("/", SHADOW), name="all", hostnames=["a.example"], parentRefs=[parent])
    specific = http_route(prefix("/x", WEB), name="specific", hostnames=["a.example"], parentRefs=[parent])
    edge = Edge(
        serve,
        servers,
        gateway(listener("one", "*.example"), listener("two")),
        versions(),
        everything,
        specific,
    )
    assert edge.get("/y", "a.example").backend == "three"
    assert edge.get("/x", "a.example").backend in ("one", "two")


def test_a_listener_without_a_name_has_the_hosts_of_no_other(
    serve: Serve, servers: Servers, folder: Path
) -> None:
    """421 for what is another server's, also for what is only the nameless one's; 404 for what is one's own
    (RFC 9110, 15.5.20)."""
    certificate = Certificate("a.example", folder)

    def tls(name: str, hostname: str | None) -> Object:
        terminated = {"certificateRefs": [{"name": "a"}]}
        return listener(name, hostname, port=443, protocol="HTTPS", tls=terminated)

    route = attached("all", "/", WEB)
    edge = Edge(
        serve,
        servers,
        gateway(tls("all", None), tls("named", "a.example"), tls("routed", "b.example")),
        certificate.secret("a"),
        versions(),
        route,
        attached("routed", "/", WEB),
    )
    for host, status in {"a.example": 404, "b.example": 421, "c.example": 421}.items():
        head, _ = edge.over_tls("a.example", certificate, host=host)
        assert head.startswith(f"HTTP/1.1 {status}"), host
