from __future__ import annotations

import pytest

from mesh.model import (
    NAMESPACE_KEY,
    CidrGroup,
    CidrGroupPeer,
    ObjectRef,
    Policy,
    Requirement,
    Rule,
    RuleSet,
    Selector,
    ServicePeer,
)
from tests.mesh.analysis.traps import cilium, codes, findings, network_policy, only

API = "{podSelector: {matchLabels: {app: api}}, ingress: [{from: [%s], ports: [{port: 8080}]}]}"
_API = Selector((Requirement(NAMESPACE_KEY, "In", ("shop",)), Requirement("app", "In", ("api",))))


def test_the_mesh_itself_holds_no_trap() -> None:
    assert findings() == ()


def test_a_misspelt_label_selects_no_pod() -> None:
    found = only("SL0101", findings(network_policy("{podSelector: {matchLabels: {app: apy}}}")))
    assert found.trap.field == "spec.podSelector"
    assert "app=apy" in found.trap.message
    assert "SL0101" not in codes(network_policy("{podSelector: {matchLabels: {app: api}}}"))


def test_a_policy_in_a_namespace_without_pods_is_told_as_that() -> None:
    text = network_policy("{podSelector: {}}").replace("namespace: shop", "namespace: nowhere")
    assert {"SL0102"} == codes(text)


@pytest.mark.parametrize(
    ("peer", "code"),
    [
        ("{podSelector: {matchLabels: {app: weg}}}", "SL0103"),
        ("{namespaceSelector: {matchLabels: {team: nobody}}}", "SL0103"),
        ("{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shpo}}}", "SL0104"),
    ],
)
def test_a_peer_that_is_not_there_is_told(peer: str, code: str) -> None:
    assert codes(network_policy(API % peer)) == {code}


@pytest.mark.parametrize(
    "peer",
    [
        "{podSelector: {matchLabels: {app: web}}}",
        "{namespaceSelector: {matchLabels: {team: web}}}",
        "{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: street}}}",
    ],
)
def test_a_peer_that_is_there_is_no_trap(peer: str) -> None:
    assert codes(network_policy(API % peer)) == set()


def referring(peer: CidrGroupPeer | ServicePeer) -> Policy:
    ref = ObjectRef("CiliumNetworkPolicy", "shop", "r")
    return Policy(ref, _API, ingress=RuleSet(allow=(Rule("ingress[0]", (peer,)),)))


def test_a_cidr_group_that_is_not_there_stands_for_nobody() -> None:
    policy = referring(CidrGroupPeer("partners", None))
    assert "CiliumCIDRGroup partners" in only("SL0105", findings("", policy)).trap.message
    assert "SL0105" not in codes("", policy, CidrGroup("partners", (), ("192.0.2.0/24",)))


def test_a_service_that_is_not_there_stands_for_nobody() -> None:
    assert "SL0105" in codes("", referring(ServicePeer("shop", "apy", None)))
    assert "SL0105" not in codes("", referring(ServicePeer("shop", "api", None)))


def test_an_empty_list_of_endpoints_is_no_one() -> None:
    spec = "{endpointSelector: {matchLabels: {app: api}}, ingress: [{fromEndpoints: []}]}"
    assert codes(cilium(spec)) == {"SL0106"}
    assert codes(cilium(spec.replace("[]", "[{}]"))) == set()


def test_a_service_without_pods_is_told() -> None:
    service = """
apiVersion: v1
kind: Service
metadata: {name: ghost, namespace: shop}
spec: {selector: {app: ghost}, ports: [{name: http, port: 80}]}
"""
    assert only("SL0107", findings(service)).trap.object == ObjectRef("Service", "shop", "ghost")
    assert codes(service.replace("app: ghost", "app: web")) == set()


def test_a_policy_in_audit_mode_is_told_as_information() -> None:
    policy = Policy(ObjectRef("NetworkPolicy", "shop", "a"), _API, ingress=RuleSet(), audit=True)
    assert only("SL0108", findings("", policy)).severity == "Info"
