"""TLS that an Envoy begins: DestinationRules in the mesh, BackendTLSPolicies at Gateways."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.traffic.edge import Certificate, Edge, gateway, http_route
from tests.traffic.shop import Served, destination_rule, object_of
from tests.xds.render.backend import Backend
from tests.xds.render.conftest import Serve

LISTENER = {
    "name": "http",
    "port": 80,
    "protocol": "HTTP",
    "allowedRoutes": {"namespaces": {"from": "All"}},
}
WEB = {"backendRefs": [{"name": "web", "port": 80}]}


@pytest.fixture(scope="module")
def certificate(folder: Path) -> Certificate:
    return Certificate("backend.example", folder)


@pytest.fixture(scope="module")
def secured(certificate: Certificate) -> Iterator[dict[str, Backend]]:
    found = {name: Backend(name, certificate.server()) for name in ("one", "two")}
    yield found
    for server in found.values():
        server.stop()


def bundle(certificate: Certificate) -> dict[str, Any]:
    found = object_of("v1", "ConfigMap", "ca", "shop", {})
    del found["spec"]
    return found | {"data": {"ca.crt": certificate.file.read_text()}}


def policy(hostname: str = "backend.example", **validation: Any) -> dict[str, Any]:
    refs = [{"group": "", "kind": "ConfigMap", "name": "ca"}]
    return object_of(
        "gateway.networking.k8s.io/v1",
        "BackendTLSPolicy",
        "web",
        "shop",
        {
            "targetRefs": [{"group": "", "kind": "Service", "name": "web"}],
            "validation": {"hostname": hostname, "caCertificateRefs": refs} | validation,
        },
    )


@pytest.mark.parametrize(
    ("tls", "status"),
    [
        ({"sni": "backend.example", "caCertificates": "CA"}, 200),
        ({"sni": "backend.example", "caCertificates": "CA", "subjectAltNames": ["backend.example"]}, 200),
        ({"sni": "other.example", "caCertificates": "CA"}, 503),
        ({"sni": "backend.example", "caCertificates": "CA", "subjectAltNames": ["other.example"]}, 503),
        ({"sni": "backend.example"}, 503),
        ({"sni": "other.example", "insecureSkipVerify": True}, 200),
    ],
)
def test_a_destination_rule_begins_tls_and_believes_whom_it_names(
    tls: dict[str, Any], status: int, serve: Serve, secured: dict[str, Backend], certificate: Certificate
) -> None:
    if "caCertificates" in tls:
        tls = tls | {"caCertificates": str(certificate.file)}
    rule = destination_rule(trafficPolicy={"tls": {"mode": "SIMPLE"} | tls})
    shop = Served(serve, secured, rule)
    assert shop.steers("shop/client", "web")
    assert shop.ask("/").status == status


def test_a_gateway_secures_what_it_sends_and_nobody_else_does(
    serve: Serve, secured: dict[str, Backend], certificate: Certificate
) -> None:
    objects = (gateway(LISTENER), http_route(WEB), bundle(certificate), policy())
    edge = Edge(serve, secured, *objects)
    assert edge.get("/", "any.example").backend in ("one", "two")
    assert list(edge.node.proxies) == ["edge/gate"]


@pytest.mark.parametrize("wrong", ["name", "authority", "none"])
def test_who_cannot_be_believed_is_not_spoken_to(
    wrong: str, serve: Serve, secured: dict[str, Backend], certificate: Certificate, folder: Path
) -> None:
    """Never in plain text, and nobody is believed in place of authorities that are not there."""
    stranger = Certificate("stranger.example", folder)
    trust = [bundle(stranger if wrong == "authority" else certificate)] if wrong != "none" else []
    asked = policy("other.example") if wrong == "name" else policy()
    edge = Edge(serve, secured, gateway(LISTENER), http_route(WEB), *trust, asked)
    assert edge.get("/", "any.example").status == 503
