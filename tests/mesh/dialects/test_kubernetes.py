from __future__ import annotations

from typing import Any

import pytest

from mesh.model import (
    Alias,
    EndpointSlice,
    NamedPort,
    Namespace,
    Service,
    ServiceName,
    ServicePort,
    SliceEndpoint,
    Workload,
    WorkloadName,
)
from tests.mesh.dialects.objects import obj, refused, valid


def pod(spec: Any = None, status: Any = None, **metadata: Any) -> Any:
    found = obj("v1", "Pod", spec or {"containers": []}, "web-1", status=status)
    found["metadata"] |= metadata
    return found


def workload(*arguments: Any, **metadata: Any) -> Workload:
    (noun,) = valid(pod(*arguments, **metadata)).nouns
    assert isinstance(noun, Workload)
    return noun


def service(spec: Any) -> Service:
    (noun,) = valid(obj("v1", "Service", spec, "web")).nouns
    assert isinstance(noun, Service)
    return noun


READY = {"conditions": [{"type": "Initialized", "status": "True"}, {"type": "Ready", "status": "True"}]}
PORT = {"port": 80}
EXTERNAL = {"type": "ExternalName", "externalName": "db.example.com"}


# --- pods -----------------------------------------------------------------------------------------


def test_a_pod_is_a_workload_with_its_labels_account_node_and_named_ports() -> None:
    containers = [
        {"name": "a", "image": "x", "ports": [{"containerPort": 8080, "name": "http"}, {"containerPort": 1}]},
        {"name": "b", "ports": [{"containerPort": 53, "name": "dns", "protocol": "UDP"}]},
    ]
    spec = {"nodeName": "n1", "serviceAccountName": "web", "containers": containers, "whatever": 1}
    status = READY | {"podIP": "10.0.0.9", "podIPs": [{"ip": "FD00:0::9"}, {"ip": "10.0.0.9"}]}
    assert workload(spec, status, labels={"b": "2", "a": "1"}) == Workload(
        name=WorkloadName("shop", "web-1"),
        labels=(("a", "1"), ("b", "2")),
        service_account="web",
        node="n1",
        addresses=("10.0.0.9", "fd00::9"),
        ports=(NamedPort("http", 8080, "TCP"), NamedPort("dns", 53, "UDP")),
        ready=True,
    )


def test_a_bare_pod_has_the_default_account_no_node_no_address_and_is_not_ready() -> None:
    assert workload() == Workload(WorkloadName("shop", "web-1"), (), "default", "")


@pytest.mark.parametrize(
    ("kind", "name", "labels", "owner"),
    [
        ("ReplicaSet", "web-7d9f8b", {"pod-template-hash": "7d9f8b"}, "web"),
        ("ReplicaSet", "web", {}, "web"),
        ("StatefulSet", "db", {}, "db"),
        ("Job", "report-29391840", {}, "report"),
        ("Job", "migrate-2", {}, "migrate-2"),
    ],
)
def test_what_made_a_pod_is_named_as_istio_names_workloads(
    kind: str, name: str, labels: dict[str, str], owner: str
) -> None:
    other = {"kind": "Node", "name": "n1", "apiVersion": "v1", "uid": "1"}
    own = {"kind": kind, "name": name, "apiVersion": "apps/v1", "uid": "2", "controller": True}
    assert workload(ownerReferences=[other, own], labels=labels).owner == owner


def test_a_pod_that_has_ended_has_no_address_for_it_may_be_anothers() -> None:
    ended = workload(None, READY | {"podIP": "10.0.0.9", "phase": "Succeeded"})
    assert (ended.addresses, ended.ready) == ((), False)


def test_a_pod_that_is_being_deleted_is_not_ready() -> None:
    assert not workload(None, READY, deletionTimestamp="2026-01-01T00:00:00Z").ready


@pytest.mark.parametrize(
    ("bad", "field", "says"),
    [
        (pod(status={"podIP": "10.0.0"}), "status.podIP", "not an IP address"),
        (pod(status={"podIP": "127.0.0.1"}), "status.podIP", "cannot be the address"),
        (pod(status={"podIP": "::ffff:10.0.0.1"}), "status.podIP", "without zone or mapping"),
        (pod({"hostNetwork": True}), "spec.hostNetwork", "cannot be in the mesh"),
        (
            pod({"containers": [{"ports": [{"name": "http"}]}]}),
            "spec.containers[0].ports[0].containerPort",
            "required",
        ),
        (pod(labels={"version": 1}), "metadata.labels.version", 'must be a string: write "1", not 1'),
        (pod(labels={"-": "a"}), "metadata.labels['-']", "not a label key"),
        (pod(labels={"a": "b\n"}), "metadata.labels.a", r"'b\n' is not a label value"),
        (pod("junk"), "spec", "must be a mapping, not 'junk'"),
    ],
)
def test_a_pod_that_cannot_be_read_has_no_effect(bad: Any, field: str, says: str) -> None:
    assert says in refused(bad)[field]


