"""N09 (CVE-2023-27487): what only a proxy may say, no client says in its place: neither the application nor
Envoy itself believes it, and no verdict changes by it.
"""

from __future__ import annotations

import pytest

from tests.threats.http.application import Application
from tests.threats.http.served import Served, mesh_config, network_policy, policy, to
from tests.threats.http.speaking import Fields, ask, ask2, exchange, fields, get
from tests.xds.render.conftest import Serve
from tests.xds.render.consent import GrpcConsent, HttpConsent
from tests.xds.render.standalone import Proxy
from tests.xds.render.views import destination, entry, part, prefix, routed, view
from tests.xds.render.views import to as towards

FORGED = (
    ("x-envoy-original-path", "/hidden"),
    ("x-envoy-original-host", "hidden.example"),
    ("x-envoy-decorator-operation", "forged"),
    ("x-envoy-expected-rq-timeout-ms", "1"),
    ("x-envoy-internal", "1"),
    (
        "x-forwarded-client-cert",
        "By=spiffe://cluster.local/ns/shop/sa/api;URI=spiffe://cluster.local/ns/a/sa/b",
    ),
    ("x-envoy-upstream-rq-timeout-ms", "1"),
    ("x-envoy-upstream-rq-per-try-timeout-ms", "1"),
    ("x-envoy-upstream-rq-timeout-alt-response", "1"),
    ("x-envoy-upstream-alt-stat-name", "forged"),
    ("x-envoy-max-retries", "9"),
    ("x-envoy-retry-on", "5xx"),
    ("x-envoy-retry-grpc-on", "internal"),
    ("x-envoy-retriable-status-codes", "200"),
    ("x-envoy-retriable-header-names", "content-length"),
    ("x-envoy-hedge-on-per-try-timeout", "true"),
    ("x-envoy-force-trace", "true"),
    ("x-envoy-ip-tags", "forged"),
    ("x-envoy-original-url", "http://api/hidden"),
)
#: What a client may do to have them overlooked.
DISGUISES: dict[str, tuple[tuple[str, str], ...]] = {
    "plain": FORGED,
    "twice": tuple((name, text) for name, value in FORGED for text in ("", value)),
    "with an address that is private": (("x-forwarded-for", "10.0.0.1"), *FORGED),
    "with a scheme": (("x-forwarded-proto", "https"), *FORGED),
}
ROUTED = "api.shop.svc.cluster.local:80"

#: Each hides `/hidden` and shows `/shown`.
POLICIES = {
    "deny": policy("DENY", to(paths=["/hidden*"])),
    "allow": policy("ALLOW", to(paths=["/shown"])),
    "network policy": network_policy({"path": "/shown"}),
}


def forged(found: Fields) -> set[tuple[str, str]]:
    """What of FORGED is there. (Envoy may have things of its own to say under these names.)"""
    return set(found) & set(FORGED)


def asked(port: int, path: str, headers: Fields) -> tuple[int, int, int]:
    """The statuses of a request in HTTP/1, in HTTP/1 with names in capitals, and in HTTP/2."""
    capitals = [(name.title(), value) for name, value in headers]
    return (
        ask(port, get(path, *headers)),
        ask(port, get(path, *capitals)),
        ask2(port, fields(path, *headers)),
    )


@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.parametrize("name", POLICIES)
def test_a_class_forwards_no_forgery_and_judges_as_without(
    name: str, disguise: str, serve: Serve, application: Application
) -> None:
    port = Served(serve, application.port, POLICIES[name]).port()
    application.forget()
    headers = DISGUISES[disguise]
    assert asked(port, "/hidden", [("x-envoy-original-path", "/shown"), *headers]) == (403, 403, 403)
    assert application.requests == []
    assert asked(port, "/shown", headers) == (200, 200, 200)
    assert [forged(found.fields) for found in application.requests] == [set()] * 3


@pytest.fixture(scope="module")
def route(serve: Serve, application: Application) -> Proxy:
    return serve(
        view(
            routed=(routed("api", entry(prefix("/shown"), towards("api"))),),
            destinations=(destination("api", part(application.port)),),
        )
    )


@pytest.mark.parametrize("disguise", DISGUISES)
def test_a_route_forwards_no_forgery_and_leads_where_it_led(
    disguise: str, route: Proxy, application: Application
) -> None:
    port, headers = route.ports[ROUTED], DISGUISES[disguise]
    application.forget()
    assert asked(port, "/hidden", [("x-envoy-original-path", "/shown"), *headers]) == (404, 404, 404)
    assert asked(port, "/shown", headers) == (200, 200, 200)
    assert [forged(found.fields) for found in application.requests] == [set()] * 3


def test_an_authorization_service_is_shown_no_forgery(serve: Serve, application: Application) -> None:
    """Not even those headers that it asks for by name or by a prefix."""
    by_grpc, by_http = GrpcConsent(), HttpConsent()
    shared = {"service": "localhost", "timeout": "5s"}
    wanted = {"includeRequestHeadersInCheck": ["x-user", "x-envoy-*", "x-envoy-original-path"]}
    config = mesh_config(
        extensionProviders=[
            {"name": "grpc", "envoyExtAuthzGrpc": {**shared, "port": by_grpc.port}},
            {"name": "http", "envoyExtAuthzHttp": {**shared, **wanted, "port": by_http.port}},
        ]
    )
    customs = [policy("CUSTOM", {}, name=name, provider={"name": name}) for name in ("grpc", "http")]
    try:
        port = Served(serve, application.port, config, *customs).port()
        assert asked(port, "/", [("x-user", "good"), *FORGED]) == (200, 200, 200)
        shown = [*(found.request.http.headers for found in by_grpc.asked), *(h for *_, h in by_http.asked)]
        assert [forged(list(headers.items())) for headers in shown] == [set()] * 6
    finally:
        by_grpc.stop()
        by_http.stop()


def test_envoy_does_not_do_what_a_client_tells_it(route: Proxy) -> None:
    """Counters and limits of time, retries and what it says of itself are its own."""
    heard = exchange(route.ports[ROUTED], get("/shown", *FORGED))
    assert b"x-envoy" not in heard and b"forged" not in heard
    assert "forged" not in route.admin("/stats?filter=forged")
    assert "upstream_rq_retry: 0" in route.admin("/stats?filter=outbound.*upstream_rq_retry$")
