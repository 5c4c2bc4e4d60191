from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from mesh.dialects import read
from mesh.dialects.gateway_route import GROUP
from mesh.dialects.http_route import CONNECTION_ERRORS
from mesh.model import (
    MESH_GATEWAY,
    GatewayParent,
    HeaderChange,
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
from tests.mesh.dialects.objects import http_route, refused, route, valid

V1 = {"name": "reviews-v1", "port": 80}
PARENT = {"group": "", "kind": "Service", "name": "web"}


def rule(**fields: Any) -> RouteRule:
    return route(http_route(fields)).rules[0]


def with_filter(kind: str, settings: Any, **fields: Any) -> dict[str, Any]:
    field = {"URLRewrite": "urlRewrite"}.get(kind, kind[0].lower() + kind[1:])
    return {"filters": [{"type": kind, field: settings}]} | fields


# --- parents ----------------------------------------------------------------------------------


def test_parents_are_services_each_once_in_any_namespace_with_or_without_a_port() -> None:
    parents = [PARENT, PARENT | {"port": 80}, PARENT | {"namespace": "other"}, PARENT]
    assert route(http_route({}, parentRefs=parents)).parents == (
        Parent(ServiceName("shop", "web"), None),
        Parent(ServiceName("shop", "web"), 80),
        Parent(ServiceName("other", "web"), None),
    )


def test_gateways_are_parents_with_or_without_a_listener() -> None:
    parents = [
        {"name": "edge"},
        {"name": "edge", "namespace": "far", "sectionName": "https", "port": 443},
        {"name": "edge", "group": "gateway.networking.k8s.io", "kind": "Gateway"},
    ]
    found = route(http_route({}, parentRefs=parents))
    assert found.attached == (
        GatewayParent(ObjectRef("Gateway", "shop", "edge")),
        GatewayParent(ObjectRef("Gateway", "far", "edge"), "https", 443),
    )
    assert (found.parents, found.gateways) == ((), ())


def test_a_route_may_be_for_a_gateway_and_for_a_service() -> None:
    found = route(http_route({}, parentRefs=[{"name": "edge"}, PARENT]))
    assert found.gateways == (MESH_GATEWAY,)
    assert (len(found.parents), len(found.attached)) == (1, 1)


def test_a_parent_of_another_kind_is_left_to_others_and_said_so() -> None:
    others = {"group": "example.com", "kind": "Balancer", "name": "edge"}
    fragment = valid(http_route({}, parentRefs=[others]))
    assert fragment.nouns == ()
    assert "only Services and Gateways are parents" in fragment.problems[0].message
    assert route(http_route({}, parentRefs=[others, PARENT])).parents


def test_hostnames_are_what_a_request_to_a_gateway_asks_for() -> None:
    fragment = valid(http_route({}, parentRefs=[{"name": "edge"}], hostnames=["a.example", "*.b.example"]))
    (found,) = fragment.nouns
    assert isinstance(found, Route)
    assert found.names == ("a.example", "*.b.example")
    assert fragment.problems == ()


def test_hostnames_select_nothing_on_a_service_and_it_is_said_so() -> None:
    (problem,) = valid(http_route({}, hostnames=["web.shop"])).problems
    assert (problem.field, "has no effect" in problem.message) == ("spec.hostnames", True)


def test_a_route_without_rules_matches_everything() -> None:
    assert route(http_route({}, rules=None)).rules == (RouteRule("rules[0]", (RouteMatch(),)),)


@pytest.mark.parametrize("created", ["2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)])
def test_the_time_of_creation_is_text_whatever_the_loader_made_of_it(created: Any) -> None:
    made = http_route({})
    made["metadata"]["creationTimestamp"] = created
    assert route(made).created == "2026-01-02T03:04:05Z"


# --- matches ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "match"),
    [
        ({}, PathMatch("prefix", "/")),
        ({"value": "/a"}, PathMatch("prefix", "/a")),
        ({"type": "PathPrefix", "value": "/a/"}, PathMatch("prefix", "/a")),
        ({"type": "Exact", "value": "/a/"}, PathMatch("exact", "/a/")),
        ({"type": "RegularExpression", "value": "/a|/b"}, PathMatch("regex", "/a|/b")),
    ],
)
def test_a_path_is_a_prefix_unless_it_says_otherwise(path: Any, match: PathMatch) -> None:
    assert rule(matches=[{"path": path}]).matches == (RouteMatch(match),)


def test_a_match_has_method_headers_and_query_parameters() -> None:
    headers = [
        {"name": "X-Version", "value": "2"},
        {"name": "x-version", "value": "3"},
        {"name": "X-User", "type": "RegularExpression", "value": "a.*"},
    ]
    query = [{"name": "Debug", "value": "1"}]
    found = rule(matches=[{"method": "GET", "headers": headers, "queryParams": query}, {}]).matches
    assert found == (
        RouteMatch(
            headers=(
                ValueMatch(":method", "exact", "GET"),
                ValueMatch("x-version", "exact", "2"),
                ValueMatch("x-user", "regex", "a.*"),
            ),
            query=(ValueMatch("Debug", "exact", "1"),),
        ),
        RouteMatch(),
    )


# --- backends and time limits -------------------------------------------------------------------


def test_backends_have_weights_and_header_changes_of_their_own() -> None:
    change = with_filter("RequestHeaderModifier", {"set": [{"name": "X-V", "value": "2"}], "remove": ["X-A"]})
    found = rule(backendRefs=[V1 | {"weight": 90}, V1 | {"name": "reviews-v2", "weight": 0} | change, V1])
    v1 = ServiceName("shop", "reviews-v1")
    assert found.backends == (
        RouteBackend(v1, 80, 90),
        RouteBackend(ServiceName("shop", "reviews-v2"), 80, 0, HeaderChange((("x-v", "2"),), (), ("x-a",))),
        RouteBackend(v1, 80, 1),
    )


@pytest.mark.parametrize(
    ("backend", "says"),
    [
        ({"kind": "Service", "group": "cloud", "name": "b"}, "only a Service can be a backend"),
        ({"kind": "Bucket", "group": "cloud", "name": "b"}, "only a Service can be a backend"),
    ],
)
def test_a_backend_that_cannot_be_followed_answers_500_and_leaves_the_route_valid(
    backend: Any, says: str
) -> None:
    made = http_route({"backendRefs": [V1, backend]})
    first, second = route(made).rules[0].backends
    assert (first.service, second.service) == (ServiceName("shop", "reviews-v1"), None)
    assert any(says in p.message for p in read(made).problems)


def test_whether_a_backend_of_another_namespace_is_granted_is_not_asked_here() -> None:
    fragment = valid(http_route({"backendRefs": [V1 | {"namespace": "other"}]}))
    (found,) = fragment.nouns
    assert isinstance(found, Route)
    assert found.rules[0].backends[0].service == ServiceName("other", "reviews-v1")
    assert fragment.problems == ()


@pytest.mark.parametrize(
    ("timeouts", "milliseconds"),
    [
        ({}, (0, 0)),
        ({"request": "10s"}, (10_000, 0)),
        ({"request": "1h2m3s4ms", "backendRequest": "500ms"}, (3_723_004, 500)),
        ({"request": "0s", "backendRequest": "1s"}, (0, 1000)),
    ],
)
def test_time_limits_are_durations_of_gep_2257(timeouts: Any, milliseconds: tuple[int, int]) -> None:
    found = rule(timeouts=timeouts)
    assert (found.timeout_ms, found.backend_timeout_ms) == milliseconds


@pytest.mark.parametrize(
    ("settings", "retries"),
    [
        ({}, Retries(2, CONNECTION_ERRORS)),
        (
            {"codes": [503, 500, 503], "attempts": 4, "backoff": "100ms"},
            Retries(4, CONNECTION_ERRORS, (500, 503), backoff_ms=100),
        ),
    ],
)
def test_retries_have_codes_attempts_and_a_backoff(settings: Any, retries: Retries) -> None:
    found = rule(retry=settings)
    assert (found.retries, found.lost) == (retries, 500)
    assert rule().retries is None


# --- filters ------------------------------------------------------------------------------------


def test_header_changes_are_in_lower_case() -> None:
    settings = {
        "set": [{"name": "A", "value": "1"}],
        "add": [{"name": "B", "value": "%x"}],
        "remove": ["C", "c"],
    }
    change = HeaderChange((("a", "1"),), (("b", "%x"),), ("c",))
    assert rule(**with_filter("RequestHeaderModifier", settings)).request_headers == change
    assert rule(**with_filter("ResponseHeaderModifier", settings)).response_headers == change


def test_a_redirect_may_change_each_part_of_the_address() -> None:
    path = {"type": "ReplaceFullPath", "replaceFullPath": "/new"}
    settings = {"scheme": "https", "hostname": "a.example", "port": 8443, "statusCode": 308, "path": path}
    found = rule(**with_filter("RequestRedirect", settings)).redirect
    assert found == Redirect("https", "a.example", 8443, PathChange("full", "/new"), 308)
    assert rule(**with_filter("RequestRedirect", {})).redirect == Redirect(port="derived")
    root = with_filter("RequestRedirect", {"path": {"type": "ReplaceFullPath", "replaceFullPath": ""}})
    assert rule(**root).redirect == Redirect(port="derived", path=PathChange("full", "/"))


def test_of_equivalent_names_of_headers_the_first_counts() -> None:
    twice = http_route(
        with_filter("RequestHeaderModifier", {"set": [{"name": n, "value": n} for n in ("a", "A")]})
    )
    (route,) = read(twice).nouns
    assert route.rules[0].request_headers.set == (("a", "a"),)
    (problem,) = read(twice).problems
    assert "stands here twice: the first counts" in problem.message


def test_a_rewrite_of_a_prefix_needs_a_prefix() -> None:
    rewrite = with_filter("URLRewrite", {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/v2"}})
    assert rule(**rewrite).rewrite == Rewrite(None, PathChange("prefix", "/v2"))
    exact = http_route(rewrite | {"matches": [{"path": {"type": "Exact", "value": "/a"}}]})
    field = "spec.rules[0].filters[0].urlRewrite.path.replacePrefixMatch"
    assert "exactly one match" in refused(exact)[field]


@pytest.mark.parametrize(
    ("fields", "field", "says"),
    [
        ({"backendRefs": [V1 | {"weight": -1}]}, "backendRefs[0].weight", "is -1; must be 0 to 1000000"),
        ({"backendRefs": [{"name": "a"}]}, "backendRefs[0].port", "is required"),
        ({"backendRefs": [{"port": 80}]}, "backendRefs[0].name", "is required"),
        ({"backendRefs": [V1 | {"port": 0}]}, "backendRefs[0].port", "is 0; must be 1 to 65535"),
        (
            {"backendRefs": [V1 | with_filter("URLRewrite", {})]},
            "backendRefs[0].filters[0].type",
            "not supported yet",
        ),
        ({"retry": {"codes": [200]}}, "retry.codes[0]", "is 200; must be 400 to 599"),
        ({"retry": {"attempts": 0}}, "retry.attempts", "is 0; must be 1 to 1000"),
        ({"retry": {"backoff": "1"}}, "retry.backoff", "not a duration"),
        ({"retry": {"on": ["5xx"]}}, "retry.on", "unknown field"),
        ({"sessionPersistence": {}}, "sessionPersistence", "field sessionPersistence is not supported yet"),
        ({"mtches": []}, "mtches", "unknown field"),
        ({"timeouts": {"request": "1.5s"}}, "timeouts.request", "not a duration"),
        ({"timeouts": {"request": 10}}, "timeouts.request", 'write "10"'),
        ({"timeouts": {"request": "1s", "backendRequest": "2s"}}, "timeouts.backendRequest", "not be longer"),
        ({"matches": [{"path": {"value": "a"}}]}, "matches[0].path.value", "begins with /"),
        ({"matches": [{"path": {"value": "/a/../b"}}]}, "matches[0].path.value", "not a path"),
        (
            {"matches": [{"path": {"type": "Exact", "value": "/a%2fb"}}]},
            "matches[0].path.value",
            "not a path",
        ),
        (
            {"matches": [{"path": {"type": "RegularExpression", "value": "/("}}]},
            "matches[0].path.value",
            "missing )",
        ),
        ({"matches": [{"path": {"type": "Glob"}}]}, "matches[0].path.type", "must be one of Exact"),
        ({"matches": [{"method": "get"}]}, "matches[0].method", "must be one of GET"),
        (
            {"matches": [{"headers": [{"name": "a b", "value": "1"}]}]},
            "matches[0].headers[0].name",
            "'a b' is not",
        ),
        ({"matches": [{"headers": [{"name": "a"}]}]}, "matches[0].headers[0].value", "is required"),
        (with_filter("ExternalAuth", {}), "filters[0].type", "ExternalAuth is not supported yet"),
        (with_filter("ExternalAuth", {}), "filters[0].externalAuth", "is not supported yet"),
        (with_filter("ExtensionRef", {}), "filters[0].type", "ExtensionRef is not supported yet"),
        (with_filter("RequestRedirect", {}, backendRefs=[V1]), "backendRefs", "cannot stand beside"),
        (
            with_filter("RequestRedirect", {"statusCode": 200}),
            "filters[0].requestRedirect.statusCode",
            "is 200",
        ),
        (
            with_filter("RequestRedirect", {"hostname": "*.a"}),
            "filters[0].requestRedirect.hostname",
            "wildcards",
        ),
        (
            with_filter("RequestHeaderModifier", {"set": [{"name": "Host", "value": "a"}]}),
            "filters[0].requestHeaderModifier.set[0].name",
            "changed by a URLRewrite",
        ),
        (
            with_filter("RequestHeaderModifier", {"set": [{"name": "a", "value": "1\r\nb: 2"}]}),
            "filters[0].requestHeaderModifier.set[0].value",
            "control character",
        ),
        ({"filters": [{"type": "URLRewrite"}]}, "filters[0].urlRewrite", "is required"),
    ],
)
def test_a_route_that_cannot_be_read_has_no_effect_and_says_why(fields: Any, field: str, says: str) -> None:
    bad = http_route(fields)
    assert says in refused(bad)[f"spec.rules[0].{field}"]
    assert read(bad).nouns == ()


@pytest.mark.parametrize(
    ("spec", "field", "says"),
    [
        ({"parentRefs": []}, "spec.parentRefs", "is required"),
        ({"parentRefs": [{"kind": "Service", "name": "a"}]}, "spec.parentRefs[0].group", 'write group: ""'),
        (
            {"parentRefs": [PARENT | {"sectionName": "http"}]},
            "spec.parentRefs[0].sectionName",
            "not supported yet on a Service",
        ),
        (
            {"parentRefs": [{"kind": "Gateway", "group": "", "name": "a"}]},
            "spec.parentRefs[0].group",
            'write group: "gateway.networking.k8s.io"',
        ),
        ({"parentRefs": [{"group": GROUP}]}, "spec.parentRefs[0].name", "is required"),
        ({"parentRefs": [PARENT | {"port": 0}]}, "spec.parentRefs[0].port", "is 0"),
        ({"hostnames": ["A.example"]}, "spec.hostnames[0]", "is not a hostname"),
        ({"hostnames": ["a.*.example"]}, "spec.hostnames[0]", "is not a hostname"),
        ({"hostnames": ["*"]}, "spec.hostnames[0]", "is not a hostname"),
        ({"hostnames": ["192.0.2.1"]}, "spec.hostnames[0]", "is not a hostname"),
        ({"useDefaultGateways": "All"}, "spec.useDefaultGateways", "is not supported yet"),
        ({"rules": []}, "spec.rules", "is empty"),
        ({"rules": [{}] * 17}, "spec.rules", "has 17 entries; at most 16"),
        ({"hosts": []}, "spec.hosts", "unknown field"),
    ],
)
def test_a_malformed_route_has_no_effect(spec: Any, field: str, says: str) -> None:
    assert says in refused(http_route({}, **spec))[field]
