"""CUSTOM of AuthorizationPolicy: a real Envoy asks real authorization services, over gRPC and over HTTP."""

from __future__ import annotations

import socket
from dataclasses import replace

from mesh.model import AuthorizationProvider, ServiceName
from mesh.model import Backend as Address
from mesh.proxy import AuthorizationPart, Destination, L7Class, Part, ProxyView, Target
from tests.xds.render.backend import Backend
from tests.xds.render.client import Client, ask
from tests.xds.render.conftest import Serve
from tests.xds.render.consent import GrpcConsent, HttpConsent
from tests.xds.render.views import authorized, part_of, term, view, when
from xds.render import readable, render

GRPC = AuthorizationProvider("ask-grpc", "grpc", "shop/authz.shop.svc.cluster.local", 9000, timeout_ms=5000)
HTTP = AuthorizationProvider(
    "ask-http",
    "http",
    "localhost",
    0,
    timeout_ms=5000,
    path_prefix="/check",
    include_request_headers=(
        term("header", "x-user", key="x").values[0],
        term("header", "x-in-*", key="x").values[0],
    ),
    include_additional_headers=(("x-from", "mesh 100%"),),
    headers_to_upstream_on_allow=(term("header", "X-Identity", key="x").values[0],),
    headers_to_downstream_on_deny=(term("header", "location", key="x").values[0],),
    headers_to_downstream_on_allow=(term("header", "x-oth*", key="x").values[0],),
)
GOOD, BAD = [("x-user", "good")], [("x-user", "bad")]


def custom(provider: AuthorizationProvider | None, *terms: str) -> AuthorizationPart:
    return part_of("custom", when(*(term("path", path) for path in terms)), provider=provider)


def seen(port: int, *classes: L7Class) -> ProxyView:
    """A mesh that knows the gRPC service, at this port of the machine."""
    service = Destination(
        Target(ServiceName("shop", "authz"), 9000), (Part(0, (Address("127.0.0.1", port),)),)
    )
    return view(ingress=classes, destinations=(service,))


def test_a_service_of_the_mesh_is_asked_over_grpc_about_requests_that_a_rule_fits(
    serve: Serve, servers: dict[str, Backend], by_grpc: GrpcConsent
) -> None:
    shown = seen(by_grpc.port, authorized(300, custom(GRPC, "/asked*")))
    proxy = serve(shown, ("127.0.0.1", servers["one"].port))
    port = proxy.ports["virtualInbound|300"]
    by_grpc.asked.clear()
    assert ask(port, "/free", headers=BAD).status == 200
    assert not by_grpc.asked
    assert ask(port, "/asked?q", headers=[*GOOD, ("x-a", "1"), ("x-a", "2")]).status == 200
    denied = ask(port, "/asked", headers=BAD)
    assert (denied.status, denied.body) == (401, "who are you?")
    first, second = by_grpc.asked
    assert (first.request.http.method, first.request.http.path, second.request.http.path) == (
        "GET",
        "/asked?q",
        "/asked",
    )
    assert first.request.http.headers["x-a"] == "1,2"  # threat N08


def test_another_service_is_asked_over_http_and_both_sides_get_the_headers_they_should(
    serve: Serve, servers: dict[str, Backend], by_http: HttpConsent
) -> None:
    provider = replace(HTTP, port=by_http.port)
    proxy = serve(view(ingress=(authorized(300, custom(provider)),)), ("127.0.0.1", servers["one"].port))
    port = proxy.ports["virtualInbound|300"]
    by_http.asked.clear()
    allowed = ask(port, "/a?b", headers=[*GOOD, ("x-in-a", "1"), ("x-out", "1"), ("x-identity", "forged")])
    denied = ask(port, "/a", headers=BAD)
    assert (allowed.status, allowed.sent("x-identity"), allowed.headers["x-other"]) == (200, ["alice"], "1")
    assert (denied.status, denied.headers["location"]) == (302, "http://login")
    assert "x-other" not in denied.headers
    method, path, headers = by_http.asked[0]
    assert (method, path) == ("GET", "/check/a?b")
    assert (headers["x-from"], headers["x-in-a"], headers["host"]) == ("mesh 100%", "1", f"127.0.0.1:{port}")
    assert "x-out" not in headers


