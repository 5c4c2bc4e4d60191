from __future__ import annotations

from typing import Any

import pytest

from mesh.model import Callers, ClaimMatch, PathMatch, RouteMatch, ValueMatch
from tests.istio_integration.virtual_service import ROUTE, match, refused, refused_rule, rule

CLAIMS = "@request.auth.claims"


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


def wrong_match(**fields: Any) -> Any:
    return ROUTE | {"match": [fields]}


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
    ],
)
def test_what_is_wrong_in_a_match_is_named(http: Any, field: str, says: str) -> None:
    assert says in refused_rule(http)[field]
