from __future__ import annotations

from typing import Any

import pytest

from mesh.model import DirectResponse, PathChange, Redirect
from tests.istio_integration.virtual_service import refused_rule, rule


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


@pytest.mark.parametrize(
    ("http", "field", "says"),
    [
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
    ],
)
def test_what_is_wrong_in_an_answer_is_named(http: Any, field: str, says: str) -> None:
    assert says in refused_rule(http)[field]
