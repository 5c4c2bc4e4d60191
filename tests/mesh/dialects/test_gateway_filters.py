"""Copies of requests and cross-origin requests; the other filters are in test_http_route.py."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.dialects import read
from mesh.expression import compile_expression
from mesh.model import CorsPolicy, Mirror, RouteRule, ServiceName, ValueMatch
from tests.mesh.dialects.objects import http_route, refused, route, valid

V2 = {"name": "reviews-v2", "port": 80}
NAME = ServiceName("shop", "reviews-v2")


def mirror(**settings: Any) -> Any:
    return {"type": "RequestMirror", "requestMirror": {"backendRef": V2} | settings}


def cors(**settings: Any) -> Any:
    return {"type": "CORS", "cors": settings}


def rule(*filters: Any) -> RouteRule:
    return route(http_route({"filters": list(filters)})).rules[0]


# --- copies -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "share"),
    [
        ({}, 1_000_000),
        ({"percent": 0}, 0),
        ({"percent": 7}, 70_000),
        ({"fraction": {"numerator": 1}}, 10_000),
        ({"fraction": {"numerator": 1, "denominator": 3}}, 333_333),
        ({"fraction": {"numerator": 2_000_000_000, "denominator": 2_000_000_000}}, 1_000_000),
    ],
)
def test_a_mirror_gets_a_share_in_millionths(settings: Any, share: int) -> None:
    assert rule(mirror(**settings)).mirrors == (Mirror(NAME, 80, share=share),)


def test_a_rule_may_have_several_mirrors_in_any_namespace() -> None:
    far = {"backendRef": V2 | {"namespace": "far"}}
    assert rule(mirror(), mirror(**far)).mirrors == (
        Mirror(NAME, 80),
        Mirror(ServiceName("far", "reviews-v2"), 80),
    )


def test_a_mirror_that_cannot_be_followed_leaves_the_route_valid() -> None:
    bucket = {"backendRef": {"group": "cloud", "kind": "Bucket", "name": "b"}}
    fragment = valid(http_route({"filters": [mirror(**bucket)]}))
    (problem,) = fragment.problems
    assert problem.field == "spec.rules[0].filters[0].requestMirror.backendRef"
    assert problem.message.endswith("nothing is mirrored")
    assert rule(mirror(**bucket)).mirrors == (Mirror(None, 0),)


# --- other origins ------------------------------------------------------------------------------


def test_cors_has_origins_methods_headers_and_an_age() -> None:
    settings = {
        "allowOrigins": ["https://www.example.com"],
        "allowCredentials": True,
        "allowMethods": ["PUT", "GET"],
        "allowHeaders": ["X-Token"],
        "exposeHeaders": ["X-Count"],
        "maxAge": 60,
    }
    assert rule(cors(**settings)).cors == CorsPolicy(
        origins=(ValueMatch("origin", "exact", "https://www.example.com"),),
        methods=("PUT", "GET"),
        headers=("x-token",),
        exposed=("x-count",),
        max_age_s=60,
        credentials=True,
        forward_unmatched=False,
    )


def test_cors_that_says_nothing_gives_leave_to_nobody_and_forwards_no_preflight() -> None:
    assert rule(cors()).cors == CorsPolicy(max_age_s=5, credentials=False, forward_unmatched=False)


@pytest.mark.parametrize(
    ("written", "fits", "fits_not"),
    [
        ("*", ["https://a.example", "http://[::1]:8080", "null"], []),
        ("https://A.example", ["https://a.example"], ["http://a.example", "https://a.example:8443"]),
        ("https://a.example:443", ["https://a.example"], ["https://a.example:443"]),
        ("http://a.example:8080", ["http://a.example:8080"], ["http://a.example"]),
        (
            "https://*.a.example",
            ["https://b.a.example", "https://c.b.a.example"],
            [
                "https://a.example",
                "https://bxaxexample",
                "https://b.a.example:8443",
                "https://evil.example/b.a.example",
                "https://evil.example:1@b.a.example",
                "http://b.a.example",
                "https://b.a.example.evil.example",
            ],
        ),
        ("http://*:8080", ["http://a:8080", "http://[fd00::1]:8080"], ["http://a", "https://a:8080"]),
    ],
)
def test_an_origin_is_one_as_browsers_send_it(written: str, fits: list[str], fits_not: list[str]) -> None:
    policy = rule(cors(allowOrigins=[written])).cors
    assert policy is not None
    (match,) = policy.origins
    found = [
        origin
        for origin in (*fits, *fits_not)
        if (
            compile_expression(match.value).matches(origin)
            if match.kind == "regex"
            else match.value == origin
        )
    ]
    assert found == fits


def test_a_star_among_exposed_headers_is_left_out_beside_credentials_and_it_is_said_so() -> None:
    fragment = valid(http_route({"filters": [cors(exposeHeaders=["*", "a"], allowCredentials=True)]}))
    (problem,) = fragment.problems
    assert "no effect beside allowCredentials" in problem.message
    policy = rule(cors(exposeHeaders=["*", "a"])).cors
    assert policy is not None and policy.exposed == ("*", "a")


@pytest.mark.parametrize(
    ("item", "field", "says"),
    [
        (mirror(backendRef=None), "requestMirror.backendRef", "is required"),
        (mirror(backendRef={"name": "a"}), "requestMirror.backendRef.port", "is required"),
        (mirror(backendRef=V2 | {"weight": 1}), "requestMirror.backendRef.weight", "unknown field"),
        (mirror(percent=101), "requestMirror.percent", "must be 0 to 100"),
        (mirror(percent=1, fraction={"numerator": 1}), "requestMirror.percent", "without fraction"),
        (mirror(fraction={}), "requestMirror.fraction.numerator", "is required"),
        (
            mirror(fraction={"numerator": 101}),
            "requestMirror.fraction.numerator",
            "more than the denominator",
        ),
        (mirror(fraction={"numerator": 0, "denominator": 0}), "requestMirror.fraction.denominator", "is 0"),
        (cors(allowOrigins=["*", "http://a"]), "cors.allowOrigins", "stands alone"),
        (cors(allowOrigins=["a.example"]), "cors.allowOrigins[0]", "is not an origin"),
        (cors(allowOrigins=["https://a.example/"]), "cors.allowOrigins[0]", "is not an origin"),
        (cors(allowOrigins=["https://*a.example"]), "cors.allowOrigins[0]", "is not an origin"),
        (cors(allowOrigins=["ftp://a.example"]), "cors.allowOrigins[0]", "is not an origin"),
        (cors(allowOrigins=["http://a:65536"]), "cors.allowOrigins[0]", "is not an origin"),
        (cors(allowMethods=["*", "GET"]), "cors.allowMethods", "stands alone"),
        (cors(allowMethods=["get"]), "cors.allowMethods[0]", "must be one of GET"),
        (cors(allowHeaders=["*", "a"]), "cors.allowHeaders", "stands alone"),
        (cors(allowHeaders=["a b"]), "cors.allowHeaders[0]", "is not a name"),
        (cors(exposeHeaders=["a, b"]), "cors.exposeHeaders[0]", "is not a name"),
        (cors(maxAge=0), "cors.maxAge", "is 0"),
        (cors(allowCredentials="yes"), "cors.allowCredentials", "must be true or false"),
        (cors(allowOrigin="*"), "cors.allowOrigin", "unknown field"),
        (mirror() | {"cors": {}}, "cors", "does not belong to a filter of type RequestMirror"),
    ],
)
def test_a_filter_that_cannot_be_read_leaves_the_route_without_effect(
    item: Any, field: str, says: str
) -> None:
    bad = http_route({"filters": [item]})
    assert says in refused(bad)[f"spec.rules[0].filters[0].{field}"]
    assert read(bad).nouns == ()


def test_only_mirrors_may_stand_twice_and_none_beside_a_redirect() -> None:
    assert (
        "stands here twice"
        in refused(http_route({"filters": [cors(), cors()]}))["spec.rules[0].filters[1].type"]
    )
    redirect = {"type": "RequestRedirect", "requestRedirect": {}}
    assert (
        "exclude each other"
        in refused(http_route({"filters": [mirror(), redirect]}))["spec.rules[0].filters"]
    )


@pytest.mark.parametrize("item", [mirror(), cors()])
def test_mirrors_and_cors_of_one_backend_are_refused_by_name(item: Any) -> None:
    bad = http_route({"backendRefs": [V2 | {"filters": [item]}]})
    assert (
        f"{item['type']} is not supported yet" in refused(bad)["spec.rules[0].backendRefs[0].filters[0].type"]
    )
