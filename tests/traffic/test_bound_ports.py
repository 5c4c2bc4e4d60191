"""Ports of loopback that Sidecars have Envoys listen at, asked of a real one: services by the host that is
asked for, or by the name of a TLS hello."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from mesh.model import ServiceName
from tests.traffic.shop import (
    Object,
    Served,
    Shop,
    destination_rule,
    object_of,
    to,
    versions,
    virtual_service,
)
from tests.traffic.test_virtual_service import Servers
from tests.xds.render.client import Answer, ask
from tests.xds.render.conftest import Serve
from tests.xds.render.standalone import validate
from xds.render import render


def bound(number: int, protocol: str, *hosts: str) -> Object:
    port = {"number": number, "protocol": protocol, "name": protocol.lower()}
    return {"port": port, "bind": "127.0.0.1", "captureMode": "NONE", "hosts": list(hosts)}


def sidecar(*egress: Object, **more: object) -> Object:
    content = {"egress": [*egress, {"hosts": ["*/*"]}], **more}
    return object_of("networking.istio.io/v1", "Sidecar", "default", "shop", content)


def get(shop: Served, host: str, path: str = "/", port: int = 80) -> Answer:
    return ask(shop.proxy.ports[f"127.0.0.1_{port}"], path, "GET", [("host", host)])


def test_services_are_told_apart_by_the_host_that_is_asked_for(serve: Serve, servers: Servers) -> None:
    shop = Served(serve, servers, sidecar(bound(80, "HTTP", "./*")))
    for host in ("web", "web.shop", "web.shop.svc", "web.shop.svc.cluster.local", "web:80", "10.128.0.10"):
        assert get(shop, host).backend in ("one", "two"), host
    assert get(shop, "shadow.shop").backend == "three"
    assert [get(shop, host).status for host in ("nobody", "localhost", "web.other")] == [503, 404, 404]
    assert shop.node.state.pods["shop/client"].reasons == ("Sidecar shop/default egress[0].bind",)
    assert not shop.steers("shop/client", "web"), "who dials the service stays in the kernel"


def test_what_binds_a_caller_of_the_service_binds_here_as_well(serve: Serve, servers: Servers) -> None:
    """Routes, and what policy lets it reach (rule 4)."""
    reached = {
        "toEndpoints": [{"matchLabels": {"app": "web"}}],
        "toPorts": [{"ports": [{"port": "8080", "protocol": "TCP"}], "rules": {"http": [{"method": "GET"}]}}],
    }
    spec = {"endpointSelector": {"matchLabels": {"app": "client"}}, "egress": [reached]}
    only_get = object_of("cilium.io/v2", "CiliumNetworkPolicy", "client", "shop", spec)
    route = virtual_service({"route": [to(subset="v2")]})
    shop = Served(serve, servers, sidecar(bound(80, "HTTP", "./*")), route, versions(), only_get)
    assert {get(shop, "web").backend for _ in range(6)} == {"two"}
    at = shop.proxy.ports["127.0.0.1_80"]
    assert ask(at, "/", "POST", [("host", "web")]).status == 403
    assert get(shop, "shadow").status == 503, "nobody may be reached there"


def test_whole_connections_are_of_one_service_or_of_the_one_that_a_hello_names(
    serve: Serve, servers: Servers
) -> None:
    shop = Served(serve, servers, sidecar(bound(90, "TCP", "./shadow.shop.svc.cluster.local")))
    with socket.create_connection(("127.0.0.1", shop.proxy.ports["127.0.0.1_90"]), timeout=10) as made:
        made.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert b"three" in b"".join(iter(lambda: made.recv(65536), b""))
    (port,) = Shop(sidecar(bound(90, "TLS", "./*"))).view().bound
    assert [entry.match.server_names for entry in port.servers[0].connections] == [
        (f"{name}.shop.svc.cluster.local",) for name in ("nobody", "shadow", "web")
    ]


def test_what_would_go_where_it_was_sent_goes_nowhere(serve: Serve, servers: Servers) -> None:
    """It was sent to the Envoy itself."""
    dialled = destination_rule(trafficPolicy={"loadBalancer": {"simple": "PASSTHROUGH"}})
    shop = Served(serve, servers, sidecar(bound(80, "HTTP", "./*")), dialled)
    assert (get(shop, "web").status, get(shop, "shadow").backend) == (503, "three")


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.9", "::1"])
def test_what_is_rendered_is_valid(address: str, tmp_path: Path) -> None:
    listeners = [bound(80, "HTTP", "*/*"), bound(90, "TLS", "*/*"), bound(70, "TCP", "*/*")]
    shop = Shop(sidecar(*({**one, "bind": address} for one in listeners)), virtual_service({"route": [to()]}))
    assert validate(render(shop.view()), tmp_path) == ""


def test_it_is_for_those_that_the_sidecar_is_for() -> None:
    selected = sidecar(bound(80, "HTTP", "./*"), workloadSelector={"labels": {"app": "client"}})
    assert set(Shop(selected).node.proxies) == {"shop/client"}


def test_a_name_is_a_services_before_a_service_entrys() -> None:
    """Whoever may write one in another namespace, and however that sorts."""
    thief = object_of(
        "networking.istio.io/v1",
        "ServiceEntry",
        "thief",
        "aaa",
        {
            "hosts": ["web.shop", "web.shop.svc"],
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
            "resolution": "STATIC",
            "endpoints": [{"address": "192.0.2.66"}],
        },
    )
    shop = Shop(sidecar(bound(80, "HTTP", "*/*")), thief, accept=("is taken as a full name",))
    owners = {
        text: host.entries[0].rule.backends[0].service
        for port in shop.view().bound
        for host in port.servers[0].hosts
        for text in (host.host, *host.names)
    }
    for text in ("web", "web.shop", "web.shop.svc", "web.shop.svc.cluster.local"):
        assert owners[text] == ServiceName("shop", "web"), text
