"""What a patch may not take out of force."""

from __future__ import annotations

import pytest

from mesh.model import Backend, ClusterMatch, EnvoyPatch, ListenerMatch, RoutesMatch, WorkloadName
from mesh.proxy import Destination, L7Class, Part, Target
from tests.xds.render.patches.one_pod import (
    ALLOW,
    CHAIN,
    HCM,
    MANAGER,
    MERGED,
    MINE,
    ORIGIN,
    OUTBOUND,
    RBAC,
    TEAPOT,
    WEB,
    at,
    lua,
    named,
    patch,
    view,
)
from xds.render import render

TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
ELSEWHERE = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 15999}}}
SET_ASIDE = {RBAC: {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": True}}
ANYWHERE: dict[str, EnvoyPatch] = {
    "the filter that judges goes": patch("HTTP_FILTER", "REMOVE", None, at(RBAC)),
    "another takes its place": patch("HTTP_FILTER", "REPLACE", lua(RBAC), at(RBAC)),
    "it says something else": patch("HTTP_FILTER", "MERGE", {"disabled": True}, at(RBAC)),
    "its rules are another's": patch("VIRTUAL_HOST", "MERGE", {"typed_per_filter_config": SET_ASIDE}),
    "a route sets them aside": patch(
        "HTTP_ROUTE", "INSERT_FIRST", TEAPOT | {"typed_per_filter_config": SET_ASIDE}
    ),
    "the host that has them goes": patch("VIRTUAL_HOST", "REMOVE"),
    "another host takes its requests": patch("VIRTUAL_HOST", "ADD", MINE),
    "the listener goes": patch("LISTENER", "REMOVE"),
    "the listener is elsewhere": patch("LISTENER", "MERGE", ELSEWHERE),
    "the listener has another name": patch("LISTENER", "MERGE", {"name": "mine"}),
    "the chain goes": patch("FILTER_CHAIN", "REMOVE"),
    "another chain takes its connections": patch("FILTER_CHAIN", "ADD", CHAIN),
    "the chain is for others": patch(
        "FILTER_CHAIN", "MERGE", {"filter_chain_match": {"destination_port": 81}}
    ),
    "the manager goes": patch("NETWORK_FILTER", "REMOVE", None, ListenerMatch(filter=MANAGER)),
    "the routes are the patch's": patch(
        "NETWORK_FILTER",
        "MERGE",
        {"typed_config": {"@type": HCM, "route_config": {"virtual_hosts": [MINE]}}},
        ListenerMatch(filter=MANAGER),
    ),
    "paths are read otherwise": patch(
        "NETWORK_FILTER",
        "MERGE",
        {"typed_config": {"@type": HCM, "normalize_path": False}},
        ListenerMatch(filter=MANAGER),
    ),
    "a secret is awaited": patch(
        "FILTER_CHAIN",
        "MERGE",
        {
            "transport_socket": {
                "name": "tls",
                "typed_config": {
                    "@type": TLS,
                    "common_tls_context": {
                        "tls_certificate_sds_secret_configs": [{"name": "x", "sds_config": {"ads": {}}}]
                    },
                },
            }
        },
    ),
}


@pytest.mark.parametrize("what", ANYWHERE)
def test_a_patch_that_would_take_policy_out_of_force_is_left_out_and_told(what: str) -> None:
    one = ANYWHERE[what]
    inbound = EnvoyPatch(one.field, one.target, "SIDECAR_INBOUND", one.operation, one.value, one.where)
    before = {resource.name: resource.any for resource in render(view())}
    rendered = render(view(inbound))
    assert {resource.name: resource.any for resource in rendered} == before
    faults = {fault for resource in rendered for fault in resource.faults}
    assert {fault.object for fault in faults} == {ORIGIN}
    assert all("would " in fault.message or "waits for" in fault.message for fault in faults)


def test_the_judge_of_an_egress_class_stays_in_its_cluster() -> None:
    parts = (Part(256, (Backend("10.64.0.9", 8080, WorkloadName("shop", "web")),)),)
    judged = {
        "destinations": (Destination(Target(WEB, 80), parts),),
        "egress": (L7Class(256, "egress", (ALLOW,)),),
    }
    name = OUTBOUND.replace("||", "|~256|")
    for one in (
        patch("CLUSTER", "REMOVE", None, ClusterMatch(service="web.shop.svc.cluster.local")),
        patch("HTTP_ROUTE", "REMOVE", None, RoutesMatch(action="ROUTE")),
    ):
        rendered = render(view(one, **judged))
        assert [r.name for r in rendered] == [r.name for r in render(view(**judged))]
        (fault,) = {fault for resource in rendered for fault in resource.faults}
        assert "what enforces policy" in fault.message
    harmless = render(view(patch("CLUSTER", "MERGE", MERGED, ClusterMatch(name=OUTBOUND)), **judged))
    assert named(harmless, name)["alt_stat_name"] == "mine"
