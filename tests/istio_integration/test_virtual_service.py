from __future__ import annotations

from typing import Any

import pytest

from mesh.model import (
    Callers,
    ClaimMatch,
    ConnectionMatch,
    ConnectionRule,
    CorsPolicy,
    DirectResponse,
    Fault,
    Fragment,
    HeaderChange,
    Mirror,
    ObjectRef,
    Parent,
    PathChange,
    PathMatch,
    Redirect,
    Retries,
    Rewrite,
    Route,
    RouteBackend,
    RouteMatch,
    RouteRule,
    ServiceName,
    ValueMatch,
)
from tests.mesh.dialects.objects import obj
from xds.dialects import read

WEB = ServiceName("shop", "web")
ROUTE = {"route": [{"destination": {"host": "web"}}]}
CLAIMS = "@request.auth.claims"


def fragment(spec: Any, version: str = "v1") -> Fragment:
    return read(obj(f"networking.istio.io/{version}", "VirtualService", {"hosts": ["web"]} | spec))


def route(spec: Any, version: str = "v1") -> Route:
    found = fragment(spec, version)
    assert found.valid, found.problems
    (noun,) = found.nouns
    assert isinstance(noun, Route)
    return noun


def rules(http: Any, **spec: Any) -> tuple[RouteRule, ...]:
    return route({"http": [http]} | spec).rules


def rule(http: Any, **spec: Any) -> RouteRule:
    (found,) = rules(http, **spec)
    return found


def match(**fields: Any) -> RouteMatch:
    (found,) = rule(ROUTE | {"match": [fields]}).matches
    return found


def refused(spec: Any) -> dict[str, str]:
    found = fragment(spec)
    assert not found.valid and not found.nouns
    return {problem.field.removeprefix("spec."): problem.message for problem in found.problems}


# --- the whole -----------------------------------------------------------------------------------


def test_bookinfos_reviews_are_all_v1() -> None:
    destination = {"host": "reviews", "subset": "v1"}
    found = route({"hosts": ["reviews"], "http": [{"route": [{"destination": destination}]}]})
    reviews = ServiceName("shop", "reviews")
    assert found == Route(
        ObjectRef("VirtualService", "shop", "one"),
        "",
        (Parent(reviews, None),),
        (RouteRule("http[0]", (RouteMatch(),), (RouteBackend(reviews, 0, 100, subset="v1"),), lost=503),),
        names=("reviews.shop.svc.cluster.local",),
        in_order=True,
    )


def test_bookinfos_jason_sees_v2_and_everybody_else_v3() -> None:
    v2, v3 = ({"route": [{"destination": {"host": "reviews", "subset": s}}]} for s in ("v2", "v3"))
    jason = {"match": [{"headers": {"end-user": {"exact": "jason"}}}]}
    first, second = route({"hosts": ["reviews"], "http": [jason | v2, v3]}).rules
    assert first.matches == (RouteMatch(headers=(ValueMatch("end-user", "exact", "jason"),)),)
    assert [backend.subset for backend in first.backends + second.backends] == ["v2", "v3"]
    assert second.matches == (RouteMatch(),)


@pytest.mark.parametrize("version", ["v1", "v1beta1", "v1alpha3"])
def test_every_version_means_the_same(version: str) -> None:
    assert route({"http": [ROUTE]}, version) == route({"http": [ROUTE]})


@pytest.mark.parametrize(
    ("written", "service"),
    [
        ("web", WEB),
        ("Web", WEB),
        ("web.far.svc.cluster.local", ServiceName("far", "web")),
        # Only a name without a dot is short.
        ("web.far", ServiceName("shop", "web.far")),
        ("web.far.svc", ServiceName("shop", "web.far.svc")),
        ("wikipedia.org", ServiceName("shop", "wikipedia.org")),
        ("web-0.web.far.svc.cluster.local", ServiceName("shop", "web-0.web.far.svc.cluster.local")),
    ],
)
def test_what_a_host_stands_for(written: str, service: ServiceName) -> None:
    assert route({"hosts": [written], "http": [ROUTE]}).parents == (Parent(service, None),)
    assert rule({"route": [{"destination": {"host": written}}]}).backends[0].service == service


def test_a_host_that_ends_in_svc_is_pointed_out() -> None:
    (problem,) = fragment({"hosts": ["web.far.svc"], "http": [ROUTE]}).problems
    assert "web.far.svc.cluster.local" in problem.message


def test_patterns_bind_every_service_they_fit_and_addresses_are_for_gateways() -> None:
    hosts = ["*.example.com", "192.0.2.1", "2001:db8::1"]
    found = route({"hosts": hosts, "gateways": ["edge"], "http": [ROUTE]})
    assert (found.hosts, found.parents, found.names) == (("*.example.com",), (), tuple(hosts))


