from __future__ import annotations

import json

import pytest

from mesh.answers.called import UnknownName
from mesh.answers.matrix import Column, Matrix, by_access, matrix, who_can_reach
from tests.mesh.shop import CANARY, GET_ONLY, SHOP, mesh_of
from tests.mesh.test_groups import pod

SLICE = """
apiVersion: v1
kind: Service
metadata: {name: legacy, namespace: shop}
spec: {ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: legacy-1, namespace: shop, labels: {kubernetes.io/service-name: legacy}}
addressType: IPv4
ports: [{name: "", port: 8088, protocol: TCP}]
endpoints: [{addresses: [203.0.113.9], conditions: {ready: true}}]
"""
PORTS = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: ports, namespace: shop}
spec:
  podSelector: {matchLabels: {app: storefront}}
  policyTypes: [Ingress, Egress]
  ingress: [{ports: [{port: 53, protocol: UDP}, {port: 9000, endPort: 9010}]}]
  egress:
  - to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: street}}}]
    ports: [{port: 25}]
"""


def by_label(found: Matrix) -> dict[str, Column]:
    return {column.label: column for column in found.columns}


def callers(found: Matrix, column: Column) -> dict[tuple[str, str], set[str]]:
    outcomes: dict[tuple[str, str], set[str]] = {}
    for access, indexes in by_access(column).items():
        outcomes.setdefault(access.outcome, set()).update(found.callers[i].name for i in indexes)
    return outcomes


def test_every_caller_meets_every_port_of_every_callee() -> None:
    found = matrix(mesh_of(SHOP, GET_ONLY))
    column = by_label(found)["shop/reviews-v1 TCP 8080"]
    assert column.services == ("shop/reviews:80",)
    assert callers(found, column) == {
        ("partly", "envoy"): {"shop/storefront"},
        ("allow", "kernel"): {"shop/reviews-v1"},
        ("deny", "kernel"): {"shop/reviews-v2", "street/stranger", "world"},
    }


def test_ports_are_those_of_containers_services_and_policies() -> None:
    labels = by_label(matrix(mesh_of(SHOP, PORTS))).keys()
    assert {label for label in labels if "storefront" in label} == {
        "shop/storefront UDP 53",
        "shop/storefront TCP 9000",
        "shop/storefront TCP 9010",
    }
    assert {label for label in labels if "stranger" in label} == {"street/stranger TCP 25"}


def test_a_group_to_itself_is_one_of_its_pods_to_another() -> None:
    """Rule 10 is about one pod, not about all that are alike."""
    twins = pod("a", "10.64.0.2", "{app: api}"), pod("b", "10.64.0.3", "{app: api}")
    closed = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed, namespace: shop}
spec: {podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: other}}}], ports: [{port: 80}]}]}
"""
    (column,) = matrix(mesh_of(*twins, closed)).columns
    assert column.access[0].verdict == "deny"


def test_callees_can_be_narrowed_to_namespaces_but_callers_never_are() -> None:
    mesh = mesh_of(SHOP, PORTS)
    assert matrix(mesh, ["street"]).columns == tuple(
        column for column in matrix(mesh).columns if column.callee.namespace == "street"
    )
    assert matrix(mesh, ["street"]).callers == matrix(mesh).callers


def test_a_matrix_survives_json() -> None:
    found = matrix(mesh_of(SHOP, GET_ONLY, CANARY, PORTS))
    plain = json.loads(json.dumps(found.plain()))
    assert Matrix.from_plain(plain).plain() == found.plain()


def test_who_can_reach_a_service_asks_about_all_that_is_behind_it() -> None:
    found = who_can_reach(mesh_of(SHOP, GET_ONLY), "shop/reviews:80", "TCP")
    assert by_label(found).keys() == {"shop/reviews-v1 TCP 8080", "shop/reviews-v2 TCP 8081"}
    assert found.columns[0] == matrix(mesh_of(SHOP, GET_ONLY)).columns[0]


def test_who_can_reach_a_pod_asks_about_any_port_of_it() -> None:
    found = who_can_reach(mesh_of(SHOP, GET_ONLY), "shop/reviews-v1:9999", "TCP")
    assert callers(found, found.columns[0])["deny", "kernel"] >= {"shop/storefront", "world"}
    by_address = who_can_reach(mesh_of(SHOP, GET_ONLY), "10.64.0.11:9999", "TCP")
    assert by_address == found


def test_who_can_reach_the_address_of_a_service_asks_about_the_service() -> None:
    mesh = mesh_of(SHOP)
    assert who_can_reach(mesh, "10.128.0.80:80", "TCP") == who_can_reach(mesh, "shop/reviews:80", "TCP")


def test_who_can_reach_an_address_outside_asks_only_about_workloads() -> None:
    found = who_can_reach(mesh_of(SHOP, PORTS), "203.0.113.9:443", "TCP")
    assert callers(found, found.columns[0]) == {
        ("deny", "kernel"): {"shop/storefront"},
        ("allow", "kernel"): {"shop/reviews-v1", "shop/reviews-v2", "street/stranger"},
    }


def test_a_backend_that_is_no_pod_is_asked_about_by_its_address() -> None:
    (column,) = who_can_reach(mesh_of(SHOP, SLICE), "shop/legacy:80", "TCP").columns
    assert (column.label, column.services) == ("203.0.113.9 TCP 8088", ("shop/legacy:80",))


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("shop/reviews:81", "Service shop/reviews has no TCP port 81; it has TCP 80"),
        ("shop/nothing:80", "neither a Service nor a Pod with an address shop/nothing"),
        ("reviews", "want namespace/service:port"),
    ],
)
def test_an_unknown_target_is_said(target: str, said: str) -> None:
    with pytest.raises(UnknownName, match=said):
        who_can_reach(mesh_of(SHOP), target, "TCP")
