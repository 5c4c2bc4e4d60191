"""Decision 8 for traffic, one change at a time: whoever was told what may be otherwise now asks anew, though
nothing else made anybody look again."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.assemble import Mesh
from mesh.datapath import Node
from mesh.identity import Allocations
from tests.traffic.edge import gate, istio_gateway
from tests.traffic.followed import (
    HTTP,
    RANGES,
    assert_each_is_followed,
    dynamic,
    entry,
    far_away,
    may_call,
    node_object,
    service,
)
from tests.traffic.samples.security import mesh_config
from tests.traffic.shop import base, destination_rule, object_of, placed, pod, to, virtual_service
from xds.dialects import read


@pytest.mark.parametrize(
    "beside",
    [
        [],
        [service(trafficDistribution="PreferClose")],
        # Callers are told apart by place anyway, and requests go where nobody binds a rule.
        [
            destination_rule(host="nobody", trafficPolicy={"outlierDetection": {}}),
            virtual_service({"route": [to("shadow")]}),
        ],
    ],
)
def test_each_change_of_places_is_followed(beside: list[dict[str, Any]]) -> None:
    """One at a time, with nothing else that could make somebody look again."""
    share = "localityLbSetting: {{distribute: [{{from: {0}, to: {{east: 70, west: 30}}}}]}}"
    near = placed(client="east.a", one="east.a", two="west.b", three="east.a")
    here = [*base(), *near, pod("four", "10.64.0.9", {"app": "shadow", "team": "a"}), far_away(), *beside]
    assert_each_is_followed(
        here,
        [node_object(region="east", zone="a")],
        [node_object(region="west", zone="b")],
        [node_object()],
        [mesh_config(share.format("east"))],
        [mesh_config(share.format("west"))],
        [node_object(region="east", zone="a")],
        placed(client="west.b"),
        [mesh_config("localityLbSetting: {failoverPriority: [team]}")],
        [service(trafficDistribution="PreferSameNode")],
        [service()],
    )


def test_each_change_of_who_is_at_an_address_is_followed() -> None:
    """One at a time, where an egress policy restricts the caller of a host that stands at the address; nobody
    comes who is of a new kind, for whom all would be looked at again."""
    late, web = "late.example.com", {"podSelector": {"matchLabels": {"version": "v1"}}}
    v1, v2 = ({"app": "web", "version": version} for version in ("v1", "v2"))
    world = {"endpointSelector": {"matchLabels": {"app": "client"}}, "egress": [{"toCIDR": ["10.64.2.0/31"]}]}
    machine = node_object() | {"status": {"addresses": [{"type": "InternalIP", "address": "10.64.2.1"}]}}
    assert_each_is_followed(
        [*base(), node_object(), may_call(web)],
        [entry("late", "shop", hosts=[late], endpoints=[{"address": "10.64.2.1"}])],
        [virtual_service({"route": [to(late)]}, name="late", hosts=[late])],
        [pod("late", "10.64.2.1", v1)],
        [pod("late", "10.64.2.1", v2)],
        [pod("late", "10.64.2.3", v2)],
        [pod("late", "10.64.2.3", v1)],
        [pod("late", "10.64.2.1", v1)],
        [pod("late", "10.64.2.3", v1)],
        [object_of("cilium.io/v2", "CiliumNetworkPolicy", "outside", "shop", world)],
        [machine],
        [node_object()],
    )


def test_an_address_that_a_pod_left_is_denied_as_the_worlds() -> None:
    """Cilium's CIDRs never match pods; nobody else comes or goes for whom peers would be looked at again."""
    cidr = {"toCIDR": ["10.64.2.1/32"]}
    spec = {"endpointSelector": {"matchLabels": {"app": "client"}}, "egressDeny": [cidr]}
    deny = object_of("cilium.io/v2", "CiliumNetworkPolicy", "deny", "shop", spec | {"egress": [{}]})
    mesh, v1 = Mesh(Allocations(RANGES)), {"app": "web", "version": "v1"}
    node = Node(mesh, "local", default=True)

    def verdict(*objects: dict[str, Any]) -> str:
        node.update(mesh.apply({fragment.ref: fragment for fragment in map(read, objects)}))
        egress = node.state.pods["shop/client"].egress_set
        return node.verdict(egress, "10.64.2.1", "TCP", 80).verdict

    assert verdict(*base(), deny, pod("late", "10.64.2.1", v1)) == "allow"
    assert verdict(pod("late", "10.64.2.3", v1)) == "deny"
    assert verdict(pod("late", "10.64.2.1", v1)) == "allow"


def test_who_is_bound_by_a_pattern_follows_where_its_route_leads() -> None:
    """The host that it names is another service as soon as a namespace nearer to the caller has one."""
    assert_each_is_followed(
        [*base(), entry("late", "shop", hosts=["late.example.com"], endpoints=[{"address": "192.0.2.3"}])],
        [virtual_service({"route": [to("a.example.com")]}, name="any", hosts=["*.example.com"])],
        [dynamic("any", "street")],
        [dynamic("any", "shop")],
    )


def test_what_a_gateway_does_with_requests_for_no_service_is_followed() -> None:
    """Neither the hosts nor the answers name a service that could be another one now."""

    def elsewhere(place: str, **spec: Any) -> dict[str, Any]:
        return virtual_service({"redirect": {"authority": place}}, **spec)

    edge = {"name": "edge", "hosts": ["*.example.net"], "gateways": ["edge/public"]}
    assert_each_is_followed(
        [*base(), gate(), istio_gateway(HTTP | {"hosts": ["*"]})],
        [elsewhere("a.example.com", **edge)],
        [elsewhere("b.example.com", **edge)],
        [virtual_service({"delegate": {"name": "part"}}, **edge)],
        [elsewhere("a.example.com", name="part", hosts=[])],
        [elsewhere("b.example.com", name="part", hosts=[])],
        [elsewhere("b.example.com", name="part", hosts=["*.example.org"])],
        [elsewhere("b.example.com", name="part", hosts=[], exportTo=["street"])],
    )


@pytest.mark.parametrize("names", [("a",), ("a", "b")])
def test_virtual_services_that_delegate_in_a_circle_come_and_go(names: tuple[str, ...]) -> None:
    """They hand nothing on to each other, for a delegate has no hosts."""
    circle = zip(names, (*names[1:], names[0]), strict=True)
    rules = [{"delegate": {"name": other}} for _, other in circle]
    found = [read(virtual_service(rule, name=name)) for name, rule in zip(names, rules, strict=True)]
    mesh = Mesh(Allocations(RANGES))
    mesh.apply({fragment.ref: fragment for fragment in [*map(read, base()), *found]})
    for fragment in found:
        mesh.apply({fragment.ref: None})
    assert not mesh.routes.all
