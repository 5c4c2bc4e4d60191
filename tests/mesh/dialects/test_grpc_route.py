from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from mesh.dialects import read
from mesh.model import (
    HeaderChange,
    Mirror,
    PathMatch,
    RouteBackend,
    RouteMatch,
    RouteRule,
    ServiceName,
    ValueMatch,
)
from mesh.request import Request
from mesh.routes.routing import matches
from mesh.routes.steer import precedence
from tests.mesh.dialects.objects import gateway_route, refused, route

CART = {"name": "cart", "port": 9000}


def grpc_route(rule: Any, **spec: Any) -> Any:
    return gateway_route("GRPCRoute", rule, **spec)


def rule(**fields: Any) -> RouteRule:
    return route(grpc_route(fields)).rules[0]


def match(**fields: Any) -> RouteMatch:
    return rule(matches=[fields]).matches[0]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        (None, PathMatch("prefix", "/")),
        ({"service": "a.B", "method": "C"}, PathMatch("exact", "/a.B/C")),
        ({"type": "Exact", "service": "a.B"}, PathMatch("prefix", "/a.B")),
        ({"service": "a.B", "method": ""}, PathMatch("prefix", "/a.B")),
        ({"method": "C"}, PathMatch("regex", "/[^/]+/C")),
        (
            {"type": "RegularExpression", "service": "a|b", "method": "C.*"},
            PathMatch("regex", "/(?:a|b)/(?:C.*)"),
        ),
        ({"type": "RegularExpression", "service": "a"}, PathMatch("regex", "/(?:a)/[^/]+")),
        ({"type": "RegularExpression", "method": "C"}, PathMatch("regex", "/[^/]+/(?:C)")),
    ],
)
def test_service_and_method_are_a_path(method: Any, path: PathMatch) -> None:
    assert match(method=method).path == path


def test_a_service_is_no_prefix_of_a_longer_name() -> None:
    found = match(method={"service": "a.B"})
    assert matches(found, Request("POST", "/a.B/C", "cart"))
    assert not matches(found, Request("POST", "/a.Bc/C", "cart"))


def test_headers_are_matched_as_in_an_http_route() -> None:
    headers = [{"name": "X-A", "value": "1"}, {"name": "x-b", "type": "RegularExpression", "value": "b.*"}]
    assert match(headers=headers).headers == (
        ValueMatch("x-a", "exact", "1"),
        ValueMatch("x-b", "regex", "b.*"),
    )


def test_most_characters_of_the_service_come_first_then_of_the_method_then_most_headers() -> None:
    """GRPCRouteRule, matches: of the matches that fit one call, which are these."""
    header = [{"name": "a", "value": "1"}]
    both = {"service": "shop.Cart", "method": "Add"}
    ordered = [
        match(method=both, headers=header),
        match(method=both),
        match(method={"service": "shop.Cart"}, headers=header),
        match(method={"service": "shop.Cart"}),
        match(headers=header),
        match(),
    ]
    assert all(precedence(first) < precedence(second) for first, second in pairwise(ordered))


def test_a_share_that_is_lost_is_unavailable() -> None:
    made = grpc_route(
        {"backendRefs": [CART | {"weight": 3}, {"kind": "Bucket", "group": "cloud", "name": "b"}]}
    )
    (found,) = route(made).rules
    assert found.lost == 503
    assert found.backends == (RouteBackend(ServiceName("shop", "cart"), 9000, 3), RouteBackend(None, 0))
    (problem,) = read(made).problems
    assert problem.message.endswith("these calls answer UNAVAILABLE")


def test_filters_change_headers_and_mirror() -> None:
    change = {"set": [{"name": "A", "value": "1"}]}
    found = rule(
        filters=[
            {"type": "RequestHeaderModifier", "requestHeaderModifier": change},
            {"type": "ResponseHeaderModifier", "responseHeaderModifier": change},
            {"type": "RequestMirror", "requestMirror": {"backendRef": CART, "percent": 50}},
        ],
        backendRefs=[
            CART | {"filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": change}]}
        ],
    )
    made = HeaderChange((("a", "1"),))
    assert (found.request_headers, found.response_headers) == (made, made)
    assert found.mirrors == (Mirror(ServiceName("shop", "cart"), 9000, share=500_000),)
    assert found.backends[0].request_headers == made


@pytest.mark.parametrize(
    ("fields", "field", "says"),
    [
        ({"matches": [{"method": {}}]}, "matches[0].method", "name a service, a method or both"),
        ({"matches": [{"method": {"type": "Prefix"}}]}, "matches[0].method.type", "must be one of Exact"),
        ({"matches": [{"method": {"service": "a/b"}}]}, "matches[0].method.service", "is not a service"),
        ({"matches": [{"method": {"service": "a..b"}}]}, "matches[0].method.service", "is not a service"),
        ({"matches": [{"method": {"method": "a.b"}}]}, "matches[0].method.method", "is not a method"),
        (
            {"matches": [{"method": {"type": "RegularExpression", "service": "("}}]},
            "matches[0].method.service",
            "missing )",
        ),
        (
            {"matches": [{"method": {"type": "RegularExpression", "service": r"\Qa", "method": "b"}}]},
            "matches[0].method",
            "do not make one expression",
        ),
        ({"matches": [{"path": {}}]}, "matches[0].path", "unknown field"),
        ({"filters": [{"type": "ExtensionRef"}]}, "filters[0].type", "ExtensionRef is not supported yet"),
        ({"filters": [{"type": "URLRewrite"}]}, "filters[0].type", "must be one of RequestHeaderModifier"),
        (
            {"filters": [{"type": "RequestMirror", "urlRewrite": {}}]},
            "filters[0].urlRewrite",
            "unknown field",
        ),
        (
            {"backendRefs": [CART | {"filters": [{"type": "RequestMirror"}]}]},
            "backendRefs[0].filters[0].type",
            "RequestMirror is not supported yet",
        ),
        ({"timeouts": {}}, "timeouts", "unknown field"),
        ({"sessionPersistence": {}}, "sessionPersistence", "is not supported yet"),
    ],
)
def test_a_route_that_cannot_be_read_has_no_effect_and_says_why(fields: Any, field: str, says: str) -> None:
    bad = grpc_route(fields)
    assert says in refused(bad)[f"spec.rules[0].{field}"]
    assert read(bad).nouns == ()


@pytest.mark.parametrize(
    ("spec", "field", "says"),
    [
        ({"rules": None}, "spec.rules", "is required"),
        ({"rules": []}, "spec.rules", "is required"),
        ({"parentRefs": None}, "spec.parentRefs", "is required"),
        ({"useDefaultGateways": "All"}, "spec.useDefaultGateways", "is not supported yet"),
    ],
)
def test_a_malformed_route_has_no_effect(spec: Any, field: str, says: str) -> None:
    assert says in refused(grpc_route({}, **spec))[field]
