from __future__ import annotations

from typing import Any

import pytest

from mesh.model import (
    ClusterMatch,
    EnvoyFilter,
    EnvoyPatch,
    ListenerMatch,
    ObjectRef,
    Requirement,
    RoutesMatch,
    Selector,
)
from tests.mesh.dialects.objects import obj
from xds.dialects import read

REMOVE = {"operation": "REMOVE"}
MERGE = {"operation": "MERGE", "value": {}}
ROUTER = {"filter": {"name": "hcm", "subFilter": {"name": "router"}}}


def envoy_filter(spec: Any, **annotations: str) -> Any:
    found = obj("networking.istio.io/v1alpha3", "EnvoyFilter", spec)
    return found | {"metadata": found["metadata"] | {"annotations": annotations}}


def noun(spec: Any, **annotations: str) -> EnvoyFilter:
    fragment = read(envoy_filter(spec, **annotations))
    assert fragment.problems == ()
    (found,) = fragment.nouns
    assert isinstance(found, EnvoyFilter)
    return found


def patch(apply_to: str, operation: Any, **match: Any) -> Any:
    return {"applyTo": apply_to, "match": match, "patch": operation}


def test_what_an_object_says() -> None:
    lua = {"operation": "INSERT_BEFORE", "value": {"name": "lua"}}
    found = noun(
        {
            "workloadSelector": {"labels": {"app": "web"}},
            "priority": -3,
            "configPatches": [
                patch(
                    "HTTP_FILTER",
                    lua,
                    context="SIDECAR_INBOUND",
                    listener={"portNumber": 80, "filterChain": ROUTER},
                ),
                patch(
                    "HTTP_ROUTE",
                    REMOVE,
                    routeConfiguration={"vhost": {"name": "h", "route": {"action": "ROUTE"}}},
                ),
                patch("CLUSTER", MERGE, context="GATEWAY", cluster={"service": "a.example", "subset": "v1"}),
            ],
        }
    )
    assert found == EnvoyFilter(
        ObjectRef("EnvoyFilter", "shop", "one"),
        (
            EnvoyPatch(
                "configPatches[0]",
                "HTTP_FILTER",
                "SIDECAR_INBOUND",
                "INSERT_BEFORE",
                '{"name":"lua"}',
                ListenerMatch(80, filter="hcm", sub_filter="router"),
            ),
            EnvoyPatch(
                "configPatches[1]", "HTTP_ROUTE", "ANY", "REMOVE", "", RoutesMatch(host="h", action="ROUTE")
            ),
            EnvoyPatch(
                "configPatches[2]",
                "CLUSTER",
                "GATEWAY",
                "MERGE",
                "{}",
                ClusterMatch(service="a.example", subset="v1"),
            ),
        ),
        Selector((Requirement("app", "In", ("web",)),)),
        (("app", "web"),),
        -3,
        steers=True,
    )


@pytest.mark.parametrize(
    ("selector", "annotation", "steers", "undecided"),
    [
        ({"app": "web"}, "", True, False),
        ({"app": "web"}, "false", False, False),
        ({}, "", False, True),
        ({}, "true", True, False),
        ({}, "false", False, False),
    ],
)
def test_whether_it_brings_envoys(
    selector: dict[str, str], annotation: str, steers: bool, undecided: bool
) -> None:
    spec = {"workloadSelector": {"labels": selector}, "configPatches": [patch("CLUSTER", MERGE)]}
    found = noun(spec, **({"sluice.io/steer": annotation} if annotation else {}))
    assert (found.steers, found.undecided) == (steers, undecided)


PATCH = "spec.configPatches[0]"


