"""What concerns one pod or Service: where each rule is enforced is told as it was compiled."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.answers.called import UnknownName
from mesh.answers.describe import CALLER, DESTINATION, IDLE, KERNEL, RESOLVER, describe_pod, describe_service
from mesh.assemble import Mesh
from mesh.datapath import Node
from mesh.model import ObjectRef, Problem
from sluice.describe_text import service_text
from tests.mesh.shop import CANARY, GET_ONLY, SHOP, mesh_of

ALLOW_ALL = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: open, namespace: shop}
spec: {podSelector: {matchLabels: {app: reviews}}, ingress: [{}]}
"""

NAMES = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: names, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: storefront}}
  egress:
  - toEndpoints: [{matchLabels: {k8s-app: kube-dns, io.kubernetes.pod.namespace: kube-system}}]
    toPorts: [{ports: [{port: "53", protocol: ANY}], rules: {dns: [{matchPattern: "*"}]}}]
"""

AUTHORIZATION = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: who, namespace: shop}
spec:
  selector: {matchLabels: {app: reviews}}
  rules: [{from: [{source: {namespaces: [shop]}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: what, namespace: shop}
spec:
  selector: {matchLabels: {app: reviews}}
  action: DENY
  rules: [{to: [{operation: {methods: [DELETE]}}]}]
"""

CONSUMER = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: theirs, namespace: street}
spec:
  parentRefs: [{kind: Service, group: "", name: reviews, namespace: shop, port: 80}]
  rules: [{filters: [{type: RequestRedirect, requestRedirect: {hostname: example.com}}]}]
