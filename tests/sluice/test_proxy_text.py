"""What an Envoy has, as the tables of `sluice proxy-config` show it.

`config_dumps/` are answers of real Envoys, of the mesh of tests/node with its canary and egress rule and two
AuthorizationPolicies: of `shop/client`, which routes and judges what it sends, and of `shop/web-v1`, whose
classes tell HTTP from the rest. What they were started with is left out. `plugins.json` is the part about
three WasmPlugins, two of which have no module; that of the third is left out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sluice.data_text import data_text
from sluice.proxy_text import clusters, ecds, endpoints, listeners, routes, secrets
from sluice.proxy_text.predicates import ALL, chain_match, predicate
from sluice.proxy_text.wanted import Wanted

FOLDER = Path(__file__).with_name("config_dumps")
EVERYTHING = Wanted()


def dump(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return found


def table(section: Any, data: dict[str, Any], wanted: Wanted = EVERYTHING) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = section.rows(section.select(data, wanted))
    assert all(len(row) == len(section.HEAD) for row in found)
    return found


def test_clusters_are_told_by_service_port_subset_and_direction() -> None:
    assert table(clusters, dump("client")) == [
        ("PassthroughCluster", "-", "-", "-", "ORIGINAL_DST", ""),
        ("sluice-agent", "-", "-", "-", "STATIC", ""),
        ("web-v1.shop.svc.cluster.local", "80", "256", "outbound", "EDS", ""),
        ("web-v2.shop.svc.cluster.local", "80", "256", "outbound", "EDS", ""),
        ("xds-grpc", "-", "-", "-", "STATIC", ""),
    ]


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        (Wanted(fqdn="web-v1"), 1),
        (Wanted(port=80), 2),
        (Wanted(port=8080), 0),
        (Wanted(subset="256"), 2),
        (Wanted(direction="outbound"), 2),
        (Wanted(direction="inbound"), 0),
        (Wanted(fqdn="web", port=80, direction="OUTBOUND"), 2),
    ],
)
def test_clusters_are_filtered_as_istioctl_filters_them(wanted: Wanted, count: int) -> None:
    assert len(table(clusters, dump("client"), wanted)) == count


def test_a_listener_that_routes_shows_where_each_service_address_goes() -> None:
    routing = "127.0.0.1,fd51:ce:1::1", "15001"
    judging = "127.0.1.0,fd51:ce:1::100", "15001"
    assert table(listeners, dump("client")) == [
        (
            *routing,
            "Addr: 10.128.0.4/32,fd51:ce00:0:2::4/128:80",
            "Route: web.shop.svc.cluster.local:80",
        ),
        (*routing, "Addr: 127.0.0.0/8,fd51:ce:1::/96", listeners.CLOSED),
        (*judging, "Addr: 127.0.0.0/8,fd51:ce:1::/96", listeners.CLOSED),
        (*judging, ALL, "Route: outbound|256"),
    ]


def test_a_matcher_is_told_branch_by_branch_in_the_order_in_which_it_is_asked() -> None:
    sniffed = "240.0.1.2,fd51:ce:2::102", "15006"
    rows = table(listeners, dump("web-v1"), Wanted(address="240.0.1.2"))
    assert rows == [
        (*sniffed, "Addr: 240.0.0.0/8,fd51:ce:2::/96", listeners.CLOSED),
        (*sniffed, "not (Trans: tls); App: HTTP", "Route: inbound|258"),
        (*sniffed, r"not (SNI: \C*\.example\.com)", listeners.CLOSED),
        (*sniffed, ALL, "InboundPassthroughCluster"),
    ]


@pytest.mark.parametrize(
    ("wanted", "ports"),
    [
        (Wanted(port=15001), {"15001"}),
        (Wanted(port=15006), {"15006"}),
        (Wanted(address="FD51:CE:2::102"), {"15006"}),
        (Wanted(type="http+tcp"), {"15006"}),
        (Wanted(type="TCP"), set()),
        (Wanted(address="127.0.0.1", port=15006), set()),
    ],
)
def test_listeners_are_filtered_by_address_port_and_type(wanted: Wanted, ports: set[str]) -> None:
    assert {row[1] for row in table(listeners, dump("web-v1"), wanted)} == ports


def test_routes_name_the_object_that_they_go_back_to() -> None:
    routed = "web.shop.svc.cluster.local:80"
    assert table(routes, dump("client")) == [
        ("outbound|256", "outbound|256", "*", "/*", ""),
        (routed, routed, "*", "/old/*", "HTTPRoute canary.shop"),
        (routed, routed, "*", "/*; header x-canary=yes", "HTTPRoute canary.shop"),
        (routed, routed, "*", "/*", "HTTPRoute canary.shop"),
    ]
    assert len(table(routes, dump("client"), Wanted(route="outbound|256"))) == 1


@pytest.mark.parametrize(
    ("match", "said"),
    [
        ({"path": "/a"}, "/a"),
        ({"safe_regex": {"regex": "/a.*"}}, "regex /a.*"),
        ({"prefix": "/", "headers": [{"name": "x", "string_match": {"prefix": "a"}}]}, "/*; header x=a*"),
        ({"prefix": "/", "headers": [{"name": "x", "present_match": True}]}, "/*; header x"),
        (
            {"prefix": "/", "headers": [{"name": "x", "invert_match": True, "string_match": {"exact": "a"}}]},
            "/*; header not (x=a)",
        ),
        (
            {
                "prefix": "/",
                "query_parameters": [{"name": "q", "string_match": {"safe_regex": {"regex": "a+"}}}],
            },
            "/*; query q~a+",
        ),
    ],
)
def test_a_route_says_what_it_asks_of_a_request(match: dict[str, Any], said: str) -> None:
    assert routes.match(match) == said


def test_endpoints_are_those_that_envoy_uses_with_their_health() -> None:
    rows = table(endpoints, dump("client-clusters"), Wanted(port=8080))
    cluster = "outbound|80|256|web-v{}.shop.svc.cluster.local"
    assert len(rows) == 4
    assert {row[3] for row in rows} == {cluster.format(1), cluster.format(2)}
    assert {row[1:3] for row in rows} == {("HEALTHY", "OK")}
    assert any(row[0].startswith("[fd51:") and row[0].endswith("]:8080") for row in rows)


def test_endpoints_are_filtered_and_a_cluster_without_any_left_is_not_shown() -> None:
    data = dump("client-clusters")
    named = "outbound|80|256|web-v1.shop.svc.cluster.local"
    assert {row[3] for row in table(endpoints, data, Wanted(cluster=named.upper()))} == {named}
    assert table(endpoints, data, Wanted(status="unhealthy")) == []
    assert endpoints.select(data, Wanted(address="192.0.2.1")) == []


def test_an_endpoint_that_outlier_detection_took_out_says_so() -> None:
    host = {
        "address": {"socket_address": {"address": "10.0.0.1", "port_value": 80}},
        "health_status": {"eds_health_status": "HEALTHY", "failed_outlier_check": True},
    }
    data = {"cluster_statuses": [{"name": "c", "host_statuses": [host]}]}
    assert table(endpoints, data) == [("10.0.0.1:80", "HEALTHY", "FAILED", "c")]


def test_without_secrets_their_table_is_empty() -> None:
    assert table(secrets, dump("client")) == []


def test_extension_configurations_tell_a_module_from_what_stands_in_for_it() -> None:
    filters, names = "envoy.extensions.filters.http", "extensions.istio.io/wasmplugin/shop"
    assert table(ecds, dump("plugins")) == [
        (f"{names}.late", f"{filters}.lua.v3.Lua"),
        (f"{names}.open", f"{filters}.rbac.v3.RBAC"),
        (f"{names}.touch", f"{filters}.wasm.v3.Wasm"),
    ]
    (part,) = dump("plugins")["configs"]
    assert ecds.select(dump("plugins"), EVERYTHING) == part, "as Envoy printed it"


def test_without_extension_configurations_their_table_is_empty() -> None:
    assert table(ecds, dump("client")) == []


def test_predicates_that_are_not_known_are_not_passed_over() -> None:
    assert predicate({"new_matcher": {}}) == "unknown predicate new_matcher"
    assert chain_match({}) == ALL


def test_resources_are_handed_on_as_envoy_printed_them() -> None:
    selected = listeners.select(dump("client"), Wanted(port=15001))
    printed = json.loads(data_text(selected, "json"))
    (dumped,) = (c for c in dump("client")["configs"] if c["@type"].endswith("ListenersConfigDump"))
    active = [entry["active_state"]["listener"] for entry in dumped["dynamic_listeners"]]
    assert sorted(printed, key=str) == sorted(active, key=str)