def test_the_order_is_network_policy_custom_deny_allow(
    serve: Serve, servers: dict[str, Backend], by_grpc: GrpcConsent
) -> None:
    parts = (
        custom(GRPC),
        part_of("deny", when(term("path", "/denied*"))),
        part_of("allow", when(term("path", "/a*", "/denied*"))),
    )
    shown = seen(by_grpc.port, authorized(300, *parts), authorized(301, *parts, rules=()))
    proxy = serve(shown, ("127.0.0.1", servers["one"].port))
    by_grpc.asked.clear()

    def statuses(number: int, headers: list[tuple[str, str]]) -> list[int]:
        port = proxy.ports[f"virtualInbound|{number}"]
        return [ask(port, path, headers=headers).status for path in ("/a", "/b", "/denied")]

    assert statuses(300, GOOD) == [200, 403, 403]
    assert statuses(300, BAD) == [401, 401, 401]
    assert len(by_grpc.asked) == 6
    assert statuses(301, GOOD) == [403, 403, 403]
    assert len(by_grpc.asked) == 6


def test_each_of_several_services_has_to_consent_where_its_own_rules_fit(
    serve: Serve, servers: dict[str, Backend], by_grpc: GrpcConsent, by_http: HttpConsent
) -> None:
    parts = (custom(GRPC, "/*g"), custom(replace(HTTP, port=by_http.port), "/h*"), custom(None, "/nobody"))
    parts = tuple(replace(part, origin=part.origin._replace(name=str(i))) for i, part in enumerate(parts))
    proxy = serve(seen(by_grpc.port, authorized(300, *parts)), ("127.0.0.1", servers["one"].port))
    port = proxy.ports["virtualInbound|300"]
    by_grpc.asked.clear()
    by_http.asked.clear()
    assert [ask(port, path, headers=GOOD).status for path in ("/x", "/h", "/nobody")] == [200, 200, 403]
    assert (len(by_grpc.asked), len(by_http.asked)) == (0, 1)
    found = [ask(port, path, headers=BAD).status for path in ("/x", "/h")]
    assert found == [200, 302]


def test_without_an_answer_a_request_is_refused_unless_the_provider_says_otherwise(
    serve: Serve, servers: dict[str, Backend]
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        dead = nobody.getsockname()[1]
    lost = replace(GRPC, name="lost", service="unheard.of.svc.cluster.local")
    classes = (
        authorized(300, custom(GRPC)),
        authorized(301, custom(replace(GRPC, status_on_error=503))),
        authorized(302, custom(replace(GRPC, fail_open=True))),
        authorized(303, custom(lost)),
    )
    proxy = serve(seen(dead, *classes), ("127.0.0.1", servers["one"].port))
    found = [ask(proxy.ports[f"virtualInbound|{number}"], "/").status for number in range(300, 304)]
    assert found == [403, 503, 200, 403]


def test_whom_to_ask_is_nothing_that_a_listener_knows_and_binds_open_connections(
    serve: Serve, servers: dict[str, Backend], by_grpc: GrpcConsent
) -> None:
    before, after = (seen(by_grpc.port, authorized(300, part)) for part in (custom(GRPC, "/x"), custom(GRPC)))
    without = seen(by_grpc.port, authorized(300))
    listeners = [readable(render(shown))["listeners"] for shown in (before, after, without)]
    assert listeners[0] == listeners[1] == listeners[2]
    proxy = serve(before, ("127.0.0.1", servers["one"].port), updated=True)
    client = Client(proxy.ports["virtualInbound|300"])
    assert client.ask("/", headers=BAD).status == 200
    proxy.update(after)
    assert client.ask("/", headers=BAD).status == 401
    proxy.update(without)
    assert client.ask("/", headers=BAD).status == 200
    client.close()


def test_a_body_is_shown_only_to_services_that_want_it(
    serve: Serve, servers: dict[str, Backend], by_grpc: GrpcConsent
) -> None:
    wants = replace(GRPC, body_bytes=4, allow_partial_body=True)
    proxy = serve(
        seen(by_grpc.port, authorized(300, custom(wants)), authorized(301, custom(GRPC))),
        ("127.0.0.1", servers["one"].port),
    )
    by_grpc.asked.clear()
    for number in (300, 301):
        head = b"POST / HTTP/1.1\r\nhost: a\r\nx-user: good\r\nconnection: close\r\ncontent-length: 6\r\n\r\n"
        request = head + b"secret"
        with socket.create_connection(
            ("127.0.0.1", proxy.ports[f"virtualInbound|{number}"]), 10
        ) as connection:
            connection.sendall(request)
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
    assert [found.request.http.body for found in by_grpc.asked] == ["secr", ""]