@pytest.mark.parametrize(
    ("written", "means"),
    [
        (["mesh"], ("mesh",)),
        (["edge", "mesh"], ("mesh", "shop/edge")),
        (["far/edge"], ("far/edge",)),
        (["edge.far.svc.cluster.local"], ("far/edge",)),
    ],
)
def test_gateways_are_of_the_own_namespace_unless_they_say_another(written: Any, means: Any) -> None:
    assert route({"gateways": written, "http": [ROUTE]}).gateways == means


@pytest.mark.parametrize(
    ("written", "means"),
    [([], ("*",)), (["*"], ("*",)), (["."], ("shop",)), ([".", "far"], ("far", "shop"))],
)
def test_to_whom_it_is_exported(written: Any, means: Any) -> None:
    assert route({"exportTo": written, "http": [ROUTE]}).exported == means


def test_one_without_hosts_is_a_delegate_and_binds_nobody() -> None:
    found = route({"hosts": [], "http": [ROUTE]})
    assert (found.parents, found.hosts, found.names) == ((), (), ())


def test_when_it_was_made() -> None:
    object = obj("networking.istio.io/v1", "VirtualService", {"hosts": ["web"], "http": [ROUTE]})
    object["metadata"]["creationTimestamp"] = "2026-08-01T00:00:00Z"
    (found,) = read(object).nouns
    assert isinstance(found, Route) and found.created == "2026-08-01T00:00:00Z"


# --- which requests --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ({"exact": "/a"}, PathMatch("exact", "/a")),
        ({"prefix": "/a"}, PathMatch("start", "/a")),
        ({"prefix": ""}, PathMatch("start", "")),
        ({"regex": "/a.*"}, PathMatch("regex", "/a.*")),
    ],
)
def test_a_uri_is_matched_by_characters(uri: Any, path: PathMatch) -> None:
    assert match(uri=uri) == RouteMatch(path)


def test_case_is_ignored_in_texts_only() -> None:
    assert match(uri={"exact": "/A"}, ignoreUriCase=True).path == PathMatch("exact", "/A", True)
    assert match(uri={"prefix": "/A"}, ignoreUriCase=True).path == PathMatch("start", "/A", True)
    assert match(uri={"regex": "/A"}, ignoreUriCase=True).path == PathMatch("regex", "/A")


@pytest.mark.parametrize(
    ("fields", "headers"),
    [
        ({"method": {"exact": "GET"}}, [ValueMatch(":method", "exact", "GET")]),
        ({"scheme": {"exact": "https"}}, [ValueMatch(":scheme", "exact", "https")]),
        ({"authority": {"prefix": "web"}}, [ValueMatch(":authority", "prefix", "web")]),
        ({"headers": {"X-Team": {"regex": "a|b"}}}, [ValueMatch("x-team", "regex", "a|b")]),
        ({"headers": {"x-team": {"exact": ""}}}, [ValueMatch("x-team", "exact", "")]),
        ({"headers": {"x-team": {}}}, [ValueMatch("x-team", "present")]),
        ({"headers": {":authority": {"exact": "web"}}}, [ValueMatch(":authority", "exact", "web")]),
        ({"withoutHeaders": {"x": {"prefix": "a"}}}, [ValueMatch("x", "prefix", "a", negated=True)]),
        ({"withoutHeaders": {"x": {}}}, [ValueMatch("x", "present", negated=True)]),
        ({"withoutHeaders": {"x": {"regex": "*"}}}, [ValueMatch("x", "present", negated=True)]),
        (
            {"headers": {"b": {}, "a": {}}, "withoutHeaders": {"a": {"exact": "x"}}},
            [ValueMatch("a", "present"), ValueMatch("a", "exact", "x", True), ValueMatch("b", "present")],
        ),
    ],
)
def test_headers_and_what_counts_as_one(fields: Any, headers: Any) -> None:
    assert match(**fields) == RouteMatch(headers=tuple(headers))


def test_query_parameters_keep_their_case() -> None:
    assert match(queryParams={"Key": {"prefix": "a"}, "B": {}}).query == (
        ValueMatch("B", "present"),
        ValueMatch("Key", "prefix", "a"),
    )


def test_port_and_callers() -> None:
    found = match(port=80, sourceLabels={"app": "web"}, sourceNamespace="far", gateways=["mesh", "edge"])
    assert found == RouteMatch(
        port=80, callers=Callers("far", (("app", "web"),), gateways=("mesh", "shop/edge"))
    )


# --- where they go -----------------------------------------------------------------------------------


def weighted(*weights: int | None) -> Any:
    return {
        "route": [
            {"destination": {"host": "web"}} | ({} if weight is None else {"weight": weight})
            for weight in weights
        ]
    }


@pytest.mark.parametrize(
    ("written", "means"),
    [((None,), [100]), ((0,), [100]), ((7,), [100]), ((1, 3), [1, 3]), ((0, 5), [0, 5]), ((None, 5), [0, 5])],
)
def test_the_only_destination_gets_everything_and_else_no_weight_is_none(written: Any, means: Any) -> None:
    assert [backend.weight for backend in rule(weighted(*written)).backends] == means


