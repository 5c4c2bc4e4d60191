"""Hosts of ServiceEntries as services of a mesh: what stands behind them, whom they are for, their names."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.assemble import Mesh
from mesh.caller import Caller
from mesh.change import Change
from mesh.datapath import Node
from mesh.dns_records import Records, zone
from mesh.entry_hosts import is_entry
from mesh.identity import Allocations
from mesh.model import Backend, Fragment, LearnedNames, ObjectRef, ServiceName, WorkloadName
from mesh.routes.balance import balanced_ports
from tests.mesh.dialects.objects import obj
from tests.mesh.shop import SHOP
from xds.dialects import read

RANGES = ("10.128.0.0/16", "fd51:ce00:0:2::/112")
API = ServiceName("shop", "api.example.com")
LEARNED = ObjectRef("LearnedNames", "", "resolver")
HTTP = {"number": 80, "name": "http", "protocol": "HTTP"}


def entry(name: str = "api", namespace: str = "shop", created: str = "", **spec: Any) -> Any:
    metadata = {"name": name, "namespace": namespace} | ({"creationTimestamp": created} if created else {})
    whole = {"hosts": [API.name], "ports": [HTTP], "resolution": "STATIC"} | spec
    whole |= (
        {} if {"endpoints", "workloadSelector"} & spec.keys() else {"endpoints": [{"address": "192.0.2.1"}]}
    )
    if whole["resolution"] == "DNS" and "endpoints" not in spec:
        whole.pop("endpoints", None)
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": metadata,
        "spec": whole,
    }


def workload_entry(name: str, namespace: str = "shop", **spec: Any) -> Any:
    metadata = {"name": name, "namespace": namespace}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "WorkloadEntry",
        "metadata": metadata,
        "spec": spec,
    }


def apply(mesh: Mesh, *objects: Any) -> Change:
    found = [read(item) for item in objects]
    assert all(fragment.valid for fragment in found), [fragment.problems for fragment in found]
    return mesh.apply({fragment.ref: fragment for fragment in found})


def mesh_with(*objects: Any) -> Mesh:
    mesh = Mesh(Allocations(RANGES))
    apply(mesh, *yaml.safe_load_all(SHOP), *objects)
    return mesh


def told(mesh: Mesh, *asked: str, **current: tuple[str, ...]) -> Change:
    """The resolver reports the last answers, and which names under patterns were asked for."""
    names = tuple((name.replace("_", "."), addresses) for name, addresses in current.items())
    return mesh.apply({LEARNED: Fragment(LEARNED, (LearnedNames(1, (), names, asked),))})


def dynamic(name: str, namespace: str = "shop", host: str = "*.example.com", **more: Any) -> Any:
    whole = entry(name, namespace, hosts=[host], resolution="DYNAMIC_DNS", **more)
    del whole["spec"]["endpoints"]
    return whole


def behind(mesh: Mesh, name: ServiceName = API, port: int = 80) -> list[str]:
    return [f"{b.address}:{b.port}" for b in mesh.backends[name][port, "TCP"]]


def test_a_host_has_an_address_of_the_mesh_unless_it_names_one() -> None:
    mesh = mesh_with(entry())
    v4, v6 = mesh.vips[API]
    assert v4.startswith("10.128.") and v6.startswith("fd51:")
    assert behind(mesh) == ["192.0.2.1:80"]
    apply(mesh, entry(addresses=["192.0.2.80"]))
    assert mesh.vips[API] == ("192.0.2.80",)


def test_an_address_that_somebody_else_has_is_refused() -> None:
    """Threat N49."""
    for taken, owner in (("10.128.0.80", "Service shop/reviews"), ("10.64.0.11", "Pod shop/reviews-v1")):
        mesh = mesh_with(entry(addresses=[taken]))
        assert mesh.vips[API] == ()
        assert [(p.field, p.message) for p in mesh.problems] == [
            ("spec.addresses", f"{taken} already belongs to {owner}")
        ]


def test_of_two_entries_of_a_namespace_the_older_has_the_host() -> None:
    old = entry("old", created="2026-01-01T00:00:00Z")
    new = entry("new", created="2026-01-02T00:00:00Z", endpoints=[{"address": "192.0.2.2"}])
    for order in ((old, new), (new, old)):
        mesh = mesh_with(*order)
        assert behind(mesh) == ["192.0.2.1:80"]
        assert [f"{p.object} {p.field}: {p.message}" for p in mesh.problems] == [
            f"ServiceEntry shop/new spec.hosts: {API.name} already belongs to ServiceEntry shop/old"
        ]
        mesh.apply({ObjectRef("ServiceEntry", "shop", "old"): None})
        assert (behind(mesh), mesh.problems) == (["192.0.2.2:80"], ())


def test_one_may_select_pods() -> None:
    mesh = mesh_with(
        entry(workloadSelector={"labels": {"app": "reviews"}}, ports=[HTTP | {"targetPort": 8080}])
    )
    v4 = [place for place in behind(mesh) if "[" not in place and place.count(":") == 1]
    assert v4 == ["10.64.0.11:8080", "10.64.0.12:8080"]
    reviews = mesh.workloads[WorkloadName("shop", "reviews-v1")]
    assert API in {service.name for service in mesh.service_table.selecting(reviews)}


def test_services_find_workload_entries_by_label() -> None:
    """ServiceEntries and Services of the cluster (Istio: PILOT_ENABLE_K8S_SELECT_WORKLOAD_ENTRIES)."""
    machine = workload_entry("vm", address="192.0.2.7", ports={"http": 8080}, labels={"app": "reviews"})
    mesh = mesh_with(machine, entry(workloadSelector={"labels": {"app": "reviews"}}))
    assert "192.0.2.7:8080" in behind(mesh)
    assert "192.0.2.7:8080" in behind(mesh, ServiceName("shop", "reviews"))
    assert "192.0.2.7:8080" not in behind(mesh, ServiceName("shop", "reviews-v2"))
    for change in (
        workload_entry("vm", address="192.0.2.7", labels={"app": "other"}),
        workload_entry("vm", namespace="street", address="192.0.2.7", labels={"app": "reviews"}),
        machine | {"status": {"conditions": [{"type": "Healthy", "status": "False"}]}},
    ):
        moved = mesh_with(change, entry(workloadSelector={"labels": {"app": "reviews"}}))
        assert not [place for place in behind(moved) if place.startswith("192.0.2.7")]
    mesh.apply({read(machine).ref: None})
    assert not [place for place in behind(mesh) if place.startswith("192.0.2.7")]


def test_a_workload_entry_may_be_a_name() -> None:
    machine = workload_entry("vm", address="vm.example.com", labels={"app": "reviews"})
    mesh = mesh_with(machine, entry(workloadSelector={"labels": {"app": "reviews"}}, resolution="DNS"))
    assert zone(mesh).upstream == ("vm.example.com",)
    told(mesh, vm_example_com=("192.0.2.7",))
    assert "192.0.2.7:80" in behind(mesh)


def test_the_last_answer_is_what_stands_behind_a_name() -> None:
    mesh = mesh_with(entry(resolution="DNS"))
    assert behind(mesh) == [] and zone(mesh).upstream == (API.name,)
    change = told(mesh, api_example_com=("192.0.2.5", "192.0.2.6"))
    assert change.services == {API}
    assert behind(mesh) == ["192.0.2.5:80", "192.0.2.6:80"]
    told(mesh, api_example_com=("192.0.2.6",))
    assert behind(mesh) == ["192.0.2.6:80"]
    mesh.apply({ObjectRef("ServiceEntry", "shop", "api"): None})
    assert zone(mesh).upstream == ()


def test_an_answer_leads_nobody_to_himself() -> None:
    """Whoever answers for a name does not say what is at a pod's own loopback or beside its link."""
    mesh = mesh_with(entry(resolution="DNS"))
    told(
        mesh,
        api_example_com=(
            "127.0.0.1",
            "169.254.169.254",
            "::1",
            "::",
            "224.0.0.1",
            "::ffff:127.0.0.1",
            "192.0.2.5",
        ),
    )
    assert behind(mesh) == ["192.0.2.5:80"]


