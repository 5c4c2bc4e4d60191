"""Who takes mutual TLS and who sends it (istio/api, PeerAuthentication, ClientTLSSettings), as compiled."""

from __future__ import annotations

import pytest

from mesh.model import WorkloadName
from mesh.proxy import Destination
from tests.traffic.samples.security import mesh_config
from tests.traffic.shop import Object, Shop, destination_rule, object_of, pod, to, virtual_service

ONE = WorkloadName("shop", "one")
STRICT, PERMISSIVE, DISABLE, UNSET = ({"mode": mode} for mode in ("STRICT", "PERMISSIVE", "DISABLE", "UNSET"))
WEB, V1 = {"matchLabels": {"app": "web"}}, {"matchLabels": {"version": "v1"}}
ISTIO_MUTUAL = {"tls": {"mode": "ISTIO_MUTUAL"}}


def peers(mtls: Object | None = None, name: str = "all", namespace: str = "shop", **spec: object) -> Object:
    content = spec | ({"mtls": mtls} if mtls else {})
    return object_of("security.istio.io/v1", "PeerAuthentication", name, namespace, content)


def older(item: Object) -> Object:
    return item | {"metadata": item["metadata"] | {"creationTimestamp": "2020-01-01T00:00:00Z"}}


@pytest.mark.parametrize(
    ("objects", "mode"),
    [
        ((), "PERMISSIVE"),
        ((peers(STRICT),), "STRICT"),
        ((peers(STRICT, namespace="street"),), "PERMISSIVE"),
        # The mesh, the namespace, the workload: the nearest that says something.
        ((peers(STRICT, namespace="istio-system"),), "STRICT"),
        ((peers(STRICT, namespace="istio-system"), peers(DISABLE)), "DISABLE"),
        ((peers(STRICT, namespace="istio-system"), peers(UNSET)), "STRICT"),
        ((peers(DISABLE), peers(STRICT, "web", selector=WEB)), "STRICT"),
        ((peers(STRICT), peers(UNSET, "web", selector=WEB)), "STRICT"),
        ((peers(STRICT), peers(DISABLE, "two", selector={"matchLabels": {"version": "v2"}})), "STRICT"),
        # A selector is for the namespace of its own, in the root namespace as well.
        ((peers(STRICT, namespace="istio-system", selector=WEB),), "PERMISSIVE"),
        # Of several for the same the oldest.
        ((peers(STRICT), older(peers(DISABLE, "older"))), "DISABLE"),
        ((peers(STRICT, "web", selector=WEB), older(peers(DISABLE, "v1", selector=V1))), "DISABLE"),
        # By port, of which those that are unset are as the workload.
        ((peers(STRICT, "web", selector=WEB, portLevelMtls={"8080": DISABLE}),), "DISABLE"),
        ((peers(DISABLE, "web", selector=WEB, portLevelMtls={"8080": STRICT}),), "STRICT"),
        ((peers(STRICT, "web", selector=WEB, portLevelMtls={"8080": UNSET}),), "STRICT"),
        ((peers(STRICT, "web", selector=WEB, portLevelMtls={"8081": DISABLE}),), "STRICT"),
        ((peers(STRICT), peers(UNSET, "web", selector=WEB, portLevelMtls={"8081": DISABLE})), "STRICT"),
        ((mesh_config("rootNamespace: street"), peers(STRICT, namespace="street")), "STRICT"),
    ],
)
def test_the_nearest_counts(objects: tuple[Object, ...], mode: str) -> None:
    assert Shop(*objects).mesh.peer_authentications.asked(ONE, 8080).mode == mode


def reached(shop: Shop, pod: str = "shop/client", service: str = "web") -> Destination:
    found = [d for d in shop.view(pod).destinations if d.target.service.name == service]
    return next(d for d in found if d.target.port == 80)


def spoken_to(found: Destination) -> set[str]:
    """The pods that are spoken to in mutual TLS."""
    return {backend.workload.name for backend in found.mutual if backend.workload}


def test_callers_begin_it_with_those_who_take_nothing_else() -> None:
    shop = Shop(peers(STRICT, "v1", selector=V1))
    assert spoken_to(reached(shop)) == {"one"}
    assert reached(shop).names == ("spiffe://cluster.local/ns/shop/sa/default",)
    assert shop.view().identity == "spiffe://cluster.local/ns/shop/sa/default"
    assert shop.steers("shop/client", "web") and not shop.steers("shop/client", "shadow")


def test_callers_leave_it_to_rules_where_the_mesh_says_so() -> None:
    manual = mesh_config("enableAutoMtls: false")
    shop = Shop(manual, peers(STRICT))
    assert not shop.steers("shop/client", "web") and shop.view("shop/one").ingress
    assert spoken_to(reached(Shop(manual, peers(STRICT), destination_rule(trafficPolicy=ISTIO_MUTUAL))))


def test_a_pod_speaks_to_itself_in_the_clear() -> None:
    """Rule 10: that meets no Envoy which would end it."""
    for said in (peers(STRICT), destination_rule(trafficPolicy=ISTIO_MUTUAL)):
        assert spoken_to(reached(Shop(said), "shop/one")) == {"two"}


@pytest.mark.parametrize("mode", [PERMISSIVE, DISABLE, UNSET])
def test_nobody_needs_an_envoy_for_the_other_modes(mode: Object) -> None:
    assert Shop(peers(mode)).node.proxies == {}


