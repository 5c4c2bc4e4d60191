"""N16 (Envoy Gateway API GEP-3567, envoy#6767): a request for one server of a Gateway does not come in on a
connection that was made for another, where another certificate was shown or none was asked for. Browsers join
connections of HTTP/2 whose certificates cover both hosts; they are told 421 and open one of their own.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest

from tests.traffic.edge import Certificate, Edge, gateway, http_route, istio_gateway
from tests.traffic.shop import Object, versions, virtual_service
from tests.xds.render.backend import Backend
from tests.xds.render.conftest import Serve

#: What a client may call the guarded host, and what is said to it on a connection for guests.
NAMES = {
    "admin.example": 421,
    "ADMIN.Example": 421,
    "admin.example:443": 421,
    "admin.example:80": 421,
    "admin.example.": 404,
    ".admin.example": 200,  # a guest's, by the wildcard
    "xadmin.example": 200,
    "other.org": 404,
}


@pytest.fixture(scope="module")
def certificates(folder: Path) -> dict[str, Certificate]:
    return {name: Certificate(name, folder) for name in ("guest.example", "admin.example", "client.example")}


@pytest.fixture(scope="module")
def istio(serve: Serve, servers: dict[str, Backend], certificates: dict[str, Certificate]) -> Edge:
    return of_istio(serve, servers, certificates, "admin")


def of_istio(
    serve: Serve, servers: dict[str, Backend], certificates: dict[str, Certificate], shown: str
) -> Edge:
    """Guests are served under `*.example` by backend one; who administers shows a certificate, and is served
    by backend two. `shown` is the Secret that its server names."""

    def server(host: str, secret: str, mode: str) -> Object:
        port = {"number": 443, "name": f"https-{secret}", "protocol": "HTTPS"}
        return {"port": port, "hosts": [host], "tls": {"credentialName": secret, "mode": mode}}

    def web(name: str, host: str, version: str) -> Object:
        target = {"destination": {"host": "web", "subset": version, "port": {"number": 80}}}
        return virtual_service({"route": [target]}, name=name, hosts=[host], gateways=["edge/public"])

    guest, admin, client = certificates.values()
    return Edge(
        serve,
        servers,
        istio_gateway(server("*.example", "guest", "SIMPLE"), server("admin.example", shown, "MUTUAL")),
        guest.secret("guest"),
        admin.secret("admin", authority=client),
        versions(),
        web("guest", "*.example", "v1"),
        web("admin", "admin.example", "v2"),
        accept=["there is no Secret edge/lost"],
    )


@pytest.fixture(scope="module")
def gateway_api(serve: Serve, servers: dict[str, Backend], certificates: dict[str, Certificate]) -> Edge:
    """The same by the Gateway API, where guests' listener takes every host."""
    guest, admin, _ = certificates.values()

    def listener(name: str, **more: Any) -> Object:
        return {
            "name": name,
            "port": 443,
            "protocol": "HTTPS",
            "tls": {"certificateRefs": [{"name": name}]},
            "allowedRoutes": {"namespaces": {"from": "All"}},
            **more,
        }

    def route(name: str, backend: str, *hosts: str) -> Object:
        rule = {"backendRefs": [{"name": backend, "port": 80}]}
        return http_route(rule, name=name, hostnames=list(hosts))

    return Edge(
        serve,
        servers,
        gateway(listener("guest"), listener("admin", hostname="admin.example")),
        guest.secret("guest"),
        admin.secret("admin"),
        route("guests", "web", "*.example"),
        route("administration", "shadow", "admin.example"),
    )


@contextmanager
def tls(
    edge: Edge, name: str, trust: Certificate, client: Certificate | None, *alpn: str
) -> Iterator[ssl.SSLSocket]:
    context = ssl.create_default_context(cafile=str(trust.file))
    context.check_hostname = False
    context.set_alpn_protocols(list(alpn))
    if client:
        context.load_cert_chain(str(client.file), str(client.key))
    raw = socket.create_connection(("127.0.0.1", edge.proxy.ports["0.0.0.0_443"]), timeout=10)
    with context.wrap_socket(raw, server_hostname=name) as connection:
        yield connection