def test_a_destination_has_a_port_and_a_subset() -> None:
    found = rule({"route": [{"destination": {"host": "web", "port": {"number": 80}, "subset": "v1"}}]})
    assert found.backends == (RouteBackend(WEB, 80, 100, subset="v1"),)


def changed(*destinations: Any, **whole: Any) -> tuple[HeaderChange, ...]:
    entries = [
        {"destination": {"host": "web"}, "weight": 1, "headers": {"request": request}}
        for request in destinations
    ]
    found = rule({"route": entries, "headers": {"request": whole}})
    assert (found.request_headers, found.response_headers) == (HeaderChange(), HeaderChange())
    return tuple(backend.request_headers for backend in found.backends)


def test_of_several_destinations_each_ones_changes_come_before_the_routes() -> None:
    first, second = changed({"set": {"X": "a"}, "add": {"y": "a"}}, {}, set={"x": "b"}, add={"y": "b"})
    assert first == HeaderChange(set=(("x", "b"),), add=(("y", "a"), ("y", "b")))
    assert second == HeaderChange(set=(("x", "b"),), add=(("y", "b"),))


def test_of_a_single_destination_they_come_after_the_routes() -> None:
    (found,) = changed({"set": {"x": "a"}, "add": {"y": "a"}}, set={"x": "b"}, add={"y": "b"})
    assert found == HeaderChange(set=(("x", "a"),), add=(("y", "b"), ("y", "a")))


@pytest.mark.parametrize(
    ("changes", "means"),
    [
        ({"remove": ["x"], "set": {"x": "a"}}, HeaderChange(set=(("x", "a"),))),
        ({"remove": ["x"], "add": {"x": "a"}}, HeaderChange(set=(("x", "a"),))),
        (
            {"set": {"x": "a"}, "add": {"x": "b"}},
            HeaderChange(set=(("x", "a"),), add=(("x", "b"),)),
        ),
        ({"remove": ["B", "a"]}, HeaderChange(remove=("a", "b"))),
        ({"set": {"x": "50%%"}}, HeaderChange(set=(("x", "50%"),))),
    ],
)
def test_envoy_removes_before_it_sets_and_adds(changes: Any, means: HeaderChange) -> None:
    assert changed({}, **changes) == (means,)


def test_without_destinations_the_changes_are_the_rules() -> None:
    found = rule({"directResponse": {"status": 200}, "headers": {"response": {"set": {"x": "a"}}}})
    assert found.response_headers == HeaderChange(set=(("x", "a"),))


@pytest.mark.parametrize("name", ["Host", ":authority"])
def test_the_authority_is_rewritten_and_is_no_header(name: str) -> None:
    change = {"request": {"set": {name: "a.example.com"}}}
    for http in (
        ROUTE | {"headers": change},
        {"route": [{"destination": {"host": "web"}, "headers": change}]},
    ):
        found = rule(http)
        assert found.rewrite == Rewrite("a.example.com")
        assert found.backends[0].request_headers == HeaderChange()


def test_the_routes_authority_wins_over_its_destinations() -> None:
    change = {"request": {"set": {"host": "destination"}}}
    only = {"route": [{"destination": {"host": "web"}, "headers": change}]}
    assert rule(only | {"rewrite": {"authority": "route"}}).rewrite == Rewrite("route")


# --- what is done to them ------------------------------------------------------------------------------


def test_what_the_match_names_is_rewritten() -> None:
    """Envoy's prefix rewrite, as Istio says it for every kind of match."""
    assert rule(ROUTE | {"rewrite": {"uri": "/x"}}).rewrite == Rewrite(path=PathChange("start", "/x"))


def test_a_rewrite_by_expression() -> None:
    change = {"match": "^/(a)(/.*)$", "rewrite": r"/x\2/\1"}
    found = rule(ROUTE | {"rewrite": {"uriRegexRewrite": change, "authority": "a:80"}}).rewrite
    assert found == Rewrite("a:80", PathChange("regex", r"/x\2/\1", "^/(a)(/.*)$"))


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ({"uri": "/x"}, Redirect(path=PathChange("full", "/x"), status=301)),
        ({"prefixRewrite": "/x"}, Redirect(path=PathChange("start", "/x"), status=301)),
        ({"authority": "a"}, Redirect(hostname="a", status=301)),
        ({"authority": "a:8080"}, Redirect(hostname="a", port=8080, status=301)),
        ({"authority": "[2001:db8::1]:8080"}, Redirect(hostname="[2001:db8::1]", port=8080, status=301)),
        ({"port": 8080, "redirectCode": 307}, Redirect(port=8080, status=307)),
        ({"scheme": "https", "redirectCode": 0}, Redirect(scheme="https", status=301)),
        ({"derivePort": "FROM_REQUEST_PORT"}, Redirect(port="dialled", status=301)),
        ({"derivePort": "FROM_PROTOCOL_DEFAULT"}, Redirect(status=301)),
    ],
)
def test_redirects(written: Any, means: Redirect) -> None:
    found = rule({"redirect": written})
    assert (found.redirect, found.backends) == (means, ())


