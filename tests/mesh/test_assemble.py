from __future__ import annotations

from mesh.dialects import read
from mesh.model import Backend, ServiceName, WorkloadName
from tests.mesh.shop import CANARY, SHOP, documents, mesh_of

REVIEWS = ServiceName("shop", "reviews")


def apply(mesh, text):  # type: ignore[no-untyped-def]
    return mesh.apply({f.ref: f for f in map(read, documents(text))})


def test_a_named_target_port_is_each_pods_own() -> None:
    mesh = mesh_of(SHOP)
    four = [b for b in mesh.backends[REVIEWS][80, "TCP"] if ":" not in b.address]
    assert four == [
        Backend("10.64.0.11", 8080, WorkloadName("shop", "reviews-v1")),
        Backend("10.64.0.12", 8081, WorkloadName("shop", "reviews-v2")),
    ]


def test_a_pod_that_is_not_ready_is_no_backend() -> None:
    mesh = mesh_of(SHOP)
    pod = documents(SHOP)[2]
    pod["status"]["conditions"][0]["status"] = "False"
    fragment = read(pod)
    change = mesh.apply({fragment.ref: fragment})
    assert REVIEWS in change.services
    assert not change.peers, "readiness is no matter of identity"
    assert {b.workload.name for b in mesh.backends[REVIEWS][80, "TCP"]} == {"reviews-v2"}


def test_of_two_services_with_one_address_the_one_that_had_it_keeps_it() -> None:
    mesh = mesh_of(SHOP)
    apply(
        mesh,
        """
apiVersion: v1
kind: Service
metadata: {name: aardvark, namespace: shop}
spec: {clusterIP: 10.128.0.80, selector: {app: storefront}, ports: [{port: 80}]}
""",
    )
    assert mesh.vips[REVIEWS] == ("10.128.0.80",)
    assert mesh.vips[ServiceName("shop", "aardvark")] == ()
    assert [str(p.object) for p in mesh.problems] == ["Service shop/aardvark"]
    assert "already belongs to Service shop/reviews" in mesh.problems[0].message


def test_of_two_pods_with_one_address_the_first_by_name_has_it() -> None:
    mesh = mesh_of(SHOP)
    apply(
        mesh,
        """
apiVersion: v1
kind: Pod
metadata: {name: thief, namespace: street}
spec: {nodeName: there, containers: [{name: c, command: ["true"]}]}
status: {podIPs: [{ip: 10.64.0.11}]}
""",
    )
    assert mesh.owners["10.64.0.11"] == WorkloadName("shop", "reviews-v1")
    assert [str(p.object) for p in mesh.problems] == ["Pod street/thief"]


def test_a_pod_and_the_service_of_its_name_go_one_by_one() -> None:
    mesh = mesh_of(SHOP)
    pod = """
apiVersion: v1
kind: Pod
metadata: {name: reviews, namespace: shop, labels: {app: reviews}}
spec: {nodeName: there, containers: [{name: c, command: ["true"]}]}
status: {podIPs: [{ip: 10.64.0.11}]}
"""
    apply(mesh, pod)
    apply(mesh, "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {a: b}}")
    assert [str(p.object) for p in mesh.problems] == ["Pod shop/reviews-v1"], "reviews is first by name"
    (gone,) = (read(document).ref for document in documents(pod))
    assert REVIEWS in mesh.apply({gone: None}).services
    assert mesh.problems == ()
    assert {b.workload.name for b in mesh.backends[REVIEWS][80, "TCP"]} == {"reviews-v1", "reviews-v2"}


def test_endpoint_slices_replace_what_the_selector_finds() -> None:
    mesh = mesh_of(SHOP)
    apply(
        mesh,
        """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: by-hand, namespace: shop, labels: {kubernetes.io/service-name: reviews}}
addressType: IPv4
ports: [{name: http, port: 9999, protocol: TCP}]
endpoints: [{addresses: [192.0.2.7]}, {addresses: [192.0.2.8], conditions: {ready: false}}]
""",
    )
    assert mesh.backends[REVIEWS][80, "TCP"] == (Backend("192.0.2.7", 9999),)


def test_one_port_number_of_two_protocols_is_two_ports() -> None:
    mesh = mesh_of(SHOP)
    apply(
        mesh,
        """
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: shop}
spec:
  selector: {version: v1}
  ports: [{name: tcp, port: 80, targetPort: http}, {name: udp, port: 80, targetPort: 9000, protocol: UDP}]
""",
    )
    ports = {key: {b.port for b in found} for key, found in mesh.backends[REVIEWS].items()}
    assert ports == {(80, "TCP"): {8080}, (80, "UDP"): {9000}}


def test_a_route_to_nowhere_is_a_problem_that_goes_when_the_service_comes() -> None:
    mesh = mesh_of(SHOP)
    apply(mesh, CANARY.replace("name: reviews-v2", "name: reviews-v3"))
    assert {p.field for p in mesh.problems} == {
        "spec.rules[0].backendRefs[0]",
        "spec.rules[1].backendRefs[1]",
    }
    apply(
        mesh,
        """
apiVersion: v1
kind: Service
metadata: {name: reviews-v3, namespace: shop}
spec: {selector: {app: reviews}, ports: [{port: 80, targetPort: http}]}
""",
    )
    assert mesh.problems == ()
