"""N27 (CVE-2023-44487, CVE-2024-27919, CVE-2026-47774): a client of HTTP/2 that says much with few bytes
costs Envoy bounded memory, and nobody else an answer: streams that are reset at once, header blocks without
an end, header tables that make much of little. At a gateway, to which strangers speak, waiting ends too.
"""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import hpack
import pytest
from hyperframe.frame import ContinuationFrame, Frame, HeadersFrame, RstStreamFrame, SettingsFrame

from tests.traffic.edge import Edge, gateway, http_route
from tests.traffic.shop import Object, Served, virtual_service
from tests.xds.render.backend import Backend
from tests.xds.render.client import ask
from tests.xds.render.conftest import Serve
from tests.xds.render.standalone import Proxy
from xds.render import readable, render

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SettingsFrame(0).serialize()
LISTENER: Object = {
    "name": "http",
    "port": 80,
    "protocol": "HTTP",
    "allowedRoutes": {"namespaces": {"from": "All"}},
}
ROUTE = {"backendRefs": [{"name": "web", "port": 80}]}
#: With how many connections it is attacked at once, and what an Envoy may grow by, in MiB. In the mesh larger
#: headers pass (rule 22) and clients are known: 1,024 streams of 256 KiB, which Envoy holds twice, and some.
_CLIENTS = {"edge": 6, "inside": 1}
_BOUND = {"edge": 100, "inside": 600}


@pytest.fixture(scope="module")
def edge(serve: Serve, servers: dict[str, Backend]) -> Edge:
    return Edge(serve, servers, gateway(LISTENER), http_route(ROUTE))


@pytest.fixture(scope="module")
def inside(serve: Serve, servers: dict[str, Backend]) -> Served:
    return Served(serve, servers, virtual_service({"route": [{"destination": {"host": "web"}}]}))


@pytest.fixture(params=["edge", "inside"])
def attacked(request: pytest.FixtureRequest) -> tuple[Proxy, int, int, int]:
    """The proxy, its port, what it may grow by, and when attacked by how many."""
    found: Served = request.getfixturevalue(request.param)
    port = found.proxy.ports["0.0.0.0_80"] if request.param == "edge" else found.port()
    return found.proxy, port, _BOUND[request.param], _CLIENTS[request.param]


def managers(resources: Any) -> Iterator[tuple[Object, Object]]:
    for listener in readable(resources)["listeners"]:
        for chain in listener["filter_chains"]:
            for found in chain.get("filters", ()):
                if "rds" in found["typed_config"]:
                    yield listener, found["typed_config"]


def test_every_listener_limits_what_one_client_may_hold(edge: Edge, inside: Served) -> None:
    views = (edge.view("edge/gate"), inside.view())
    for view in views:
        found = list(managers(render(view)))
        assert found
        for _, manager in found:
            http2 = manager["http2_protocol_options"]
            assert int(http2["max_concurrent_streams"]) <= 1024
            assert int(http2["initial_stream_window_size"]) <= 1 << 18
            assert int(http2["initial_connection_window_size"]) <= 1 << 20
            assert int(manager["max_request_headers_kb"]) <= 256
            assert int(manager["common_http_protocol_options"]["max_headers_count"]) <= 1000
    for listener, manager in managers(render(views[0])):
        assert manager["request_headers_timeout"] == "10s"
        assert manager["common_http_protocol_options"]["idle_timeout"] == "3600s"
        assert all(chain["transport_socket_connect_timeout"] == "15s" for chain in listener["filter_chains"])
        assert int(listener["per_connection_buffer_limit_bytes"]) <= 1 << 20


def test_at_a_gateway_half_a_request_is_not_waited_for(serve: Serve, servers: dict[str, Backend]) -> None:
    edge = Edge(serve, servers, gateway(LISTENER), http_route(ROUTE))
    port = edge.proxy.ports["0.0.0.0_80"]
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: web\r\nx-slow: ")
        heard = connection.recv(4096)
    assert heard.startswith(b"HTTP/1.1 408 ")


def fields(path: str, *more: tuple[str, str]) -> list[tuple[str, str]]:
    return [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "web"), *more]


