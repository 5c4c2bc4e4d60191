"""What is routed of headless services, and what the kernel is told of them (rule 24)."""

from __future__ import annotations

from typing import Any

import pytest

from agent.entries import Block, service_entries
from bpf.layout import ServiceKey, packed_address
from mesh.model import ServiceName
from mesh.node import ServicePortRecord, ServiceRecord
from tests.traffic.followed import service
from tests.traffic.samples.security import mesh_config
from tests.traffic.shop import Object, Shop, destination_rule, object_of, pod, to, versions, virtual_service

HEADLESS = service(clusterIP="None")
ONE, TWO = "10.64.0.10", "10.64.0.11"
MARKED = virtual_service({"headers": {"request": {"set": {"x-a": "b"}}}, "route": [to()]})


def routed(shop: Shop) -> dict[tuple[str, int], set[str]]:
    """Address and port that are dialled -> the addresses to which requests lead."""
    view = shop.view()
    behind = {d.target: {b.address for part in d.parts for b in part.backends} for d in view.destinations}
    return {
        (vip, port.dialled): set().union(*(behind[target] for target in port.targets))
        for port in view.routed
        for vip in port.vips
    }


def headless(host: str, selector: Object, **port: Any) -> Object:
    ports = [{"name": "http", "port": 80, "targetPort": 8080} | port]
    spec = {"clusterIP": "None", "selector": selector, "ports": ports}
    return object_of("v1", "Service", host, "shop", spec)


def test_each_backend_is_dialled_and_reached_by_itself() -> None:
    found = routed(Shop(HEADLESS, MARKED))
    assert found[ONE, 8080] == {ONE} and found[TWO, 8080] == {TWO}
    assert (ONE, 80) not in found


def test_without_a_rule_the_kernel_is_told_nothing() -> None:
    shop = Shop(HEADLESS)
    assert "shop/web" not in shop.node.state.services and not shop.node.proxies


def test_a_subset_says_how_and_not_whom() -> None:
    rule = virtual_service({"route": [to(subset="v1")]})
    found = routed(Shop(HEADLESS, rule, versions()))
    assert found[TWO, 8080] == {TWO}


def test_another_service_may_stand_in_for_it_or_send_to_it() -> None:
    found = routed(Shop(HEADLESS, virtual_service({"route": [to("shadow")]})))
    assert found[ONE, 8080] == {"10.64.0.12"}
    leading = virtual_service({"route": [to("web")]}, hosts=["shadow"])
    assert routed(Shop(HEADLESS, leading))["10.128.0.11", 80] == {ONE, TWO}


def test_an_address_of_several_is_the_first_ones() -> None:
    also = virtual_service({"route": [to("also")]}, name="also", hosts=["also"])
    shop = Shop(HEADLESS, headless("also", {"version": "v1"}), MARKED, also)
    dialled = {port.vips: port.service.name for port in shop.view().routed if port.dialled == 8080}
    assert dialled == {(ONE,): "also", (TWO,): "web"}


def sliced(name: str, namespace: str, address: str, port: int) -> tuple[Object, Object]:
    """A headless service, and what somebody says stands behind it."""
    ports = [{"name": "http", "port": port}]
    service = object_of("v1", "Service", name, namespace, {"clusterIP": "None", "ports": ports})
    return service, {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
    }


@pytest.mark.parametrize(("address", "port"), [(ONE, 8080), ("10.128.0.11", 80), ("192.0.2.1", 80)])
def test_nobody_gets_what_is_anothers_by_naming_it(address: str, port: int) -> None:
    """N49: a pod of another namespace, a Service's own address, somebody outside."""
    mine = virtual_service(
        {"route": [to("web.shop.svc.cluster.local")]}, name="aaa", namespace="aaa", hosts=["aaa"]
    )
    shop = Shop(*sliced("aaa", "aaa", address, port), mine, accept=("",))
    assert (address, port) not in routed_by(shop)
    assert "aaa/aaa" not in shop.node.state.services


def routed_by(shop: Shop) -> set[tuple[str, int]]:
    """What is dialled there and meets the Envoy of some pod."""
    found = (port for view in shop.node.proxies.values() for port in view.routed)
    return {(vip, port.dialled) for port in found for vip in port.vips}


def test_slices_may_name_pods_of_the_own_namespace() -> None:
    mine = virtual_service({"route": [to("aaa")]}, name="aaa", hosts=["aaa"])
    assert routed(Shop(*sliced("aaa", "shop", ONE, 8080), mine))[ONE, 8080] == {ONE}


