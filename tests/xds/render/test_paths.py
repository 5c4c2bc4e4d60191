"""The path that is judged is the path that is forwarded, in each of four modes (threats N01, N02, N04)."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from typing import get_args

import pytest

from mesh.model import HttpMatch, PathNormalization
from mesh.policies.policy import permits
from mesh.proxy import L7Class
from mesh.request import Request
from mesh.request_path import normalise
from tests.xds.render.backend import Backend
from tests.xds.render.client import complete
from tests.xds.render.conftest import Serve
from tests.xds.render.standalone import Proxy
from tests.xds.render.views import (
    authorized,
    destination,
    entry,
    l7,
    part,
    part_of,
    prefix,
    routed,
    term,
    to,
    view,
    when,
)

MODES: tuple[PathNormalization, ...] = get_args(PathNormalization)
NUMBERS = {mode: 300 + index for index, mode in enumerate(MODES)}

HOSTILE = (
    *("/", "//", "///a//b//", "/a/", "/a/.", "/a/..", "/a/./b", "/a/../b", "/../a", "/../../a", "/a/..."),
    *("/a//../b", "/a/b/..//c", "/x/..//admin/a", "//admin/a", "/./admin", "/.//admin", "/..//admin"),
    *(
        "/%2e/a",
        "/%2e%2e/a",
        "/a/%2E%2e/b",
        "/a/.%2e/b",
        "/a/%2e./b",
        "/%2fadmin/a",
        "/%2Fadmin",
        "/a%2f..%2fb",
    ),
    *("/a%2f%2fb", "/a%5cb", "/a%5C..%5cb", "/%5cadmin", "/a\\b", "\\a", "/a\\..\\b", "/a/\\/b", "/a%255cb"),
    *(
        "/a%252fb",
        "/%25%32%66",
        "/a;b=c",
        "/a..;/b",
        "/..;/a",
        "/a;/../b",
        "/a?b=../c",
        "/a?//b/./c",
        "/a?%2f",
    ),
    *(
        "/a#b",
        "/a?b#c",
        "/a%23b",
        "/a%3fb",
        "/a%3Fb?c",
        "/%",
        "/%2",
        "/%zz",
        "/a%",
        "/a%2%66",
        "/%c0%af",
        "/%c0%ae",
    ),
    *(
        "/%e0%80%af",
        "/%u002f",
        "/a b",
        "/a\tb",
        "/a|b",
        '/a"b',
        "/a<b>",
        "/a^b`c{d}",
        "/a[b]",
        "/a'b",
        "/a*b",
    ),
    *(
        "/~a",
        "/%7ea",
        "/%41%5a%30%2d%5f",
        "/A/%61",
        "/a%00b",
        "/a?b%00c",
        "/a%0d%0ab",
        "/\x7f",
        "/\x80",
        "/é",
    ),
    *("a", "*", "", "?", "/?", "/??", "/a?b?c", "http://h/a", "http://h//a/../b", "http://h"),
    *(
        "/a;x/../b",
        "/a/..;x/b",
        "/a/.;x/b",
        "/.;/a",
        "/a/..;",
        "/a/.;",
        "/..;;/a",
        "/...;/a",
        "/a;/b",
        "/a/.%2e;/b",
    ),
    *(
        "/a/%2e%2e;/b",
        "/a/%2e;/b",
        "/a/..%3b/b",
        "/a/;../b",
        "/;/a",
        "/a/.;.;/b",
        "/a/..;/..;x=%2f/b",
        "///",
        "/a//",
    ),
    *(
        "/%2%2566",
        "/a%%2fb",
        "/a%%41",
        "/a%4%31",
        "/%2%3",
        "/%%",
        "/%2%zz",
        "/%2%2f",
        "/%5%63",
        "/%%32f",
        "/%%41%42",
    ),
    *(
        "/a%2%46",
        "/a%%%41",
        "/%2%2",
        "/%1%41",
        "/%g%41",
        "/%%4%31",
        "/%%%32%35",
        "/%41%%34%31",
        "/%%5b",
        "/%2%5B",
    ),
    *("/%%%34%31%", "/%%34/1", '/%"41', '/%4"', "/a\x01b", "/%^41"),
)
ENCODINGS = tuple(sorted({f"/a%{byte:02{case}}b" for byte in range(256) for case in "xX"}))


class Line:
    """A connection that is opened again when Envoy has closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: socket.socket | None = None

    def sent(self, path: str) -> str | int:
        """The path that the backend read, or the status."""
        if self._connection is None:
            self._connection = socket.create_connection(("127.0.0.1", self._port), timeout=10)
        self._connection.sendall(f"GET {path} HTTP/1.1\r\nhost: h\r\n\r\n".encode("latin-1"))
        heard = b""
        while not complete(heard) and (more := self._connection.recv(65536)):
            heard += more
        head, _, body = heard.partition(b"\r\n\r\n")
        if b"connection: close" in head:
            self._connection.close()
            self._connection = None
        status = int(head.split(b" ")[1])
        return str(json.loads(body)["path"]) if status == 200 else status


