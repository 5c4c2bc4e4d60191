from __future__ import annotations

from typing import Any

import pytest

from mesh.model import CorsPolicy, ValueMatch
from tests.istio_integration.virtual_service import ROUTE, refused_rule, rule


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


@pytest.mark.parametrize(
    ("http", "field", "says"),
    [
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
def test_what_is_wrong_in_a_cors_policy_is_named(http: Any, field: str, says: str) -> None:
    assert says in refused_rule(http)[field]
