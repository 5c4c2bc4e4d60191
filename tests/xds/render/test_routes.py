"""HTTPRoute rules (Gateway API, HTTPRouteSpec), as a real Envoy follows them."""

from __future__ import annotations

from collections import Counter

import pytest

from mesh.model import HeaderChange, PathChange, PathMatch, Redirect, Rewrite, RouteMatch, ValueMatch
from mesh.proxy import Destination, RouteEntry
from mesh.routes.routing import matches
from tests.xds.render.backend import Backend
from tests.xds.render.client import ask, question
from tests.xds.render.conftest import Serve
from tests.xds.render.standalone import Proxy
from tests.xds.render.views import (
    destination,
    entry,
    exact,
    nowhere,
    part,
    prefix,
    regex,
    routed,
    service,
    to,
    view,
)


def name(of: str, port: int = 80) -> str:
    return f"{of}.shop.svc.cluster.local:{port}"


def destinations(servers: dict[str, Backend]) -> tuple[Destination, ...]:
    """`one`, `two`, `three`, and `empty` without any backend."""
    found = (destination(name, part(server.port)) for name, server in servers.items())
    return (*sorted(found, key=lambda d: d.target), destination("zero"))


# --- what a request matches --------------------------------------------------------------------

#: Match -> ((request line and headers) that fit, those that do not).
Ask = tuple[str, str, tuple[tuple[str, str], ...]]


def get(path: str, *headers: tuple[str, str]) -> Ask:
    return "GET", path, headers


MATCHES: dict[str, tuple[RouteMatch, list[Ask], list[Ask]]] = {
    "exact": (
        exact("/a/b"),
        [get("/a/b"), get("/a/b?c=d")],
        [get("/a/b/"), get("/a"), get("/A/b"), get("/a/b/c")],
    ),
    "prefix": (
        prefix("/foo"),
        [get("/foo"), get("/foo/"), get("/foo/bar"), get("/foo?x"), get("//foo///bar"), get("/x/../foo")],
        [get("/foobar"), get("/"), get("/Foo"), get("/x/foo"), get("/foo/../bar")],
    ),
    "prefix-slash": (
        prefix("/foo/"),
        [get("/foo"), get("/foo/"), get("/foo/bar")],
        [get("/foobar"), get("/")],
    ),
    "root": (prefix("/"), [get("/"), get("/a"), ("POST", "/a/b?c", ())], []),
    "regex": (
        regex("/v[0-9]+/.*"),
        [get("/v1/a"), get("/v22/?q=/")],
        [get("/v/a"), get("/x/v1/a"), get("/v1")],
    ),
    "start": (
        RouteMatch(PathMatch("start", "/foo")),
        [get("/foo"), get("/foobar"), get("/foo/bar?x")],
        [get("/"), get("/Foo"), get("/x/foo")],
    ),
    "any case": (
        RouteMatch(PathMatch("exact", "/Foo", ignore_case=True)),
        [get("/foo"), get("/FOO?x")],
        [get("/foo/"), get("/fo")],
    ),
    "without a header": (
        prefix("/", headers=(ValueMatch("x-a", "exact", "1", negated=True),)),
        [get("/"), get("/", ("x-a", "2")), get("/", ("x-a", ""))],
        [get("/", ("x-a", "1"))],
    ),
    "no such header": (
        prefix("/", headers=(ValueMatch("x-a", "present", negated=True),)),
        [get("/"), get("/", ("x-b", "1"))],
        [get("/", ("x-a", "1")), get("/", ("x-a", ""))],
    ),
    "some value": (
        prefix("/", headers=(ValueMatch("x-a", "present"), ValueMatch("x-b", "prefix", "v"))),
        [get("/", ("x-a", "1"), ("x-b", "v2"))],
        [get("/", ("x-b", "v2")), get("/", ("x-a", "1"), ("x-b", "w"))],
    ),
    "some parameter": (
        prefix("/", query=(ValueMatch("a", "present"), ValueMatch("b", "prefix", "v"))),
        [get("/?a&b=v1"), get("/?b=v&a=2")],
        [get("/?b=v1"), get("/?a=1&b=w")],
    ),
    "method": (
        prefix("/", headers=(ValueMatch(":method", "exact", "POST"),)),
        [("POST", "/", ())],
        [get("/"), ("PUT", "/", ())],
    ),
    "headers": (
        prefix("/", headers=(ValueMatch("x-a", "exact", "1"), ValueMatch("x-b", "regex", "[a-c]+"))),
        [get("/", ("X-A", "1"), ("X-B", "abc"))],
        [
            get("/", ("x-a", "1")),
            get("/", ("x-a", "11"), ("x-b", "a")),
            get("/", ("x-a", "1"), ("x-b", "abd")),
        ],
    ),
    "host": (
        prefix("/", headers=(ValueMatch("host", "exact", "api.shop"),)),
        [get("/", ("host", "api.shop"))],
        [get("/", ("host", "api"))],
    ),
    "query": (
        prefix("/", query=(ValueMatch("a", "exact", "1"), ValueMatch("b", "regex", "x.*"))),
        [get("/?a=1&b=x"), get("/p?b=xyz&c=3&a=1")],
        [get("/?a=1"), get("/?a=2&b=x"), get("/?a=1&b=yx"), get("/", ("a", "1"))],
    ),
    "query-odd": (
        prefix("/", query=(ValueMatch("a", "exact", "x%20y"),)),
        [get("/?a=x%20y"), get("/?a=x%20y&a=z")],
        [get("/?a=x+y"), get("/?a=x%2520y"), get("/?a=z&a=x%20y"), get("/?A=x%20y"), get("/?%61=x%20y")],
    ),
    "query-empty": (
        prefix("/", query=(ValueMatch("a", "exact", ""),)),
        [get("/?a"), get("/?a="), get("/?b&a&c")],
        [get("/"), get("/?"), get("/?aa"), get("/?b=a")],
    ),
}


