"""N12 (CVE-2025-64763, CVE-2026-48743): nothing reaches an application as a request that was not judged as
one, however a client hides it: behind CONNECT, in what it sends before an upgrade was agreed to, or by
lengths that two servers read differently.
"""

from __future__ import annotations

import socket
import time

import pytest

from tests.threats.http.application import Application
from tests.threats.http.served import Served, policy, to
from tests.threats.http.speaking import ask, ask2, ask2_each, exchange, fields, get, statuses
from tests.xds.render.conftest import Serve

#: What no client may ask for.
HIDDEN = b"GET /admin HTTP/1.1\r\nhost: api\r\nconnection: close\r\n\r\n"
UPGRADE = b"connection: upgrade\r\nupgrade: %s\r\n"
CHUNKED = b"0\r\n\r\n"

#: Openings (request line and headers, then what follows the empty line) before HIDDEN.
OPENINGS = {
    "connect": (b"CONNECT api:80 HTTP/1.1\r\nhost: api:80\r\n", b""),
    "connect to a path": (b"CONNECT /public HTTP/1.1\r\nhost: api\r\n", b""),
    "connect with a length": (b"CONNECT api:80 HTTP/1.1\r\nhost: api:80\r\ncontent-length: 0\r\n", b""),
    "websocket": (b"GET /public HTTP/1.1\r\nhost: api\r\n" + UPGRADE % b"websocket", b""),
    "websocket by POST": (b"POST /public HTTP/1.1\r\nhost: api\r\n" + UPGRADE % b"WebSocket", b""),
    "h2c": (
        b"GET /public HTTP/1.1\r\nhost: api\r\nhttp2-settings: AAMAAABk\r\n"
        b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\n",
        b"",
    ),
    "anything": (b"GET /held HTTP/1.1\r\nhost: api\r\n" + UPGRADE % b"anything", b""),
    "tls": (b"OPTIONS * HTTP/1.1\r\nhost: api\r\n" + UPGRADE % b"TLS/1.2", b""),
    "expectation": (
        b"POST /public HTTP/1.1\r\nhost: api\r\nexpect: 100-continue\r\ncontent-length: 0\r\n",
        b"",
    ),
    "body of a GET": (b"GET /public HTTP/1.1\r\nhost: api\r\ncontent-length: 3\r\n", b"abc"),
    "line feeds": (b"POST /public HTTP/1.1\nhost: api\ncontent-length: 0\n", b""),
    "length and chunks": (
        b"POST /public HTTP/1.1\r\nhost: api\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n",
        CHUNKED,
    ),
    **{
        f"length {length!r}": (
            b"POST /public HTTP/1.1\r\nhost: api\r\ncontent-length: " + length + b"\r\n",
            b"",
        )
        for length in (b"+0", b"-0", b"0x0", b"0,0", b"0, 60", b"0\r\ncontent-length: 60", b"00", b"", b"0 0")
    },
    **{
        f"coding {coding!r}": (b"POST /public HTTP/1.1\r\nhost: api\r\n" + coding + b"\r\n", CHUNKED)
        for coding in (
            b"transfer-encoding: xchunked",
            b"transfer-encoding: chunked, identity",
            b"transfer-encoding: identity, chunked",
            b"transfer-encoding: CHUNKED",
            b"transfer-encoding : chunked",
            b"transfer-encoding:\x0bchunked",
            b"transfer-encoding: chunked\r\ntransfer-encoding: identity",
            b"x: y\r\n transfer-encoding: chunked",
        )
    },
    "coding in HTTP/1.0": (b"POST /public HTTP/1.0\r\nhost: api\r\ntransfer-encoding: chunked\r\n", CHUNKED),
    "bare line feed in a chunk": (
        b"POST /public HTTP/1.1\r\nhost: api\r\ntransfer-encoding: chunked\r\n",
        b"1\na\r\n" + CHUNKED,
    ),
    "chunk of odd length": (
        b"POST /public HTTP/1.1\r\nhost: api\r\ntransfer-encoding: chunked\r\n",
        b"0x1\r\na\r\n" + CHUNKED,
    ),
}


@pytest.fixture(scope="module")
def port(serve: Serve, application: Application) -> int:
    return Served(serve, application.port, policy("DENY", to(paths=["/admin*"]))).port()


@pytest.mark.parametrize("name", OPENINGS)
def test_what_follows_an_odd_request_is_judged_or_dropped(
    name: str, port: int, application: Application
) -> None:
    application.forget()
    head, body = OPENINGS[name]
    found = statuses(exchange(port, head + b"\r\n" + body + HIDDEN, answers=2))
    assert 403 not in found[:-1] and 101 not in found
    assert ask(port, get("/public")) == 200
    assert b"admin" not in application.heard


def test_what_follows_an_honest_request_is_judged(port: int) -> None:
    honest = b"GET /public HTTP/1.1\r\nhost: api\r\n\r\n"
    assert statuses(exchange(port, honest + HIDDEN, answers=2)) == [200, 403]


def test_what_a_client_sends_before_an_upgrade_was_agreed_to_waits(
    port: int, application: Application
) -> None:
    """An application that refuses would take it for a request."""
    application.forget()
    upgrade = b"GET /held HTTP/1.1\r\nhost: api\r\n" + UPGRADE % b"websocket" + b"\r\n"
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(upgrade + HIDDEN)
        deadline = time.monotonic() + 10
        while b"/held" not in application.heard:
            assert time.monotonic() < deadline, "the upgrade did not arrive"
            time.sleep(0.01)
        connection.sendall(HIDDEN)
        assert ask(port, get("/public")) == 200
        assert b"admin" not in application.heard


#: content-length headers, and the frames of data that come.
LENGTHS: list[tuple[list[str], list[bytes]]] = [
    (["5"], [b"abc"]),
    (["5"], [b"abcdefgh"]),
    (["5"], [b"abc", b"defgh"]),
    (["0"], [b"abc"]),
    (["3"], [b""]),
    (["5"], []),
    (["3", "5"], [b"abc"]),
    (["-3"], [b"abc"]),
    (["+3"], [b"abc"]),
    (["3x"], [b"abc"]),
    ([str(2**64 + 3)], [b"abc"]),
]


def test_a_length_that_the_frames_of_http2_contradict_ends_the_stream(
    port: int, application: Application
) -> None:
    application.forget()
    requests = [
        (fields("/public", *(("content-length", length) for length in lengths), method="POST"), data)
        for lengths, data in LENGTHS
    ]
    found = ask2_each(port, requests)
    assert {
        str(case): status for case, status in zip(LENGTHS, found, strict=True) if status not in (0, 400)
    } == {}
    assert ask2(port, fields("/public", ("content-length", "3"), method="POST"), b"abc") == 200
    whole = [(found.path, found.body) for found in application.requests if found.ended]
    assert whole == [("/public", b"abc")]


def test_connect_of_http2_opens_no_tunnel_and_an_extended_one_is_judged(
    port: int, application: Application
) -> None:
    application.forget()
    plain = [(":method", "CONNECT"), (":authority", "api:80")]
    assert ask2(port, plain, HIDDEN) in (0, 403, 404)
    extended = [(":method", "CONNECT"), (":protocol", "websocket"), *fields("/admin/x")[1:]]
    assert ask2(port, extended, b"") == 403
    assert ask(port, get("/public")) == 200
    assert [found.path for found in application.requests] == ["/public"]
