"""Where filters of requests go in the order of those that are there."""

from __future__ import annotations

import json

import pytest

from mesh.model import ListenerMatch, PatchOperation
from tests.xds.render.patches.one_pod import RBAC, ROUTER, TYPE, at, http_filters, lua, named, patch, view
from xds.render import render
from xds.trial import Trying, ask_envoy

CORS = "envoy.filters.http.cors"
PLAIN = http_filters(render(view()))


@pytest.mark.parametrize(
    ("operation", "where", "wanted"),
    [
        ("INSERT_BEFORE", at(ROUTER), [*PLAIN[:-1], "lua", ROUTER]),
        (
            "INSERT_AFTER",
            at(CORS),
            [name for one in PLAIN for name in ((one, "lua") if one == CORS else (one,))],
        ),
        ("INSERT_AFTER", at(ROUTER), [*PLAIN[:-1], "lua", ROUTER]),
        ("INSERT_FIRST", None, ["lua", *PLAIN]),
        ("ADD", None, [*PLAIN[:-1], "lua", ROUTER]),
        ("INSERT_BEFORE", at("no.such.filter"), PLAIN),
        ("INSERT_BEFORE", at(ROUTER, port=80), [*PLAIN[:-1], "lua", ROUTER]),
        ("INSERT_BEFORE", at(ROUTER, port=81), PLAIN),
        ("INSERT_BEFORE", at(ROUTER, name="0.0.0.0_80"), [*PLAIN[:-1], "lua", ROUTER]),
        ("INSERT_BEFORE", at(ROUTER, chain="web.shop.svc.cluster.local:80"), [*PLAIN[:-1], "lua", ROUTER]),
        ("INSERT_BEFORE", at(ROUTER, server_name="a.example"), PLAIN),
        ("REPLACE", at(CORS), ["lua" if one == CORS else one for one in PLAIN]),
        ("REMOVE", at(CORS), [one for one in PLAIN if one != CORS]),
    ],
)
def test_where_an_http_filter_goes(
    operation: PatchOperation, where: ListenerMatch | None, wanted: list[str]
) -> None:
    value = None if operation == "REMOVE" else lua()
    assert http_filters(render(view(patch("HTTP_FILTER", operation, value, where)))) == wanted


def test_an_http_filter_is_merged_where_it_stands() -> None:
    value = {"typed_config": {"@type": f"{TYPE}.http.router.v3.Router", "dynamic_stats": False}}
    rendered = render(view(patch("HTTP_FILTER", "MERGE", value, at(ROUTER))))
    assert http_filters(rendered) == PLAIN
    text = json.dumps(named(rendered, "virtualOutbound"))
    assert '"dynamic_stats": false' in text and '"suppress_envoy_headers": true' in text


def test_patches_are_made_in_order_and_each_sees_what_the_one_before_did() -> None:
    first = patch("HTTP_FILTER", "INSERT_BEFORE", lua("one"), at(ROUTER))
    second = patch("HTTP_FILTER", "INSERT_BEFORE", lua("two"), at("one"))
    assert http_filters(render(view(first, second)))[-3:] == ["two", "one", ROUTER]


def test_a_patch_of_one_side_leaves_the_other_alone() -> None:
    outside = render(view(patch("HTTP_FILTER", "ADD", lua(), context="SIDECAR_OUTBOUND")))
    inside = render(view(patch("HTTP_FILTER", "ADD", lua(), context="SIDECAR_INBOUND")))
    nowhere = render(view(patch("HTTP_FILTER", "ADD", lua(), context="GATEWAY")))
    assert [r.name for r in outside if r.unpatched] == ["virtualOutbound"]
    assert [r.name for r in inside if r.unpatched] == ["virtualInbound|256"]
    assert nowhere == render(view())


def test_a_filter_may_stand_before_the_judges() -> None:
    one = patch("HTTP_FILTER", "INSERT_BEFORE", lua(), at(RBAC), "SIDECAR_INBOUND")
    rendered = render(view(one))
    names_ = http_filters(rendered, "virtualInbound|256")
    assert names_.index("lua") == names_.index(RBAC) - 1
    changed = [Trying(resource, rendered) for resource in rendered if resource.unpatched is not None]
    assert ask_envoy(changed) == ""