@pytest.mark.parametrize(
    ("body", "means"),
    [(None, b""), ({"string": "<p>\n"}, b"<p>\n"), ({"bytes": "AAE="}, b"\x00\x01")],
)
def test_direct_responses(body: Any, means: bytes) -> None:
    assert rule({"directResponse": {"status": 503, "body": body}}).direct == DirectResponse(503, means)


ISTIOS_OWN = ("connect-failure", "refused-stream", "unavailable", "cancelled")


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ({"attempts": 0}, Retries(0)),
        ({}, Retries(0)),
        ({"attempts": 3}, Retries(3, ISTIOS_OWN)),
        ({"attempts": 3, "retryOn": "503"}, Retries(3, (), (503,))),
        ({"attempts": 3, "retryOn": "reset, 503,5xx,429"}, Retries(3, ("reset", "5xx"), (429, 503))),
        ({"attempts": 1, "perTryTimeout": "2s"}, Retries(1, ISTIOS_OWN, per_try_ms=2000)),
        ({"attempts": 1, "backoff": "25ms"}, Retries(1, ISTIOS_OWN, backoff_ms=25)),
        ({"attempts": 1, "retryRemoteLocalities": True}, Retries(1, ISTIOS_OWN, other_localities=True)),
        ({"attempts": 1, "retryIgnorePreviousHosts": False}, Retries(1, ISTIOS_OWN, same_host=True)),
    ],
)
def test_retries(written: Any, means: Retries) -> None:
    assert rule(ROUTE | {"retries": written}).retries == means


def test_without_a_word_retries_are_the_meshs_and_there_is_no_timeout() -> None:
    assert (rule(ROUTE).retries, rule(ROUTE).timeout_ms) == (None, 0)


@pytest.mark.parametrize(
    ("written", "means"),
    [("10s", 10_000), ("1m30s", 90_000), ("0.5s", 500), ("1.5h", 5_400_000), ("1000us", 1)],
)
def test_durations_are_gos(written: str, means: int) -> None:
    assert rule(ROUTE | {"timeout": written}).timeout_ms == means


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ({"delay": {"fixedDelay": "5s"}}, Fault(delay_ms=5000)),
        ({"delay": {"fixedDelay": "5s", "percent": 5}}, Fault(delay_ms=5000, delayed=50_000)),
        (
            {"delay": {"fixedDelay": "7s", "percentage": {"value": 0.1}}},
            Fault(delay_ms=7000, delayed=1000),
        ),
        ({"abort": {"httpStatus": 500, "percentage": {"value": 100}}}, Fault(status=500, aborted=1_000_000)),
        ({"abort": {"grpcStatus": "UNAVAILABLE"}}, Fault(grpc_status=14)),
    ],
)
def test_faults(written: Any, means: Fault) -> None:
    assert rule(ROUTE | {"fault": written}).fault == means


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ({"mirror": {"host": "web"}}, [Mirror(WEB, 0)]),
        (
            {"mirror": {"host": "web", "subset": "v2", "port": {"number": 1}}, "mirrorPercent": 5},
            [Mirror(WEB, 1, "v2", 50_000)],
        ),
        ({"mirror": {"host": "web"}, "mirrorPercentage": {"value": 12.5}}, [Mirror(WEB, 0, share=125_000)]),
        ({"mirror": {"host": "web"}, "mirrorPercentage": {"value": 0}}, []),
        (
            {
                "mirrors": [
                    {"destination": {"host": "web"}},
                    {"destination": {"host": "a.com"}, "percentage": {"value": 1}},
                ]
            },
            [Mirror(WEB, 0), Mirror(ServiceName("shop", "a.com"), 0, share=10_000)],
        ),
    ],
)
def test_mirrors(written: Any, means: Any) -> None:
    assert rule(ROUTE | written).mirrors == tuple(means)


def origin(kind: Any, value: str) -> ValueMatch:
    return ValueMatch("origin", kind, value)


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ({}, CorsPolicy()),
        (
            {"allowOrigins": [{"exact": "http://a"}, {"prefix": "http://"}, {"regex": "http://.*"}]},
            CorsPolicy(
                (origin("exact", "http://a"), origin("prefix", "http://"), origin("regex", "http://.*"))
            ),
        ),
        ({"allowOrigin": ["http://a"]}, CorsPolicy((origin("exact", "http://a"),))),
        # To Envoy what fits * fits every origin.
        ({"allowOrigin": ["*"]}, CorsPolicy((origin("regex", ".*"),))),
        ({"allowOrigins": [{"exact": "*"}]}, CorsPolicy((origin("regex", ".*"),))),
        (
            {"allowMethods": ["GET", "*"], "allowHeaders": ["X-A"], "exposeHeaders": ["*"]},
            CorsPolicy(methods=("GET", "*"), headers=("X-A",), exposed=("*",)),
        ),
        ({"maxAge": "24h", "allowCredentials": False}, CorsPolicy(max_age_s=86400, credentials=False)),
        ({"unmatchedPreflights": "IGNORE"}, CorsPolicy(forward_unmatched=False)),
        ({"unmatchedPreflights": "FORWARD"}, CorsPolicy()),
    ],
)
def test_cors(written: Any, means: CorsPolicy) -> None:
    assert rule(ROUTE | {"corsPolicy": written}).cors == means


