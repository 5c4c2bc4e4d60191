"""`permits` and `choose` agree with the real Envoy, hostile paths and headers included."""

from __future__ import annotations

import random
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mesh.model import (
    Backend as ServiceBackend,
)
from mesh.model import (
    HeaderChange,
    HeaderMatch,
    HttpMatch,
    ObjectRef,
    PathMatch,
    RouteBackend,
    RouteMatch,
    RouteRule,
    ServiceName,
    ValueMatch,
    WorkloadName,
)
from mesh.policy import permits
from mesh.proxy import Destination, HttpRule, L7Class, Part, ProxyView, RoutedPort, RouteEntry
from mesh.request import Request
from mesh.request_path import normalise
from mesh.routing import choose
from mesh.steer import precedence
from tests.agreement.kinds import EXPRESSIONS, HOSTS, METHODS
from tests.xds.render.backend import Backend
from tests.xds.render.standalone import Proxy

CASES = 5_000
CLASSES = 40
SERVICE = ServiceName("shop", "web")

#: Paths as attackers write them, beside plain ones.
PATHS = (
    "/",
    "/public",
    "/public/a",
    "/admin",
    "/admin/users",
    "/v1/items/7",
    "/v2/items/x",
    "/public?x=1",
    "//admin",
    "/public/../admin",
    "/public/%2e%2e/admin",
    "/public/%2E./admin",
    "/./admin",
    "/admin/.",
    "/public/..",
    "/admin%2fusers",
    "/%61dmin",
    "/adm%69n/users",
    "/public\\..\\admin",
    "/admin%5cusers",
    "/public//a",
    "/admin;x=1",
    "/public/%zz",
    "/public/%",
    "/PUBLIC",
    "/public/a?next=/admin/../x",
    "/public/a%3fq",
    "/public/%00",
    "/a/b/../../admin",
    "/../admin",
    "/public/é",
    "/v1/items/7/",
    "/admin%20",
    "/%2e%2e/admin",
    "/...",
    "/public/....//admin",
    "/public#frag",
    "/public/a?x=1#frag",
    "/public/~a/-_.",
)
HEADERS = (
    (),
    (("x-team", "a"),),
    (("x-team", "b"),),
    (("x-trace", "1"),),
    (("x-team", "a"), ("x-trace", "1")),
    (("x-team", ""),),
)


