"""Being steered changes nothing else (rule 22): what passes through a class listener as it would without."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import grpc
import pytest

from mesh.model import HttpMatch
from tests.xds.render.backend import Backend
from tests.xds.render.client import ask, say
from tests.xds.render.conftest import Serve
from tests.xds.render.grpc_echo import GrpcEcho
from tests.xds.render.standalone import Proxy
from tests.xds.render.views import destination, entry, l7, part, prefix, routed, to, view

CLASS = "virtualInbound|300"
DENYING = "virtualInbound|301"
ROUTED = "api.shop.svc.cluster.local:80"


@pytest.fixture(scope="module")
def proxy(serve: Serve, servers: dict[str, Backend]) -> Proxy:
    return serve(
        view(
            routed=(routed("api", entry(prefix("/"), to("api"))),),
            destinations=(destination("api", part(servers["one"].port)),),
            ingress=(l7(300, "ingress", HttpMatch()), l7(301, "ingress", HttpMatch(path="/nothing"))),
        ),
        passthrough=("127.0.0.1", servers["one"].port),
    )


@pytest.mark.parametrize("listener", [CLASS, ROUTED])
def test_no_header_is_added_but_one_and_none_is_believed(listener: str, proxy: Proxy) -> None:
    honest = ask(proxy.ports[listener], "/", headers=[("host", "api"), ("accept", "*/*")])
    assert honest.read["headers"] == [["host", "api"], ["accept", "*/*"], ["x-forwarded-proto", "http"]]
    assert honest.headers["server"] == "Backend/1"
    assert not [header for header in honest.headers if header.startswith("x-envoy")]

    kept = [("x-forwarded-for", "10.0.0.1"), ("x-forwarded-proto", "https"), ("x-request-id", "abc")]
    forged = [
        ("x-envoy-original-path", "/admin"),
        ("x-envoy-decorator-operation", "x"),
        ("x-envoy-expected-rq-timeout-ms", "1"),
        ("x-envoy-upstream-rq-timeout-ms", "1"),
        ("x-envoy-max-retries", "9"),
        ("x-envoy-retry-on", "5xx"),
        ("x-envoy-internal", "true"),
        ("x-forwarded-client-cert", "By=spiffe://cluster.local/ns/shop/sa/admin"),
    ]
    answer = ask(proxy.ports[listener], "/", headers=[("host", "api"), *kept, *forged])
    assert answer.read["headers"] == [["host", "api"], *map(list, kept)]


def test_an_older_client_is_understood_even_without_a_host(proxy: Proxy) -> None:
    heard = say(proxy.ports[CLASS], b"GET /old HTTP/1.0\r\n\r\n")
    assert heard.startswith(b"HTTP/1.0 200 OK\r\n")
    assert b'["host", "http10.invalid"]' in heard
    heard = say(proxy.ports[ROUTED], b"GET /old HTTP/1.0\r\n\r\n")
    assert b'["host", "api.shop.svc.cluster.local"]' in heard


@pytest.mark.parametrize("listener", [CLASS, ROUTED])
def test_websockets_pass_and_are_judged_like_any_request(listener: str, proxy: Proxy) -> None:
    request = b"GET /upgrade HTTP/1.1\r\nhost: api\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    with socket.create_connection(("127.0.0.1", proxy.ports[listener]), timeout=10) as connection:
        connection.sendall(request)
        heard = b""
        while b"\r\n\r\n" not in heard:
            heard += connection.recv(4096)
        assert heard.startswith(b"HTTP/1.1 101 ")
        connection.sendall(b"any bytes")
        assert connection.recv(4096) == b"any bytes"
    denied = say(proxy.ports[DENYING], request.replace(b"upgrade\r\nupgrade", b"upgrade, close\r\nupgrade"))
    assert denied.startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize("listener", [CLASS, ROUTED])
def test_trailers_pass(listener: str, proxy: Proxy) -> None:
    request = b"GET /trailers HTTP/1.1\r\nhost: api\r\nte: trailers\r\nconnection: close\r\n\r\n"
    heard = say(proxy.ports[listener], request)
    assert heard.startswith(b"HTTP/1.1 200 ")
    assert heard.endswith(b"\r\n0\r\nx-checksum: 42\r\n\r\n")


@pytest.mark.parametrize("listener", [CLASS, DENYING, ROUTED])
@pytest.mark.parametrize(
    "data",
    [b"SSH-2.0-OpenSSH_9.2\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x00\x01\x02\r\n\r\n"],
    ids=["ssh", "tls", "binary"],
)
def test_what_is_no_http_gets_400_and_reaches_nobody(
    data: bytes, listener: str, proxy: Proxy, servers: dict[str, Backend]
) -> None:
    before = servers["one"].requests
    assert say(proxy.ports[listener], data).startswith(b"HTTP/1.1 400 ")
    assert servers["one"].requests == before


@pytest.mark.parametrize("opening", [b"\r\n", b"\n", b"\r\n\r\n"])
def test_a_leading_line_break_is_no_way_round_a_rule(opening: bytes, proxy: Proxy) -> None:
    heard = say(proxy.ports[DENYING], opening + b"GET / HTTP/1.1\r\nhost: api\r\nconnection: close\r\n\r\n")
    assert heard[9:12] in (b"400", b"403")


def test_many_headers_and_large_ones_pass(proxy: Proxy) -> None:
    many = [(f"x-{index}", "v") for index in range(90)]  # the client library takes 100 at most
    large = [("x-large", "v" * 60000)]
    answer = ask(proxy.ports[CLASS], "/", headers=[("host", "api"), *many, *large])
    assert answer.status == 200
    assert len(answer.read["headers"]) == 93


@pytest.fixture(scope="module")
def echo() -> Iterator[int]:
    server = GrpcEcho()
    yield server.port
    server.stop()


def test_http2_passes_and_stays_http2(serve: Serve, echo: int) -> None:
    proxy = serve(
        view(
            routed=(routed("api", entry(prefix("/echo.Echo"), to("api"))),),
            destinations=(destination("api", part(echo)),),
            ingress=(
                l7(300, "ingress", HttpMatch(method="POST", path="/echo.Echo/Say")),
                l7(301, "ingress", HttpMatch(path="/nothing")),
            ),
        ),
        passthrough=("127.0.0.1", echo),
    )

    def talk(listener: str) -> bytes:
        with grpc.insecure_channel(f"127.0.0.1:{proxy.ports[listener]}") as channel:
            answer: bytes = channel.unary_unary("/echo.Echo/Say")(b"hello", timeout=10)
            return answer

    assert [talk(CLASS), talk(ROUTED)] == [b"hello", b"hello"]
    with pytest.raises(grpc.RpcError) as refused:
        talk(DENYING)
    assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
