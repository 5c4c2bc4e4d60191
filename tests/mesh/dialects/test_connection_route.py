from __future__ import annotations

from typing import Any

import pytest

from mesh.dialects import read
from mesh.model import (
    MESH_GATEWAY,
    ConnectionRule,
    GatewayParent,
    ObjectRef,
    Parent,
    RouteBackend,
    ServiceName,
)
from tests.mesh.dialects.objects import gateway_route, refused, route, valid

KINDS = [
    ("v1", "TCPRoute"),
    ("v1alpha2", "TCPRoute"),
    ("v1", "TLSRoute"),
    ("v1alpha3", "TLSRoute"),
    ("v1alpha2", "TLSRoute"),
    ("v1", "UDPRoute"),
    ("v1alpha2", "UDPRoute"),
]
DB = {"name": "db", "port": 5432}


def made(kind: str, rule: Any, version: str = "v1", **spec: Any) -> Any:
    names = {"hostnames": ["db.example"]} if kind == "TLSRoute" else {}
    return gateway_route(kind, rule, version, **names | spec)


@pytest.mark.parametrize(("version", "kind"), KINDS)
def test_a_rule_shares_connections_out_by_weight(version: str, kind: str) -> None:
    backends = [DB | {"weight": 9}, DB | {"namespace": "far", "weight": 0}, DB]
    found = route(made(kind, {"backendRefs": backends}, version))
    assert found.rules == ()
    assert found.connections == (
        ConnectionRule(
            "rules[0]",
            {"TCPRoute": "tcp", "TLSRoute": "tls", "UDPRoute": "udp"}[kind],  # type: ignore[arg-type]
            (),
            (
                RouteBackend(ServiceName("shop", "db"), 5432, 9),
                RouteBackend(ServiceName("far", "db"), 5432, 0),
                RouteBackend(ServiceName("shop", "db"), 5432, 1),
            ),
        ),
    )
    assert (found.parents, found.gateways) == ((Parent(ServiceName("shop", "web"), None),), (MESH_GATEWAY,))


def test_hostnames_are_what_a_hello_to_a_gateway_asks_for() -> None:
    names = ["*.db.example", "db.example"]
    fragment = valid(made("TLSRoute", {"backendRefs": [DB]}, hostnames=names, parentRefs=[{"name": "edge"}]))
    assert fragment.problems == ()
    found = route(made("TLSRoute", {"backendRefs": [DB]}, hostnames=names, parentRefs=[{"name": "edge"}]))
    assert found.names == tuple(names)
    assert found.attached == (GatewayParent(ObjectRef("Gateway", "shop", "edge")),)
    (problem,) = valid(made("TLSRoute", {"backendRefs": [DB]})).problems
    assert (problem.field, "has no effect on a Service" in problem.message) == ("spec.hostnames", True)


def test_a_backend_that_cannot_be_followed_keeps_its_share() -> None:
    object = made("TCPRoute", {"backendRefs": [DB, {"group": "cloud", "kind": "Bucket", "name": "b"}]})
    (problem,) = valid(object).problems
    assert problem.message.endswith("its share of the connections is refused")
    assert route(object).connections[0].backends[1] == RouteBackend(None, 0)


@pytest.mark.parametrize("kind", ["TCPRoute", "TLSRoute", "UDPRoute"])
@pytest.mark.parametrize(
    ("rule", "field", "says"),
    [
        ({}, "backendRefs", "is required"),
        ({"backendRefs": []}, "backendRefs", "is required"),
        ({"backendRefs": [DB] * 17}, "backendRefs", "at most 16"),
        ({"backendRefs": [DB | {"weight": -1}]}, "backendRefs[0].weight", "is -1"),
        ({"backendRefs": [{"name": "db"}]}, "backendRefs[0].port", "is required"),
        ({"backendRefs": [DB | {"filters": []}]}, "backendRefs[0].filters", "unknown field"),
        ({"backendRefs": [DB], "matches": []}, "matches", "unknown field"),
    ],
)
def test_a_route_that_cannot_be_read_has_no_effect_and_says_why(
    kind: str, rule: Any, field: str, says: str
) -> None:
    bad = made(kind, rule)
    assert says in refused(bad)[f"spec.rules[0].{field}"]
    assert read(bad).nouns == ()


@pytest.mark.parametrize(
    ("kind", "spec", "field", "says"),
    [
        ("TCPRoute", {"rules": []}, "spec.rules", "is required"),
        ("UDPRoute", {"rules": None}, "spec.rules", "is required"),
        ("TCPRoute", {"rules": [{"backendRefs": [DB]}] * 2}, "spec.rules", "at most 1"),
        ("TCPRoute", {"hostnames": ["a"]}, "spec.hostnames", "unknown field"),
        ("TCPRoute", {"useDefaultGateways": "All"}, "spec.useDefaultGateways", "is not supported yet"),
        ("TCPRoute", {"parentRefs": []}, "spec.parentRefs", "is required"),
        ("TLSRoute", {"hostnames": None}, "spec.hostnames", "is required"),
        ("TLSRoute", {"hostnames": []}, "spec.hostnames", "is required"),
        ("TLSRoute", {"hostnames": ["10.0.0.1"]}, "spec.hostnames[0]", "is not a hostname"),
        ("TLSRoute", {"hostnames": ["*"]}, "spec.hostnames[0]", "is not a hostname"),
    ],
)
def test_a_malformed_route_has_no_effect(kind: str, spec: Any, field: str, says: str) -> None:
    assert says in refused(made(kind, {"backendRefs": [DB]}, **spec))[field]