@pytest.mark.parametrize(
    ("spec", "field", "words"),
    [
        ({}, "spec.configPatches", "is required"),
        ({"targetRefs": [], "configPatches": []}, "spec.targetRefs", "waypoints"),
        ({"configPatches": [{"patch": MERGE}]}, f"{PATCH}.applyTo", "is required"),
        (
            {"configPatches": [patch("BOOTSTRAP", MERGE)]},
            f"{PATCH}.applyTo",
            "BOOTSTRAP is not supported yet",
        ),
        ({"configPatches": [patch("LISTENER_FILTER", MERGE)]}, f"{PATCH}.applyTo", "not supported yet"),
        ({"configPatches": [patch("EXTENSION_CONFIG", MERGE)]}, f"{PATCH}.applyTo", "not supported yet"),
        ({"configPatches": [patch("CLUSTER", MERGE, proxy={})]}, f"{PATCH}.match.proxy", "not supported"),
        (
            {"configPatches": [patch("CLUSTER", MERGE, listener={})]},
            f"{PATCH}.match.listener",
            "write cluster",
        ),
        (
            {"configPatches": [patch("CLUSTER", MERGE, context="WAYPOINT")]},
            f"{PATCH}.match.context",
            "WAYPOINT",
        ),
        (
            {"configPatches": [patch("CLUSTER", {"operation": "REPLACE", "value": {}})]},
            f"{PATCH}.patch.operation",
            "MERGE, ADD, REMOVE",
        ),
        (
            {"configPatches": [patch("CLUSTER", {"operation": "MERGE"})]},
            f"{PATCH}.patch.value",
            "is required",
        ),
        ({"configPatches": [patch("CLUSTER", REMOVE | {"value": {}})]}, f"{PATCH}.patch.value", "REMOVE"),
        (
            {"configPatches": [patch("CLUSTER", MERGE | {"filterClass": "AUTHZ"})]},
            f"{PATCH}.patch.filterClass",
            "not supported yet",
        ),
        ({"configPatches": [patch("HTTP_FILTER", REMOVE)]}, f"{PATCH}.match", "subFilter.name is required"),
        ({"configPatches": [patch("NETWORK_FILTER", REMOVE)]}, f"{PATCH}.match", "filter.name is required"),
        (
            {"configPatches": [patch("HTTP_ROUTE", MERGE, routeConfiguration={"gateway": "x"})]},
            f"{PATCH}.match.routeConfiguration.gateway",
            "namespace/name",
        ),
        (
            {"configPatches": [patch("HTTP_FILTER", MERGE, listener={"listenerFilter": "x"})]},
            f"{PATCH}.match.listener.listenerFilter",
            "not supported yet",
        ),
    ],
)
def test_what_is_refused_by_name(spec: Any, field: str, words: str) -> None:
    fragment = read(envoy_filter(spec))
    assert not fragment.valid and not fragment.nouns
    assert any(problem.field == field and words in problem.message for problem in fragment.problems), (
        fragment.problems
    )


def test_what_would_take_policy_out_of_force_is_refused_before_anything_is_made_of_it() -> None:
    where = {"filterChain": {"filter": {"name": "hcm", "subFilter": {"name": "envoy.filters.http.rbac"}}}}
    fragment = read(envoy_filter({"configPatches": [patch("HTTP_FILTER", REMOVE, listener=where)]}))
    (problem,) = fragment.problems
    assert not fragment.valid and "would remove what enforces policy" in problem.message


LUA = "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua"
FILE = {"@type": LUA, "default_source_code": {"filename": "/etc/shadow"}}
SOCKET = {"endpoint": {"address": {"pipe": {"path": "/run/x.sock"}}}}


@pytest.mark.parametrize(
    ("target", "value", "what"),
    [
        ("HTTP_FILTER", {"name": "lua", "typed_config": FILE}, "/etc/shadow"),
        (
            "CLUSTER",
            {"name": "x", "load_assignment": {"endpoints": [{"lb_endpoints": [SOCKET]}]}},
            "/run/x.sock",
        ),
        ("HTTP_ROUTE", {"direct_response": {"body": {"environment_variable": "HOME"}}}, "HOME"),
    ],
)
def test_a_file_or_socket_of_the_machine_is_refused(target: str, value: Any, what: str) -> None:
    fragment = read(envoy_filter({"configPatches": [patch(target, {"operation": "ADD", "value": value})]}))
    assert any(what in problem.message for problem in fragment.problems) and not fragment.valid


def test_a_cluster_that_would_wait_for_nobody_is_refused() -> None:
    value = {"name": "x", "type": "EDS", "eds_cluster_config": {"eds_config": {"ads": {}}}}
    fragment = read(envoy_filter({"configPatches": [patch("CLUSTER", {"operation": "ADD", "value": value})]}))
    (problem,) = fragment.problems
    assert problem.field == f"{PATCH}.patch.value" and "where nobody serves it" in problem.message
