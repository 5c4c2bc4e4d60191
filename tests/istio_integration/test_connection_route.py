from __future__ import annotations

from typing import Any

import pytest

from mesh.model import Callers, ConnectionMatch, ConnectionRule, RouteBackend
from tests.istio_integration.virtual_service import ROUTE, WEB, refused, route, weighted


def test_tcp_routes() -> None:
    block = {"destinationSubnets": ["10.0.0.0/8", "fd00::1"], "port": 27017}
    callers = {"sourceLabels": {"app": "web"}, "sourceNamespace": "far", "gateways": ["mesh"]}
    found = route({"tcp": [{"match": [block, callers]} | weighted(1, 3), ROUTE]})
    assert found.connections == (
        ConnectionRule(
            "tcp[0]",
            "tcp",
            (
                ConnectionMatch(27017, ("10.0.0.0/8", "fd00::1/128")),
                ConnectionMatch(callers=Callers("far", (("app", "web"),), ("mesh",))),
            ),
            (RouteBackend(WEB, 0, 1), RouteBackend(WEB, 0, 3)),
        ),
        ConnectionRule("tcp[1]", "tcp", (), (RouteBackend(WEB, 0, 100),)),
    )


@pytest.mark.parametrize(
    ("hosts", "sni", "means"),
    [
        (["web"], ["web"], ("web",)),
        (["web"], ["web.shop.svc.cluster.local"], ("web.shop.svc.cluster.local",)),
        (["*.example.com"], ["A.example.com", "*.b.example.com"], ("a.example.com", "*.b.example.com")),
        (["*"], ["*"], ()),
    ],
)
def test_tls_routes_go_by_what_the_hello_asks_for(hosts: Any, sni: Any, means: Any) -> None:
    found = route({"hosts": hosts, "gateways": ["edge"], "tls": [ROUTE | {"match": [{"sniHosts": sni}]}]})
    (connection,) = found.connections
    assert (connection.kind, connection.matches) == ("tls", (ConnectionMatch(server_names=means),))


@pytest.mark.parametrize(
    ("spec", "field", "says"),
    [
        ({"tcp": [{}]}, "tcp[0].route", "is required"),
        (
            {"tcp": [ROUTE | {"match": [{"sourceSubnet": "10.0.0.0/8"}]}]},
            "tcp[0].match[0].sourceSubnet",
            "sourceLabels",
        ),
        (
            {"tcp": [ROUTE | {"match": [{"destinationSubnets": ["10.0.0.1/8"]}]}]},
            "tcp[0].match[0].destinationSubnets[0]",
            "did you mean 10.0.0.0/8",
        ),
        ({"tls": [ROUTE]}, "tls[0].match", "is required"),
        ({"tls": [ROUTE | {"match": [{}]}]}, "tls[0].match[0].sniHosts", "is required"),
        (
            {"tls": [ROUTE | {"match": [{"sniHosts": ["a.com"]}]}]},
            "tls[0].match[0].sniHosts[0]",
            "is outside",
        ),
        (
            {"hosts": ["*.com"], "tls": [ROUTE | {"match": [{"sniHosts": ["*"]}]}]},
            "tls[0].match[0].sniHosts[0]",
            "is outside",
        ),
    ],
)
def test_what_is_wrong_in_a_connection_route_is_named(spec: Any, field: str, says: str) -> None:
    assert says in refused(spec)[field]
