from __future__ import annotations

from typing import Any

import pytest

from mesh.model import HeaderChange, PathChange, Rewrite
from tests.istio_integration.virtual_service import ROUTE, refused_rule, rule


def test_what_the_match_names_is_rewritten() -> None:
    """Envoy's prefix rewrite, as Istio says it for every kind of match."""
    assert rule(ROUTE | {"rewrite": {"uri": "/x"}}).rewrite == Rewrite(path=PathChange("start", "/x"))


def test_a_rewrite_by_expression() -> None:
    change = {"match": "^/(a)(/.*)$", "rewrite": r"/x\2/\1"}
    found = rule(ROUTE | {"rewrite": {"uriRegexRewrite": change, "authority": "a:80"}}).rewrite
    assert found == Rewrite("a:80", PathChange("regex", r"/x\2/\1", "^/(a)(/.*)$"))


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


@pytest.mark.parametrize(
    ("http", "field", "says"),
    [
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
    ],
)
def test_what_is_wrong_in_a_rewrite_is_named(http: Any, field: str, says: str) -> None:
    assert says in refused_rule(http)[field]