def plain(connection: ssl.SSLSocket, request: bytes) -> tuple[int, str]:
    """Status and backend, on a connection that is kept."""
    connection.sendall(request)
    heard = b""
    while b"\r\n\r\n" not in heard:
        more = connection.recv(65536)
        assert more, "closed without an answer"
        heard += more
    head, _, body = heard.partition(b"\r\n\r\n")
    fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:])
    while len(body) < int(fields[b"content-length"]):
        body += connection.recv(65536)
    return int(head.split()[1]), fields.get(b"x-backend", b"").decode()


def multiplexed(connection: ssl.SSLSocket, names: list[str]) -> list[tuple[int, str]]:
    """The same of streams of one connection, one after the other."""
    config = h2.config.H2Configuration(validate_outbound_headers=False, header_encoding="utf-8")
    line = h2.connection.H2Connection(config)
    line.initiate_connection()
    found = []
    for name in names:
        stream = line.get_next_available_stream_id()
        fields = [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", name)]
        line.send_headers(stream, fields, end_stream=True)
        connection.sendall(line.data_to_send())
        answer: dict[str, str] = {}
        ended = False
        while not ended:
            for event in line.receive_data(connection.recv(65536)):
                match event:
                    case h2.events.ResponseReceived():
                        answer = {str(key): str(value) for key, value in event.headers}
                    case h2.events.StreamEnded() | h2.events.StreamReset():
                        ended = event.stream_id == stream
            connection.sendall(line.data_to_send())
        found.append((int(answer[":status"]), answer.get("x-backend", "")))
    return found


def test_the_guarded_host_is_served_to_who_shows_a_certificate(
    istio: Edge, certificates: dict[str, Certificate]
) -> None:
    _, admin, client = certificates.values()
    request = b"GET / HTTP/1.1\r\nhost: admin.example\r\n\r\n"
    with tls(istio, "admin.example", admin, client, "http/1.1") as connection:
        assert plain(connection, request) == (200, "two")
        # Guests' hosts are not for this connection either, nor does the wildcard come back in by it.
        assert plain(connection, request.replace(b"admin", b"guest")) == (421, "")
    with tls(istio, "admin.example", admin, None, "http/1.1") as connection, pytest.raises(OSError):
        plain(connection, request)


@pytest.mark.parametrize("kind", ["istio", "gateway_api"])
def test_on_a_connection_for_guests_it_is_not(
    kind: str, certificates: dict[str, Certificate], request: pytest.FixtureRequest
) -> None:
    edge: Edge = request.getfixturevalue(kind)
    guest = certificates["guest.example"]
    with tls(edge, "guest.example", guest, None, "h2") as connection:
        assert connection.selected_alpn_protocol() == "h2"
        several = multiplexed(connection, ["guest.example", *NAMES, "guest.example"])
    single = []
    with tls(edge, "guest.example", guest, None, "http/1.1") as connection:
        for name in ("guest.example", *NAMES, "guest.example"):
            single.append(plain(connection, b"GET / HTTP/1.1\r\nhost: %s\r\n\r\n" % name.encode()))
        # What the request line names counts (RFC 9112, 3.2.2).
        whole = b"GET https://admin.example/ HTTP/1.1\r\nhost: guest.example\r\n\r\n"
        assert plain(connection, whole) == (421, "")
    for found in (several, single):
        assert [status for status, _ in found] == [200, *NAMES.values(), 200]
        assert {backend for _, backend in found} <= {"one", "two" if kind == "gateway_api" else "one", ""}


def test_nor_where_its_own_server_cannot_answer(
    serve: Serve, servers: dict[str, Backend], certificates: dict[str, Certificate]
) -> None:
    """Its Secret is lost: what asks for it by name meets the server of guests, and nothing behind it."""
    edge = of_istio(serve, servers, certificates, "lost")
    guest = certificates["guest.example"]
    for name in ("admin.example", "guest.example"):
        with tls(edge, name, guest, None, "http/1.1") as connection:
            assert plain(connection, b"GET / HTTP/1.1\r\nhost: admin.example\r\n\r\n") == (421, "")
            assert plain(connection, b"GET / HTTP/1.1\r\nhost: guest.example\r\n\r\n") == (200, "one")
