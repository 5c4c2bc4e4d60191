"""REGISTRY_ONLY as its users write it: who may reach what, by the reference and by the tables (rule 23)."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.answers.called import party
from mesh.answers.matrix import who_can_reach
from mesh.answers.reasons import UNNAMED
from mesh.model import Fragment, LearnedNames, ObjectRef, WorkloadName
from mesh.node import PortVerdict
from mesh.policies.policy import Deny, judge
from mesh.policies.registry import Registries, registry_of
from tests.traffic.shop import Object, Shop, object_of, pod, to, virtual_service
from tests.traffic.test_service_entry import V1, V2, entry
from tests.traffic.test_sidecar import looking_up, sidecar
from xds.dialects import read

ONLY = {"mode": "REGISTRY_ONLY"}
WEB, SHADOW, OTHER, WORLD = "10.64.0.10", "10.64.0.12", "10.64.0.14", "192.0.2.9"
RESOLVER = pod("sluice-dns", "10.64.0.99", {"k8s-app": "kube-dns"}, namespace="kube-system")
RESOLVER["spec"]["serviceAccountName"] = "sluice-dns"


def only(*hosts: str, **spec: Any) -> Object:
    return sidecar(*(hosts or ("*/*",)), outboundTrafficPolicy=ONLY, **spec)


def mesh_config(text: str) -> Object:
    found = object_of("v1", "ConfigMap", "istio", "istio-system", {})
    del found["spec"]
    return found | {"data": {"mesh": text}}


MESH_WIDE = mesh_config("outboundTrafficPolicy: {mode: REGISTRY_ONLY}")


def verdict(shop: Shop, address: str, port: int, protocol: str = "TCP", pod: str = "client") -> PortVerdict:
    """What the tables say, and the reference as well."""
    name = WorkloadName("shop", pod)
    registry = registry_of(shop.mesh, name)
    policies = [*shop.mesh.all_policies(), *([registry] if registry else ())]
    ends = (party(shop.mesh, shop.mesh.workloads[name].addresses[0]), party(shop.mesh, address))
    found = shop.node.verdict(shop.node.state.pods[str(name)].egress_set, address, protocol, port)
    said = judge(policies, "egress", *ends, protocol, port)  # type: ignore[arg-type]
    assert isinstance(said, Deny) == (found.verdict == "deny")
    return found


def passes(shop: Shop, address: str, port: int, protocol: str = "TCP", pod: str = "client") -> bool:
    return verdict(shop, address, port, protocol, pod).verdict != "deny"


def test_pods_behind_a_service_are_named_at_its_target_ports_and_nothing_else_is() -> None:
    shop = Shop(only(), RESOLVER)
    assert passes(shop, WEB, 8080) and passes(shop, WEB, 9090)
    assert not any(passes(shop, address, 8080) for address in (OTHER, WORLD, "2001:db8::9"))
    # Policy judges the backend's port, never the service's (rule 1).
    assert not passes(shop, WEB, 80)
    refused = verdict(shop, WORLD, 443)
    assert (refused.rules, refused.unnamed) == (("Sidecar shop/default outboundTrafficPolicy.mode",), True)
    # Istio captures TCP only, and whoever asks for a name must be answered.
    assert passes(shop, WORLD, 53, "UDP") and passes(shop, "10.64.0.99", 53)


def test_it_is_for_whom_its_sidecar_is_for() -> None:
    shop = Shop(only(workloadSelector={"labels": {"team": "a"}}))
    assert not passes(shop, WORLD, 443)
    assert passes(shop, WORLD, 443, pod="other")
    assert shop.node.state.pods["shop/other"].egress_set == 0


def test_a_service_entry_names_its_addresses_to_whom_it_is_exported() -> None:
    assert passes(Shop(only(), entry(V1)), "192.0.2.1", 80)
    assert not passes(Shop(only(), entry(V1)), "192.0.2.1", 81)
    assert not passes(Shop(only(), entry(V1)), "192.0.2.2", 80)
    assert passes(Shop(only(), entry(V1, namespace="far")), "192.0.2.1", 80)
    assert not passes(Shop(only(), entry(V1, namespace="far", exportTo=["."])), "192.0.2.1", 80)
    kept = entry(resolution="NONE", addresses=["192.0.2.7"])
    assert passes(Shop(only(), kept), "192.0.2.7", 80)


def test_its_hosts_and_their_ports_say_what_is_seen() -> None:
    assert not passes(Shop(only("./web.shop.svc.cluster.local"), entry(V1)), "192.0.2.1", 80)
    shop = Shop(only("./web.shop.svc.cluster.local"))
    assert passes(shop, WEB, 8080) and not passes(shop, SHADOW, 8080)
    narrow = only()
    narrow["spec"]["egress"][0]["port"] = {"number": 80}
    assert passes(Shop(narrow), WEB, 8080) and not passes(Shop(narrow), WEB, 9090)
    assert not passes(Shop(only("~/*")), WEB, 8080)


def test_where_a_route_leads_is_named_as_in_istio() -> None:
    rule = virtual_service({"route": [to()], "mirror": {"host": "shadow"}})
    shop = Shop(only("./web.shop.svc.cluster.local"), rule)
    assert passes(shop, SHADOW, 8080)
    # Not at another port than the one that requests come to.
    assert not passes(shop, SHADOW, 6060)
    whole = virtual_service(tcp=[{"match": [{"port": 90}], "route": [to("shadow")]}])
    assert passes(Shop(only("./web.shop.svc.cluster.local"), whole), SHADOW, 9090)


@pytest.mark.parametrize(
    ("objects", "bound"),
    [
        ([MESH_WIDE], True),
        ([MESH_WIDE, sidecar("*/*")], True),
        ([MESH_WIDE, sidecar("*/*", outboundTrafficPolicy={"mode": "ALLOW_ANY"})], False),
        ([mesh_config("outboundTrafficPolicy: {}")], False),
        ([sidecar("*/*", outboundTrafficPolicy={})], True),
        ([only(namespace="istio-system")], True),
        ([only(namespace="istio-system"), sidecar("*/*")], False),
        ([only(), sidecar("*/*", name="own", workloadSelector={"labels": {"team": "a"}})], False),
        ([only(namespace="far")], False),
    ],
)
def test_whose_word_counts(objects: list[Object], bound: bool) -> None:
    """The Sidecar that counts for the pod; where it says nothing of it, MeshConfig. Left out, the mode is
    REGISTRY_ONLY in a Sidecar, whose zero that is, and in MeshConfig as by default."""
    assert passes(Shop(*objects), WORLD, 443) is not bound


def test_it_is_a_condition_of_its_own() -> None:
    everything = object_of(
        "networking.k8s.io/v1", "NetworkPolicy", "all", "shop", {"policyTypes": ["Egress"], "egress": [{}]}
    )
    everything["spec"]["podSelector"] = {}
    accept = object_of(
        "policy.networking.k8s.io/v1alpha2",
        "ClusterNetworkPolicy",
        "accept",
        "",
        {
            "tier": "Admin",
            "priority": 1,
            "subject": {"namespaces": {}},
            "egress": [{"action": "Accept", "to": [{"networks": ["0.0.0.0/0"]}]}],
        },
    )
    del accept["metadata"]["namespace"]
    shop = Shop(only(), everything, accept)
    assert not passes(shop, WORLD, 443) and passes(shop, WEB, 8080)
    nothing = everything | {"spec": {"podSelector": {}, "policyTypes": ["Egress"]}}
    refused = verdict(Shop(only(), nothing), WORLD, 443)
    assert (refused.rules, refused.unnamed) == (("NetworkPolicy shop/all",), False)


def test_ports_by_name_are_each_pods_own() -> None:
    service = object_of("v1", "Service", "named", "shop", {"selector": {"app": "named"}})
    service["spec"]["ports"] = [{"name": "http", "port": 80, "targetPort": "http"}]
    pods = [pod(f"named-{port}", f"10.64.1.{port - 8000}", {"app": "named"}) for port in (8001, 8002)]
    for made, port in zip(pods, (8001, 8002), strict=True):
        made["spec"]["containers"][0]["ports"] = [{"name": "http", "containerPort": port}]
    shop = Shop(only(), service, *pods)
    asked = [(address, port) for address in ("10.64.1.1", "10.64.1.2") for port in (8001, 8002)]
    assert [passes(shop, *place) for place in asked] == [True, False, False, True]


def test_what_is_selected_by_a_label_that_no_identity_has_is_named_by_address() -> None:
    """Two pods of one identity; the Service selects one."""
    key = "statefulset.kubernetes.io/pod-name"
    pods = [pod(name, f"10.64.2.{n}", {"app": "db", key: name}) for n, name in ((1, "db-0"), (2, "db-1"))]
    ports = [{"name": "tcp", "port": 5432}]
    service = object_of("v1", "Service", "first", "shop", {"selector": {key: "db-0"}, "ports": ports})
    shop = Shop(only(), service, *pods)
    assert passes(shop, "10.64.2.1", 5432) and not passes(shop, "10.64.2.2", 5432)


def test_who_is_not_ready_stays_named() -> None:
    """A connection that is open there outlives the probe, as it does under ALLOW_ANY."""
    unready = pod("one", WEB, {"app": "web", "version": "v1"})
    unready["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
    assert passes(Shop(only(), unready), WEB, 8080)


def test_an_answer_of_dns_names_its_addresses_as_long_as_it_is_good() -> None:
    shop = Shop(only(), entry(resolution="DNS"))
    ref = ObjectRef("LearnedNames", "", "dns")
    for number, (still, last) in enumerate(((["192.0.2.1"], ["192.0.2.2"]), ([], ["192.0.2.2"])), 1):
        names = (("api.example.com", tuple(still)),) if still else ()
        learned = LearnedNames(number, names, (("api.example.com", tuple(last)),))
        shop.node.update(shop.mesh.apply({ref: Fragment(ref, (learned,))}))
        assert passes(shop, "192.0.2.2", 80) and passes(shop, "192.0.2.1", 80) is bool(still)
    # The resolver must go on telling of an address that the last answer does not have.
    assert "api.example.com" in shop.node.state.names["names"].patterns
    assert "api.example.com" not in Shop(entry(resolution="DNS")).node.state.names["names"].patterns


def test_the_resolver_and_the_pods_of_gateways_are_not_bound() -> None:
    gateway = object_of(
        "networking.istio.io/v1",
        "Gateway",
        "front",
        "shop",
        {
            "selector": {"app": "client"},
            "servers": [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}],
        },
    )
    shop = Shop(MESH_WIDE, RESOLVER, gateway)
    assert shop.node.state.pods["kube-system/sluice-dns"].egress_set == 0
    assert passes(shop, WORLD, 443) and not passes(shop, WORLD, 443, pod="other")


def test_what_cannot_be_read_of_its_sidecar_does_not_set_a_pod_free() -> None:
    """Rule 18; of the hosts only those count that can be read."""
    broken = only("./web.shop.svc.cluster.local")
    broken["spec"]["egress"][0]["hosts"].append("shadow")
    shop = Shop(broken, accept=["write namespace/name"])
    assert not any(passes(shop, address, 8080) for address in (WORLD, SHADOW, WEB))
    broken["spec"]["egress"].insert(0, {"port": {"number": 90}, "hosts": ["./web.shop.svc.cluster.local"]})
    shop = Shop(broken, accept=["write namespace/name"])
    assert passes(shop, WEB, 9090) and not passes(shop, WEB, 8080)


def test_explain_and_describe_say_why() -> None:
    shop = Shop(only())
    found = shop.explain(f"{WORLD}:443")
    assert (found["verdict"], found["path"]) == ("deny", "kernel")
    (reason,) = found["reasons"]
    assert (reason["object"], reason["effect"]) == ("Sidecar shop/default", UNNAMED)
    assert "Service or ServiceEntry" in found["to_allow"][0]
    assert shop.explain("shop/web:80")["verdict"] == "allow"


def test_pods_that_come_and_go_change_nothing_and_places_change_their_own() -> None:
    """What it costs: the set of a caller is made anew when a service names others, and not before."""
    shop = Shop(only(), entry(V1))

    def apply(*documents: Object) -> None:
        fragments = {found.ref: found for found in map(read, documents)}
        shop.node.update(shop.mesh.apply(fragments))

    before = shop.node.state
    apply(pod("late", "10.64.0.77", {"app": "web", "version": "v1"}))
    assert shop.node.state.workloads is not before.workloads
    assert shop.node.state.sets is before.sets and shop.node.state.classes is before.classes
    apply(entry(V2))
    assert passes(shop, "192.0.2.2", 80) and not passes(shop, "192.0.2.1", 80)
    apply(entry({"address": OTHER}))
    assert passes(shop, OTHER, 80) and not passes(shop, OTHER, 8080) and not passes(shop, "192.0.2.2", 80)
    apply(entry(V1, name="more", hosts=["more.example.com"]))
    assert passes(shop, "192.0.2.1", 80)
    apply(sidecar("*/*"))
    assert passes(shop, "192.0.2.1", 80)
    assert shop.node.state.blocks.keys() == Shop().node.state.blocks.keys()


def test_what_an_envoy_calls_for_itself_must_be_named_as_well() -> None:
    """Rule 4. Who is named later is called then."""
    logs = mesh_config(
        "extensionProviders: [{name: a, envoyOtelAls: {service: shadow.shop.svc.cluster.local, port: 80}}]\n"
        "defaultProviders: {accessLogging: [a]}"
    )
    shop = Shop(logs, only("./web.shop.svc.cluster.local"), virtual_service({"route": [to()]}))

    def called() -> dict[str, set[str]]:
        found = shop.view().destinations
        return {d.target.service.name: {b.address for p in d.parts for b in p.backends} for d in found}

    assert called() == {"web": {WEB, "10.64.0.11"}, "shadow": set()}
    wider = read(only("./*"))
    shop.node.update(shop.mesh.apply({wider.ref: wider}))
    assert called()["shadow"] == {SHADOW}


def test_the_matrix_tells_apart_whom_it_binds() -> None:
    """Two pods of one identity, for a label tells them apart that no identity has."""
    key = "job-name"
    pods = [pod(n, f"10.64.3.{i}", {"app": "job", key: n}) for i, n in enumerate(("bound", "free"), 1)]
    shop = Shop(only(workloadSelector={"labels": {key: "bound"}}), entry(V1), *pods)
    assert len({shop.mesh.identities.of[WorkloadName("shop", n)] for n in ("bound", "free")}) == 1
    for target, refused in (("192.0.2.9:443", {"bound"}), ("192.0.2.1:80", set())):
        found = who_can_reach(shop.mesh, target, "TCP")
        denied = {
            member.name
            for caller, access in zip(found.callers, found.columns[0].access, strict=True)
            if access.verdict == "deny"
            for member in caller.members
        }
        assert denied == refused, target


def test_what_nobody_asks_for_a_while_is_not_what_it_was() -> None:
    """Pods of a caller may leave a node, and come back."""
    shop, client = Shop(only(), entry(V1)), WorkloadName("shop", "client")
    registries = Registries(shop.mesh)
    registries.of(client)
    for changed in (entry(V2), entry(V2, exportTo=["far"])):
        fragment = read(changed)
        change = shop.mesh.apply({fragment.ref: fragment})
        registries.forget(change, change.services)
    assert registries.of(client) == registry_of(shop.mesh, client)


def test_a_mode_of_mesh_config_that_is_none_is_named() -> None:
    fragment = read(mesh_config("outboundTrafficPolicy: {mode: ALLOW_SOME}"))
    (problem,) = fragment.problems
    assert not fragment.valid and problem.field == "data.mesh.outboundTrafficPolicy.mode"
    assert "REGISTRY_ONLY, ALLOW_ANY" in problem.message


def test_under_registry_only_a_look_up_opens_nothing() -> None:
    """What is not named is not to be reached, whoever asks for it."""
    narrow = sidecar("~/*", outboundTrafficPolicy={"mode": "REGISTRY_ONLY"})
    narrow["metadata"]["annotations"] = {"sluice.io/widen-by-lookup": "true"}
    by_mesh = sidecar("~/*")
    by_mesh["metadata"]["annotations"] = narrow["metadata"]["annotations"]
    only = mesh_config("outboundTrafficPolicy: {mode: REGISTRY_ONLY}")
    for objects in ((narrow,), (by_mesh, only)):
        shop = Shop(*objects)
        assert shop.mesh.scopes.widening(shop.mesh.config) == ()
        looking_up(shop, ("shop", "web.shop.svc.cluster.local"))
        assert shop.explain("shop/web:80")["verdict"] == "deny"
