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
    WorkloadName,
)
from mesh.routes.envoy_filters import parts
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
GATE = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "gate"}
ADDED = {"operation": "ADD", "value": {"name": "x"}}


def test_a_gateway_in_target_refs_is_the_pods_that_serve_it() -> None:
    found = noun({"targetRefs": [GATE], "configPatches": [patch("HTTP_FILTER", ADDED)]})
    label = ("gateway.networking.k8s.io/gateway-name", "gate")
    assert found.labels == (label,) and found.steers
    assert found.subject.matches(dict([label])) and not found.subject.matches({})


@pytest.mark.parametrize(
    ("version", "is_ours"), [(r"^1\.32.*", True), ("32", True), (r"^1\.1[0-9].*", False), ("", True)]
)
def test_a_patch_for_other_versions_of_proxies_has_no_effect_and_says_so(version: str, is_ours: bool) -> None:
    proxy = {"proxyVersion": version}
    spec = {"configPatches": [patch("HTTP_FILTER", ADDED, proxy=proxy), patch("HTTP_FILTER", ADDED)]}
    fragment = read(envoy_filter(spec))
    (found,) = fragment.nouns
    assert isinstance(found, EnvoyFilter) and fragment.valid
    assert len(found.patches) == 1 + is_ours
    said = [problem.field for problem in fragment.problems]
    assert said == ([] if is_ours else [f"{PATCH}.match.proxy.proxyVersion"])


def test_a_patch_is_for_proxies_that_say_all_that_it_wants_of_themselves() -> None:
    wanted = {"NAME": "web-0", "NAMESPACE": "shop"}
    spec = {"configPatches": [patch("HTTP_FILTER", ADDED, proxy={"metadata": wanted})]}
    found = noun(spec)
    for name, count in (("web-0", 1), ("web-1", 0)):
        (part,) = parts([found], "istio-system", WorkloadName("shop", name))
        assert len(part.patches) == count


@pytest.mark.parametrize(
    ("target", "change", "place"),
    [
        ("HTTP_FILTER", ADDED | {"filterClass": "AUTHZ"}, "AUTHZ"),
        ("NETWORK_FILTER", ADDED | {"filterClass": "STATS"}, "STATS"),
        ("HTTP_FILTER", ADDED | {"filterClass": "UNSPECIFIED"}, ""),
        ("HTTP_FILTER", ADDED | {"operation": "INSERT_FIRST", "filterClass": "AUTHN"}, ""),
        ("CLUSTER", MERGE | {"filterClass": "AUTHN"}, ""),
    ],
)
def test_a_class_of_filters_says_where_one_is_added(target: str, change: Any, place: str) -> None:
    fragment = read(envoy_filter({"configPatches": [patch(target, change)]}))
    (found,) = fragment.nouns
    assert isinstance(found, EnvoyFilter) and fragment.valid
    assert [one.place for one in found.patches] == [place]


@pytest.mark.parametrize(
    ("spec", "field", "words"),
    [
        ({}, "spec.configPatches", "is required"),
        (
            {"targetRefs": [{"kind": "Service", "name": "web"}], "configPatches": [patch("CLUSTER", MERGE)]},
            "spec.targetRefs[0].kind",
            "must be Gateway",
        ),
        (
            {"targetRefs": [GATE, GATE], "configPatches": [patch("CLUSTER", MERGE)]},
            "spec.targetRefs[1]",
            "for each",
        ),
        (
            {
                "targetRefs": [GATE],
                "workloadSelector": {"labels": {"a": "b"}},
                "configPatches": [patch("CLUSTER", MERGE)],
            },
            "spec.workloadSelector",
            "stands alone",
        ),
        ({"configPatches": [{"patch": MERGE}]}, f"{PATCH}.applyTo", "is required"),
        (
            {"configPatches": [patch("BOOTSTRAP", MERGE)]},
            f"{PATCH}.applyTo",
            "BOOTSTRAP is not supported yet",
        ),
        ({"configPatches": [patch("LISTENER_FILTER", MERGE)]}, f"{PATCH}.applyTo", "not supported yet"),
        ({"configPatches": [patch("EXTENSION_CONFIG", MERGE)]}, f"{PATCH}.applyTo", "not supported yet"),
        (
            {"configPatches": [patch("CLUSTER", MERGE, proxy={"proxyVersion": "("})]},
            f"{PATCH}.match.proxy.proxyVersion",
            "missing",
        ),
        (
            {"configPatches": [patch("CLUSTER", MERGE, proxy={"metadata": {"A": 1}})]},
            f"{PATCH}.match.proxy.metadata.A",
            "must be a string",
        ),
        (
            {"configPatches": [patch("CLUSTER", MERGE, waypoint={})]},
            f"{PATCH}.match.waypoint",
            "there are none",
        ),
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
            {"configPatches": [patch("HTTP_FILTER", ADDED | {"filterClass": "LAST"})]},
            f"{PATCH}.patch.filterClass",
            "STATS",
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