def test_of_two_ports_with_one_target_the_one_that_is_it_counts() -> None:
    """Envoy refuses a listener of which two chains want the same."""
    ports = [{"name": "http", "port": 80, "targetPort": 8080}, {"name": "http-alt", "port": 8080}]
    two = object_of(
        "v1", "Service", "two", "shop", {"clusterIP": "None", "selector": {"app": "web"}, "ports": ports}
    )
    shop = Shop(two, virtual_service({"route": [to("two")]}, name="two", hosts=["two"]))
    found = [(port.vips, port.port) for port in shop.view().routed if port.dialled == 8080]
    assert sorted(found) == [((ONE,), 8080), ((TWO,), 8080)]


def test_several_services_of_one_pod_have_a_port_each() -> None:
    also = headless("also", {"app": "web"}, name="metrics", port=9100, targetPort=9100)
    rules = (
        virtual_service({"route": [to("also")]}, name="also", hosts=["also"]),
        virtual_service({"route": [to("early")]}, name="early", hosts=["early"]),
    )
    shop = Shop(also, headless("early", {"app": "web"}), *rules)
    assert {(p.service.name, p.dialled) for p in shop.view().routed} == {("also", 9100), ("early", 8080)}


def test_each_backend_has_the_port_that_it_says() -> None:
    def serving(name: str, address: str, number: int) -> Object:
        made = pod(name, address, {"app": "db"})
        made["spec"]["containers"][0]["ports"] = [{"name": "sql", "containerPort": number}]
        return made

    pods = serving("db-0", "10.64.3.1", 5432), serving("db-1", "10.64.3.2", 5433)
    rule = destination_rule("db", host="db", trafficPolicy={"outlierDetection": {}})
    shop = Shop(*pods, headless("db", {"app": "db"}, name="tcp", targetPort="sql"), rule)
    assert {port for port in routed(shop) if port[0].startswith("10.64.3")} == {
        ("10.64.3.1", 5432),
        ("10.64.3.2", 5433),
    }
    keys = {(entry[0], entry[1]) for entry in kernel(shop.node.state.services["shop/db"])}
    wanted = {("sl_service", ServiceKey(packed_address(a), p, 6).pack()) for a, p in routed(shop) if p > 5000}
    assert {key for key in keys if key[0] == "sl_service"} == wanted
    # What no service has is nobody's address.
    assert "sl_vip" not in {table for table, _ in keys}


def kernel(record: ServiceRecord) -> list[tuple[str, bytes, tuple[bytes, ...]]]:
    """The entries of a service: table, key, and the backends among which the kernel would choose."""
    placed: dict[bytes, tuple[bytes, ...]] = {}

    def place(key: bytes, backends: tuple[bytes, ...]) -> Block:
        placed[key] = backends
        return Block(0, len(backends))

    return [(table, key, placed.get(key, ())) for table, key, _ in service_entries(record, place)]


def test_to_the_kernel_an_address_stands_for_itself() -> None:
    port = ServicePortRecord(8080, "TCP", ((ONE, 8080), (TWO, 8080)), ("*",))
    record = ServiceRecord(ServiceName("shop", "web"), (ONE, TWO), 0, (port,), headless=True)
    found = [entry for entry in kernel(record) if entry[0] == "sl_service"]
    assert [len(backends) for _, _, backends in found] == [1, 1]
    assert {backends[0][:16] for _, _, backends in found} == {packed_address(ONE), packed_address(TWO)}


@pytest.mark.parametrize("rules", [(), (mesh_config("outboundTrafficPolicy: {mode: REGISTRY_ONLY}"),)])
def test_what_policy_says_of_one_is_not_said_of_another(rules: tuple[Object, ...]) -> None:
    """Rule 4: backends of different verdicts are different clusters; who is denied is in none."""
    allowed = {
        "podSelector": {"matchLabels": {"app": "client"}},
        "policyTypes": ["Egress"],
        "egress": [{"to": [{"podSelector": {"matchLabels": {"version": "v1"}}}]}],
    }
    policy = object_of("networking.k8s.io/v1", "NetworkPolicy", "calls", "shop", allowed)
    found = routed(Shop(HEADLESS, MARKED, policy, *rules))
    assert found[ONE, 8080] == {ONE} and found[TWO, 8080] == set()
