from __future__ import annotations

import pytest

from mesh.model import (
    NamePattern,
    ObjectRef,
    Policy,
    PortRange,
    Requirement,
    Rule,
    RuleSet,
    Selector,
)
from tests.mesh.analysis.traps import codes, findings, network_policy, only

TO_DB = "{to: [{podSelector: {matchLabels: {app: db}}}], ports: [{port: 5432}]}"


def egress(*rules: str) -> str:
    rules_text = ", ".join(rules)
    spec = f"{{podSelector: {{matchLabels: {{app: web}}}}, policyTypes: [Egress], egress: [{rules_text}]}}"
    return network_policy(spec)


def dns(*protocols: str) -> str:
    ports = ", ".join(f"{{port: 53, protocol: {protocol}}}" for protocol in protocols)
    peer = "{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}, "
    return f"{{to: [{peer}podSelector: {{matchLabels: {{k8s-app: kube-dns}}}}}}], ports: [{ports}]}}"


def test_an_egress_policy_that_forgets_dns_is_told() -> None:
    """Rule 12."""
    found = only("SL0301", findings(egress(TO_DB)))
    assert found.trap.message.startswith("shop/web may reach some peers but not the resolver")


@pytest.mark.parametrize(
    "allowed", [dns("UDP", "TCP"), "{ports: [{port: 53, protocol: UDP}, {port: 53}]}", "{}"]
)
def test_an_egress_policy_that_allows_dns_is_no_trap(allowed: str) -> None:
    assert not {"SL0301", "SL0302"} & codes(egress(TO_DB, allowed))


def test_a_dns_rule_allows_to_ask_the_resolver() -> None:
    rule = Rule("egress[0]", None, (PortRange("UDP", 53, 53),), dns=(NamePattern("*"),))
    db = Rule("egress[1]", None, (PortRange("TCP", 5432, 5432),))
    ref = ObjectRef("CiliumNetworkPolicy", "shop", "names")
    policy = Policy(ref, Selector((Requirement("app", "In", ("web",)),)), egress=RuleSet((rule, db)))
    assert codes("", policy) == {"SL0002", "SL0302"}


def test_another_policy_may_allow_dns() -> None:
    spec = "{podSelector: {}, policyTypes: [Egress], egress: [%s]}"
    other = network_policy(spec % dns("UDP", "TCP"), "q")
    assert "SL0301" not in codes(egress(TO_DB) + other)


def test_pods_that_may_reach_nothing_are_meant_to_be_cut_off() -> None:
    assert "SL0301" not in codes(egress())


def test_dns_over_udp_only_is_told_as_information() -> None:
    """RFC 7766."""
    assert only("SL0302", findings(egress(TO_DB, dns("UDP")))).severity == "Info"
