"""RateLimit at a real Envoy, counted one by one. Buckets that fill by the hour stay as they are meanwhile."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterator
from itertools import product

import pytest

from mesh.discovery.envoy import LISTENER
from mesh.model import RateLimit
from mesh.policies.rate_limit import counts
from mesh.request import Request
from tests.threats.http.application import Application
from tests.threats.http.limits import hourly, rate_limit
from tests.threats.http.rate_limit_service import RateLimitService
from tests.threats.http.served import HTTP, Object, Served, policy, to
from tests.threats.http.speaking import ask, ask2, exchange, fields, get, statuses
from tests.xds.render.conftest import Serve
from xds.render import render
from xds.render.rate_limits import REMEMBERED


@pytest.fixture
def port(serve: Serve, application: Application, request: pytest.FixtureRequest) -> int:
    """Of an Envoy of its own, with full buckets, for the limits that are the parameter."""
    return Served(serve, application.port, rate_limit(*request.param)).port()


def limited(*limits: Object) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("port", [limits], indirect=True)


@limited(hourly(3))
def test_so_many_requests_pass_and_no_more(port: int, application: Application) -> None:
    application.forget()
    found = [ask(port, get("/")), ask2(port, fields("/")), ask(port, get("/other", method="POST"))]
    assert found == [200] * 3
    assert [ask(port, get("/")), ask2(port, fields("/"))] == [429, 429]
    assert len(application.requests) == 3


@limited({"requests": 2, "per": "minute", "burst": 1})
def test_a_client_is_told_what_it_has_left_and_when_to_ask_again(port: int) -> None:
    good, bad = exchange(port, get("/")).lower(), exchange(port, get("/")).lower()
    assert b"x-ratelimit-limit: 1\r\n" in good and b"x-ratelimit-remaining: 0\r\n" in good
    assert b"retry-after" not in good
    assert statuses(bad.upper()) == [429]
    assert b"retry-after: 30\r\n" in bad and b"x-ratelimit-remaining: 0\r\n" in bad


@limited(hourly(1))
def test_a_call_of_grpc_is_told_in_its_own_words(port: int) -> None:
    call = get("/shop.Cart/Get", ("content-type", "application/grpc"), method="POST")
    assert ask(port, call) == 200
    assert b"\r\ngrpc-status: 8\r\n" in exchange(port, call).lower()  # RESOURCE_EXHAUSTED


@limited({"requests": 20, "per": "second", "burst": 1, "status": 503})
def test_a_bucket_is_filled_again(port: int) -> None:
    kept = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    started, found = time.monotonic(), []
    while time.monotonic() < started + 1:
        kept.request("GET", "/")
        response = kept.getresponse()
        response.read()
        found.append(response.status)
    spent = time.monotonic() - started
    kept.close()
    assert set(found) == {200, 503}
    assert 5 <= found.count(200) <= 2 + 20 * spent


@limited(hourly(2, by=[{"header": "X-User"}]))
def test_each_value_of_a_header_has_a_bucket_and_so_has_none(port: int) -> None:
    """Whoever leaves the header out is not let off."""
    for headers in ([("x-user", "ann")], [("x-user", "bob")], [("X-USER", "")], []):
        assert [ask(port, get("/", *headers)) for _ in range(3)] == [200, 200, 429], headers


@limited(hourly(1, by=[{"header": "x-user"}]))
def test_values_without_end_make_nobody_forgotten_who_goes_on_asking(port: int) -> None:
    kept = http.client.HTTPConnection("127.0.0.1", port, timeout=10)

    def status(user: str) -> int:
        kept.request("GET", "/", headers={"x-user": user})
        response = kept.getresponse()
        response.read()
        return response.status

    assert [status("ann"), status("bob")] == [200, 200]
    for index in range(REMEMBERED + 10):
        assert status(f"user-{index}") == 200
        if index % 100 == 0:
            assert status("bob") == 429
    assert [status("bob"), status("ann")] == [429, 200], "ann was silent for too long"
    kept.close()


@limited(hourly(1, by=[{"header": "x-user"}, {"header": "x-team"}, {"path": {}}]))
def test_each_combination_has_a_bucket(port: int) -> None:
    for user, team, path in product(("", "ann", "bob"), ("", "red"), ("/", "/a")):
        named = [(name, value) for name, value in (("x-user", user), ("x-team", team)) if value]
        assert [ask(port, get(path, *named)) for _ in range(2)] == [200, 429], (user, team, path)


@limited(hourly(2, by=[{"path": {}}]))
def test_a_query_is_no_path_and_does_not_make_a_bucket(port: int) -> None:
    same = ("/a", "/a?1", "/a?2", "//a", "/b/../a")
    assert [ask(port, get(path)) for path in same] == [200, 200, 429, 429, 429]
    assert [ask(port, get(path)) for path in ("/b", "/B", "/b", "/b")] == [200, 200, 200, 429]


@limited(hourly(2, by=[{"caller": {}}]))
def test_a_caller_is_its_address_whatever_it_says_of_itself(port: int) -> None:
    claimed = [("x-forwarded-for", f"10.0.0.{index}") for index in range(4)]
    assert [ask(port, get("/", header)) for header in claimed] == [200, 200, 429, 429]
    with socket.create_connection(("127.0.0.1", port), 10, ("127.0.0.2", 0)) as other:
        other.sendall(get("/"))
        assert statuses(other.recv(65536)) == [200]


@limited(hourly(1, match={"paths": ["/a"]}, status=503), hourly(2))
def test_limits_count_each_for_itself(port: int) -> None:
    assert [ask(port, get(path)) for path in ("/a", "/a", "/b", "/b")] == [200, 503, 200, 429]


MATCHES: dict[str, Object] = {
    "exact": {"paths": ["/api/a", "/"]},
    "prefix": {"paths": ["/api/*"]},
    "suffix": {"paths": ["*.html"]},
    "any": {"paths": ["*"]},
    "special": {"paths": ["/a.b", "/(x)*"]},
    "methods": {"methods": ["GET", "PUT"]},
    "header": {"headers": {"X-Tier": {"exact": "free"}}},
    "headers": {"headers": {"x-tier": {"prefix": "fr"}, "host": {"regex": "[a-p]*"}}},
    "all": {"paths": ["/api/*"], "methods": ["GET"], "headers": {"x-tier": {"exact": "free"}}},
}
PATHS = (
    *("/", "/?", "/api", "/api/", "/api/a", "/api/a/", "/api/a?x=/api/a", "/other?/api/"),
    *("/x?/a.html", "/a.html?x", "/a.htmlx", "/a.html/", "/a.b", "/acb", "/a.b?c", "/(x)y", "/x"),
)


@pytest.mark.parametrize("name", MATCHES)
def test_envoy_counts_what_the_reference_counts(name: str, serve: Serve, application: Application) -> None:
    written = hourly(1000, match=MATCHES[name])
    served = Served(serve, application.port, rate_limit(written))
    (noun,) = served.mesh.all_policies()
    assert isinstance(noun, RateLimit)
    kept = http.client.HTTPConnection("127.0.0.1", served.port(), timeout=10)
    for path, method, tier in product(PATHS, ("GET", "POST"), ("", "free", "freed")):
        headers = {"host": "api", **({"x-tier": tier} if tier else {})}
        kept.request(method, path, headers=headers)
        response = kept.getresponse()
        response.read()
        asked = Request(method, path, "api", tuple(headers.items()))
        counted = response.getheader("x-ratelimit-remaining") is not None
        assert (response.status, counted) == (200, counts(noun.limits[0], asked)), asked
    kept.close()


def test_what_authorization_refuses_uses_up_nothing(serve: Serve, application: Application) -> None:
    objects = rate_limit(hourly(2)), policy("DENY", to(paths=["/secret"]))
    port = Served(serve, application.port, *objects).port()
    assert [ask(port, get("/secret")) for _ in range(5)] == [403] * 5
    assert [ask(port, get("/")) for _ in range(3)] == [200, 200, 429]


def test_what_is_no_request_does_not_pass_beside_a_limit(serve: Serve, application: Application) -> None:
    """Rule 21: on a port that nobody has declared, too, there is no way round but HTTP."""
    served = Served(serve, application.port, rate_limit(hourly(2)), http=())
    port = served.port(port=HTTP)
    application.forget()
    assert [ask(port, b"\r\n" + get("/")) for _ in range(4)] == [200, 200, 429, 429]
    assert ask(port, b"\x16\x03\x01\x00\x05hello") in (0, 400)
    assert len(application.requests) == 2


def test_an_edit_binds_connections_that_live(serve: Serve, application: Application) -> None:
    """Rule 6: limits travel by route, so what is kept alive and idle meets them with its next request."""
    served = Served(serve, application.port, rate_limit(hourly(1000)), updated=True)
    kept = http.client.HTTPConnection("127.0.0.1", served.port(), timeout=10)

    def ask_again() -> int:
        kept.request("GET", "/")
        response = kept.getresponse()
        response.read()
        return response.status

    assert ask_again() == 200
    line = kept.sock
    listeners = [found for found in render(served.view) if found.type_url == LISTENER]
    served.edit(rate_limit(hourly(1)))
    assert [found for found in render(served.view) if found.type_url == LISTENER] == listeners
    served.proxy.update(served.view)
    assert ([ask_again(), ask_again()], kept.sock) == ([200, 429], line)
    kept.close()


# --- one service counts for all ---------------------------------------------------------------------------


@pytest.fixture
def service() -> Iterator[RateLimitService]:
    found = RateLimitService()
    yield found
    found.stop()


def counted_by(service: RateLimitService, **more: object) -> Object:
    return {"service": "localhost", "port": service.port, "domain": "shop", "timeout": "2s", **more}


def test_a_service_counts_for_all_proxies(
    serve: Serve, application: Application, service: RateLimitService
) -> None:
    limits = (
        hourly(3, match={"paths": ["/a*"]}, by=[{"header": "x-user"}, {"path": {}}, {"caller": {}}]),
        {"requests": 100, "per": "second"},
    )
    written = rate_limit(*limits, **{"global": counted_by(service)})
    ports = [Served(serve, application.port, written).port() for _ in range(2)]
    found = [ask(ports[index % 2], get(f"/ab?{index}", ("x-user", "ann"))) for index in range(5)]
    assert found == [200, 200, 200, 429, 429]
    assert ask(ports[0], get("/ab")) == ask(ports[0], get("/b")) == 200
    first, second = (("limit", f"RateLimit shop/api limits[{index}]") for index in (0, 1))
    keyed = (("path", "/ab"), ("caller", "127.0.0.1"))
    assert service.counted == {
        ("shop", (first, ("x-user", "ann"), *keyed)): 5,
        ("shop", (first, ("x-user", "-"), *keyed)): 1,
        ("shop", (second,)): 7,
    }
    assert set(service.limits.values()) == {(3, "HOUR"), (100, "SECOND")}


@pytest.mark.parametrize(
    ("more", "status"), [({}, 200), ({"failOpen": True}, 200), ({"failOpen": False}, 503)]
)
def test_a_service_that_is_away(
    more: Object, status: int, serve: Serve, application: Application, service: RateLimitService
) -> None:
    written = rate_limit(hourly(1), **{"global": counted_by(service, **more)})
    port = Served(serve, application.port, written).port()
    assert [ask(port, get("/")) for _ in range(2)] == [200, 429]
    service.stop()
    assert ask(port, get("/")) == status
