"""What DestinationRules say of connections and retries, asked of a real Envoy."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from mesh.model import ServiceName, WorkloadName
from tests.traffic.announced import Announced
from tests.traffic.edge import Certificate, Edge, gateway, http_route
from tests.traffic.pinged import Pinged
from tests.traffic.shop import Served, Shop, destination_rule, to, virtual_service
from tests.xds.render.backend import Backend
from tests.xds.render.conftest import Serve

_WEB = "cluster.outbound|80||web.shop.svc.cluster.local"


@pytest.mark.parametrize(
    ("policy", "tried_again"),
    [
        ({"retryBudget": {"percent": 0, "minRetryConcurrency": 1}}, 1),
        # A budget counts in place of maxRetries.
        (
            {
                "retryBudget": {"percent": 0, "minRetryConcurrency": 100},
                "connectionPool": {"http": {"maxRetries": 1}},
            },
            6,
        ),
    ],
)
def test_no_more_requests_are_tried_again_at_once_than_the_budget_allows(
    policy: dict[str, Any], tried_again: int, serve: Serve
) -> None:
    slow = {name: Backend(name) for name in ("one", "two")}
    retries = {"attempts": 1, "perTryTimeout": "0.4s", "retryOn": "5xx"}
    shop = Served(
        serve,
        slow,
        virtual_service({"retries": retries, "route": [to()]}),
        destination_rule(trafficPolicy=policy),
    )
    waiting = [socket.create_connection(("127.0.0.1", shop.port()), timeout=10) for _ in range(6)]
    try:
        for connection in waiting:
            connection.sendall(b"GET /slow HTTP/1.1\r\nhost: web\r\n\r\n")
        for connection in waiting:
            assert connection.recv(65536).startswith(b"HTTP/1.1 504")
        assert _counted(shop, "upstream_rq_retry") == tried_again
        assert _counted(shop, "upstream_rq_retry_overflow") == 6 - tried_again
    finally:
        for connection in waiting:
            connection.close()
        for server in slow.values():
            server.stop()


# --- HTTP/2 -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("answers", [True, False])
def test_a_connection_of_http2_is_asked_for_signs_of_life_and_ends_without(
    answers: bool, serve: Serve
) -> None:
    server = Pinged(answers)
    pings = {"interval": "0.1s", "timeout": "5s" if answers else "0.1s"}
    pool = {"http": {"h2UpgradePolicy": "UPGRADE", "http2KeepAlive": pings}}
    rule = destination_rule(trafficPolicy={"connectionPool": pool})
    shop = Served(serve, {"one": server, "two": server}, rule)
    assert shop.ask("/").status == 200
    if answers:
        server.wait_for(pings=3)
        assert not server.closed.is_set()
    else:
        assert server.closed.wait(10) and server.pings == 1
    server.stop()


# --- the PROXY protocol -----------------------------------------------------------------------------


def _asked(port: int) -> tuple[str, list[str]]:
    """By what address the client was known, and what was announced to the server."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        own = "{}:{}".format(*connection.getsockname())
        connection.sendall(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n")
        heard = b""
        while not heard.endswith(b"]"):
            more = connection.recv(65536)
            assert more, heard
            heard += more
        said: list[str] = json.loads(heard.partition(b"\r\n\r\n")[2])
        return own, said


@pytest.mark.parametrize(("port", "kind"), [(80, ""), (90, "-tcp")])
@pytest.mark.parametrize("version", ["V1", "V2"])
def test_a_backend_is_told_whose_connection_it_is(version: str, port: int, kind: str, serve: Serve) -> None:
    """Each client gets a connection of its own, be it for requests or for anything else."""
    server = Announced()
    shop = Served(
        serve,
        {"one": server, "two": server},
        destination_rule(trafficPolicy={"proxyProtocol": {"version": version}}),
    )
    there = shop.port(port=port, kind=kind)
    for _ in range(2):
        own, said = _asked(there)
        assert said == [version, own, f"127.0.0.1:{there}"]
    server.stop()


def test_it_is_told_before_tls_begins(serve: Serve, folder: Path) -> None:
    certificate = Certificate("backend.example", folder)
    server = Announced(certificate.server())
    tls = {"mode": "SIMPLE", "sni": "backend.example", "caCertificates": str(certificate.file)}
    shop = Served(
        serve,
        {"one": server, "two": server},
        destination_rule(trafficPolicy={"proxyProtocol": {}, "tls": tls}),
    )
    own, said = _asked(shop.port())
    assert said == ["V1", own, f"127.0.0.1:{shop.port()}"]
    server.stop()


def test_gateways_tell_it_too(serve: Serve) -> None:
    server = Announced()
    rule = destination_rule(trafficPolicy={"proxyProtocol": {}})
    listener = {"name": "http", "port": 80, "protocol": "HTTP"}
    listener |= {"allowedRoutes": {"namespaces": {"from": "All"}}}
    route = http_route({"backendRefs": [{"name": "web", "port": 80}]})
    edge = Edge(serve, {"one": server, "two": server}, gateway(listener), route, rule)
    own, said = _asked(edge.proxy.ports["0.0.0.0_80"])
    assert said[:2] == ["V1", own]
    server.stop()


def test_where_it_is_to_be_told_connections_of_every_kind_need_an_envoy() -> None:
    shop = Shop(destination_rule(trafficPolicy={"proxyProtocol": {}}))
    assert all(shop.steers("shop/client", "web", port) for port in (80, 90, 70))
    assert not shop.steers("shop/client", "shadow")
    assert shop.node.state.pods["shop/client"].reasons == (
        "DestinationRule shop/web trafficPolicy.proxyProtocol",
    )


def _counted(shop: Served, name: str) -> int:
    lines = dict(line.rsplit(": ", 1) for line in shop.proxy.admin("/stats?filter=outbound").splitlines())
    return int(lines[f"{_WEB}.{name}"])


def test_of_several_rules_for_a_host_the_oldest_that_has_a_policy_gives_it() -> None:
    """Their subsets are joined (Istio, mergeDestinationRule)."""
    subset = {"name": "v1", "labels": {"version": "v1"}}
    rules = [
        destination_rule("subsets", subsets=[subset]),
        destination_rule("first", trafficPolicy={"loadBalancer": {"simple": "RANDOM"}}),
        destination_rule("second", trafficPolicy={"loadBalancer": {"simple": "LEAST_REQUEST"}}),
    ]
    for year, rule in enumerate(rules, 2020):
        rule["metadata"]["creationTimestamp"] = f"{year}-01-01T00:00:00Z"
    mesh = Shop(*rules, virtual_service({"route": [to(subset="v1")]})).mesh
    caller, service = mesh.callers.of(WorkloadName("shop", "client")), ServiceName("shop", "web")
    found = mesh.destination_rules.find(caller, service, "istio-system")
    assert found and [one.name for one in found.subsets] == ["v1"]
    assert found.policy.balancer and found.policy.balancer.simple == "RANDOM"