"""


def pod(mesh: Mesh, name: str, problems: tuple[Problem, ...] = ()) -> dict[str, Any]:
    return describe_pod(mesh, name, Node(mesh, "here", default=True).proxies, problems)


def service(mesh: Mesh, name: str) -> dict[str, Any]:
    return describe_service(mesh, name, Node(mesh, "here", default=True).proxies)


def places(told: dict[str, Any]) -> dict[str, str]:
    return {f"{e['object']} {e['rule']}: {e['effect']}": e["enforced_by"] for e in told["rules"]}


ALIAS = """
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {type: ExternalName, externalName: %s, ports: [{port: 5432}]}
"""


def test_an_external_name_says_where_it_leads_and_lacks_nothing() -> None:
    host = "reviews.shop.svc.cluster.local"
    told = service(mesh_of(ALIAS % host, SHOP), "shop/db")
    assert (told["external_name"], told["leads_to"]) == (host, "Service shop/reviews")
    assert (told["ports"], told["warnings"], told["problems"]) == ([], [], [])
    assert list(service_text(told)) == [
        "Service: db.shop",
        f"   ExternalName: {host}",
        "   Leads to: Service shop/reviews",
    ]
    told = service(mesh_of(ALIAS % "db.example.com", SHOP), "shop/db")
    assert told["leads_to"] is None and "   ExternalName: db.example.com" in service_text(told)


def test_a_circle_of_external_names_is_told_with_each() -> None:
    mesh = mesh_of(ALIAS % "db.shop.svc.cluster.local", SHOP)
    told = describe_service(mesh, "shop/db", {}, mesh.problems)
    assert [problem["field"] for problem in told["problems"]] == ["spec.externalName"]


def test_a_pod_that_no_rule_concerns_is_on_the_kernel_path() -> None:
    told = pod(mesh_of(SHOP), "shop/reviews-v1")
    assert (told["path"], told["steered_by"], told["rules"], told["routes"]) == ("kernel", [], [], [])
    assert [s["name"] for s in told["services"]] == ["shop/reviews"]
    (port,) = told["services"][0]["ports"]
    assert (port["port"], port["selects"], port["pod_port"]) == (80, "http", 8080)


def test_an_l7_rule_stands_at_the_destination_and_its_default_deny_in_the_kernel() -> None:
    told = pod(mesh_of(SHOP, GET_ONLY), "shop/reviews-v1")
    assert told["path"] == "envoy"
    assert places(told) == {
        "CiliumNetworkPolicy shop/get-only ingress[0].toPorts[0]: allow requests that fit": DESTINATION,
        "CiliumNetworkPolicy shop/get-only ingress: deny (ingress default)": KERNEL,
    }


def test_an_l7_rule_that_an_allow_of_everything_voids_is_enforced_nowhere() -> None:
    """Rule 16."""
    told = pod(mesh_of(SHOP, GET_ONLY, ALLOW_ALL), "shop/reviews-v1")
    assert told["path"] == "kernel"
    found = places(told)
    assert found["CiliumNetworkPolicy shop/get-only ingress[0].toPorts[0]: allow requests that fit"] == IDLE
    assert found["NetworkPolicy shop/open ingress[0]: allow"] == KERNEL


def test_rules_about_names_are_the_resolvers() -> None:
    told = pod(mesh_of(SHOP, NAMES), "shop/storefront")
    assert (
        places(told)["CiliumNetworkPolicy shop/names egress[0].toPorts[0]: allow DNS queries that fit"]
        == RESOLVER
    )


def test_authorization_is_the_kernels_until_a_request_must_be_asked() -> None:
    """Rule 19: what needs nothing above L4 is compiled into the kernel."""
    alone, _, _ = AUTHORIZATION.partition("---")
    assert set(places(pod(mesh_of(SHOP, alone), "shop/reviews-v1")).values()) == {KERNEL}
    both = places(pod(mesh_of(SHOP, AUTHORIZATION), "shop/reviews-v1"))
    assert both["AuthorizationPolicy shop/what rules[0]: deny"] == DESTINATION


def test_a_route_stands_at_the_callers_envoy() -> None:
    mesh = mesh_of(SHOP, CANARY)
    caller, called = pod(mesh, "shop/storefront"), pod(mesh, "shop/reviews-v2")
    assert {e["enforced_by"] for e in caller["rules"]} == {CALLER}
    assert caller["rules"][0]["effect"] == "route its calls to shop/reviews:80"
    assert {(e["enforced_by"], e["effect"], e["callers"]) for e in called["routes"]} == {
        (CALLER, "route calls to shop/reviews:80", "all")
    }


def test_a_consumers_route_names_the_callers_that_it_binds() -> None:
    told = service(mesh_of(SHOP, CONSUMER), "shop/reviews")
    assert {e["callers"] for e in told["routes"]} == {"street"}


def test_a_service_tells_what_binds_the_pods_behind_it() -> None:
    told = service(mesh_of(SHOP, GET_ONLY), "shop/reviews")
    assert told["pods"] == [
        {"name": "shop/reviews-v1", "path": "envoy"},
        {"name": "shop/reviews-v2", "path": "envoy"},
    ]
    assert DESTINATION in places(told).values()


def test_who_reaches_a_port_is_told_by_verdict_and_path() -> None:
    (port,) = pod(mesh_of(SHOP, GET_ONLY), "shop/reviews-v1")["reached"]
    by = {(access["verdict"], access["path"]): access["from"] for access in port["by"]}
    assert "shop/storefront" in by["partly", "envoy"]
    assert "street/stranger" in by["deny", "kernel"]


def test_ports_and_labels_that_say_nothing_are_warned_of() -> None:
    mesh = mesh_of(SHOP.replace("ports: [{name: http, port: 80", "ports: [{name: web, port: 80"))
    told = pod(mesh, "shop/storefront")
    assert told["warnings"][0] == "no Service selects Pod shop/storefront"
    assert any("its version in telemetry" in text for text in told["warnings"])
    (warning,) = service(mesh, "shop/reviews")["warnings"]
    assert warning.startswith('Service shop/reviews port 80: its name "web" selects no protocol')


def test_only_problems_of_what_is_described_are_told() -> None:
    ours = Problem(ObjectRef("CiliumNetworkPolicy", "shop", "get-only"), "spec", "odd")
    others = Problem(ObjectRef("NetworkPolicy", "street", "x"), "spec", "odd")
    told = pod(mesh_of(SHOP, GET_ONLY), "shop/reviews-v1", (ours, others))
    assert [problem["object"] for problem in told["problems"]] == ["CiliumNetworkPolicy shop/get-only"]


@pytest.mark.parametrize("name", ["shop/nobody", "reviews"])
def test_names_that_are_not_there_are_said(name: str) -> None:
    with pytest.raises(UnknownName):
        pod(mesh_of(SHOP), name)
    with pytest.raises(UnknownName):
        service(mesh_of(SHOP), name)