def expected(path: str, mode: PathNormalization) -> str | int:
    absolute = path.removeprefix("http://h")
    if absolute != path and not absolute.startswith("/"):
        absolute = f"/{absolute}"
    if " " in path or "\t" in path:
        return 400
    found = normalise(absolute, mode)
    return 400 if found is None else found


@pytest.fixture(scope="module")
def proxy(serve: Serve, servers: dict[str, Backend]) -> Proxy:
    classes = (L7Class(number, "ingress", normalization=mode) for mode, number in NUMBERS.items())
    return serve(view(ingress=tuple(classes)), ("127.0.0.1", servers["one"].port))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("paths", [HOSTILE, ENCODINGS], ids=["hostile", "every encoding"])
def test_the_reference_and_envoy_make_the_same_of_a_path(
    paths: tuple[str, ...], mode: PathNormalization, proxy: Proxy
) -> None:
    line = Line(proxy.ports[f"virtualInbound|{NUMBERS[mode]}"])
    found = {path: line.sent(path) for path in paths}
    assert found == {path: expected(path, mode) for path in paths}


@pytest.mark.parametrize("mode", MODES)
def test_no_spelling_of_a_path_walks_round_a_rule_in_a_class_or_behind_a_route(
    mode: PathNormalization, serve: Serve, servers: dict[str, Backend]
) -> None:
    """The invariant of threat N01: whatever arrives is something that the rules allow."""
    denied = part_of("deny", when(term("path", "/admin/*", "/b", "/a/{*}/c")))
    safe = l7(301, "egress", HttpMatch(path="(/[^a/].*)?|/a[^/]*"))
    proxy = serve(
        view(
            routed=(routed("api", entry(prefix("/"), to("api"))),),
            destinations=(destination("api", part(servers["one"].port, l7=301)),),
            ingress=(authorized(300, denied, normalization=mode),),
            egress=(replace(safe, normalization=mode),),
        ),
        ("127.0.0.1", servers["one"].port),
    )
    paths = (*HOSTILE, *(f"{head}{path}" for path in HOSTILE for head in ("/admin", "/x/..", "/b/c/../..")))
    line, behind = (
        Line(proxy.ports[name]) for name in ("virtualInbound|300", "api.shop.svc.cluster.local:80")
    )
    statuses = set()
    for path in paths:
        read = line.sent(path)
        if isinstance(read, str):
            plain = read.partition("?")[0]
            assert not plain.startswith("/admin/")
            assert plain != "/b"
        else:
            statuses.add(read)
        read = behind.sent(path)
        if isinstance(read, str):
            assert permits(safe.rules, Request(path=read)) is not None
    assert statuses == {400, 403}