def frame(kind: type[Frame], stream: int, data: bytes = b"", *flags: str) -> bytes:
    made: Any = kind(stream)
    if data:
        made.data = data
    made.flags |= set(flags)
    return bytes(made.serialize())


def flood(port: int, data: bytes, *, hold: float = 0.0) -> tuple[int, bytes]:
    """How many bytes were taken before the connection was closed, and what was heard."""
    taken, heard = 0, b""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        view = memoryview(PREFACE + data)
        with contextlib.suppress(ConnectionError, TimeoutError):
            while taken < len(view):
                taken += connection.send(view[taken : taken + (1 << 16)])
            time.sleep(hold)
            connection.settimeout(0.5)
            while more := connection.recv(1 << 16):
                heard += more
    return taken, heard


def frames(heard: bytes) -> Iterator[tuple[int, int]]:
    """Type and stream of each."""
    while len(heard) >= 9:
        size, kind = int.from_bytes(heard[:3], "big"), heard[3]
        yield kind, int.from_bytes(heard[5:9], "big")
        heard = heard[9 + size :]


def resident(pid: int) -> int:
    """MiB."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+) kB", text)[0]) >> 10


def test_streams_that_are_reset_at_once_end_the_connection(
    attacked: tuple[Proxy, int, int, int], servers: dict[str, Backend]
) -> None:
    proxy, port, bound, _ = attacked
    before, requests = resident(proxy.pid), sum(server.requests for server in servers.values())
    encoder = hpack.Encoder()
    data = b"".join(
        frame(HeadersFrame, stream, encoder.encode(fields("/")), "END_HEADERS", "END_STREAM")
        + frame(RstStreamFrame, stream, b"\x00\x00\x00\x08")
        for stream in range(1, 40001, 2)
    )
    flood(port, data)
    assert ask(port, "/", headers=[("host", "web")]).status == 200
    assert sum(server.requests for server in servers.values()) - requests < 5000
    closed = proxy.admin("/stats?filter=premature_resets|downstream_cx_active")
    assert re.search(r"downstream_rq_too_many_premature_resets: [1-9]", closed), closed
    assert resident(proxy.pid) - before < bound


def test_a_header_block_without_an_end_ends_the_connection(attacked: tuple[Proxy, int, int, int]) -> None:
    proxy, port, bound, _ = attacked
    before = resident(proxy.pid)
    piece = hpack.Encoder().encode([(f"x-{number}", "v" * 1000) for number in range(15)], huffman=False)
    data = frame(HeadersFrame, 1, hpack.Encoder().encode(fields("/")))
    # A megabyte: more than Envoy is to keep, and less than it could be told to.
    _, heard = flood(port, data + frame(ContinuationFrame, 1, piece) * 70)
    assert (RstStreamFrame.type, 1) in frames(heard), "the stream goes on"
    taken, _ = flood(port, data + frame(ContinuationFrame, 1, piece) * 4000)
    assert taken < len(data) + 4000 * len(piece), "all of it was taken"
    assert ask(port, "/", headers=[("host", "web")]).status == 200
    assert resident(proxy.pid) - before < bound


@pytest.mark.parametrize("name", ["x-bomb", "cookie"])
def test_a_header_table_does_not_make_much_of_little(
    name: str, attacked: tuple[Proxy, int, int, int]
) -> None:
    """Each of a thousand streams asks for as much as a header block may hold, in a few bytes each."""
    proxy, port, bound, clients = attacked
    before = resident(proxy.pid)
    encoder = hpack.Encoder()
    data = frame(HeadersFrame, 1, encoder.encode(fields("/slow", (name, "v" * 3500))), "END_HEADERS")
    again = encoder.encode([(name, "v" * 3500)]) * 60
    for stream in range(3, 2047, 2):
        data += frame(HeadersFrame, stream, encoder.encode(fields("/slow")) + again, "END_HEADERS")
    with ThreadPoolExecutor() as pool:
        floods = [pool.submit(flood, port, data, hold=3.0) for _ in range(clients)]
        time.sleep(3.0)
        grown = resident(proxy.pid) - before
        for found in floods:
            found.result()
    assert grown < bound
    deadline = time.monotonic() + 10
    while (status := ask(port, "/", headers=[("host", "web")]).status) != 200:
        assert (status, time.monotonic() < deadline) == (503, True)
        time.sleep(0.1)
