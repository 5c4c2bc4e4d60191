"""Rule 22: being steered changes nothing else. One suite of conversations, wherever a client may meet an
Envoy on its way to a service: at a port that a VirtualService routes, at one that says nothing of itself and
is looked into (rule 21), and at a gateway.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import grpc
import pytest

from tests.traffic.edge import Edge, gateway, http_route
from tests.traffic.shop import Served, object_of, virtual_service
from tests.xds.render.backend import Backend
from tests.xds.render.client import say
from tests.xds.render.conftest import Serve
from tests.xds.render.echo import Echo
from tests.xds.render.grpc_echo import GrpcEcho

LISTENER = {
    "name": "http",
    "port": 80,
    "protocol": "HTTP",
    "allowedRoutes": {"namespaces": {"from": "All"}},
}
ROUTE = {"route": [{"destination": {"host": "web"}}]}
#: What the client asks for.
HOST = b"host: web\r\n"
PLACES = ("routed", "sniffed", "gateway")

#: Starts an Envoy at one place in front of one server. Returns where clients dial.
Place = Callable[[Backend | GrpcEcho], int]


@pytest.fixture(scope="module", params=PLACES)
def place(request: pytest.FixtureRequest, serve: Serve) -> Place:
    def start(server: Backend | GrpcEcho) -> int:
        everyone = dict.fromkeys(("one", "two", "three"), server)
        if request.param == "gateway":
            route = http_route(
                {"backendRefs": [{"name": "calls" if isinstance(server, GrpcEcho) else "web", "port": 80}]}
            )
            edge = Edge(serve, everyone, gateway(LISTENER), route, CALLS)  # type: ignore[arg-type]
            return edge.proxy.ports["0.0.0.0_80"]
        shop = Served(serve, everyone, virtual_service(ROUTE))  # type: ignore[arg-type]
        return shop.port(port=70 if request.param == "sniffed" else 80)

    return start


#: The same pods, at a port that is declared as gRPC: to a gateway that is what counts.
CALLS = object_of(
    "v1",
    "Service",
    "calls",
    "shop",
    {
        "clusterIP": "10.128.0.20",
        "selector": {"app": "web"},
        "ports": [{"name": "grpc", "port": 80, "targetPort": 8080}],
    },
)


@pytest.fixture(scope="module")
def port(place: Place, servers: dict[str, Backend]) -> int:
    return place(servers["one"])


def test_a_websocket_passes(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(
            b"GET /upgrade HTTP/1.1\r\n" + HOST + b"connection: upgrade\r\nupgrade: websocket\r\n\r\n"
        )
        heard = b""
        while b"\r\n\r\n" not in heard:
            heard += connection.recv(4096)
        assert heard.startswith(b"HTTP/1.1 101 ")
        connection.sendall(b"any bytes")
        assert connection.recv(4096) == b"any bytes"


def test_an_older_client_is_understood(port: int) -> None:
    assert say(port, b"GET /old HTTP/1.0\r\n" + HOST + b"\r\n").startswith(b"HTTP/1.0 200 ")


def test_trailers_pass(port: int) -> None:
    request = b"GET /trailers HTTP/1.1\r\n" + HOST + b"te: trailers\r\nconnection: close\r\n\r\n"
    assert say(port, request).endswith(b"\r\n0\r\nx-checksum: 42\r\n\r\n")


def test_an_answer_may_take_its_time(place: Place) -> None:
    server = Backend("one")
    with socket.create_connection(("127.0.0.1", place(server)), timeout=30) as connection:
        connection.sendall(b"GET /slow HTTP/1.1\r\n" + HOST + b"\r\n")
        connection.settimeout(16)  # one second more than Envoy would wait for a route by itself
        with pytest.raises(TimeoutError):
            connection.recv(1)
        server.release()
        connection.settimeout(10)
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
    server.stop()


@pytest.fixture(scope="module")
def calls() -> Iterator[GrpcEcho]:
    server = GrpcEcho()
    yield server
    server.stop()


def test_a_stream_of_grpc_goes_both_ways_at_once(place: Place, calls: GrpcEcho) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{place(calls)}") as channel:
        told = threading.Semaphore(1)

        def words() -> Iterator[bytes]:
            for word in (b"one", b"two", b"three"):
                assert told.acquire(timeout=10)
                yield word

        heard = []
        for word in channel.stream_stream("/echo.Echo/Talk")(words(), timeout=20):
            heard.append(word)
            if len(heard) % 2 == 0:
                told.release()  # only now is the next one said
    assert heard == [b"one", b"one", b"two", b"two", b"three", b"three"]


# --- what is not HTTP, at a port that says nothing ----------------------------------------------------


@pytest.mark.parametrize("greeting", [b"220 ready\r\n", b""], ids=["server first", "client first"])
@pytest.mark.parametrize("said", [b"SSH-2.0-x\r\n", b"\x16\x03\x01\x02\x00\x01", b"\x00\x01\x02\r\n\r\n"])
def test_bytes_pass_a_port_that_says_nothing(serve: Serve, greeting: bytes, said: bytes) -> None:
    """What is no HTTP goes on; where the server speaks first it is heard soon; who has said all still hears
    the rest. The listener is whole, but for where it listens."""
    server = Echo(greeting, b"bye")
    everyone = dict.fromkeys(("one", "two", "three"), server)
    shop = Served(serve, everyone, virtual_service(ROUTE))  # type: ignore[arg-type]
    began, heard = time.monotonic(), b""
    with socket.create_connection(("127.0.0.1", shop.port(port=70)), timeout=10) as connection:
        while len(heard) < len(greeting):
            heard += connection.recv(4096)
        connection.sendall(said)
        while len(heard) < len(greeting + said):
            heard += connection.recv(4096)
        assert time.monotonic() - began < 3
        connection.shutdown(socket.SHUT_WR)
        while more := connection.recv(4096):
            heard += more
    assert heard == greeting + said + b"bye"
    server.stop()