def test_the_kernel_shares_out_by_weight() -> None:
    places = [{"address": "192.0.2.1", "weight": 3}, {"address": "192.0.2.2"}]
    mesh = mesh_with(entry(endpoints=places))
    (port,) = balanced_ports(mesh, Caller("shop"), API, ())
    assert {address: parts for address, _, parts in port.plain} == {"192.0.2.1": 3, "192.0.2.2": 1}
    (record,) = Node(mesh, "here").state.services[str(API)].ports
    assert record.balanced and not record.views


def test_records_follow_what_is_exported_to_whom() -> None:
    """The own namespace's entry comes first, then the oldest that is exported."""
    mesh = mesh_with(
        entry(exportTo=["street", "far"], created="2026-01-01T00:00:00Z"),
        entry("far", "far", created="2026-01-02T00:00:00Z"),
        entry("young", "young", created="2026-01-03T00:00:00Z", exportTo=["*"]),
    )
    host = API.name
    own = {name.namespace: mesh.vips[name][:1] for name in mesh.vips if name.name == host}
    found = zone(mesh)
    assert found.addresses[host] == own["far"]
    assert found.scoped == {"street": {host: own["shop"]}, "young": {host: own["young"]}}
    alone = zone(mesh_with(entry(exportTo=["~"])))
    assert host not in alone.addresses and alone.scoped == {}


