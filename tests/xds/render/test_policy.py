"""HTTP rules of network policies, as a real Envoy applies them."""

from __future__ import annotations

import pytest

from mesh.model import HeaderMatch, HttpMatch, PathChange, Rewrite
from mesh.policies.policy import permits
from mesh.proxy import L7Class
from tests.xds.render.backend import Backend
from tests.xds.render.client import Client, ask, question
from tests.xds.render.conftest import Serve
from tests.xds.render.standalone import Proxy
from tests.xds.render.views import destination, entry, l7, part, prefix, routed, to, view

#: Each match is a class of its own, tried with requests that must and must not pass:
#: (method, path, headers).
Request = tuple[str, str, tuple[tuple[str, str], ...]]


def get(path: str, *headers: tuple[str, str]) -> Request:
    return "GET", path, headers


TABLE: dict[str, tuple[HttpMatch, list[Request], list[Request]]] = {
    "nothing asked": (HttpMatch(), [get("/"), ("DELETE", "/x?y=z", ())], []),
    "method": (
        HttpMatch(method="GET|HEAD"),
        [get("/"), ("HEAD", "/", ())],
        [("POST", "/", ()), ("DELETE", "/", ())],
    ),
    "path, the whole of it": (
        HttpMatch(path="/public/.*"),
        [get("/public/"), get("/public/a/b?c=d")],
        [get("/public"), get("/x/public/"), get("/Public/")],
    ),
    "path with the query": (
        HttpMatch(path="/search"),
        [get("/search")],
        [get("/search?q=1"), get("/search/"), get("/searches")],
    ),
    "path after normalisation": (
        HttpMatch(path="/public/.*"),
        [
            get("/public//a"),
            get("//public/a"),
            get("/x/../public/a"),
            get("/x/%2e%2e/public/a"),
            get("/%70ublic/a"),
        ],
        [
            get("/public/../admin"),
            get("/public/%2e%2e/admin"),
            get("/public/%2E%2e//admin"),
            get("/public/./../admin"),
        ],
    ),
    "escaped slashes as they are": (
        HttpMatch(path="/a%2[fF]b"),
        [get("/a%2fb"), get("/a%2Fb")],
        [get("/a/b")],
    ),
    "host": (
        HttpMatch(host="api[.]shop(:80)?"),
        [get("/", ("host", "api.shop")), get("/", ("host", "api.shop:80"))],
        [
            get("/", ("host", "api-shop")),
            get("/", ("host", "x.api.shop")),
            get("/", ("host", "api.shop.evil")),
        ],
    ),
    "header present": (
        HttpMatch(headers=(HeaderMatch("x-token"),)),
        [get("/", ("X-Token", "a")), get("/", ("x-token", ""))],
        [get("/"), get("/", ("x-tokens", "a"))],
    ),
    "header equal, in every line": (
        HttpMatch(headers=(HeaderMatch("x-role", "user"),)),
        [get("/", ("X-Role", "user"))],
        [
            get("/"),
            get("/", ("x-role", "User")),
            get("/", ("x-role", "users")),
            get("/", ("x-role", "user,admin")),
            get("/", ("x-role", "user"), ("x-role", "admin")),
            get("/", ("x-role", "admin"), ("x-role", "user")),
        ],
    ),
    "host as a header": (
        HttpMatch(headers=(HeaderMatch("host", "api.shop"),)),
        [get("/", ("host", "api.shop"))],
        [get("/", ("host", "shop"))],
    ),
    "all conditions of a match": (
        HttpMatch(method="GET", path="/a", headers=(HeaderMatch("x-a", "1"), HeaderMatch("x-b"))),
        [get("/a", ("x-a", "1"), ("x-b", "2"))],
        [get("/a", ("x-a", "1")), get("/a", ("x-b", "2")), ("PUT", "/a", (("x-a", "1"), ("x-b", "2")))],
    ),
}
NUMBERS = {name: 256 + index for index, name in enumerate(TABLE)}


@pytest.fixture(scope="module")
def proxy(serve: Serve, servers: dict[str, Backend]) -> Proxy:
    classes = tuple(l7(NUMBERS[name], "ingress", match) for name, (match, _, _) in TABLE.items())
    return serve(view(ingress=classes), passthrough=("127.0.0.1", servers["one"].port))


