"""N69 (Istio's `malicious_calls_inpod`): who dials a port of Envoy's own gains nothing. The listeners inside
the mesh cut everyone off whom the kernel has not sent (`tests/xds/render/test_listening.py`); those of
gateways are there to be dialled, and take for a request what is one, for a client who is one.
"""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest

from tests.threats.http.application import Application
from tests.threats.http.test_n27_floods import LISTENER, ROUTE
from tests.traffic.edge import Certificate, Edge, gateway, http_route
from tests.xds.render.conftest import Serve
from tests.xds.render.test_sniffing import hello

GET = b"GET /inner HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n"
#: As a trusted balancer would say for whom it calls: PROXY protocol, in both versions.
FORGED = b"PROXY TCP4 10.64.0.99 10.64.1.10 5555 80\r\n"
FORGED2 = (
    b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c"
    + socket.inet_aton("10.64.0.99") * 2
    + struct.pack("!HH", 5555, 80)
)
#: A tunnel to the pod itself, as mesh proxies ask each other for it.
TUNNEL = b"CONNECT 127.0.0.1:15001 HTTP/1.1\r\nhost: 127.0.0.1:15001\r\n\r\n"
WORDS = {
    "PROXY": FORGED + GET,
    "PROXY v2": FORGED2 + GET,
    "tunnel": TUNNEL + GET,
    "tunnel to a host": TUNNEL.replace(b"127.0.0.1:15001", b"a.example:80") + GET,
    "TLS": hello("a.example", "istio"),
    "no HTTP": b"\x00\x01\x02\r\n\r\n",
}


@pytest.fixture(scope="module")
def edge(serve: Serve, application: Application, folder: Path) -> Edge:
    certificate = Certificate("a.example", folder)
    https = LISTENER | {
        "name": "https",
        "port": 443,
        "protocol": "HTTPS",
        "tls": {"certificateRefs": [{"name": "a"}]},
    }
    everyone = dict.fromkeys(("one", "two", "three"), application)
    return Edge(serve, everyone, gateway(LISTENER, https), certificate.secret("a"), http_route(ROUTE))  # type: ignore[arg-type]


def said(port: int, data: bytes) -> bytes:
    heard = b""
    with socket.create_connection(("127.0.0.1", port), timeout=3) as connection:
        try:
            connection.sendall(data)
            while more := connection.recv(65536):
                heard += more
        except OSError:
            pass
    return heard


@pytest.mark.parametrize("name", WORDS)
@pytest.mark.parametrize("port", [80, 443])
def test_nothing_passes_for_a_request_but_one(
    name: str, port: int, edge: Edge, application: Application
) -> None:
    application.forget()
    heard = said(edge.proxy.ports[f"0.0.0.0_{port}"], WORDS[name])
    assert b" 200 " not in heard and not application.requests, heard


def test_a_plain_request_is_none_where_tls_is_asked_for(edge: Edge, application: Application) -> None:
    application.forget()
    assert said(edge.proxy.ports["0.0.0.0_443"], GET) == b""
    assert not application.requests
    assert said(edge.proxy.ports["0.0.0.0_80"], GET).startswith(b"HTTP/1.1 200 ")


def test_whom_a_client_claims_to_be_is_told_with_who_it_is(edge: Edge, application: Application) -> None:
    application.forget()
    claims = b"x-forwarded-for: 10.64.0.99\r\nx-envoy-external-address: 10.64.0.99\r\n"
    forged = GET.replace(b"connection", claims + b"connection")
    assert said(edge.proxy.ports["0.0.0.0_80"], forged).startswith(b"HTTP/1.1 200 ")
    (request,) = application.requests
    (claimed, own), (told,) = (
        request.values("x-forwarded-for")[0].split(","),
        request.values("x-envoy-external-address"),
    )
    assert claimed == "10.64.0.99"
    assert "10.64.0.99" not in (own, told)
