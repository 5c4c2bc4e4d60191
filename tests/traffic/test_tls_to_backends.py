"""TLS that an Envoy begins: DestinationRules in the mesh, BackendTLSPolicies at Gateways."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.traffic.edge import Certificate, Edge, gateway, http_route
from tests.traffic.shop import Served, Shop, destination_rule, object_of
from tests.xds.render.backend import Backend
from tests.xds.render.conftest import Serve
from xds.render import render

SIMPLE = {"mode": "SIMPLE", "sni": "backend.example"}
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
        ({"insecureSkipVerify": True}, 200),
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


def test_a_certificate_that_its_authority_has_taken_back_is_not_believed(
    serve: Serve, secured: dict[str, Backend], certificate: Certificate, folder: Path
) -> None:
    def answered(*revoked: Certificate) -> list[int]:
        """With a file, with a Secret, and at a Gateway by a BackendTLSPolicy."""
        path = folder / "revoked.crl"
        path.write_text(certificate.revocations(*revoked))
        files = {"caCertificates": str(certificate.file), "caCrl": str(path)}
        own = certificate.secret("own", "shop", certificate, path.read_text())
        bundled = bundle(certificate)
        bundled["data"]["ca.crl"] = path.read_text()
        edge = Edge(serve, secured, gateway(LISTENER), http_route(WEB), bundled, policy())
        shops = [
            Served(serve, secured, destination_rule(trafficPolicy={"tls": SIMPLE | files})),
            Served(
                serve,
                secured,
                destination_rule(trafficPolicy={"tls": SIMPLE | {"credentialName": "own"}}, **SELECTED),
                own,
            ),
        ]
        return [*(shop.ask("/").status for shop in shops), edge.get("/", "any.example").status]

    assert answered() == [200, 200, 200]
    assert answered(certificate) == [503, 503, 503]


@pytest.fixture(scope="module")
def client(folder: Path) -> Certificate:
    return Certificate("client.example", folder)


@pytest.fixture(scope="module")
def asking(certificate: Certificate, client: Certificate) -> Iterator[dict[str, Backend]]:
    """Servers that answer none but the client."""
    found: dict[str, Backend] = {}
    for name in ("one", "two"):
        context = certificate.server()
        context.load_verify_locations(client.file)
        context.verify_mode = ssl.CERT_REQUIRED
        found[name] = Backend(name, context)
    yield found
    for server in found.values():
        server.stop()


def named(mode: str, **tls: Any) -> dict[str, Any]:
    said = {"mode": mode, "sni": "backend.example", "credentialName": "client"} | tls
    return {"trafficPolicy": {"tls": said}}


SELECTED = {"workloadSelector": {"matchLabels": {"app": "client"}}}


def test_workloads_that_a_rule_selects_show_the_certificate_of_a_secret_of_theirs(
    serve: Serve, asking: dict[str, Backend], certificate: Certificate, client: Certificate
) -> None:
    rule = destination_rule(**named("MUTUAL"), **SELECTED)
    own = client.secret("client", "shop", certificate)
    assert Served(serve, asking, rule, own).ask("/").status == 200
    # Authorities may stand beside it.
    beside = certificate.secret("client-cacert", "shop", certificate)
    assert Served(serve, asking, rule, client.secret("client", "shop"), beside).ask("/").status == 200
    # Another's, or one that leads to nobody.
    assert (
        Served(serve, asking, rule, certificate.secret("client", "shop", certificate)).ask("/").status == 503
    )
    assert Served(serve, asking, rule, client.secret("client", "shop", client)).ask("/").status == 503


def test_without_its_secret_nothing_is_sent(
    serve: Serve, asking: dict[str, Backend], client: Certificate
) -> None:
    before = sum(server.requests for server in asking.values())
    for rule in (named("MUTUAL"), named("SIMPLE", sni="")):
        found = Served(
            serve,
            asking,
            destination_rule(**rule, **SELECTED),
            client.secret("client", "street", client),
            accept=("there is no Secret shop/client",),
        )
        assert found.ask("/").status == 503
        assert [str(problem.object) for problem in found.problems] == ["DestinationRule shop/web"]
        assert not any(part.backends for d in found.view().destinations for part in d.parts)
    assert sum(server.requests for server in asking.values()) == before


def test_of_other_rules_gateways_have_the_secret_and_sidecars_none(
    serve: Serve, asking: dict[str, Backend], certificate: Certificate, client: Certificate
) -> None:
    """As in Istio. The Secret is in the namespace of whoever sends."""
    rule = destination_rule(**named("MUTUAL"))
    secrets = [client.secret("client", namespace, certificate) for namespace in ("edge", "shop")]
    assert Served(serve, asking, rule, *secrets).ask("/").status == 503
    edge = Edge(serve, asking, gateway(LISTENER), http_route(WEB), rule, *secrets)
    assert edge.get("/", "a.example").status == 200
    edge = Edge(serve, asking, gateway(LISTENER), http_route(WEB), rule, secrets[1])
    assert edge.get("/", "a.example").status == 503


def test_a_key_stands_in_a_secret_and_nowhere_else(certificate: Certificate, client: Certificate) -> None:
    own = client.secret("client", "shop", certificate)
    shop = Shop(destination_rule(**named("MUTUAL"), **SELECTED), own)
    kept = [r for r in render(shop.view()) if b"PRIVATE KEY" in r.any]
    assert [(r.kind, r.name) for r in kept] == [("secrets", "kubernetes://client")]
    assert "PRIVATE KEY" not in repr(shop.view())


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
