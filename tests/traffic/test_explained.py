"""What `explain` says of routes, for people who ask before they send: hosts, shares, and what gets lost."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.answers.called import UnknownName
from tests.traffic.shop import Shop, object_of, to, versions, virtual_service

ENTRY = object_of(
    "networking.istio.io/v1",
    "ServiceEntry",
    "api",
    "shop",
    {
        "hosts": ["api.example.com"],
        "addresses": ["192.0.2.10"],
        "resolution": "STATIC",
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
        "endpoints": [{"address": "192.0.2.1"}],
    },
)


def shares(answer: dict[str, Any]) -> dict[str, float | None]:
    return {backend["pod"]: backend.get("share") for backend in answer["backends"]}


@pytest.mark.parametrize(
    "host", ["web", "web.shop", "web.shop.svc", "web.shop.svc.cluster.local", "shop/web"]
)
def test_a_host_is_what_its_caller_would_find_under_it(host: str) -> None:
    shop = Shop(virtual_service({"route": [to(subset="v1")]}), versions())
    answer = shop.explain(f"{host}:80")
    assert (answer["path"], shares(answer)) == ("envoy", {"shop/one": 1.0})


def test_a_host_of_a_service_entry_is_that_and_any_other_is_an_error() -> None:
    shop = Shop(ENTRY, virtual_service({"route": [to("api.example.com")]}, hosts=["api.example.com"]))
    answer = shop.explain("api.example.com:80")
    assert (answer["path"], answer["reasons"][0]["object"]) == ("envoy", "VirtualService shop/web")
    with pytest.raises(UnknownName, match="no Service or ServiceEntry garbage: want namespace/service:port"):
        shop.explain("garbage:80")


def test_of_several_rules_nobody_knows_the_shares_before_there_is_a_request() -> None:
    rare = {"match": [{"uri": {"exact": path}} for path in ("/rare", "/seldom")], "route": [to(subset="v2")]}
    gone = {"match": [{"uri": {"exact": "/gone"}}], "directResponse": {"status": 410}}
    shop = Shop(virtual_service(rare, gone, {"route": [to(subset="v1")]}), versions())
    answer = shop.explain("web:80")
    assert shares(answer) == {"shop/one": None, "shop/two": None}
    routed = [reason["rule"] for reason in answer["reasons"] if reason["effect"] == "route"]
    assert routed == ["http[0]", "http[1]", "http[2]"]


def test_what_leads_nowhere_is_told_with_its_share() -> None:
    rule = {"route": [to(subset="v1", weight=75), to(subset="none", weight=25)]}
    shop = Shop(virtual_service(rule), versions(), accept=["none"])
    answer = shop.explain("web:80")
    assert shares(answer) == {"shop/one": 0.75}
    (lost,) = [r["effect"] for r in answer["reasons"] if "nothing is behind" in r["effect"]]
    assert lost.startswith("25% of the requests get 503: nothing is behind ") and lost.endswith("subset none")
