"""Connections that may be something else than HTTP: TLS by its server name, bytes by what is known of the
connection, and every attempt to pass for the other (rule 21), at a real Envoy."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from mesh.model import AuthorizationProvider, HttpMatch, NamePattern, ServiceName, Term
from mesh.model import Backend as Address
from mesh.proxy import AuthorizationPart, Destination, L7Class, Part, ServerNameRule, Target
from tests.xds.render.backend import Backend
from tests.xds.render.client import ask, say
from tests.xds.render.conftest import Serve
from tests.xds.render.consent import GrpcConsent
from tests.xds.render.echo import Echo
from tests.xds.render.standalone import Proxy
from tests.xds.render.views import POLICY, authorized, l7, part_of, term, view, when

GET = b"GET /any HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
NOBODY = part_of("allow", when(term("path", "/nothing")))


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    server = Echo(b"")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def greeter() -> Iterator[Echo]:
    server = Echo(b"220 ready\r\n")
    yield server
    server.stop()


def hello(name: str | None, *protocols: str) -> bytes:
    """A real ClientHello."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def heard(port: int, *data: bytes, pause: float = 0.0, expect: int = 1) -> bytes:
    """What comes back, at least `expect` bytes if the connection is not closed before."""
    found = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        try:
            for index, piece in enumerate(data):
                time.sleep(pause if index else 0)
                connection.sendall(piece)
            while len(found) < expect and (more := connection.recv(65536)):
                found += more
        except ConnectionResetError:
            pass
    return found


# --- server names -----------------------------------------------------------------------------------------

#: Pattern, names that it means, and names that it does not.
NAMES = [
    ("api.shop", ["api.shop", "API.Shop"], ["xapi.shop", "apixshop", "api.shop.evil", "shop"]),
    ("*.shop", ["api.shop", "a-b_c.shop"], ["a.b.shop", "shop", "api.shop.x"]),
    ("a*.shop", ["a.shop", "api.shop"], ["ba.shop", "a.b.shop"]),
    ("**.shop", ["api.shop", "a.b.c.shop"], ["shop", "xshop", "a.shop.x"]),
    ("*", ["a", "a.b.c"], []),
]


def named(number: int, *patterns: str, **fields: object) -> L7Class:
    rule = ServerNameRule(POLICY, "ingress[0].toPorts[0]", tuple(map(NamePattern, patterns)))
    return replace(L7Class(number, "ingress", server_names=(rule,), http=False), **fields)


@pytest.mark.parametrize("index", range(len(NAMES)), ids=lambda i: NAMES[i][0])
def test_a_hello_passes_if_it_asks_for_a_name_of_a_pattern(index: int, naming: Proxy) -> None:
    _, allowed, denied = NAMES[index]
    port = naming.ports[f"virtualInbound|{300 + index}"]
    for name in allowed:
        sent = hello(name)
        assert heard(port, sent, expect=len(sent)) == sent, name
    for name in (*denied, None):
        assert heard(port, hello(name)) == b"", name


@pytest.fixture(scope="module")
def naming(serve: Serve, echo: Echo) -> Proxy:
    classes = [named(300 + index, pattern) for index, (pattern, _, _) in enumerate(NAMES)]
    both = named(400, "api.shop", rules=l7(1, "ingress", HttpMatch(path="/a")).rules, http=True)
    nothing = replace(named(401), server_names=())
    return serve(view(ingress=(*classes, both, nothing)), ("127.0.0.1", echo.port))


@pytest.mark.parametrize("number", [300, 401])
def test_what_is_no_tls_does_not_pass_for_it(number: int, naming: Proxy, echo: Echo) -> None:
    before = echo.accepted
    port = naming.ports[f"virtualInbound|{number}"]
    for data in (GET, b"\x00" * 16, b"\r\n" + GET, b"\x16\x03\x01\x00\x05hello"):
        assert heard(port, data) == b""
    if number == 401:
        assert heard(port, hello("api.shop")) == b""
    assert echo.accepted == before