@pytest.fixture(scope="module")
def matching(serve: Serve, servers: dict[str, Backend]) -> Proxy:
    ports = tuple(routed(of, entry(match, to("one"))) for of, (match, _, _) in sorted(MATCHES.items()))
    return serve(view(routed=ports, destinations=destinations(servers)))


@pytest.mark.parametrize("of", MATCHES)
def test_a_route_takes_what_its_match_fits_and_nothing_fits_is_404(of: str, matching: Proxy) -> None:
    _, fitting, others = MATCHES[of]
    found = {
        request: ask(matching.ports[name(of)], request[1], request[0], request[2]).status
        for request in (*fitting, *others)
    }
    assert found == {**dict.fromkeys(fitting, 200), **dict.fromkeys(others, 404)}


@pytest.mark.parametrize("of", MATCHES)
def test_the_reference_agrees(of: str) -> None:
    match, fitting, others = MATCHES[of]
    found = {request: matches(match, question(*request)) for request in (*fitting, *others)}
    assert found == {**dict.fromkeys(fitting, True), **dict.fromkeys(others, False)}


def test_the_first_entry_that_fits_wins_and_another_name_in_host_leads_nowhere_else(
    serve: Serve, servers: dict[str, Backend]
) -> None:
    proxy = serve(
        view(
            routed=(
                routed("api", entry(exact("/a"), to("one")), entry(prefix("/"), to("two"))),
                routed("web", entry(prefix("/"), to("three"))),
            ),
            destinations=destinations(servers),
        )
    )
    port = proxy.ports[name("api")]
    hosts = ("api.shop", "web.shop.svc.cluster.local", "web.shop.svc.cluster.local:80", "example.com")
    assert [ask(port, "/a").backend, ask(port, "/b").backend] == ["one", "two"]
    assert {ask(port, "/b", headers=[("host", host)]).backend for host in hosts} == {"two"}