def test_a_namespace_carries_its_name_as_a_label_whatever_it_says() -> None:
    bare = obj("v1", "Namespace", None, "shop", namespace=None)
    bare["metadata"]["labels"] = {"team": "a", "kubernetes.io/metadata.name": "kube-system"}
    assert valid(bare).nouns == (Namespace("shop", (("kubernetes.io/metadata.name", "shop"), ("team", "a"))),)


# --- services -------------------------------------------------------------------------------------


def test_a_service_has_ports_a_selector_and_both_families() -> None:
    http = {"name": "http", "port": 80, "targetPort": "web", "appProtocol": "http"}
    found = service(
        {"selector": {"app": "web"}, "ports": [http, {"name": "dns", "port": 53, "protocol": "UDP"}]}
    )
    assert found == Service(
        name=ServiceName("shop", "web"),
        ports=(ServicePort("http", 80, "TCP", "web", "http"), ServicePort("dns", 53, "UDP", 53)),
        selector=(("app", "web"),),
    )


def test_an_empty_selector_is_an_absent_one() -> None:
    assert service({"ports": [PORT], "selector": {}}).selector is None


@pytest.mark.parametrize(
    ("wanted", "annotations", "near"),
    [
        (None, {}, ""),
        ("PreferClose", {}, "zone"),
        ("PreferSameZone", {}, "zone"),
        ("PreferSameNode", {}, "node"),
        (None, {"service.kubernetes.io/topology-mode": "Auto"}, "zone"),
        (None, {"service.kubernetes.io/topology-mode": "auto"}, "zone"),
        (None, {"service.kubernetes.io/topology-mode": "Disabled"}, ""),
        ("PreferSameNode", {"service.kubernetes.io/topology-mode": "Auto"}, "zone"),
    ],
)
def test_a_service_may_prefer_what_is_near(wanted: str | None, annotations: Any, near: str) -> None:
    found = obj("v1", "Service", {"ports": [PORT], "trafficDistribution": wanted}, "web")
    found["metadata"]["annotations"] = annotations
    (noun,) = valid(found).nouns
    assert isinstance(noun, Service) and noun.near == near


def test_a_headless_service_has_no_address_and_needs_no_port() -> None:
    found = service({"clusterIP": "None"})
    assert (found.headless, found.vips, found.ports) == (True, (), ())


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"externalName": "DB.Example.com."},
        {"clusterIP": ""},
        {"clusterIP": "None", "clusterIPs": ["None"]},
        {"ports": [PORT], "selector": {"app": "db"}, "sessionAffinity": "ClientIP"},
    ],
)
def test_an_external_name_is_an_alias_whatever_else_it_says(more: Any) -> None:
    (noun,) = valid(obj("v1", "Service", EXTERNAL | more, "db")).nouns
    assert noun == Alias(ServiceName("shop", "db"), "db.example.com")


@pytest.mark.parametrize(
    ("spec", "vips", "families"),
    [
        ({"clusterIP": "10.96.0.7"}, ("10.96.0.7",), ("IPv4",)),
        ({"clusterIPs": ["fd00::7", "10.96.0.7"]}, ("fd00::7", "10.96.0.7"), ("IPv6", "IPv4")),
        ({"clusterIP": "10.96.0.7", "ipFamilyPolicy": "PreferDualStack"}, ("10.96.0.7",), ("IPv4", "IPv6")),
        ({"clusterIP": ""}, (), ("IPv4", "IPv6")),
        ({"ipFamilies": ["IPv6"]}, (), ("IPv6",)),
        ({"ipFamilyPolicy": "SingleStack"}, (), ("IPv4",)),
    ],
)
def test_a_service_has_the_addresses_and_families_that_it_asks_for(
    spec: Any, vips: Any, families: Any
) -> None:
    found = service({"ports": [PORT]} | spec)
    assert (found.vips, found.families) == (vips, families)