def test_a_slow_hello_is_waited_for_and_still_judged(naming: Proxy) -> None:
    port = naming.ports["virtualInbound|300"]
    sent, other = hello("api.shop"), hello("other")
    assert heard(port, sent[:1], sent[1:20], sent[20:], pause=0.7, expect=len(sent)) == sent
    assert heard(port, other[:1], other[1:], pause=1.2) == b""


def test_beside_names_http_is_judged_by_its_own_rules(naming: Proxy) -> None:
    port = naming.ports["virtualInbound|400"]
    sent = hello("api.shop", "http/1.1", "h2")
    assert heard(port, sent, expect=len(sent)) == sent
    assert heard(port, hello("other", "http/1.1", "h2")) == b""
    assert say(port, GET).startswith(b"HTTP/1.1 403 ")
    assert heard(port, b"\r\n", GET, pause=1.2)[9:12] in (b"400", b"403")
    assert heard(port, b"G", GET[1:], pause=1.2).startswith(b"HTTP/1.1 403 ")


# --- anything else ----------------------------------------------------------------------------------------


def test_bytes_need_the_consent_of_plain_and_requests_that_of_authorization(
    serve: Serve, servers: dict[str, Backend]
) -> None:
    shown = view(ingress=(authorized(300, NOBODY, plain=()), authorized(301, plain=(part_of("allow"),))))
    proxy = serve(shown, ("127.0.0.1", servers["one"].port))
    first, second = (proxy.ports[f"virtualInbound|{number}"] for number in (300, 301))
    assert ask(first, "/").status == 403
    assert b"Bad request" in heard(first, b"\x00\x01\r\n\r\n", expect=100)  # says the backend
    assert ask(second, "/").status == 200
    assert heard(second, b"\x00\x01\r\n\r\n") == b""


@pytest.mark.parametrize(
    "data",
    [
        (b"", GET),
        (b"G", GET[1:]),
        (b"GET /any", GET[8:]),
        (b"\r\n", GET),
        (b"\r\n" + GET,),
        (b"\n" + GET,),
        (b"PRI * HT", b"TP/2.0\r\n\r\nSM\r\n\r\n"),
        (b"get /any HTTP/1.1\r\nhost: a\r\n\r\n",),
        (b"GET /any HTTP/0.9\r\nhost: a\r\n\r\n",),
        (b"GET /any\r\n",),
    ],
)
def test_hiding_that_it_is_http_gains_nothing(
    data: tuple[bytes, ...], closed: Proxy, servers: dict[str, Backend]
) -> None:
    """What the HTTP rules deny and `plain` denies reaches nobody, whatever it is taken for."""
    before = servers["one"].requests
    found = heard(closed.ports["virtualInbound|300"], *data, pause=1.3)
    assert found == b"" or found[9:12] in (b"400", b"403")
    assert servers["one"].requests == before


@pytest.fixture(scope="module")
def closed(serve: Serve, servers: dict[str, Backend]) -> Proxy:
    return serve(
        view(ingress=(authorized(300, NOBODY, plain=(part_of("allow"),)),)),
        ("127.0.0.1", servers["one"].port),
    )


def allow(*terms: Term) -> AuthorizationPart:
    return part_of("allow", when(*terms))


def deny(*terms: Term) -> AuthorizationPart:
    return part_of("deny", when(*terms))