def test_a_name_has_addresses_of_families_that_lead_somewhere() -> None:
    mesh = mesh_with(entry(endpoints=[{"address": "2001:db8::1"}]))
    assert zone(mesh).addresses[API.name] == mesh.vips[API][1:]


def test_whom_a_host_means_changes_when_another_entry_comes() -> None:
    mesh = mesh_with(entry("far", "far"), _RULE)
    node = Node(mesh, "here")

    def views() -> dict[str, tuple[str, ...]]:
        services = node.state.services
        return {name.partition("/")[0]: services[name].ports[0].views for name in services if "." in name}

    assert views() == {"far": ("*",)}
    node.update(apply(mesh, entry(exportTo=["."])))
    assert views() == {"far": ("street",), "shop": ()}, "and the rule is not for that one"


def test_cilium_rules_about_services_are_about_those_of_the_cluster() -> None:
    selector = {"k8sServiceSelector": {"selector": {}, "namespace": "shop"}}
    spec = {"endpointSelector": {}, "egress": [{"toServices": [selector]}]}
    policy = obj("cilium.io/v2", "CiliumNetworkPolicy", spec)
    before = mesh_with(policy).policies
    assert mesh_with(policy, entry(workloadSelector={"labels": {"app": "storefront"}})).policies == before


# --- patterns -----------------------------------------------------------------------------------------


def hosts(mesh: Mesh) -> set[ServiceName]:
    return {name for name in mesh.services if is_entry(name)}


def test_a_name_under_a_pattern_is_a_service_once_it_is_asked_for() -> None:
    mesh = mesh_with()
    records = Records(mesh)
    assert records.update(apply(mesh, dynamic("any")))
    assert not hosts(mesh) and zone(mesh).patterns == {"*.example.com": ("*",)}
    change = told(mesh, API.name, "other.org", api_example_com=("192.0.2.5",))
    assert API in change.services and hosts(mesh) == {API}
    assert (behind(mesh), zone(mesh).upstream) == (["192.0.2.5:80"], (API.name,))
    assert zone(mesh).addresses[API.name] == mesh.vips[API][:1]
    told(mesh)
    assert not hosts(mesh) and not zone(mesh).upstream


def test_a_route_that_names_a_host_asks_for_it() -> None:
    mesh = mesh_with(dynamic("any"), *_ROUTES)
    assert hosts(mesh) == {API} and zone(mesh).upstream == (API.name,)
    assert not mesh.problems
    mesh.apply({read(_ROUTES[0]).ref: None})
    assert hosts(mesh) == {API}, "the other one leads there, too"
    mesh.apply({read(_ROUTES[1]).ref: None})
    assert not hosts(mesh)


@pytest.mark.parametrize("far", [entry("far", "far"), dynamic("far", "far")])
def test_mirrors_and_subsets_of_a_host_are_those_of_the_namespace_that_has_it(far: Any) -> None:
    rule = {"destination": {"host": API.name, "subset": "v1"}}
    http = {"route": [rule], "mirror": {"host": API.name}}
    route = _ROUTES[1] | {"spec": _ROUTES[1]["spec"] | {"http": [http]}}
    subsets = _RULE | {"spec": {"host": API.name, "subsets": [{"name": "v1"}]}}
    assert not mesh_with(far, route, subsets).problems
    assert len(mesh_with(route).problems) == 2


def test_who_names_a_host_comes_before_who_has_a_pattern_of_it() -> None:
    named = entry(created="2026-01-03T00:00:00Z")
    old = dynamic("any", created="2026-01-01T00:00:00Z")
    longer = dynamic(
        "longer", host="*.api.example.com", created="2026-01-02T00:00:00Z", ports=[HTTP | {"number": 81}]
    )
    below = ServiceName("shop", "a.api.example.com")
    for order in ((named, old, longer), (longer, old, named)):
        mesh = mesh_with(*order)
        told(mesh, API.name, below.name)
        assert behind(mesh) == ["192.0.2.1:80"] and not mesh.problems
        assert mesh.services[below].ports[0].port == 81
        mesh.apply({read(named).ref: None})
        assert mesh.services[API].endpoints[0].name == API.name


