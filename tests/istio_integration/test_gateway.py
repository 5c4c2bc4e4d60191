from __future__ import annotations

from typing import Any

import pytest

from mesh.model import (
    Gateway,
    Listener,
    ObjectRef,
    Requirement,
    Selector,
    ServedHost,
    ServerTls,
)
from tests.mesh.dialects.objects import ALL_OF_SHOP, obj
from xds.dialects import read

HTTP = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
HTTPS = {"port": {"number": 443, "name": "https", "protocol": "HTTPS"}, "hosts": ["a.example"]}
TCP = {"port": {"number": 5432, "name": "db", "protocol": "MONGO"}, "hosts": ["*"]}
CERT = ObjectRef("Secret", "", "cert")
SIMPLE = {"mode": "SIMPLE", "credentialName": "cert"}


def made(*servers: Any, version: str = "v1", **spec: Any) -> Any:
    whole = {"selector": {"istio": "ingress"}, "servers": list(servers)} | spec
    return obj(f"networking.istio.io/{version}", "Gateway", whole)


def gateway(object: Any) -> Gateway:
    fragment = read(object)
    assert (fragment.valid, fragment.problems) == (True, ())
    (noun,) = fragment.nouns
    assert isinstance(noun, Gateway)
    return noun


def listener(server: Any) -> Listener:
    return gateway(made(server)).listeners[0]


def tls(**fields: Any) -> ServerTls | None:
    return listener(HTTPS | {"tls": fields}).tls


@pytest.mark.parametrize("version", ["v1", "v1beta1", "v1alpha3"])
def test_a_gateway_is_served_by_the_pods_that_it_selects(version: str) -> None:
    assert gateway(made(HTTP, version=version)) == Gateway(
        ObjectRef("Gateway.networking.istio.io", "shop", "one"),
        "",
        (Listener("http", 80, "HTTP", (ServedHost("*", Selector()),), ("VirtualService",)),),
        subject=Selector((Requirement("istio", "In", ("ingress",)),)),
    )


@pytest.mark.parametrize(
    ("host", "served"),
    [
        ("*", ServedHost("*", Selector())),
        ("*.a.example", ServedHost("*.a.example", Selector())),
        ("*/a.example", ServedHost("a.example", Selector())),
        ("./a.example", ServedHost("a.example", ALL_OF_SHOP)),
        ("shop/*", ServedHost("*", ALL_OF_SHOP)),
    ],
)
def test_a_host_may_say_whose_virtual_services_it_is_for(host: str, served: ServedHost) -> None:
    assert listener(HTTP | {"hosts": [host]}).hosts == (served,)


@pytest.mark.parametrize(
    ("written", "protocol"),
    [
        ("HTTP", "HTTP"),
        ("http2", "HTTP"),
        ("GRPC", "HTTP"),
        ("GRPC-WEB", "HTTP"),
        ("TCP", "TCP"),
        ("MONGO", "TCP"),
    ],
)
def test_protocols_are_those_of_gateway_api(written: str, protocol: str) -> None:
    assert listener(HTTP | {"port": {"number": 80, "name": "a", "protocol": written}}).protocol == protocol


def test_a_server_has_a_name_an_address_and_may_send_http_to_https() -> None:
    found = listener(HTTP | {"name": "front", "bind": "127.0.0.1", "tls": {"httpsRedirect": True}})
    assert (found.name, found.bind, found.https_redirect, found.tls) == ("front", "127.0.0.1", True, None)
    for every in ("0.0.0.0", "::", "0:0::0"):
        assert listener(HTTP | {"bind": every}) == listener(HTTP), "that is each address"
    assert listener(HTTP).https_redirect is False


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        (SIMPLE, ServerTls("SIMPLE", (CERT,))),
        (
            {"mode": "SIMPLE", "credentialNames": ["cert", "ec"]},
            ServerTls("SIMPLE", (CERT, ObjectRef("Secret", "", "ec"))),
        ),
        (SIMPLE | {"mode": "MUTUAL"}, ServerTls("MUTUAL", (CERT,))),
        (
            SIMPLE
            | {"mode": "OPTIONAL_MUTUAL", "caCertCredentialName": "ca", "subjectAltNames": ["a.example"]},
            ServerTls("OPTIONAL_MUTUAL", (CERT,), (ObjectRef("Secret", "", "ca"),), ("a.example",)),
        ),
        (
            SIMPLE
            | {
                "minProtocolVersion": "TLSV1_2",
                "maxProtocolVersion": "TLSV1_3",
                "cipherSuites": ["AES128-SHA", "AES256-SHA", "AES128-SHA"],
            },
            ServerTls(
                "SIMPLE", (CERT,), min_version="1.2", max_version="1.3", ciphers=("AES128-SHA", "AES256-SHA")
            ),
        ),
    ],
)
def test_tls_ends_with_secrets_of_the_pods_own_namespace(fields: Any, wanted: ServerTls) -> None:
    assert tls(**fields) == wanted
    assert listener(HTTPS | {"tls": fields}).protocol == "HTTPS"