# --- what becomes of a path ----------------------------------------------------------------------

#: The table at HTTPPathModifier.replacePrefixMatch, and the cases it leaves out.
PREFIX_REWRITES = [
    ("/foo", "/xyz", "/foo/bar", "/xyz/bar"),
    ("/foo", "/xyz/", "/foo/bar", "/xyz/bar"),
    ("/foo/", "/xyz", "/foo/bar", "/xyz/bar"),
    ("/foo/", "/xyz/", "/foo/bar", "/xyz/bar"),
    ("/foo", "/xyz", "/foo", "/xyz"),
    ("/foo", "/xyz", "/foo/", "/xyz/"),
    ("/foo", "", "/foo/bar", "/bar"),
    ("/foo", "", "/foo/", "/"),
    ("/foo", "", "/foo", "/"),
    ("/foo", "/", "/foo/", "/"),
    ("/foo", "/", "/foo", "/"),
    ("/foo", "/", "/foo/bar", "/bar"),
    ("/", "/xyz", "/", "/xyz/"),
    ("/", "/xyz", "/bar", "/xyz/bar"),
    ("/", "/xyz/", "/bar", "/xyz/bar"),
    ("/", "/", "/bar", "/bar"),
    ("/foo", "/xyz", "/foo/foo?a=/foo", "/xyz/foo?a=/foo"),
    ("/foo", "/", "/foo/foo?a=/foo", "/foo?a=/foo"),
    ("/f.o+", "/", "/f.o+/bar", "/bar"),
]


@pytest.fixture(scope="module")
def rewriting(serve: Serve, servers: dict[str, Backend]) -> Proxy:
    def rule(index: int, field: str) -> RouteEntry:
        old, new, _, _ = PREFIX_REWRITES[index]
        change = PathChange("prefix", new)
        if field == "redirect":
            return entry(prefix(old), redirect=Redirect(path=change))
        return entry(prefix(old), to("one"), rewrite=Rewrite(path=change))

    ports = [
        routed(f"{field}-{index:02}", rule(index, field))
        for field in ("redirect", "rewrite")
        for index in range(len(PREFIX_REWRITES))
    ]
    return serve(view(routed=tuple(ports), destinations=destinations(servers)))


@pytest.mark.parametrize("index", range(len(PREFIX_REWRITES)), ids=lambda i: " ".join(PREFIX_REWRITES[i]))
def test_a_prefix_is_replaced_as_the_table_of_the_gateway_api_says(index: int, rewriting: Proxy) -> None:
    *_, path, expected = PREFIX_REWRITES[index]
    rewritten = ask(rewriting.ports[name(f"rewrite-{index:02}")], path)
    redirected = ask(rewriting.ports[name(f"redirect-{index:02}")], path, headers=[("host", "api")])
    assert rewritten.read["path"] == expected
    assert redirected.headers["location"] == f"http://api{expected}"


def test_a_full_rewrite_replaces_path_and_host_keeps_the_query_and_tells_nobody(
    serve: Serve, servers: dict[str, Backend]
) -> None:
    rewrite = Rewrite(hostname="other.example", path=PathChange("full", "/a\\1%b"))
    rule = entry(prefix("/"), to("one"), rewrite=rewrite)
    proxy = serve(view(routed=(routed("api", rule),), destinations=destinations(servers)))
    answer = ask(proxy.ports[name("api")], "/x/y?q=1", headers=[("host", "api"), ("x-a", "b")])
    assert answer.read["path"] == "/a\\1%b?q=1"
    assert answer.read["headers"] == [["host", "other.example"], ["x-a", "b"], ["x-forwarded-proto", "http"]]


# --- redirects -----------------------------------------------------------------------------------

