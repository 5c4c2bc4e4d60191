"""Golden files of the Envoy side: what a proxy's view becomes, readable, and accepted by the real Envoy.

Each case is a `ProxyView` below and a folder `<case>/envoy.yaml`; `pytest --golden` writes the files anew.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mesh.model import (
    HeaderChange,
    HeaderMatch,
    HttpMatch,
    PathChange,
    Redirect,
    Rewrite,
    ValueMatch,
)
from mesh.proxy import ProxyView
from tests.xds.render.standalone import validate
from tests.xds.render.views import (
    destination,
    entry,
    exact,
    l7,
    nowhere,
    part,
    prefix,
    regex,
    routed,
    to,
    view,
)
from xds.render import Rendered, readable, render

HERE = Path(__file__).parent

CASES: dict[str, ProxyView] = {
    "ingress-http-policy": view(
        ingress=(
            l7(256, "ingress", HttpMatch(method="GET", path="/public/.*"), HttpMatch(host="api[.]shop")),
            l7(257, "ingress", HttpMatch(headers=(HeaderMatch("x-token"), HeaderMatch("x-role", "user")))),
            l7(258, "ingress"),
        ),
    ),
    "egress-http-policy": view(egress=(l7(300, "egress", HttpMatch(method="GET|HEAD")),)),
    "route-weights": view(
        routed=(routed("api", entry(prefix("/"), to("api-v1", 9), to("api-v2", 1), nowhere(1))),),
        destinations=(
            destination("api-v1", part(8080, address="10.64.0.5")),
            destination("api-v2", part(8080, address="fd51:ce:0:1::6")),
        ),
    ),
    "route-matches-and-filters": view(
        routed=(
            routed(
                "api",
                entry(exact("/health"), to("api"), timeout_ms=1500, backend_timeout_ms=500),
                entry(
                    prefix("/v1", method="GET", headers=(ValueMatch("x-user", "exact", "a"),)),
                    to("api", request_headers=HeaderChange(remove=("x-user",))),
                    field="rules[1]",
                    rewrite=Rewrite(hostname="old.example", path=PathChange("prefix", "/")),
                    request_headers=HeaderChange(set=(("x-version", "1"),), add=(("x-via", "100%"),)),
                    response_headers=HeaderChange(remove=("server",)),
                ),
                entry(
                    regex("/v[0-9]+/.*", query=(ValueMatch("debug", "regex", "1|true"),)),
                    field="rules[2]",
                    redirect=Redirect(scheme="https", hostname="new.example", path=PathChange("full", "/")),
                ),
                entry(prefix("/gone"), to("gone"), field="rules[3]"),
                entry(prefix("/nowhere"), nowhere(), field="rules[4]"),
            ),
        ),
        destinations=(destination("api", part(8080, address="10.64.0.5")), destination("gone")),
    ),
    "route-with-egress-policy": view(
        routed=(routed("api", entry(prefix("/"), to("api"))),),
        destinations=(
            destination(
                "api", part(8080, address="10.64.0.5"), part(8080, 8081, address="10.64.0.6", l7=300)
            ),
        ),
        egress=(l7(300, "egress", HttpMatch(path="/public.*")),),
    ),
    "nothing": view(),
}


@pytest.mark.parametrize("case", CASES)
def test_a_view_becomes_the_resources_in_its_golden_file(case: str, golden: bool) -> None:
    rendered = render(CASES[case])
    path = HERE / case / "envoy.yaml"
    found = document(rendered)
    if golden:
        path.parent.mkdir(exist_ok=True)
        path.write_text(found)
    assert path.read_text() == found


@pytest.mark.parametrize("case", CASES)
def test_envoy_takes_the_resources_of_every_view(case: str, tmp_path: Path) -> None:
    assert validate(render(CASES[case]), tmp_path) == ""


def test_envoy_would_tell_if_it_did_not_take_them(tmp_path: Path) -> None:
    broken = view(ingress=(l7(256, "ingress", HttpMatch(path="(")),))
    assert "missing )" in validate(render(broken), tmp_path)


def document(rendered: Rendered) -> str:
    """A rendering as it stands in a golden file."""
    return yaml.safe_dump(readable(rendered), sort_keys=False, width=110)