def test_of_two_namespaces_the_one_that_names_the_host_is_meant() -> None:
    mesh = mesh_with(dynamic("any", created="2026-01-01T00:00:00Z"), entry("far", "far"))
    told(mesh, API.name)
    assert mesh.entry_hosts.seen(ServiceName("street", API.name), "street").namespace == "far"
    assert mesh.entry_hosts.seen(API, "shop") == API, "but a namespace's own comes first"


def test_a_pattern_is_for_those_to_whom_it_is_exported() -> None:
    mesh = mesh_with(dynamic("any", exportTo=["."]), dynamic("far", "far", exportTo=["street", "far"]))
    assert zone(mesh).patterns == {"*.example.com": ("far", "shop", "street")}
    told(mesh, API.name)
    found = zone(mesh)
    assert API.name not in found.addresses and set(found.scoped) == {"shop", "street", "far"}


# --- step by step -----------------------------------------------------------------------------------

_ENTRIES = [
    entry(exportTo=["."]),
    entry("twin", created="2026-01-01T00:00:00Z", endpoints=[{"address": "192.0.2.2", "weight": 2}]),
    entry("far", "far", addresses=["192.0.2.80"]),
    entry("far", "far", resolution="DNS"),
    entry("named", "street", resolution="DNS", endpoints=[{"address": "real.example.com"}]),
    entry("pods", hosts=["pods.example.com"], workloadSelector={"labels": {"app": "reviews"}}),
    workload_entry("vm", address="192.0.2.7", labels={"app": "reviews"}, weight=2),
    workload_entry("vm", address="real.example.com", labels={"app": "reviews", "version": "v2"}),
    dynamic("any"),
    dynamic("any", exportTo=["."], created="2025-01-01T00:00:00Z"),
    dynamic("all", "far"),
    entry("rival", hosts=["rival.example.com"], addresses=["192.0.2.80"]),
]
_ROUTES = [
    {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "api", "namespace": namespace},
        "spec": {
            "hosts": [host],
            "http": [{"route": [{"destination": {"host": API.name}}], "timeout": "1s"}],
        },
    }
    for namespace, host in (("shop", API.name), ("street", "reviews.shop.svc.cluster.local"))
]


_RULE = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "DestinationRule",
    "metadata": {"name": "api", "namespace": "far"},
    "spec": {"host": API.name, "trafficPolicy": {"outlierDetection": {}}},
}

_SIDECARS = [
    {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Sidecar",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"egress": [{"hosts": hosts}]} | more,
    }
    for name, namespace, hosts, more in (
        ("all", "shop", ["./*"], {}),
        ("other", "shop", ["*/*"], {}),
        ("front", "shop", ["far/*"], {"workloadSelector": {"labels": {"app": "storefront"}}}),
        ("all", "istio-system", ["~/*"], {}),
    )
]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([*_ENTRIES, *_ROUTES, _RULE, *_SIDECARS]), st.booleans()), max_size=16)
)
def test_step_by_step_gives_what_is_built_at_once(steps: list[tuple[Any, bool]]) -> None:
    """Decision 8: also for hosts that several entries claim, or have under patterns."""
    base = [*yaml.safe_load_all(SHOP)]
    stepwise = Mesh(Allocations(RANGES))
    apply(stepwise, *base)
    answers = {"api_example_com": ("192.0.2.5",), "real_example_com": ("192.0.2.6", "2001:db8::6")}
    told(stepwise, "real.example.com", **answers)
    node, records = Node(stepwise, "here"), Records(stepwise)
    left: dict[ObjectRef, Any] = {}
    for item, there in steps:
        ref = read(item).ref
        if there:
            left[ref] = item
        else:
            left.pop(ref, None)
        change = stepwise.apply({ref: read(item) if there else None})
        node.update(change)
        records.update(change)
    allocations = Allocations(RANGES)
    allocations.restore(stepwise.allocations.to_json())
    fresh = Mesh(allocations)
    apply(fresh, *base, *left.values())
    told(fresh, "real.example.com", **answers)
    again = Node(fresh, "here")
    assert stepwise.problems == fresh.problems
    assert (node.state, node.proxies) == (again.state, again.proxies)
    assert records.zone() == zone(fresh)


def test_a_pod_counts_before_an_endpoint_of_its_address() -> None:
    """Two of one address and port are one backend, whoever else names it."""
    place = {"address": "10.64.0.11"}
    mesh = mesh_with(entry(endpoints=[place, place | {"labels": {"version": "v9"}}]))
    assert mesh.backends[API][80, "TCP"] == (Backend("10.64.0.11", 80),)