def ask(connection: socket.socket, request: Request) -> tuple[int, bytes]:
    """One request as it is written, nothing quoted or corrected; status and raw head of the answer."""
    lines = [f"{request.method} {request.path} HTTP/1.1", f"host: {request.authority}"]
    lines += [f"{name}: {value}" for name, value in request.headers]
    connection.sendall("\r\n".join([*lines, "content-length: 0", "", ""]).encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        data = connection.recv(65536)
        if not data:
            break
        answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    length = next(
        (
            int(line.split(b":")[1])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length")
        ),
        0,
    )
    while len(body) < length and (data := connection.recv(65536)):
        body += data
    return int(head.split(b" ")[1]) if head else 0, head


def question(rng: random.Random) -> Request:
    return Request(
        rng.choice(METHODS), rng.choice(PATHS), rng.choice((*HOSTS, "other:80", "Other")), rng.choice(HEADERS)
    )


def judged(request: Request) -> Request | None:
    path = normalise(request.path)
    return None if path is None else Request(request.method, path, request.authority, request.headers)


def random_class(rng: random.Random, number: int) -> L7Class:
    rules = []
    for index in range(rng.choice((1, 1, 2, 3))):
        matches = tuple(
            HttpMatch(
                rng.choice((None, None, "GET", "GET|POST", "P.*")),
                rng.choice((None, *EXPRESSIONS, "/public(/.*)?", "/admin.*")),
                rng.choice((None, None, None, "other", "shop[.]example|other")),
                rng.choice(
                    (
                        (),
                        (),
                        (HeaderMatch("x-team", "a"),),
                        (HeaderMatch("x-team"),),
                        (HeaderMatch("x-trace", "1"),),
                    )
                ),
            )
            for _ in range(rng.choice((1, 2)))
        )
        rules.append(
            HttpRule(ObjectRef("CiliumNetworkPolicy", "shop", f"p{number}"), f"ingress[{index}]", matches)
        )
    return L7Class(number, "ingress", tuple(rules))


@contextmanager
def served(view: ProxyView, folder: Path, backend: Backend) -> Iterator[Proxy]:
    proxy = Proxy(view, folder, ("127.0.0.1", backend.port))
    try:
        yield proxy
    finally:
        proxy.stop()


class Lines:
    """A kept-alive connection for each listener, opened anew when Envoy closes it."""

    def __init__(self) -> None:
        self._open: dict[int, socket.socket] = {}

    def ask(self, port: int, request: Request) -> tuple[int, bytes]:
        if port not in self._open:
            self._open[port] = socket.create_connection(("127.0.0.1", port), 5)
        status, head = ask(self._open[port], request)
        if status in (0, 400) or b"connection: close" in head.lower():
            self._open.pop(port).close()
        return status, head

    def close(self) -> None:
        for connection in self._open.values():
            connection.close()


@pytest.mark.timeout(300)
def test_envoy_allows_what_the_reference_permits(tmp_path: Path) -> None:
    rng = random.Random(1)
    classes = tuple(random_class(rng, 256 + index) for index in range(CLASSES))
    verdicts: Counter[str] = Counter()
    backend, lines = Backend("b"), Lines()
    try:
        with served(ProxyView(WorkloadName("shop", "web"), ingress=classes), tmp_path, backend) as proxy:
            for _ in range(CASES):
                found = rng.choice(classes)
                request = question(rng)
                seen = judged(request)
                wanted = seen is not None and permits(found.rules, seen) is not None
                status, _ = lines.ask(proxy.ports[f"virtualInbound|{found.number}"], request)
                assert (status == 200) == wanted, (request, seen, status, found)
                assert status in ((200,) if wanted else (403, 400)), (request, status)
                verdicts["allow" if wanted else "deny"] += 1
    finally:
        lines.close()
        backend.stop()
    print(verdicts)
    assert min(verdicts.values()) * 5 >= CASES


def random_entries(rng: random.Random) -> tuple[RouteEntry, ...]:
    entries = []
    for index in range(rng.randint(2, 6)):
        match = RouteMatch(
            rng.choice(
                (
                    PathMatch("prefix", "/"),
                    PathMatch("prefix", "/public"),
                    PathMatch("prefix", "/admin/"),
                    PathMatch("exact", "/public/a"),
                    PathMatch("exact", "/admin"),
                    PathMatch("regex", "/v[12]/.*"),
                )
            ),
            rng.choice((None, None, "GET", "POST")),
            rng.choice(
                ((), (), (ValueMatch("x-team", "exact", "a"),), (ValueMatch("x-trace", "regex", "[0-9]+"),))
            ),
            rng.choice(((), (), (ValueMatch("x", "exact", "1"),))),
        )
        rule = RouteRule(
            f"rules[{index}]",
            (match,),
            (RouteBackend(SERVICE, 80),),
            response_headers=HeaderChange(set=(("x-rule", str(index)),)),
        )
        entries.append(RouteEntry(ObjectRef("HTTPRoute", "shop", "r"), match, rule))
    return tuple(sorted(entries, key=lambda entry: precedence(entry.match)))


@pytest.mark.timeout(300)
def test_envoy_takes_the_route_that_the_reference_chooses(tmp_path: Path) -> None:
    rng = random.Random(2)
    backend, lines = Backend("b"), Lines()
    ports = tuple(
        RoutedPort(ServiceName("shop", f"s{index}"), 80, (f"10.128.0.{index + 1}",), random_entries(rng))
        for index in range(CLASSES)
    )
    destination = Destination(SERVICE, 80, (Part(0, (ServiceBackend("127.0.0.1", backend.port),)),))
    chosen: Counter[bool] = Counter()
    try:
        with served(ProxyView(WorkloadName("shop", "c"), ports, (destination,)), tmp_path, backend) as proxy:
            for _ in range(CASES // 2):
                port = rng.choice(ports)
                request = question(rng)
                seen = judged(request)
                entry = choose(port.entries, seen) if seen else None
                status, head = lines.ask(
                    proxy.ports[f"{port.service.name}.shop.svc.cluster.local:80"], request
                )
                if entry is None:
                    assert status == (404 if seen else 400), (request, status)
                else:
                    assert status == 200, (request, seen, entry, status)
                    assert f"x-rule: {entry.rule.field[6]}".encode() in head, (request, seen, entry, head)
                chosen[entry is not None] += 1
    finally:
        lines.close()
        backend.stop()
    print(chosen)
    assert min(chosen.values()) * 10 >= CASES // 2