@pytest.mark.parametrize("name", TABLE)
def test_a_request_passes_if_and_only_if_a_match_fits_it(name: str, proxy: Proxy) -> None:
    _, allowed, denied = TABLE[name]
    port = proxy.ports[f"virtualInbound|{NUMBERS[name]}"]
    verdicts = {request: ask(port, request[1], request[0], request[2]) for request in (*allowed, *denied)}
    assert {request: answer.status for request, answer in verdicts.items()} == {
        **dict.fromkeys(allowed, 200),
        **dict.fromkeys(denied, 403),
    }
    assert {verdicts[request].body for request in denied} <= {"RBAC: access denied"}


@pytest.mark.parametrize("name", TABLE)
def test_the_reference_agrees(name: str) -> None:
    match, allowed, denied = TABLE[name]
    rules = l7(1, "ingress", match).rules
    found = {request: permits(rules, question(*request)) is not None for request in (*allowed, *denied)}
    assert found == {**dict.fromkeys(allowed, True), **dict.fromkeys(denied, False)}


def test_a_class_allows_what_any_of_its_rules_allows_and_nothing_if_they_are_empty(
    serve: Serve, servers: dict[str, Backend]
) -> None:
    both = (
        *l7(1, "egress", HttpMatch(path="/a"), field="egress[0]").rules,
        *l7(1, "egress", HttpMatch(path="/b"), HttpMatch(path="/c"), field="egress[1]").rules,
    )
    proxy = serve(
        view(
            egress=(L7Class(300, "egress", both), l7(301, "egress"), L7Class(302, "egress", ())),
        ),
        passthrough=("127.0.0.1", servers["one"].port),
    )
    statuses = {
        number: [
            ask(proxy.ports[f"virtualOutbound|{number}"], path).status for path in ("/a", "/b", "/c", "/d")
        ]
        for number in (300, 301, 302)
    }
    assert statuses == {300: [200, 200, 200, 403], 301: [403] * 4, 302: [403] * 4}


def test_an_edit_of_a_rule_binds_a_connection_that_is_open_already(
    serve: Serve, servers: dict[str, Backend]
) -> None:
    proxy = serve(
        view(ingress=(l7(300, "ingress", HttpMatch()),)), ("127.0.0.1", servers["one"].port), updated=True
    )
    client = Client(proxy.ports["virtualInbound|300"])
    assert client.ask("/a").status == 200
    proxy.update(view(ingress=(l7(300, "ingress", HttpMatch(path="/b")),)))
    assert [client.ask("/a").status, client.ask("/b").status] == [403, 200]
    client.close()


def test_an_egress_class_judges_the_request_that_its_backends_would_read_and_no_other_backend(
    serve: Serve, servers: dict[str, Backend]
) -> None:
    """Rule 4: Envoy is nobody's deputy, not even through a route that rewrites."""
    rewrite = Rewrite(path=PathChange("prefix", "/admin"))
    open_, judged = to("open"), to("judged")
    shown = view(
        routed=(
            routed("plain", entry(prefix("/"), judged)),
            routed("rewritten", entry(prefix("/public"), judged, rewrite=rewrite)),
            routed("other", entry(prefix("/"), open_)),
        ),
        destinations=(
            destination("judged", part(servers["one"].port, l7=300)),
            destination("open", part(servers["two"].port)),
        ),
        egress=(l7(300, "egress", HttpMatch(path="/public.*")),),
    )
    proxy = serve(shown)

    def status(name: str, path: str) -> int:
        return ask(proxy.ports[f"{name}.shop.svc.cluster.local:80"], path).status

    assert [status("plain", "/public"), status("plain", "/admin")] == [200, 403]
    assert status("rewritten", "/public") == 403
    assert status("other", "/admin") == 200


def test_backends_of_one_service_with_different_verdicts_keep_their_own(
    serve: Serve, servers: dict[str, Backend]
) -> None:
    proxy = serve(
        view(
            routed=(routed("api", entry(prefix("/"), to("api"))),),
            destinations=(
                destination(
                    "api", part(servers["one"].port), part(servers["two"].port, servers["three"].port, l7=300)
                ),
            ),
            egress=(l7(300, "egress", HttpMatch(path="/public")),),
        )
    )
    port = proxy.ports["api.shop.svc.cluster.local:80"]
    public = [ask(port, "/public") for _ in range(120)]
    private = [ask(port, "/private") for _ in range(120)]
    assert {answer.status for answer in public} == {200}
    assert {answer.backend for answer in public} == {"one", "two", "three"}
    assert {(answer.status, answer.backend) for answer in private} == {(200, "one"), (403, None)}
    refused = sum(answer.status == 403 for answer in private)
    assert 50 <= refused <= 105  # two of three backends: 80 expected, five standard deviations