def test_affinity_lasts_three_hours_unless_it_says_otherwise() -> None:
    sticky = {"ports": [PORT], "sessionAffinity": "ClientIP"}
    assert service(sticky).affinity_seconds == 10800
    config = {"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}}
    assert service(sticky | config).affinity_seconds == 5
    assert service({"ports": [PORT]} | config).affinity_seconds == 0


@pytest.mark.parametrize(
    ("spec", "field", "says"),
    [
        (None, "spec", "is required"),
        ({}, "spec.ports", "at least one port unless it is headless"),
        ({"type": "Alias"}, "spec.type", "must be one of ClusterIP, NodePort, LoadBalancer, ExternalName"),
        (EXTERNAL | {"externalName": None}, "spec.externalName", "is required"),
        (EXTERNAL | {"externalName": ""}, "spec.externalName", "not a DNS name"),
        (EXTERNAL | {"externalName": "db_1.example.com"}, "spec.externalName", "not a DNS name"),
        (EXTERNAL | {"externalName": "a" * 64 + ".example.com"}, "spec.externalName", "not a DNS name"),
        (EXTERNAL | {"externalName": "*.example.com"}, "spec.externalName", "not a DNS name"),
        (EXTERNAL | {"externalName": "192.0.2.1"}, "spec.externalName", "EndpointSlice"),
        (EXTERNAL | {"externalName": "2001:db8::1"}, "spec.externalName", "ServiceEntry"),
        (EXTERNAL | {"clusterIP": "10.96.0.7"}, "spec.clusterIP", "has no address"),
        (EXTERNAL | {"clusterIPs": ["10.96.0.7"]}, "spec.clusterIPs[0]", "has no address"),
        (EXTERNAL | {"ports": [{"port": 0}]}, "spec.ports[0].port", "must be 1 to 65535"),
        ({"ports": [{}]}, "spec.ports[0].port", "is required"),
        ({"ports": [{"port": 70000}]}, "spec.ports[0].port", "is 70000; must be 1 to 65535"),
        ({"ports": [PORT, {"port": 81}]}, "spec.ports[1].name", "is required where"),
        ({"ports": [PORT | {"name": "a"}, PORT | {"name": "b"}]}, "spec.ports[1].port", "stands here twice"),
        ({"ports": [{"port": 80, "targetPort": "80"}]}, "spec.ports[0].targetPort", "not a port name"),
        ({"ports": [PORT], "clusterIP": "10.96.0"}, "spec.clusterIP", "not an IP address"),
        (
            {"ports": [PORT], "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.2"]},
            "spec.clusterIP",
            "must equal",
        ),
        (
            {"ports": [PORT], "sessionAffinity": "Cookie"},
            "spec.sessionAffinity",
            "must be one of None, ClientIP",
        ),
        ({"ports": [PORT], "trafficDistribution": "Near"}, "spec.trafficDistribution", "must be one of"),
        ({"ports": [PORT], "ipFamilies": ["IPv4", "IPv4"]}, "spec.ipFamilies", "one family twice"),
    ],
)
def test_a_service_that_cannot_be_read_has_no_effect(spec: Any, field: str, says: str) -> None:
    assert says in refused(obj("v1", "Service", spec, "web"))[field]


# --- endpoint slices --------------------------------------------------------------------------------


def endpoint_slice(**fields: Any) -> Any:
    found = obj("discovery.k8s.io/v1", "EndpointSlice", None, "web-abc", addressType="IPv4")
    found["metadata"]["labels"] = {"kubernetes.io/service-name": "web"}
    return found | fields


def test_an_endpoint_is_ready_unless_it_says_otherwise() -> None:
    target = {"kind": "Pod", "name": "web-1"}
    endpoints = [
        {"addresses": ["10.0.0.1"], "targetRef": target},
        {"addresses": ["10.0.0.2"], "conditions": {"ready": False}, "zone": "east-1a"},
    ]
    (noun,) = valid(endpoint_slice(ports=[{"name": "http", "port": 80}], endpoints=endpoints)).nouns
    assert isinstance(noun, EndpointSlice)
    assert noun.service == ServiceName("shop", "web")
    assert noun.ports == (("http", 80, "TCP"),)
    assert noun.endpoints == (
        SliceEndpoint(("10.0.0.1",), True, WorkloadName("shop", "web-1")),
        SliceEndpoint(("10.0.0.2",), False, zone="east-1a"),
    )


@pytest.mark.parametrize(
    ("fields", "field", "says"),
    [
        ({"metadata": {"name": "a"}}, "metadata.labels['kubernetes.io/service-name']", "is required"),
        ({"addressType": "FQDN"}, "addressType", "FQDN is not supported yet"),
        ({"addressType": None}, "addressType", "is required"),
        ({"ports": [{}]}, "ports[0].port", "is required"),
        (
            {"endpoints": [{"addresses": ["fd00::1"]}]},
            "endpoints[0].addresses[0]",
            "not an address of type 'IPv4'",
        ),
    ],
)
def test_a_slice_that_cannot_be_read_has_no_effect(fields: Any, field: str, says: str) -> None:
    assert says in refused(endpoint_slice(**fields))[field]