def test_a_delegate_is_named_and_of_the_own_namespace_unless_it_says_another() -> None:
    assert rule({"delegate": {"name": "part"}}).delegate == ObjectRef("VirtualService", "shop", "part")
    found = rule({"delegate": {"name": "part", "namespace": "far"}, "timeout": "1s"})
    assert found.delegate == ObjectRef("VirtualService", "far", "part")
    assert found.timeout_ms == 1000


def test_what_has_no_effect_beside_an_answer_is_pointed_out() -> None:
    found = fragment({"http": [{"redirect": {"uri": "/x"}, "timeout": "1s", "mirror": {"host": "web"}}]})
    assert found.valid
    assert {p.field for p in found.problems} == {"spec.http[0].timeout", "spec.http[0].mirror"}


# --- connections -----------------------------------------------------------------------------------------


def test_tcp_routes() -> None:
    block = {"destinationSubnets": ["10.0.0.0/8", "fd00::1"], "port": 27017}
    callers = {"sourceLabels": {"app": "web"}, "sourceNamespace": "far", "gateways": ["mesh"]}
    found = route({"tcp": [{"match": [block, callers]} | weighted(1, 3), ROUTE]})
    assert found.connections == (
        ConnectionRule(
            "tcp[0]",
            "tcp",
            (
                ConnectionMatch(27017, ("10.0.0.0/8", "fd00::1/128")),
                ConnectionMatch(callers=Callers("far", (("app", "web"),), ("mesh",))),
            ),
            (RouteBackend(WEB, 0, 1), RouteBackend(WEB, 0, 3)),
        ),
        ConnectionRule("tcp[1]", "tcp", (), (RouteBackend(WEB, 0, 100),)),
    )


@pytest.mark.parametrize(
    ("hosts", "sni", "means"),
    [
        (["web"], ["web"], ("web",)),
        (["web"], ["web.shop.svc.cluster.local"], ("web.shop.svc.cluster.local",)),
        (["*.example.com"], ["A.example.com", "*.b.example.com"], ("a.example.com", "*.b.example.com")),
        (["*"], ["*"], ()),
    ],
)
def test_tls_routes_go_by_what_the_hello_asks_for(hosts: Any, sni: Any, means: Any) -> None:
    found = route({"hosts": hosts, "gateways": ["edge"], "tls": [ROUTE | {"match": [{"sniHosts": sni}]}]})
    (connection,) = found.connections
    assert (connection.kind, connection.matches) == ("tls", (ConnectionMatch(server_names=means),))


# --- what is wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "field", "says"),
    [
        ({}, "spec", "has no routes"),
        ({"hosts": ["*"], "http": [ROUTE]}, "hosts[0]", "for gateways only"),
        ({"hosts": ["*-a.com"], "http": [ROUTE]}, "hosts[0]", "write * or *.example.com"),
        ({"hosts": ["a_b"], "http": [ROUTE]}, "hosts[0]", "is not a host"),
        ({"hosts": ["a.com", "*.com"], "http": [ROUTE]}, "hosts[1]", "overlap"),
        ({"hosts": ["web", "web"], "http": [ROUTE]}, "hosts[1]", "overlap"),
        ({"gateways": ["a/b/c"], "http": [ROUTE]}, "gateways[0]", "write mesh, name or namespace/name"),
        ({"exportTo": ["~"], "http": [ROUTE]}, "exportTo[0]", "write ."),
        ({"exportTo": [".", "shop"], "http": [ROUTE]}, "exportTo[1]", "twice"),
        ({"exportTo": ["*", "shop"], "http": [ROUTE]}, "exportTo", "stand alone"),
        ({"exportTo": ["A"], "http": [ROUTE]}, "exportTo[0]", "is not a namespace"),
        ({"hosts": [], "gateways": ["edge"], "http": [ROUTE]}, "gateways", "is a delegate"),
        ({"hosts": [], "tcp": [ROUTE]}, "tcp", "is a delegate"),
        ({"hosts": [], "tls": [ROUTE]}, "tls", "is a delegate"),
        ({"tcp": [{}]}, "tcp[0].route", "is required"),
        (
            {"tcp": [ROUTE | {"match": [{"sourceSubnet": "10.0.0.0/8"}]}]},
            "tcp[0].match[0].sourceSubnet",
            "sourceLabels",
        ),
        (
            {"tcp": [ROUTE | {"match": [{"destinationSubnets": ["10.0.0.1/8"]}]}]},
            "tcp[0].match[0].destinationSubnets[0]",
            "did you mean 10.0.0.0/8",
        ),
        ({"tls": [ROUTE]}, "tls[0].match", "is required"),
        ({"tls": [ROUTE | {"match": [{}]}]}, "tls[0].match[0].sniHosts", "is required"),
        (
            {"tls": [ROUTE | {"match": [{"sniHosts": ["a.com"]}]}]},
            "tls[0].match[0].sniHosts[0]",
            "is outside",
        ),
        (
            {"hosts": ["*.com"], "tls": [ROUTE | {"match": [{"sniHosts": ["*"]}]}]},
            "tls[0].match[0].sniHosts[0]",
            "is outside",
        ),
    ],
)
def test_what_is_wrong_is_named(spec: Any, field: str, says: str) -> None:
    assert says in refused(spec)[field]