@pytest.mark.parametrize(
    ("fields", "mode"),
    [
        ({}, "PASSTHROUGH"),
        ({"mode": "PASSTHROUGH"}, "PASSTHROUGH"),
        ({"mode": "AUTO_PASSTHROUGH"}, "AUTO_PASSTHROUGH"),
    ],
)
def test_tls_that_is_passed_on_is_of_protocol_tls(fields: Any, mode: Any) -> None:
    found = listener(HTTPS | {"tls": fields})
    assert (found.protocol, found.tls) == ("TLS", ServerTls(mode))


@pytest.mark.parametrize(
    ("spec", "field", "says"),
    [
        ({"selector": None}, "selector", "is required"),
        ({"selector": {}}, "selector", "is required"),
        ({"selector": {"a/b/c": "d"}}, "selector['a/b/c']", "is not a label key"),
        ({"servers": []}, "servers", "is required"),
        ({"servers": [HTTP, HTTP]}, "servers[1]", "as another server is"),
        ({"listeners": []}, "listeners", "unknown field"),
    ],
)
def test_a_malformed_gateway_has_no_effect(spec: Any, field: str, says: str) -> None:
    fragment = read(made(HTTP, **spec))
    assert (fragment.valid, fragment.nouns) == (False, ())
    assert says in {p.field: p.message for p in fragment.problems}[f"spec.{field}"]


def port(**fields: Any) -> Any:
    return HTTP | {"port": {"number": 80, "name": "http", "protocol": "HTTP"} | fields}


def ended(**fields: Any) -> Any:
    return HTTPS | {"tls": SIMPLE | fields}


@pytest.mark.parametrize(
    ("server", "field", "says"),
    [
        (HTTP | {"port": None}, "port", "is required"),
        (port(number=None), "port.number", "is required"),
        (port(number=0), "port.number", "is 0"),
        (port(name=None), "port.name", "is required"),
        (port(protocol="UDP"), "port.protocol", "must be one of HTTP"),
        (port(targetPort=80), "port.targetPort", "is not supported yet"),
        (HTTP | {"hosts": []}, "hosts", "is required"),
        (HTTP | {"hosts": [""]}, "hosts[0]", "is not a hostname"),
        (HTTP | {"hosts": ["a.*.example"]}, "hosts[0]", "is not a hostname"),
        (HTTP | {"hosts": ["/a.example"]}, "hosts[0]", "names no namespace"),
        (HTTP | {"hosts": ["A/a.example"]}, "hosts[0]", "is not a name"),
        (HTTP | {"bind": "unix:///run/a"}, "bind", "is not an IP address"),
        (HTTP | {"defaultEndpoint": "127.0.0.1:80"}, "defaultEndpoint", "is not supported yet"),
        (HTTP | {"tls": SIMPLE}, "tls.mode", "does not go with plain HTTP"),
        (TCP | {"tls": SIMPLE}, "tls", "does not go with plain TCP"),
        (HTTPS, "tls", "is required"),
        (ended(httpsRedirect=True), "tls.httpsRedirect", "goes with plain HTTP only"),
        (ended(mode="ISTIO_MUTUAL"), "tls", "mode ISTIO_MUTUAL names no others"),
        (ended(mode="NONE"), "tls.mode", "must be one of PASSTHROUGH"),
        (ended(mode=None), "tls", "mode PASSTHROUGH ends no TLS"),
        (ended(mode="AUTO_PASSTHROUGH"), "tls", "ends no TLS"),
        (ended(credentialName=None), "tls.credentialName", "is required"),
        (ended(credentialName="ns/cert"), "tls.credentialName", "is not a name"),
        (ended(credentialNames=["a"]), "tls.credentialNames", "without credentialName"),
        (ended(credentialName=None, credentialNames=["a", "b", "c"]), "tls.credentialNames", "at most 2"),
        (ended(subjectAltNames=["a"]), "tls", "need MUTUAL"),
        (ended(caCertCredentialName="a"), "tls", "need MUTUAL"),
        (
            ended(minProtocolVersion="TLSV1_3", maxProtocolVersion="TLSV1_2"),
            "tls.maxProtocolVersion",
            "is below",
        ),
        (ended(minProtocolVersion="SSLV3"), "tls.minProtocolVersion", "must be one of TLS_AUTO"),
        (ended(cipherSuites=["RC4-SHA"]), "tls.cipherSuites[0]", "must be one of"),
        *(
            (ended(**{key: "a"}), f"tls.{key}", "is not supported yet: certificates are named by")
            for key in (
                "serverCertificate",
                "privateKey",
                "caCertificates",
                "caCrl",
                "tlsCertificates",
                "verifyCertificateSpki",
                "verifyCertificateHash",
                "insecureSkipVerify",
            )
        ),
    ],
)
def test_a_server_that_cannot_be_read_leaves_the_gateway_without_effect(
    server: Any, field: str, says: str
) -> None:
    fragment = read(made(server))
    assert (fragment.valid, fragment.nouns) == (False, ())
    assert says in {p.field: p.message for p in fragment.problems}[f"spec.servers[0].{field}"]