#: (service port, Host, redirect, status, Location)
REDIRECTS = [
    (80, "api", Redirect(port="derived"), 302, "http://api/p?q"),
    # Istio's redirects keep the port of the request, unless told otherwise.
    (8080, "api:8080", Redirect(hostname="b.example"), 302, "http://b.example/p?q"),
    (8080, "api:8080", Redirect(scheme="https"), 302, "https://api:8080/p?q"),
    (8080, "api", Redirect(hostname="b.example", port="dialled"), 302, "http://b.example:8080/p?q"),
    (80, "api", Redirect(scheme="https", port="derived"), 302, "https://api/p?q"),
    (80, "api:80", Redirect(scheme="https", port="derived"), 302, "https://api/p?q"),
    (80, "api", Redirect(scheme="https", status=301, port="derived"), 301, "https://api/p?q"),
    (80, "api", Redirect(scheme="https", port=8443, status=308), 308, "https://api:8443/p?q"),
    (80, "api", Redirect(port=8080, status=307), 307, "http://api:8080/p?q"),
    (80, "api", Redirect(port=80, status=303), 303, "http://api/p?q"),
    (80, "api", Redirect(hostname="b.example", port="derived"), 302, "http://b.example/p?q"),
    (80, "api", Redirect(hostname="b.example", scheme="https", port=443), 302, "https://b.example/p?q"),
    (80, "api", Redirect(hostname="b.example", scheme="https", port=80), 302, "https://b.example:80/p?q"),
    (8080, "api:8080", Redirect(port="derived"), 302, "http://api:8080/p?q"),
    (8080, "api:8080", Redirect(hostname="b.example", port="derived"), 302, "http://b.example:8080/p?q"),
    (
        8080,
        "api:8080",
        Redirect(hostname="b.example", scheme="https", port="derived"),
        302,
        "https://b.example/p?q",
    ),
    (8080, "api:8080", Redirect(hostname="b.example", port=80), 302, "http://b.example/p?q"),
    (8080, "api:8080", Redirect(scheme="https", port="derived"), 302, "https://api:443/p?q"),
    (80, "api", Redirect(path=PathChange("full", "/new"), port="derived"), 302, "http://api/new?q"),
]


def test_a_redirect_names_scheme_host_port_and_path_as_the_gateway_api_says(serve: Serve) -> None:
    ports = [
        routed(f"r{index:02}", entry(prefix("/"), redirect=redirect), port=port)
        for index, (port, _, redirect, _, _) in enumerate(REDIRECTS)
    ]
    proxy = serve(view(routed=tuple(ports)))
    for index, (port, host, redirect, status, location) in enumerate(REDIRECTS):
        answer = ask(proxy.ports[name(f"r{index:02}", port)], "/p?q", headers=[("host", host)])
        assert (answer.status, answer.headers["location"]) == (status, location), redirect


# --- where a request goes ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weighing(serve: Serve, servers: dict[str, Backend]) -> Proxy:
    rules = {
        "a-split": (to("one", 3), to("two", 1), to("three", 0)),
        "b-part-invalid": (to("one", 1), nowhere(1)),
        "c-all-invalid": (nowhere(1),),
        "d-all-zero": (to("one", 0), to("two", 0)),
        "e-none": (),
        "f-empty": (to("zero"),),
        "g-unknown": (to("unheard-of"),),
        "h-invalid-of-weight-0": (to("one", 1), nowhere(0)),
    }
    ports = tuple(routed(of, entry(prefix("/"), *backends)) for of, backends in rules.items())
    return serve(view(routed=ports, destinations=destinations(servers)))


def test_requests_are_shared_out_by_weight(weighing: Proxy) -> None:
    found = Counter(ask(weighing.ports[name("a-split")], "/").backend for _ in range(200))
    assert found.keys() == {"one", "two"}
    assert 115 <= found["one"] <= 185  # 150 expected, more than five standard deviations