def wrong_match(**fields: Any) -> Any:
    return ROUTE | {"match": [fields]}


@pytest.mark.parametrize(
    ("fields", "claims"),
    [
        ({"headers": {"@request.auth.claims.Group": {"exact": "a"}}}, [ClaimMatch(("Group",), "exact", "a")]),
        ({"headers": {"@Request.Auth.Claims[a.b][c]": {}}}, [ClaimMatch(("a.b", "c"), "present")]),
        (
            {"headers": {"@request.auth.claims.b.c": {"regex": "x"}}, "withoutHeaders": {f"{CLAIMS}.a": {}}},
            [ClaimMatch(("a",), "present", negated=True), ClaimMatch(("b", "c"), "regex", "x")],
        ),
        (
            {"withoutHeaders": {f"{CLAIMS}.a": {"regex": "*"}}},
            [ClaimMatch(("a",), "present", negated=True)],
        ),
    ],
)
def test_claims_are_no_headers(fields: Any, claims: Any) -> None:
    (found,) = rule(ROUTE | {"match": [fields]}, gateways=["edge"]).matches
    assert found == RouteMatch(claims=tuple(claims))


@pytest.mark.parametrize("key", ["", ".", ".a.", "..a", "a", "[]", "[a", "[a]b", "[a].b", "[[a]]", "[a][]"])
def test_what_names_no_claim_is_refused(key: str) -> None:
    wrong = wrong_match(headers={CLAIMS + key: {"exact": "a"}})
    found = refused({"http": [wrong], "gateways": ["edge"]})
    assert "names no claim" in found[f"http[0].match[0].headers['{CLAIMS}{key}']"]


def test_claims_are_asked_at_gateways_only() -> None:
    wanted = {"headers": {f"{CLAIMS}.a": {"exact": "a"}}}
    where = f"http[0].match[0].headers['{CLAIMS}.a']"
    for bound in ({}, {"gateways": ["mesh", "edge"]}):
        assert "at a Gateway only" in refused({"http": [ROUTE | {"match": [wanted]}], **bound})[where]
    here = wanted | {"gateways": ["edge"]}
    assert rule(ROUTE | {"match": [here]}, gateways=["mesh", "edge"]).matches[0].claims


