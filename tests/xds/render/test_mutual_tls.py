"""Mutual TLS between two real Envoys, and with clients that have no certificate of the mesh, or another's."""

from __future__ import annotations

import socket
import ssl
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mesh.model import Backend as Place
from mesh.model import ConnectionMatch, ConnectionRule, MutualTlsPort, ServerTls
from mesh.proxy import ConnectionEntry, GatewayPort, GatewayServer, L7Class, ProxyView, VirtualHost
from tests.xds.render.backend import Backend
from tests.xds.render.client import ask
from tests.xds.render.conftest import Serve
from tests.xds.render.standalone import Proxy
from tests.xds.render.views import ROUTE, destination, entry, part, prefix, routed, to, view
from xds.authority import Authority
from xds.certificates import Certificates
from xds.render import Rendered

WEB, API = (f"spiffe://cluster.local/ns/shop/sa/{account}" for account in ("web", "api"))
STRICT = MutualTlsPort("STRICT", ("cluster.local",))
PERMISSIVE = MutualTlsPort("PERMISSIVE", ("cluster.local",), ("web.example",))
SERVER_NAME = "outbound_.80_._.one.shop.svc.cluster.local"
CLASSES = (
    L7Class(300, "ingress", plain=(), mutual=STRICT),
    L7Class(301, "ingress", plain=(), mutual=PERMISSIVE),
    L7Class(302, "ingress", http=False, plain=(), mutual=STRICT),
    L7Class(303, "ingress", rules=None, plain=None, mutual=STRICT),
)
GET = b"GET /a HTTP/1.1\r\nhost: one\r\nconnection: close\r\n\r\n"