def test_a_rule_about_tls_comes_before_what_is_known_of_the_other_end() -> None:
    """As with Istio: it may be wrong, and then connections are refused."""
    for mode in ("DISABLE", "SIMPLE"):
        rule = destination_rule(trafficPolicy={"tls": {"mode": mode}})
        shop = Shop(peers(STRICT), rule)
        view = shop.node.proxies.get("shop/client")
        found = [d for d in view.destinations if d.target.service.name == "web"] if view else []
        assert all(not spoken_to(destination) for destination in found)


def test_where_a_destination_rule_sends_it_the_pods_take_both() -> None:
    shop = Shop(destination_rule(trafficPolicy=ISTIO_MUTUAL))
    assert spoken_to(reached(shop)) == {"one", "two"}
    taken = {l7.mutual.mode for l7 in shop.view("shop/one").ingress if l7.mutual}
    assert taken == {"PERMISSIVE"}
    assert "shop/three" not in {pod for pod, view in shop.node.proxies.items() if view.ingress}
    # But not where they are told to take none.
    shop = Shop(destination_rule(trafficPolicy=ISTIO_MUTUAL), peers(DISABLE))
    assert not shop.node.proxies["shop/one"].ingress


def test_names_are_those_of_all_pods_unless_the_rule_says_others() -> None:
    said = {"tls": {"mode": "ISTIO_MUTUAL", "subjectAltNames": ["spiffe://a/b"], "sni": "a.example"}}
    found = reached(Shop(destination_rule(trafficPolicy=said)))
    assert (found.names, found.server_name) == (("spiffe://a/b",), "a.example")
    named = reached(
        Shop(mesh_config("trustDomain: shop.example"), destination_rule(trafficPolicy=ISTIO_MUTUAL))
    )
    assert named.names == ("spiffe://shop.example/ns/shop/sa/default",)


def test_connections_that_the_kernel_would_share_out_need_an_envoy() -> None:
    routed = virtual_service(tcp=[{"route": [to("shadow")]}])
    assert not Shop(routed).node.proxies
    shop = Shop(routed, peers(STRICT, selector={"matchLabels": {"app": "shadow"}}))
    assert shop.steers("shop/client", "web")
    assert spoken_to(reached(shop, service="shadow")) == {"three"}


def test_explain_says_who_begins_it_and_where_nobody_does() -> None:
    shop = Shop(peers(STRICT))
    by_service = shop.explain("shop/web:80")
    assert (by_service["verdict"], by_service["path"]) == ("allow", "envoy")
    said = {(reason["rule"], reason["effect"]) for reason in by_service["reasons"]}
    assert said == {("mtls.mode", "begins mutual TLS"), ("mtls.mode", "ends mutual TLS")}
    direct = shop.explain("10.64.0.10:8080")
    assert direct["verdict"] == "deny"
    assert direct["reasons"][0]["effect"] == "takes mutual TLS only, and nobody begins it"


def test_the_resolver_is_left_alone_by_what_is_for_the_whole_mesh() -> None:
    resolver = pod("sluice-dns", "10.64.9.1", {"k8s-app": "kube-dns"}, "kube-system")
    resolver["spec"]["serviceAccountName"] = "sluice-dns"
    shop = Shop(resolver, peers(STRICT, namespace="istio-system"))
    name = WorkloadName("kube-system", "sluice-dns")
    assert shop.mesh.peer_authentications.of(name) is None
    assert shop.mesh.peer_authentications.of(ONE) is not None


def test_a_gateway_that_selects_pods_says_what_is_asked_at_its_ports_only() -> None:
    """Who may write Gateways of any namespace does not take STRICT away."""
    server = {"port": {"number": 7777, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
    spec = {"selector": {"app": "web"}, "servers": [server]}
    other = object_of("networking.istio.io/v1", "Gateway", "other", "street", spec)
    shop = Shop(peers(STRICT), other)
    asked = shop.mesh.peer_authentications
    assert (asked.asked(ONE, 8080).mode, asked.asked(ONE, 7777).mode) == ("STRICT", "PERMISSIVE")
    taken = asked.of(ONE)
    assert taken and taken.at(8080) and not taken.at(7777)


def test_pods_take_it_whoever_names_them() -> None:
    """A ServiceEntry, or a Service with slices: what stands there is the pod."""
    endpoints = [{"address": "10.64.0.10"}]
    ports = [{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": 8080}]
    spec = {"hosts": ["a.example"], "ports": ports, "resolution": "STATIC", "endpoints": endpoints}
    entry = object_of("networking.istio.io/v1", "ServiceEntry", "a", "shop", spec)
    rule = destination_rule("a", host="a.example", trafficPolicy=ISTIO_MUTUAL)
    shop = Shop(entry, rule)
    assert {l7.mutual.mode for l7 in shop.view("shop/one").ingress if l7.mutual} == {"PERMISSIVE"}
    found = [d for d in shop.view().destinations if d.target.service.name == "a.example"]
    assert [d.names for d in found] == [("spiffe://cluster.local/ns/shop/sa/default",)]
    assert [b.address for d in found for b in d.mutual] == ["10.64.0.10"]
    own = [d for d in shop.view("shop/one").destinations if d.target.service.name == "a.example"]
    assert [d.mutual for d in own] == [()]
    assert Shop(entry, peers(STRICT)).steers("shop/client", "a.example")


def test_a_name_that_a_rule_asks_for_is_known_where_both_are_taken() -> None:
    said = {"tls": {"mode": "ISTIO_MUTUAL", "sni": "web.example"}}
    shop = Shop(destination_rule(trafficPolicy=said))
    assert {l7.mutual.server_names for l7 in shop.view("shop/one").ingress if l7.mutual} == {("web.example",)}
