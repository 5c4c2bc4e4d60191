"""Does an Envoy have what it was sent: the states of `sluice proxy-status`, and the comparison of one pod."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from sluice.commands.proxy_status import difference_text, status_text
from sluice.proxy_difference import differences
from sluice.proxy_sync import TYPES, proxies
from sluice.proxy_text.dump import clusters, listeners, part, routes
from tests.sluice.test_proxy_text import dump

LDS = TYPES["LDS"]
OBJECT = "HTTPRoute shop/canary"


def wanted(**versions: str) -> dict[str, Any]:
    return {"shop/web": {LDS: {n: {"version": v, "origins": [OBJECT]} for n, v in versions.items()}}}


def agent(
    accepted: dict[str, str] | None = None, *refused: dict[str, str], error: str = ""
) -> list[dict[str, Any]]:
    types = {} if accepted is None else {LDS: accepted}
    entry = {"pod": "shop/web", "admin": "/a", "accepted": types, "refused": list(refused), "error": error}
    return [entry]


@pytest.mark.parametrize(
    ("accepted", "state"),
    [
        ({"l": "1", "m": "2"}, "SYNCED"),
        ({"l": "1"}, "STALE"),
        ({"l": "1", "m": "1"}, "STALE"),
        ({"l": "1", "m": "2", "old": "3"}, "SYNCED"),
        ({}, "STALE (Never Acknowledged)"),
        (None, "STALE (Never Acknowledged)"),
    ],
)
def test_in_sync_is_who_has_all_that_is_wanted_in_the_versions_that_are(
    accepted: dict[str, str] | None, state: str
) -> None:
    (proxy,) = proxies(wanted(l="1", m="2"), agent(accepted))
    assert dict(proxy.types) == {
        "CDS": "NOT SENT",
        "LDS": state,
        "EDS": "NOT SENT",
        "RDS": "NOT SENT",
        "ECDS": "NOT SENT",
        "SDS": "NOT SENT",
    }


def test_what_is_refused_is_told_with_the_object_to_blame_and_envoys_words() -> None:
    refusal = {"type": LDS, "name": "m", "hash": "2", "error": "cannot bind\n"}
    (proxy,) = proxies(wanted(l="1", m="2"), agent({"l": "1"}, refusal))
    assert dict(proxy.types)["LDS"] == "NACKED"
    assert list(status_text([proxy]))[1:] == [f"shop/web refuses LDS m ({OBJECT}): cannot bind"]
    assert proxy.plain()["nacked"] == [
        {"type": "LDS", "name": "m", "error": "cannot bind", "objects": [OBJECT]}
    ]


def test_a_refusal_of_a_version_that_is_not_wanted_any_more_is_none() -> None:
    refusal = {"type": LDS, "name": "m", "hash": "2", "error": "bad"}
    (proxy,) = proxies(wanted(m="3"), agent({"m": "3"}, refusal))
    assert dict(proxy.types)["LDS"] == "SYNCED" and not proxy.refused


def test_a_proxy_that_does_not_run_is_listed_with_the_reason() -> None:
    (proxy,) = proxies(wanted(l="1"), agent(None, error="Envoy 7 of pod shop/web died"))
    assert list(status_text([proxy]))[1:] == ["shop/web: Envoy 7 of pod shop/web died"]


def test_pods_without_an_envoy_are_not_listed() -> None:
    assert proxies({}, [agent()[0] | {"admin": None}]) == []


def sent(name: str) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """What would have been sent for Envoy to have what a dump holds."""
    data = dump(name)
    kinds = {"CDS": ("clusters", clusters), "LDS": ("listeners", listeners), "RDS": ("routes", routes)}
    found = {type_: [(v, r) for v, r in read(data) if v] for type_, (_, read) in kinds.items()}
    versions = {
        TYPES[type_]: {resource["name"]: {"version": version} for version, resource in entries}
        for type_, entries in found.items()
    }
    return versions, {kinds[type_][0]: [r for _, r in entries] for type_, entries in found.items()}


def test_an_envoy_that_has_what_it_was_sent_matches() -> None:
    found = list(differences(*sent("client"), dump("client")))
    assert list(map(difference_text, found)) == ["Clusters Match", "Listeners Match", "Routes Match"]


def test_a_resource_in_another_version_is_shown_line_by_line() -> None:
    versions, rendered = sent("client")
    (route,) = (r for r in rendered["routes"] if r["name"] == "outbound|256")
    versions[TYPES["RDS"]]["outbound|256"]["version"] = "another"
    changed = copy.deepcopy(route)
    changed["virtual_hosts"][0]["domains"] = ["example.com"]
    rendered["routes"][rendered["routes"].index(route)] = changed
    clusters_, listeners_, routes_ = differences(versions, rendered, dump("client"))
    assert clusters_.matches and listeners_.matches and not routes_.matches
    assert routes_.other == ("outbound|256",)
    lines = routes_.text.splitlines()
    assert lines[:2] == ["--- Sluice Routes", "+++ Envoy Routes"]
    assert [line for line in lines[2:] if line[0] in "+-"] == [
        '-            "example.com"',
        '+            "*"',
    ]


def test_a_resource_that_differs_in_its_version_alone_matches() -> None:
    versions, rendered = sent("client")
    data = dump("client")
    versions[LDS]["virtualOutbound"]["version"] = "of the update in place"
    (cluster, *_) = part(data, "ClustersConfigDump")["dynamic_active_clusters"]
    versions[TYPES["CDS"]][cluster["cluster"]["name"]]["version"] = "another"
    (mine,) = (found for found in rendered["clusters"] if found["name"] == cluster["cluster"]["name"])
    rendered["clusters"][rendered["clusters"].index(mine)] = mine | {"ring": {"size": 1024}}
    cluster["cluster"]["ring"] = {"size": "1024"}
    assert all(difference.matches for difference in differences(versions, rendered, data))


def test_what_envoy_lacks_and_what_it_has_too_many_is_named() -> None:
    versions, rendered = sent("client")
    data = dump("client")
    part(data, "ClustersConfigDump")["dynamic_active_clusters"].pop(0)
    del versions[LDS]["virtualOutbound"]
    clusters_, listeners_, _ = differences(versions, rendered, data)
    assert clusters_.missing and clusters_.text.startswith("--- Sluice Clusters")
    assert listeners_.unknown == ("virtualOutbound",)