@pytest.mark.parametrize(
    ("http", "field", "says"),
    [
        ({}, "", "answers nothing"),
        ({"route": []}, "", "answers nothing"),
        (ROUTE | {"redirect": {"uri": "/"}}, "redirect", "cannot stand beside route"),
        (ROUTE | {"directResponse": {"status": 200}}, "directResponse", "cannot stand beside route"),
        (ROUTE | {"delegate": {"name": "a"}}, "delegate", "cannot stand beside route"),
        ({"redirect": {"uri": "/"}, "directResponse": {"status": 200}}, "directResponse", "beside redirect"),
        ({"redirect": {"uri": "/"}, "rewrite": {"uri": "/"}}, "rewrite", "answers at once"),
        (
            {"directResponse": {"status": 200}, "fault": {"delay": {"fixedDelay": "1s"}}},
            "fault",
            "answers at once",
        ),
        ({"delegate": {}}, "delegate.name", "is required"),
        # matches
        (wrong_match(statPrefix="a"), "match[0].statPrefix", "no statistics for single routes"),
        (wrong_match(uri={"exact": "/", "prefix": "/"}), "match[0].uri", "write one of them"),
        (wrong_match(uri={}), "match[0].uri", "is empty"),
        (wrong_match(method={}), "match[0].method", "is empty"),
        (wrong_match(method={"prefix": ""}), "match[0].method.prefix", "must not be empty"),
        (wrong_match(uri={"regex": ""}), "match[0].uri.regex", "must not be empty"),
        (wrong_match(uri={"regex": "("}), "match[0].uri.regex", "is not an RE2 expression"),
        (wrong_match(uri={"suffix": "/"}), "match[0].uri.suffix", "unknown field"),
        (wrong_match(headers={"a": {"regex": "*"}}), "match[0].headers.a.regex", "is not an RE2 expression"),
        (wrong_match(headers={"a": None}), "match[0].headers.a", "must not be null"),
        (wrong_match(headers={"a b": {}}), "match[0].headers['a b']", "is not a name"),
        (wrong_match(headers={":path": {}}), "match[0].headers[':path']", "is not a name"),
        (
            wrong_match(headers={"method": {"exact": "GET"}}),
            "match[0].headers.method",
            "stands beside headers",
        ),
        (
            wrong_match(headers={"@request.auth.claims[group]": {"exact": "a"}}),
            "match[0].headers['@request.auth.claims[group]']",
            "claims of a token",
        ),
        (wrong_match(port=70000), "match[0].port", "must be 1 to 65535"),
        (wrong_match(sourceLabels={"a": "b c"}), "match[0].sourceLabels.a", "not a label value"),
        (wrong_match(sourceNamespace="a.b"), "match[0].sourceNamespace", "is not a name"),
        # destinations
        ({"route": [{}]}, "route[0].destination", "is required"),
        ({"route": [{"destination": {}}]}, "route[0].destination.host", "is required"),
        ({"route": [{"destination": {"host": "*.a"}}]}, "route[0].destination.host", "name one service"),
        (
            {"route": [{"destination": {"host": "a", "port": {}}}]},
            "route[0].destination.port.number",
            "is required",
        ),
        (
            {"route": [{"destination": {"host": "a", "subset": "A"}}]},
            "route[0].destination.subset",
            "is not a name",
        ),
        (weighted(0, 0), "route", "together they must be 1"),
        (weighted(-1, 5), "route[0].weight", "must be 0"),
        # headers
        (
            ROUTE | {"headers": {"request": {"set": {"x": "%START_TIME%"}}}},
            "headers.request.set.x",
            "commands of Envoy",
        ),
        (
            ROUTE | {"headers": {"request": {"set": {"x": "5%"}}}},
            "headers.request.set.x",
            "%% is a percent sign",
        ),
        (ROUTE | {"headers": {"request": {"set": {"x": ""}}}}, "headers.request.set.x", "must not be empty"),
        (
            ROUTE | {"headers": {"request": {"set": {":path": "/"}}}},
            "headers.request.set[':path']",
            "is not a name",
        ),
        (
            ROUTE | {"headers": {"request": {"remove": ["host"]}}},
            "headers.request.remove[0]",
            "cannot be removed",
        ),
        (
            ROUTE | {"headers": {"response": {"set": {"host": "a"}}}},
            "headers.response",
            "belongs to a request",
        ),
        (
            ROUTE | {"headers": {"request": {"set": {"host": "a"}, "add": {":authority": "b"}}}},
            "headers.request",
            "twice",
        ),
        (
            ROUTE | {"headers": {"request": {"set": {"host": "a"}}}, "rewrite": {"authority": "b"}},
            "rewrite.authority",
            "write it once",
        ),
        (
            {
                "route": [
                    {
                        "destination": {"host": "a"},
                        "weight": 1,
                        "headers": {"request": {"set": {"host": "b"}}},
                    },
                    {"destination": {"host": "b"}, "weight": 1},
                ]
            },
            "route[0].headers",
            "write it in rewrite",
        ),
        # rewrites and answers
        (ROUTE | {"rewrite": {}}, "rewrite", "says nothing"),
        (ROUTE | {"rewrite": {"uri": "a"}}, "rewrite.uri", "begins with /"),
        (ROUTE | {"rewrite": {"authority": "a b"}}, "rewrite.authority", "is not an authority"),
        (
            ROUTE | {"rewrite": {"uri": "/", "uriRegexRewrite": {"match": "a", "rewrite": "b"}}},
            "rewrite.uriRegexRewrite",
            "beside uri",
        ),
        (
            ROUTE | {"rewrite": {"uriRegexRewrite": {"match": "a"}}},
            "rewrite.uriRegexRewrite.rewrite",
            "is required",
        ),
        (
            ROUTE | {"rewrite": {"uriRegexRewrite": {"match": "(a)", "rewrite": r"\2"}}},
            "rewrite.uriRegexRewrite.rewrite",
            "a group, 0 to 1",
        ),
        ({"redirect": {}}, "redirect", "says nothing"),
        ({"redirect": {"uri": "a"}}, "redirect.uri", "begins with /"),
        ({"redirect": {"uri": "/", "redirectCode": 305}}, "redirect.redirectCode", "must be one of 301"),
        ({"redirect": {"scheme": "ftp"}}, "redirect.scheme", "must be one of http"),
        ({"redirect": {"uri": "/", "prefixRewrite": "/"}}, "redirect.prefixRewrite", "beside uri"),
        (
            {"redirect": {"prefixRewrite": "/"}, "match": [{"uri": {"exact": "/"}}]},
            "redirect.prefixRewrite",
            "kind prefix only",
        ),
        ({"redirect": {"authority": "a:1", "port": 2}}, "redirect.authority", "write the port once"),
        ({"redirect": {"port": 1, "derivePort": "FROM_REQUEST_PORT"}}, "redirect.derivePort", "beside port"),
        ({"directResponse": {}}, "directResponse.status", "is required"),
        ({"directResponse": {"status": 600}}, "directResponse.status", "must be 200 to 599"),
        (
            {"directResponse": {"status": 200, "body": {"string": "a", "bytes": "YQ=="}}},
            "directResponse.body.bytes",
            "beside string",
        ),
        (
            {"directResponse": {"status": 200, "body": {"bytes": "?"}}},
            "directResponse.body.bytes",
            "is not base64",
        ),
        (
            {"directResponse": {"status": 200, "body": {"string": "a" * (1 << 20 | 1)}}},
            "directResponse.body",
            "at most",
        ),
        # resilience
        (ROUTE | {"timeout": "0s"}, "timeout", "leave it out"),
        (ROUTE | {"timeout": "1d"}, "timeout", "is not a duration"),
        (ROUTE | {"timeout": "1500us"}, "timeout", "whole milliseconds"),
        (ROUTE | {"retries": {"attempts": -1}}, "retries.attempts", "must be 0"),
        (ROUTE | {"retries": {"perTryTimeout": "1s"}}, "retries.perTryTimeout", "needs attempts"),
        (
            ROUTE | {"retries": {"attempts": 1, "perTryTimeout": "0s"}},
            "retries.perTryTimeout",
            "at least 1ms",
        ),
        (ROUTE | {"retries": {"attempts": 1, "retryOn": "sometimes"}}, "retries.retryOn", "is no condition"),
        (ROUTE | {"fault": {}}, "fault", "says nothing"),
        (ROUTE | {"fault": {"delay": {}}}, "fault.delay.fixedDelay", "is required"),
        (
            ROUTE | {"fault": {"delay": {"exponentialDelay": "1s"}}},
            "fault.delay.exponentialDelay",
            "not supported",
        ),
        (ROUTE | {"fault": {"abort": {}}}, "fault.abort", "needs httpStatus"),
        (ROUTE | {"fault": {"abort": {"http2Error": "a"}}}, "fault.abort.http2Error", "not supported"),
        (ROUTE | {"fault": {"abort": {"httpStatus": 100}}}, "fault.abort.httpStatus", "must be 200 to 599"),
        (ROUTE | {"fault": {"abort": {"grpcStatus": "14"}}}, "fault.abort.grpcStatus", "write UNAVAILABLE"),
        (ROUTE | {"fault": {"abort": {"grpcStatus": "GONE"}}}, "fault.abort.grpcStatus", "such as"),
        (
            ROUTE | {"fault": {"abort": {"httpStatus": 500, "grpcStatus": "OK"}}},
            "fault.abort.grpcStatus",
            "beside httpStatus",
        ),
        (
            ROUTE | {"fault": {"abort": {"httpStatus": 500, "percentage": {"value": 101}}}},
            "fault.abort.percentage.value",
            "must be 0 to 100",
        ),
        (
            ROUTE | {"fault": {"abort": {"httpStatus": 500, "percentage": {"value": 0.00001}}}},
            "fault.abort.percentage.value",
            "smallest",
        ),
        (
            ROUTE | {"mirror": {"host": "a"}, "mirrors": [{"destination": {"host": "a"}}]},
            "mirrors",
            "beside mirror",
        ),
        (ROUTE | {"mirrorPercentage": {"value": 5}}, "mirrorPercentage", "goes with mirror"),
        (ROUTE | {"mirrors": [{}]}, "mirrors[0].destination", "is required"),
        (
            ROUTE | {"corsPolicy": {"allowOrigin": ["*"], "allowOrigins": [{"exact": "*"}]}},
            "corsPolicy.allowOrigin",
            "old form",
        ),
        (
            ROUTE | {"corsPolicy": {"allowOrigins": [{"exact": ""}]}},
            "corsPolicy.allowOrigins[0]",
            "must not be empty",
        ),
        (
            ROUTE | {"corsPolicy": {"allowMethods": ["get"]}},
            "corsPolicy.allowMethods[0]",
            "must be one of GET",
        ),
        (ROUTE | {"corsPolicy": {"allowHeaders": ["a b"]}}, "corsPolicy.allowHeaders[0]", "is not a name"),
        (ROUTE | {"corsPolicy": {"maxAge": "1500ms"}}, "corsPolicy.maxAge", "whole seconds"),
    ],
)
def test_what_is_wrong_in_a_rule_is_named(http: Any, field: str, says: str) -> None:
    assert says in refused({"http": [http]})[f"http[0].{field}".rstrip(".")]


def test_a_delegate_cannot_delegate() -> None:
    assert (
        "is a delegate itself"
        in refused({"hosts": [], "http": [{"delegate": {"name": "a"}}]})["http[0].delegate"]
    )


def test_nothing_of_a_virtual_service_with_one_unreadable_rule_counts() -> None:
    assert fragment({"http": [ROUTE, {"bogus": 1}]}).nouns == ()