#: What is asked of a connection, and whether one without TLS passes, one that asks for api.shop, and one that
#: asks for another name.
PLAIN: dict[str, tuple[tuple[AuthorizationPart, ...], bool, bool, bool]] = {
    "nothing": ((), True, True, True),
    "name": ((allow(term("sni", "api.shop")),), False, True, False),
    "other name": ((deny(term("sni", "api.*")),), True, False, True),
    "any name": ((allow(term("sni", "*")),), False, True, True),
    "no name": ((allow(term("sni", "*", negated=True)),), True, False, False),
    "name, suffix": ((deny(term("sni", "*.shop", "x")),), True, False, True),
    "address": ((allow(term("destination_ip", "127.0.0.0/8!127.0.0.2/32")),), True, True, True),
    "no address": ((allow(term("destination_ip", "10.0.0.0/8!10.1.0.0/16")),), False, False, False),
    "exception": ((deny(term("destination_ip", "0.0.0.0/0!127.0.0.1/32")),), True, True, True),
    "peer": ((allow(term("remote_ip", "127.0.0.1/32")),), True, True, True),
    "no peer": ((deny(term("remote_ip", "::1/128", "127.0.0.1/32")),), False, False, False),
    "peer and name": (
        (allow(term("remote_ip", "127.0.0.1/32"), term("sni", "api.shop")),),
        False,
        True,
        False,
    ),
    "both": ((allow(term("remote_ip", "127.0.0.0/8")), deny(term("sni", "api.shop"))), True, False, True),
    "only tried": ((part_of("deny", when(), audit=True), part_of("allow", audit=True)), True, True, True),
    "nobody to ask": ((part_of("custom", when(term("sni", "api.shop"))),), True, False, True),
}


@pytest.mark.parametrize("number", [300, 400], ids=["bytes only", "or HTTP"])
@pytest.mark.parametrize("name", PLAIN)
def test_connections_are_judged_by_what_is_known_of_them(name: str, number: int, plain: Proxy) -> None:
    _, *expected = PLAIN[name]
    port = plain.ports[f"virtualInbound|{number + list(PLAIN).index(name)}"]
    sent = [b"\x00bytes", hello("api.shop", "http/1.1"), hello("x.other", "h2c")]
    assert [heard(port, data, expect=len(data)) == data for data in sent] == expected


@pytest.fixture(scope="module")
def plain(serve: Serve, echo: Echo) -> Proxy:
    classes = [
        authorized(number + index, plain=parts, http=number == 400)
        for index, (parts, *_) in enumerate(PLAIN.values())
        for number in (300, 400)
    ]
    return serve(view(ingress=tuple(classes)), ("127.0.0.1", echo.port))


def test_a_server_that_speaks_first_is_heard_soon_and_only_by_whom_it_may_be(
    serve: Serve, greeter: Echo
) -> None:
    classes = (
        authorized(300, NOBODY, plain=()),
        authorized(301, NOBODY, plain=(part_of("allow", when(term("remote_ip", "10.0.0.0/8"))),)),
    )
    proxy = serve(view(ingress=classes), ("127.0.0.1", greeter.port))
    began = time.monotonic()
    assert heard(proxy.ports["virtualInbound|300"]) == b"220 ready\r\n"
    assert time.monotonic() - began < 3
    before = greeter.accepted
    assert heard(proxy.ports["virtualInbound|301"]) == b""
    assert greeter.accepted == before


def test_a_service_consents_to_connections_that_a_rule_fits(serve: Serve, greeter: Echo) -> None:
    consent = GrpcConsent()
    provider = AuthorizationProvider("ask", "grpc", "authz.shop.svc.cluster.local", 9000, timeout_ms=5000)
    asking = part_of("custom", when(term("sni", "api.shop")), provider=provider)
    lost = replace(provider, service="unheard.of.svc.cluster.local")
    by_http = replace(provider, kind="http")
    target = Target(ServiceName("shop", "authz"), 9000)
    service = Destination(target, (Part(0, (Address("127.0.0.1", consent.port),)),))
    classes = (
        authorized(300, plain=(asking,), http=False),
        authorized(301, plain=(replace(asking, provider=lost),), http=False),
        authorized(302, plain=(replace(asking, provider=by_http),), http=False),
        authorized(
            303,
            plain=(asking, replace(asking, provider=lost)),
            http=False,
        ),
    )
    try:
        proxy = serve(view(ingress=classes, destinations=(service,)), ("127.0.0.1", greeter.port))
        sent = hello("api.shop")
        found = [
            heard(proxy.ports[f"virtualInbound|{n}"], sent, expect=11 + len(sent)) for n in range(300, 304)
        ]
        assert found == [b"220 ready\r\n" + sent, b"", b"", b""]
        assert len(consent.asked) in (1, 2)
        assert heard(proxy.ports["virtualInbound|301"]) == b"220 ready\r\n"
    finally:
        consent.stop()