def test_the_share_of_an_invalid_backend_is_answered_500(weighing: Proxy) -> None:
    found = Counter(ask(weighing.ports[name("b-part-invalid")], "/").status for _ in range(100))
    assert found.keys() == {200, 500}
    assert 20 <= found[500] <= 80


@pytest.mark.parametrize(
    ("of", "status"),
    [
        ("c-all-invalid", 500),
        ("d-all-zero", 500),
        ("e-none", 500),
        ("f-empty", 503),
        ("g-unknown", 500),
        ("h-invalid-of-weight-0", 200),
    ],
)
def test_a_route_without_a_backend_says_so(of: str, status: int, weighing: Proxy) -> None:
    assert ask(weighing.ports[name(of)], "/").status == status


# --- headers and time ----------------------------------------------------------------------------


def test_headers_change_by_rule_and_then_by_backend(serve: Serve, servers: dict[str, Backend]) -> None:
    backend = to(
        "one",
        request_headers=HeaderChange(set=(("x-set", "backend"),), remove=("x-late",)),
        response_headers=HeaderChange(set=(("x-answer", "backend"),)),
    )
    rule = entry(
        prefix("/"),
        backend,
        request_headers=HeaderChange(
            set=(("x-set", "rule"), ("x-per-cent", "100%REQ(host)%")),
            add=(("x-add", "new"), ("x-fresh", "1"), ("x-late", "1")),
            remove=("x-gone",),
        ),
        response_headers=HeaderChange(
            set=(("x-answer", "rule"),), add=(("x-also", "1"),), remove=("x-backend",)
        ),
    )
    proxy = serve(view(routed=(routed("api", rule),), destinations=destinations(servers)))
    sent = [("x-set", "client"), ("x-add", "old"), ("x-gone", "1")]
    answer = ask(proxy.ports[name("api")], "/", headers=sent)
    read = {
        header: answer.sent(header)
        for header in ("x-set", "x-add", "x-fresh", "x-gone", "x-late", "x-per-cent")
    }
    assert read == {
        "x-set": ["backend"],
        "x-add": ["old", "new"],
        "x-fresh": ["1"],
        "x-gone": [],
        "x-late": [],
        "x-per-cent": ["100%REQ(host)%"],
    }
    assert (answer.headers["x-answer"], answer.headers["x-also"], answer.backend) == ("backend", "1", None)


def test_a_header_change_may_name_the_host(serve: Serve, servers: dict[str, Backend]) -> None:
    change = HeaderChange(set=(("host", "new.example"),), remove=("host",))
    proxy = serve(
        view(
            routed=(
                routed("backend", entry(prefix("/"), to("one", request_headers=change))),
                routed("rule", entry(prefix("/"), to("one"), request_headers=change)),
            ),
            destinations=destinations(servers),
        )
    )
    found = [ask(proxy.ports[name(of)], "/").sent("host") for of in ("backend", "rule")]
    assert found == [["new.example"], ["new.example"]]


def test_time_limits_answer_504_and_without_one_a_slow_answer_arrives(
    serve: Serve, servers: dict[str, Backend]
) -> None:
    proxy = serve(
        view(
            routed=(
                routed("attempt", entry(prefix("/"), to("one"), backend_timeout_ms=50)),
                routed("none", entry(prefix("/"), to("one"))),
                routed("request", entry(prefix("/"), to("one"), timeout_ms=50)),
            ),
            destinations=destinations(servers),
        )
    )
    assert ask(proxy.ports[name("attempt")], "/slow").status == 504
    assert ask(proxy.ports[name("request")], "/slow").status == 504
    servers["one"].release()
    assert ask(proxy.ports[name("none")], "/slow").status == 200
    assert service("one") == destinations(servers)[0].target.service


def test_a_path_match_of_another_kind_keeps_its_path() -> None:
    from xds.render.paths import path_rewrite

    assert path_rewrite(PathMatch("exact", "/foo"), PathChange("prefix", "/x")) == {}