class Mesh:
    """An authority, and what it gives to whom."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sluice-"))
        self.authority = Authority(self.folder / "authority")
        self._certificates = Certificates(self.authority)

    def secrets(self, identity: str) -> Rendered:
        found = self._certificates.resources(identity)
        assert found
        return found

    def client(self, identity: str = "", *protocols: str) -> ssl.SSLContext:
        """Of somebody who believes everybody."""
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
        if protocols:
            made.set_alpn_protocols(list(protocols))
        if identity:
            svid = self.authority.issue(identity, timedelta(hours=1), datetime.now(UTC))
            path = self.folder / "client.pem"
            path.write_bytes(svid.certificate_chain + bytes(svid.key))
            made.load_cert_chain(path)
        return made


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    return Mesh()


@pytest.fixture(scope="module")
def taking(mesh: Mesh, serve: Serve, servers: dict[str, Backend]) -> Proxy:
    """The Envoy of `web`, in front of server `one`."""
    return serve(view(ingress=CLASSES), ("127.0.0.1", servers["one"].port), secrets=mesh.secrets(WEB))


def heard(port: int, context: ssl.SSLContext | None, name: str = SERVER_NAME, data: bytes = GET) -> bytes:
    """What comes back; b"" if nothing does."""
    found = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        try:
            made = context.wrap_socket(plain, server_hostname=name) if context else plain
            made.sendall(data)
            while more := made.recv(65536):
                found += more
        except (ssl.SSLError, ConnectionError):
            pass
    return found


def sending(proxy: Proxy, number: int, **fields: object) -> ProxyView:
    """What a caller does to reach a class of `web`."""
    at = proxy.ports[f"virtualInbound|{number}"]
    found = replace(destination("one", part(at)), **fields)
    return view(routed=(routed("one", entry(prefix("/"), to("one"))),), destinations=(found,), identity=API)


def mutual(proxy: Proxy, number: int) -> tuple[Place, ...]:
    return (Place("127.0.0.1", proxy.ports[f"virtualInbound|{number}"]),)


def port_of(caller: Proxy) -> int:
    return caller.ports["one.shop.svc.cluster.local:80"]


@pytest.mark.parametrize("number", [300, 301, 302, 303])
def test_an_envoy_begins_what_the_other_ends(number: int, mesh: Mesh, taking: Proxy, serve: Serve) -> None:
    known: tuple[dict[str, object], ...] = (
        {"mutual": mutual(taking, number), "names": (WEB,)},
        {"mutual": mutual(taking, number), "names": (WEB, API)},
        {"mutual": mutual(taking, number)},
    )
    for fields in known:
        caller = serve(sending(taking, number, **fields), secrets=mesh.secrets(API))
        answer = ask(port_of(caller), "/a", headers=[("x-forwarded-client-cert", "URI=spiffe://forged")])
        assert answer.status == 200
        told = answer.sent("x-forwarded-client-cert")
        if number == 302:  # nobody looks at requests
            assert told == []
        else:
            assert len(told) == 1 and f"URI={API}" in told[0] and "forged" not in told[0]


def test_who_is_not_who_is_meant_is_sent_nothing(
    mesh: Mesh, taking: Proxy, serve: Serve, servers: dict[str, Backend]
) -> None:
    before = servers["one"].requests
    caller = serve(sending(taking, 300, mutual=mutual(taking, 300), names=(API,)), secrets=mesh.secrets(API))
    assert ask(port_of(caller), "/a").status == 503
    other = Mesh()
    caller = serve(sending(taking, 300, mutual=mutual(taking, 300)), secrets=other.secrets(API))
    assert ask(port_of(caller), "/a").status == 503
    assert servers["one"].requests == before


@pytest.mark.parametrize("number", [300, 302, 303])
@pytest.mark.parametrize("protocols", [(), ("http/1.1",), ("h2",), ("istio",)])
def test_who_shows_no_certificate_of_the_mesh_hears_nothing(
    number: int, protocols: tuple[str, ...], mesh: Mesh, taking: Proxy, servers: dict[str, Backend]
) -> None:
    before = servers["one"].requests
    port = taking.ports[f"virtualInbound|{number}"]
    for name in (SERVER_NAME, "one"):
        assert heard(port, mesh.client("", *protocols), name) == b""
        assert heard(port, Mesh().client(API, *protocols), name) == b""
        assert heard(port, mesh.client("spiffe://elsewhere.example/ns/shop/sa/api", *protocols), name) == b""
    for data in (GET, b"\x16\x03\x01\x00\x05hello", b"\r\n" + GET):
        assert heard(port, None, data=data) == b""
    assert servers["one"].requests == before


def test_where_both_are_taken_each_is_what_it_is(mesh: Mesh, taking: Proxy) -> None:
    port = taking.ports["virtualInbound|301"]
    assert heard(port, None).startswith(b"HTTP/1.1 200")
    assert f"URI={API}".encode() in heard(port, mesh.client(API, "http/1.1"))
    # Not HTTP by what the hello says, so nobody looks into it.
    assert b"x-forwarded-client-cert" not in heard(port, mesh.client(API))
    assert f"URI={API}".encode() in heard(port, mesh.client(API, "http/1.1"), "web.example")
    assert b"URI=" not in heard(port, mesh.client(API, "http/1.1"), "web-example")
    # Whoever says that it is of the mesh must show it.
    assert heard(port, mesh.client("", "http/1.1")) == b""


def test_where_nothing_else_is_taken_it_may_ask_for_any_name(mesh: Mesh, taking: Proxy) -> None:
    """A DestinationRule may say which."""
    for name in (SERVER_NAME, "one"):
        found = heard(taking.ports["virtualInbound|300"], mesh.client(API, "http/1.1"), name)
        assert found.startswith(b"HTTP/1.1 200")


def test_a_gateway_ends_it_for_who_is_of_the_mesh(
    mesh: Mesh, serve: Serve, servers: dict[str, Backend]
) -> None:
    server = GatewayServer(
        name="https.443.mesh.public.edge",
        origins=(),
        server_names=("one",),
        tls=ServerTls("ISTIO_MUTUAL", names=("cluster.local",)),
        hosts=(VirtualHost("one", (entry(prefix("/"), to("one")),)),),
    )
    found = destination("one", part(servers["one"].port))
    # A port that the system chooses.
    made = view(gateway=(GatewayPort(0, "127.0.0.1", (server,)),), destinations=(found,), identity=WEB)
    port = serve(made, secrets=mesh.secrets(WEB)).ports["127.0.0.1_0"]
    assert heard(port, mesh.client(API, "http/1.1"), "one").startswith(b"HTTP/1.1 200")
    assert heard(port, mesh.client("", "http/1.1"), "one") == b""
    assert heard(port, Mesh().client(API, "http/1.1"), "one") == b""


def test_a_backend_gets_no_connection_of_who_shows_no_certificate(
    mesh: Mesh, taking: Proxy, serve: Serve
) -> None:
    """Neither behind a Gateway's port nor behind a pod's."""
    with socket.create_server(("127.0.0.1", 0)) as backend:
        backend.settimeout(0.3)
        at = backend.getsockname()
        rule = ConnectionRule("tcp[0]", "tcp", (), (to("one"),))
        server = GatewayServer(
            name="tls.443.mesh.public.edge",
            origins=(),
            tls=ServerTls("ISTIO_MUTUAL", names=("cluster.local",)),
            connections=(ConnectionEntry(ROUTE, ConnectionMatch(), rule),),
            http=False,
        )
        found = destination("one", part(at[1]))
        port = GatewayPort(0, "127.0.0.1", (server,))
        made = view(gateway=(port,), destinations=(found,), ingress=CLASSES, identity=WEB)
        ports = serve(made, at, secrets=mesh.secrets(WEB)).ports
        for name in ("127.0.0.1_0", "virtualInbound|302"):
            assert heard(ports[name], mesh.client()) == b""
            with pytest.raises(TimeoutError):
                backend.accept()
            with mesh.client(API).wrap_socket(socket.create_connection(("127.0.0.1", ports[name]))) as good:
                good.sendall(b"x")
                with backend.accept()[0] as accepted:
                    assert accepted.recv(1) == b"x"


def test_what_is_no_http_does_not_pass_where_only_http_may(mesh: Mesh, taking: Proxy) -> None:
    """Rule 21: whatever the hello says, it is HTTP or nothing."""
    port = taking.ports["virtualInbound|303"]
    assert heard(port, mesh.client(API)).startswith(b"HTTP/1.1 200")
    assert heard(port, mesh.client(API), data=b"\x00\x01\r\n\r\n")[9:12] in (b"", b"400")
    assert heard(port, mesh.client(API, "http/1.1"), data=b"\x00\x01\r\n\r\n")[9:12] in (b"", b"400")
    assert heard(port, mesh.client(API, "http/1.1")).startswith(b"HTTP/1.1 200")
