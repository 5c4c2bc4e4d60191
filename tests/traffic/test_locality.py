"""Who is near: requests that a real Envoy sends, and the tables by which the kernel shares connections out.

The client is in `east`, of the two pods behind `web` the first is there too and the second is in `west`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from mesh.model import ServiceName
from mesh.topology import REGION
from tests.traffic.shop import (
    Object,
    Served,
    Shop,
    destination_rule,
    object_of,
    placed,
    to,
    versions,
    virtual_service,
)
from tests.xds.render.backend import Backend as Server
from tests.xds.render.conftest import Serve

Servers = Mapping[str, Server]

THERE = placed(client="east.a", other="west.b", one="east.a", two="west.b")
REGIONS = {"failover": [{"from": "east", "to": "west"}]}
WATCHED = {
    "splitExternalLocalOriginErrors": True,
    "consecutiveLocalOriginFailures": 1,
    "interval": "0.1s",
    "baseEjectionTime": "60s",
    "maxEjectionPercent": 100,
}
ONCE = virtual_service({"retries": {"attempts": 0}, "route": [to()]})
SPLIT = {"distribute": [{"from": "east", "to": {"east": 75, "west": 25}}]}


def rule(setting: Any = None, **policy: Any) -> Object:
    balancer = {"loadBalancer": {"localityLbSetting": setting}} if setting else {}
    return destination_rule(trafficPolicy=balancer | policy)


def unready(name: str) -> Object:
    """That pod, in its place, but not ready."""
    found = next(item for item in THERE if item["metadata"]["name"] == name)
    return found | {"status": found["status"] | {"conditions": []}}


def answers(shop: Served, times: int = 20) -> Counter[str]:
    return Counter(shop.ask("/").backend for _ in range(times))


# --- an Envoy ------------------------------------------------------------------------------------


def test_requests_go_to_the_near_backend(serve: Serve, servers: Servers) -> None:
    shop = Served(serve, servers, *THERE, rule(outlierDetection=WATCHED))
    assert answers(shop) == {"one": 20}


def test_and_over_when_it_fails(serve: Serve, servers: Servers) -> None:
    broken = Server("broken")
    broken.refuse()
    shop = Served(serve, servers | {"one": broken}, *THERE, ONCE, rule(outlierDetection=WATCHED))
    assert shop.ask("/").status == 503
    answers(shop, 5)
    assert answers(shop) == {"two": 20}


def test_and_over_when_it_is_not_ready(serve: Serve, servers: Servers) -> None:
    shop = Served(serve, servers, *THERE, unready("one"), ONCE, rule(REGIONS))
    assert answers(shop) == {"two": 20}


def test_whoever_is_in_another_place_has_another_order(serve: Serve, servers: Servers) -> None:
    shop = Served(serve, servers, *THERE, rule(outlierDetection=WATCHED), pod="shop/other")
    assert answers(shop) == {"two": 20}


def test_where_places_do_not_count_both_are_asked(serve: Serve, servers: Servers) -> None:
    for objects in (
        (*THERE, rule({"enabled": False}, outlierDetection=WATCHED)),
        (*THERE, ONCE),
        (*placed(one="east.a", two="west.b"), rule(REGIONS, outlierDetection=WATCHED)),
    ):
        assert answers(Served(serve, servers, *objects), 40).keys() == {"one", "two"}


def test_requests_are_shared_out_by_place(serve: Serve, servers: Servers) -> None:
    """Of east there are two, which changes nothing about the share of west."""
    third = placed(three="east.c")[0]
    third["metadata"]["labels"]["app"] = "web"
    few = {"distribute": [{"from": "east", "to": {"east": 90, "west": 10}}]}
    found = answers(Served(serve, servers, *THERE, third, ONCE, rule(few)), 400)
    assert found.keys() == {"one", "two", "three"} and 15 < found["two"] < 80


def test_a_retry_goes_to_another_place_if_the_rule_wants_it(serve: Serve, servers: Servers) -> None:
    broken = Server("broken")
    broken.refuse()
    for far, wanted in ((False, {503}), (True, {200})):
        retries = {"attempts": 3, "retryOn": "connect-failure", "retryRemoteLocalities": far}
        again = virtual_service({"retries": retries, "route": [to()]})
        shop = Served(serve, servers | {"one": broken}, *THERE, again, rule(REGIONS))
        assert {shop.ask("/").status for _ in range(10)} == wanted


def test_what_policy_judges_apart_keeps_its_order(serve: Serve, servers: Servers) -> None:
    """Rule 4: backends of other verdicts are other clusters, and who is far gets nothing from those."""
    gets = {
        "endpointSelector": {"matchLabels": {"app": "client"}},
        "egress": [
            {
                "toEndpoints": [{"matchLabels": {"version": "v2"}}],
                "toPorts": [
                    {"ports": [{"port": "8080", "protocol": "TCP"}], "rules": {"http": [{"method": "GET"}]}}
                ],
            },
            {"toEndpoints": [{"matchLabels": {"version": "v1"}}]},
        ],
    }
    policy = object_of("cilium.io/v2", "CiliumNetworkPolicy", "client", "shop", gets)
    for here, wanted in ((THERE, "one"), (placed(client="west.a", one="east.a", two="west.b"), "two")):
        shop = Served(serve, servers, *here, policy, ONCE, rule(REGIONS), accept=("resolver",))
        found = next(d for d in shop.view().destinations if d.target.port == 80)
        assert sorted(len(part.backends) for part in found.parts) == [1, 1]
        assert answers(shop) == {wanted: 20}


# --- the kernel ----------------------------------------------------------------------------------


def shares(shop: Shop, pod: str, port: int = 80) -> dict[str, int] | None:
    """Backend -> its parts, by the tables; None if it is any of them."""
    view = shop.node.state.pods[pod].view
    record = next(p for p in shop.node.state.services["shop/web"].ports if p.port == port)
    names = {address: name.name for address, name in shop.mesh.owners.items()}
    found = {who: {names[a]: n for a, _, n in what if a in names} for who, _, what in record.balanced}
    return found.get(view, found.get("*"))


def test_without_need_of_an_envoy_the_kernel_takes_the_near_backend() -> None:
    shop = Shop(*THERE, rule(REGIONS))
    assert not shop.node.proxies
    assert shares(shop, "shop/client") == {"one": 1}
    assert shares(shop, "shop/other") == {"two": 1}
    assert shares(shop, "shop/three") is None
    said = shop.explain("shop/web:80")
    assert said["path"] == "kernel" and {b["pod"]: b["share"] for b in said["backends"]} == {"shop/one": 1.0}
    assert said["reasons"][0] == {
        "object": "DestinationRule shop/web",
        "rule": "trafficPolicy.loadBalancer.localityLbSetting",
        "effect": "by the caller's place",
        "enforced_by": "kernel",
    }


def test_what_an_envoy_prefers_is_told() -> None:
    said = Shop(*THERE, ONCE, rule(REGIONS)).explain("shop/web:80")
    assert said["path"] == "envoy" and {b["pod"]: b["share"] for b in said["backends"]} == {"shop/one": 1.0}
    assert {
        "object": "DestinationRule shop/web",
        "rule": "trafficPolicy.loadBalancer.localityLbSetting",
        "effect": "by the caller's place",
        "enforced_by": "caller's Envoy",
    } in said["reasons"]
    told = Shop(*THERE, ONCE).explain("shop/web:80")["reasons"]
    assert not any(reason["effect"] == "by the caller's place" for reason in told)


def test_a_rule_for_some_workloads_comes_before_that_for_all() -> None:
    """istio/api, DestinationRule.workloadSelector."""
    mine = destination_rule(
        name="team",
        workloadSelector={"matchLabels": {"team": "a"}},
        trafficPolicy={"loadBalancer": {"localityLbSetting": SPLIT}},
    )
    shop = Shop(*THERE, rule(REGIONS), mine)
    assert shares(shop, "shop/client") == {"one": 3, "two": 1}
    assert shares(shop, "shop/other") == {"two": 1}, "of team b"


def test_the_kernel_fails_over_on_readiness() -> None:
    shop = Shop(*THERE, unready("one"), rule(REGIONS))
    assert shares(shop, "shop/client") is None, "the only one that is left"
    assert [b["pod"] for b in shop.explain("shop/web:80")["backends"]] == ["shop/two"]


def test_the_kernel_shares_connections_out_by_place() -> None:
    assert shares(Shop(*THERE, rule(SPLIT)), "shop/client") == {"one": 3, "two": 1}
    far = {"distribute": [{"from": "east", "to": {"mars": 100}}]}
    refused = Shop(*THERE, rule(far))
    assert shares(refused, "shop/client") == {}, "as Istio has nobody to ask"
    assert refused.explain("shop/web:80")["verdict"] == "deny"
    assert refused.explain("shop/web:80", pod="shop/other")["verdict"] == "allow"


def test_what_a_route_of_connections_leads_to_is_preferred_by_place_too() -> None:
    half = [{"route": [to("web", weight=50), to("shadow", weight=50)]}]
    shop = Shop(*THERE, rule(REGIONS), virtual_service(tcp=half))
    assert shares(shop, "shop/client", 90) == {"one": 1, "three": 1}
    v1 = versions(loadBalancer={"localityLbSetting": REGIONS})
    shop = Shop(*THERE, v1, virtual_service(tcp=[{"route": [to(subset="v2")]}]))
    assert shares(shop, "shop/client", 90) == {"two": 1}, "a subset has only its own"


def test_the_clients_address_chooses_among_the_near_ones() -> None:
    both = {"consistentHash": {"useSourceIp": True}, "localityLbSetting": REGIONS}
    shop = Shop(*THERE, destination_rule(trafficPolicy={"loadBalancer": both}))
    assert shares(shop, "shop/client") == {"one": 1}
    assert all(hashed for _, hashed, _ in shop.node.state.services["shop/web"].ports[0].balanced)


def service(**fields: Any) -> Object:
    spec = {"clusterIP": "10.128.0.10", "selector": {"app": "web"}, "ports": [{"name": "http", "port": 80}]}
    found = object_of("v1", "Service", "web", "shop", spec | fields.pop("spec", {}))
    found["metadata"] |= fields
    return found


def test_a_service_prefers_its_callers_zone() -> None:
    auto = {"service.kubernetes.io/topology-mode": "Auto"}
    for wanted in (
        service(spec={"trafficDistribution": "PreferClose"}),
        service(spec={"trafficDistribution": "PreferSameZone"}),
        service(annotations=auto),
    ):
        shop = Shop(*THERE, wanted)
        assert shares(shop, "shop/client") == {"one": 1} and not shop.node.proxies
        assert shop.explain("shop/web:80")["reasons"][0]["object"] == "Service shop/web"
    assert shares(Shop(*THERE, service()), "shop/client") is None


def test_a_service_prefers_its_callers_node() -> None:
    pods = []
    for item in placed(client="x", one="x", two="x"):
        del item["metadata"]["labels"]["istio-locality"]
        item["spec"]["nodeName"] = "n2" if item["metadata"]["name"] == "two" else "local"
        pods.append(item)
    shop = Shop(*pods, service(spec={"trafficDistribution": "PreferSameNode"}))
    assert shares(shop, "shop/client") == {"one": 1}


def test_nodes_say_where_their_pods_are() -> None:
    pods = [dict(item) for item in placed(client="x", one="x", two="x")]
    for item, node in zip(pods, ("n1", "n2", "n1"), strict=True):
        del item["metadata"]["labels"]["istio-locality"]
        item["spec"]["nodeName"] = node
    nodes = [
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {REGION: region}}}
        for name, region in (("n1", "east"), ("n2", "west"))
    ]
    shop = Shop(*pods, *nodes, rule(REGIONS))
    assert {item["metadata"]["name"] for item in pods if item["spec"]["nodeName"] == "n1"} == {
        "one",
        "client",
    }
    (view,) = {str(shop.mesh.callers.of(name)) for name in shop.mesh.workloads if name.name == "client"}
    assert view == f"shop{{{REGION}=east}}"
    (record,) = (p for p in shop.node.state.services["shop/web"].ports if p.port == 80)
    address = shop.mesh.backends[ServiceName("shop", "web")][80, "TCP"][0].address
    assert {who: what for who, _, what in record.balanced}[view] == ((address, 8080, 1),)


def test_what_is_no_pod_says_itself_where_it_is() -> None:
    api = "networking.istio.io/v1"
    places = {"192.0.2.1": "west/b", "192.0.2.2": "east/b"}
    entry = {
        "hosts": ["api.example.com"],
        "ports": [{"number": 80, "name": "tcp"}],
        "resolution": "STATIC",
        "endpoints": [{"address": address, "locality": place} for address, place in places.items()],
    }
    near = destination_rule(
        host="api.example.com", trafficPolicy={"loadBalancer": {"localityLbSetting": REGIONS}}
    )
    shop = Shop(*THERE, object_of(api, "ServiceEntry", "api", "shop", entry), near)
    vip = next(found[0] for name, found in shop.mesh.vips.items() if name.name == "api.example.com")
    said = shop.explain(f"{vip}:80")
    assert [(b["address"], b["share"]) for b in said["backends"]] == [("192.0.2.2", 1.0)]


def test_an_endpoint_slice_says_in_which_zone_its_endpoints_are() -> None:
    found = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "web", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": [
            {"addresses": ["192.0.2.1"], "zone": "b"},
            {"addresses": ["192.0.2.2"], "zone": "a"},
        ],
    }
    shop = Shop(*THERE, found, service(spec={"trafficDistribution": "PreferClose"}))
    said = shop.explain("shop/web:80")
    assert [(b["address"], b["share"]) for b in said["backends"]] == [("192.0.2.2", 1.0)]


def test_the_mesh_shares_out_what_nobody_else_speaks_of() -> None:
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "istio", "namespace": "istio-system"},
        "data": {"mesh": "localityLbSetting: {distribute: [{from: east, to: {east: 75, west: 25}}]}"},
    }
    shop = Shop(*THERE, config)
    assert shares(shop, "shop/client") == {"one": 3, "two": 1}
    assert shop.explain("shop/web:80")["reasons"][0]["object"] == "MeshConfig mesh"


def test_callers_are_told_apart_by_place_only_where_a_rule_asks_for_it() -> None:
    plain, asking = Shop(*THERE), Shop(*THERE, rule(REGIONS))
    assert {str(caller) for caller in plain.mesh.callers.all} == {"shop"}
    assert len(asking.mesh.callers) == 3
    named = asking.node.state.services["shop/shadow"].ports[0]
    assert not named.balanced and not named.views
