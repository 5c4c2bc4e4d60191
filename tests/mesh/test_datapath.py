from __future__ import annotations

from mesh.datapath import Node
from mesh.dialects import read
from mesh.model import ServiceName
from mesh.node import EVERYONE
from tests.mesh.shop import CANARY, GET_ONLY, SHOP, documents, mesh_of

STOREFRONT, REVIEWS_V1, STRANGER = "shop/storefront", "shop/reviews-v1", "street/stranger"


def test_without_policies_and_routes_nothing_needs_a_proxy() -> None:
    node = Node(mesh_of(SHOP), "here")
    assert node.proxies == {}
    assert {(p.ingress_set, p.egress_set) for p in node.state.pods.values()} == {(0, 0)}


def test_only_the_pods_of_the_node_are_enforced_there() -> None:
    assert Node(mesh_of(SHOP), "there").state.pods == {}


def test_an_http_rule_steers_at_the_destination_and_only_there() -> None:
    node = Node(mesh_of(SHOP, GET_ONLY), "here")
    assert set(node.proxies) == {REVIEWS_V1, "shop/reviews-v2"}
    reviews = node.state.pods[REVIEWS_V1]
    assert reviews.reasons == ("CiliumNetworkPolicy shop/get-only ingress[0].toPorts[0]",)
    verdict = node.verdict(reviews.ingress_set, "10.64.0.10", "TCP", 8080)
    assert (verdict.verdict, verdict.listener) == ("steer", reviews.ingress_listeners[0])
    assert node.verdict(reviews.ingress_set, "10.64.0.10", "TCP", 8081).verdict == "deny"
    assert node.verdict(reviews.ingress_set, "10.64.0.13", "TCP", 8080).verdict == "deny"
    assert node.verdict(reviews.ingress_set, "10.64.0.10", "ICMP", 0).verdict == "deny"


def test_an_edited_rule_keeps_its_listener() -> None:
    """Rule 6: the content travels by route configuration, so the class must not move."""
    mesh = mesh_of(SHOP, GET_ONLY)
    node = Node(mesh, "here")
    before = node.state
    fragment = read(documents(GET_ONLY.replace("method: GET", "method: POST"))[0])
    node.update(mesh.apply({fragment.ref: fragment}))
    assert node.state.pods is before.pods
    assert node.state.classes is before.classes
    assert node.proxies[REVIEWS_V1].ingress[0].rules[0].matches[0].method == "POST"


def test_a_producer_route_steers_every_caller_at_the_service_address() -> None:
    node = Node(mesh_of(SHOP, CANARY), "here")
    ports = {str(r.name): r.ports[0].views for r in node.state.services.values()}
    assert ports == {"shop/reviews": (EVERYONE,), "shop/reviews-v2": ()}
    assert node.state.pods[STRANGER].routes
    view = node.proxies[STOREFRONT]
    assert [entry.match.path.value for entry in view.routed[0].entries] == ["/new", "/"]
    assert {d.target.service.name for d in view.destinations} == {"reviews", "reviews-v2"}


def test_a_consumer_route_steers_only_its_own_namespace() -> None:
    consumer = CANARY.replace("namespace: shop", "namespace: street").replace(
        "name: reviews, port: 80}]", "name: reviews, namespace: shop, port: 80}]"
    )
    text = (
        consumer.split("  rules:")[0]
        + "  rules:\n  - filters: [{type: RequestRedirect, requestRedirect: {hostname: x.example}}]\n"
    )
    node = Node(mesh_of(SHOP, text), "here")
    assert set(node.proxies) == {STRANGER}
    assert node.state.services["shop/reviews"].ports[0].views == ("street",)


def test_a_consumer_route_on_one_port_leaves_the_others_to_the_producer() -> None:
    """GEP-1226 port by port: where the kernel steers a caller, its Envoy has something to serve."""
    ports = "ports: [{name: http, port: 80, targetPort: http}]"
    shop = SHOP.replace(ports, "ports: [{name: http, port: 80, targetPort: http}, {name: more, port: 81}]", 1)
    producer = CANARY.replace("name: reviews, port: 80}]\n  rules", "name: reviews, port: 81}]\n  rules")
    redirect = "  rules:\n  - filters: [{type: RequestRedirect, requestRedirect: {hostname: x.example}}]\n"
    consumer = (CANARY.split("  rules:")[0] + redirect).replace("namespace: shop", "namespace: street")
    consumer = consumer.replace("name: reviews,", "name: reviews, namespace: shop,")
    node = Node(mesh_of(shop, producer, consumer), "here")
    views = {port.port: port.views for port in node.state.services["shop/reviews"].ports}
    assert views == {80: ("street",), 81: (EVERYONE,)}
    assert [port.port for port in node.proxies[STRANGER].routed] == [80, 81]
    assert [port.port for port in node.proxies[STOREFRONT].routed] == [81]


def test_denied_backends_are_left_out_and_judged_ones_stand_apart() -> None:
    """Rule 4: backends of one service with different verdicts become separate parts."""
    policy = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: out, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: storefront}}
  egress:
  - toEndpoints: [{matchLabels: {version: v1}}]
    toPorts: [{ports: [{port: "8080", protocol: TCP}], rules: {http: [{method: GET}]}}]
"""
    node = Node(mesh_of(SHOP, CANARY, policy), "here")
    parts = {d.target.service.name: d.parts for d in node.proxies[STOREFRONT].destinations}
    (reviews,) = parts["reviews"]
    assert reviews.l7 >= 256
    assert {b.workload.name for b in reviews.backends if b.workload} == {"reviews-v1"}
    assert [p.backends for p in parts["reviews-v2"]] == [()]


def test_a_service_without_a_ready_pod_is_still_known() -> None:
    """So that the kernel refuses at once instead of sending the packet away."""
    text = SHOP.replace('conditions: [{type: Ready, status: "True"}]', "conditions: []")
    node = Node(mesh_of(text), "here")
    assert node.state.services[str(ServiceName("shop", "reviews"))].ports[0].backends == ()


def test_the_agent_is_told_at_which_ports_a_pod_serves_gateways() -> None:
    """It knows by that what their Envoys report as source."""
    gateway = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {app: reviews}
  servers:
  - {port: {number: 9080, name: http, protocol: HTTP}, hosts: ["*"]}
  - {port: {number: 9000, name: tcp, protocol: TCP}, hosts: ["*"]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: edge, namespace: shop}
spec:
  hosts: ["*"]
  gateways: [edge]
  http: [{route: [{destination: {host: storefront}}]}]
  tcp: [{match: [{port: 9000}], route: [{destination: {host: storefront}}]}]
"""
    pods = Node(mesh_of(SHOP, gateway), "here").state.pods
    assert (pods[REVIEWS_V1].gateway, pods[STOREFRONT].gateway) == ((9000, 9080), ())
