"""What is no request, taken somewhere by way of a proxy (istio/api, TrafficPolicy.TunnelSettings). Here the
proxy is the Service `shadow`, to which connections to `web` are routed."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mesh.model import ServiceName
from tests.traffic.edge import Certificate, Edge, istio_gateway
from tests.traffic.shop import Object, Served, Shop, destination_rule, object_of, to, virtual_service
from tests.traffic.tunnelled import Tunnelled
from tests.xds.render.backend import Backend
from tests.xds.render.client import ask
from tests.xds.render.conftest import Serve

Servers = Mapping[str, Backend]
NAME = "web.shop.svc.cluster.local"
DB = {"targetHost": "db.example", "targetPort": 5432}


def by_way_of(subset: str = "", **fields: Any) -> Object:
    found = to("shadow", subset, **fields)
    found["destination"]["port"] = {"number": 80}
    return found


def tunnelled(settings: Object, subset: str = "", **policy: Any) -> Object:
    """For the whole proxy, or for a subset of it."""
    tunnel = {"tunnel": settings}
    if not subset:
        return destination_rule("shadow", host="shadow", trafficPolicy=tunnel | policy)
    subsets = [{"name": subset, "trafficPolicy": tunnel}]
    more = {"trafficPolicy": policy} if policy else {}
    return destination_rule("shadow", host="shadow", subsets=subsets, **more)


def routed(*routes: Object) -> Object:
    return virtual_service(tcp=[{"match": [{"port": 90}], "route": list(routes)}])


@pytest.mark.parametrize(
    ("settings", "authority"),
    [
        (DB, "db.example:5432"),
        ({"targetHost": "10.0.0.1", "targetPort": 5432, "protocol": "CONNECT"}, "10.0.0.1:5432"),
        ({"targetHost": "2001:DB8::1", "targetPort": 5432}, "[2001:db8::1]:5432"),
    ],
)
def test_a_connection_is_taken_on_by_the_proxy_that_its_route_names(
    settings: Object, authority: str, serve: Serve, servers: Servers
) -> None:
    proxy = Tunnelled(servers["one"].port)
    shop = Served(serve, {"three": proxy}, routed(by_way_of("db")), tunnelled(settings, "db"))
    assert ask(shop.port(port=90, kind="-tcp"), "/any").backend == "one"
    assert proxy.asked == [f"CONNECT {authority} HTTP/1.1, host: {authority}"]
    proxy.stop()


def test_the_proxy_may_be_asked_with_post(serve: Serve) -> None:
    proxy = Tunnelled()
    shop = Served(serve, {"three": proxy}, routed(by_way_of()), tunnelled(DB | {"protocol": "POST"}))
    with socket.create_connection(("127.0.0.1", shop.port(port=90, kind="-tcp")), timeout=10) as connection:
        connection.sendall(b"hi")
        assert connection.recv(5) == b"hello"
    assert proxy.asked == ["POST / HTTP/1.1, host: db.example:5432"]
    proxy.stop()


def test_tls_passes_through_it_to_whom_the_hello_names(serve: Serve, folder: Path) -> None:
    certificate = Certificate(NAME, folder)
    server = Backend("end", certificate.server())
    proxy = Tunnelled(server.port)
    match = [{"port": 90, "sniHosts": [NAME]}]
    shop = Served(
        serve,
        {"three": proxy},
        virtual_service(tls=[{"match": match, "route": [by_way_of("db")]}]),
        tunnelled({"targetHost": NAME, "targetPort": 443}, "db"),
    )
    context = ssl.create_default_context(cafile=str(certificate.file))
    raw = socket.create_connection(("127.0.0.1", shop.port(port=90, kind="-tcp")), timeout=10)
    with context.wrap_socket(raw, server_hostname=NAME) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    assert proxy.asked == [f"CONNECT {NAME}:443 HTTP/1.1, host: {NAME}:443"]
    proxy.stop()
    server.stop()


def test_a_proxy_that_takes_tls_at_a_port_is_asked_in_tls(
    serve: Serve, servers: Servers, folder: Path
) -> None:
    """As in Istio a tunnel stands beside port-level settings."""
    certificate = Certificate("proxy.example", folder)
    proxy = Tunnelled(servers["one"].port, certificate.server())
    tls = {"mode": "SIMPLE", "sni": "proxy.example", "caCertificates": str(certificate.file)}
    level = {"portLevelSettings": [{"port": {"number": 80}, "tls": tls}]}
    shop = Served(serve, {"three": proxy}, routed(by_way_of("db")), tunnelled(DB, "db", **level))
    assert ask(shop.port(port=90, kind="-tcp"), "/any").backend == "one"
    assert proxy.asked == ["CONNECT db.example:5432 HTTP/1.1, host: db.example:5432"]
    proxy.stop()


def test_a_gateway_for_what_leaves_the_mesh_asks_the_proxy_too(serve: Serve, servers: Servers) -> None:
    proxy = Tunnelled(servers["one"].port)
    port = {"number": 5432, "name": "tcp", "protocol": "TCP"}
    away = by_way_of("db")
    away["destination"]["host"] = "shadow.shop.svc.cluster.local"
    route = virtual_service(hosts=["db.example"], gateways=["edge/public"], tcp=[{"route": [away]}])
    served = istio_gateway({"port": port, "hosts": ["db.example"]})
    edge = Edge(serve, {"three": proxy}, served, route, tunnelled(DB, "db"))
    assert ask(edge.proxy.ports["0.0.0.0_5432"], "/any").backend == "one"
    assert proxy.asked == ["CONNECT db.example:5432 HTTP/1.1, host: db.example:5432"]
    proxy.stop()


def test_requests_go_to_the_proxy_itself(serve: Serve, servers: Servers) -> None:
    """A tunnel is for nothing that an HTTP route sends."""
    shop = Served(serve, servers, virtual_service({"route": [by_way_of()]}), tunnelled(DB))
    answer = shop.ask("/any")
    assert answer.backend == "three" and answer.read["method"] == "GET"


def test_of_destinations_whose_tunnels_differ_the_first_alone_gets_connections(
    serve: Serve, servers: Servers
) -> None:
    proxy, other = Tunnelled(servers["one"].port), Tunnelled(servers["two"].port)
    shop = Served(
        serve,
        {"three": proxy, "one": other, "two": other},
        routed(by_way_of("db", weight=50), to("web", weight=50)),
        tunnelled(DB, "db"),
        accept=["have different tunnels"],
    )
    (problem,) = shop.problems
    assert (str(problem.object), problem.field) == ("VirtualService shop/web", "spec.tcp[0].route")
    refused = 0
    for _ in range(20):
        try:
            assert ask(shop.port(port=90, kind="-tcp"), "/any").backend == "one"
        except OSError:
            refused += 1
    assert 0 < refused < 20 and len(proxy.asked) == 20 - refused
    assert not other.asked
    proxy.stop()
    other.stop()


def test_it_needs_an_envoy_where_there_may_be_something_else_than_requests() -> None:
    shop = Shop(destination_rule(trafficPolicy={"tunnel": DB}))
    assert {port: shop.steers("shop/client", "web", port) for port in (80, 90, 70)} == {
        80: False,
        90: True,
        70: True,
    }
    assert shop.node.state.pods["shop/client"].reasons == ("DestinationRule shop/web trafficPolicy.tunnel",)
    shop = Shop(routed(by_way_of("db")), tunnelled(DB, "db"))
    assert shop.steers("shop/client", "web", 90) and not shop.steers("shop/client", "shadow", 80)


@pytest.mark.parametrize(("name", "spoken"), [("http", "http/1.1"), ("http2", "http/2"), ("tcp", "http/1.1")])
def test_the_proxy_is_spoken_to_as_its_service_says(name: str, spoken: str) -> None:
    port = {"name": name, "port": 80}
    proxy = object_of("v1", "Service", "shadow", "shop", {"selector": {"app": "shadow"}, "ports": [port]})
    proxy["spec"]["clusterIP"] = "10.128.0.11"
    shop = Shop(routed(by_way_of("db")), tunnelled(DB, "db"), proxy)
    (found,) = [d for d in shop.view().destinations if d.target.service == ServiceName("shop", "shadow")]
    assert found.version == spoken
