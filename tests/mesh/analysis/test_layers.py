from __future__ import annotations

import pytest

from mesh.model import (
    NAMESPACE_KEY,
    NamePattern,
    ObjectRef,
    Policy,
    PortRange,
    RankedRule,
    Requirement,
    Rule,
    RuleSet,
    Selector,
    TierPolicy,
)
from tests.mesh.analysis.traps import cilium, codes, findings, network_policy, only

GET = (
    "{endpointSelector: {matchLabels: {app: api}}, ingress: [{fromEndpoints: [{matchLabels: {app: web}}], "
    "toPorts: [{ports: [{port: '8080', protocol: TCP}], rules: {http: [{method: GET}]}}]}]}"
)
_API = Selector((Requirement(NAMESPACE_KEY, "In", ("shop",)), Requirement("app", "In", ("api",))))


def plain(peers: str, ports: str = "[{port: 8080}]") -> str:
    spec = "{podSelector: {matchLabels: {app: api}}, ingress: [{from: [%s], ports: %s}]}"
    return network_policy(spec % (peers, ports))


def test_an_l4_allow_makes_an_l7_rule_void() -> None:
    """Rule 16."""
    found = only("SL0201", findings(cilium(GET) + plain("{podSelector: {}}")))
    assert found.trap.object == ObjectRef("CiliumNetworkPolicy", "shop", "c")
    assert found.trap.field == "spec.ingress[0].toPorts[0]"
    assert "NetworkPolicy shop/p ingress[0]" in found.trap.message
    assert "rules are void at shop/api" in found.trap.message


def test_an_l4_allow_of_part_of_it_is_told_as_that() -> None:
    wide = GET.replace("[{matchLabels: {app: web}}]", "[{}]")
    found = only("SL0201", findings(cilium(wide) + plain("{podSelector: {matchLabels: {app: web}}}")))
    assert "void for some of its peers or ports" in found.trap.message


@pytest.mark.parametrize(
    "harmless",
    [
        plain("{podSelector: {matchLabels: {app: db}}}"),
        plain("{podSelector: {}}", "[{port: 9090}]"),
        plain("{podSelector: {}}", "[{port: 8080, protocol: UDP}]"),
        plain("{podSelector: {}}").replace("app: api", "app: db"),
    ],
)
def test_an_l4_allow_of_other_peers_ports_or_pods_voids_nothing(harmless: str) -> None:
    assert "SL0201" not in codes(cilium(GET) + harmless)


def test_two_l7_types_on_one_port_are_told() -> None:
    def names(port: int) -> Policy:
        rule = Rule("ingress[0]", None, (PortRange("TCP", port, port),), server_names=(NamePattern("a.b"),))
        return Policy(ObjectRef("CiliumNetworkPolicy", "shop", "tls"), _API, ingress=RuleSet((rule,)))

    assert "HTTP and server name" in only("SL0202", findings(cilium(GET), names(8080))).trap.message
    assert "SL0202" not in codes(cilium(GET), names(8443))


def test_an_l7_rule_for_a_port_that_nobody_serves_is_told() -> None:
    found = only("SL0203", findings(cilium(GET.replace("8080", "9999"))))
    assert "TCP 9999" in found.trap.message and "TCP 8080" in found.trap.message
    assert "SL0203" not in codes(cilium(GET))


def test_the_port_of_a_service_is_not_the_pods() -> None:
    """Rule 1."""
    found = only("SL0204", findings(cilium(GET.replace("8080", "80"))))
    assert "Service shop/api's" in found.trap.message and "8080" in found.trap.remedy
    assert codes(plain("{podSelector: {}}", "[{port: 80}]")) == {"SL0204"}
    assert codes(plain("{podSelector: {}}")) == set()


def test_an_egress_rule_may_name_the_wrong_port_too() -> None:
    spec = (
        "{podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{to: [{podSelector: "
        "{matchLabels: {app: api}}}], ports: [{port: %s}]}]}"
    )
    assert "SL0204" in codes(network_policy(spec % 80))
    assert "SL0204" not in codes(network_policy(spec % 8080))


def test_a_named_port_that_no_pod_has_is_told() -> None:
    assert (
        "none of shop/api has a port named grpc"
        in only("SL0205", findings(plain("{podSelector: {}}", "[{port: grpc}]"))).trap.message
    )
    assert codes(plain("{podSelector: {}}", "[{port: http}]")) == set()


def test_http_rules_on_a_port_declared_as_tcp_are_told() -> None:
    on_db = GET.replace("app: api", "app: db").replace("8080", "5432")
    assert only("SL0206", findings(cilium(on_db))).trap.message.startswith("port 5432 of shop/db")
    assert "SL0206" not in codes(cilium(GET))


def test_an_http_rule_that_fits_all_is_told_as_information() -> None:
    assert only("SL0207", findings(cilium(GET.replace("{method: GET}", "{}")))).severity == "Info"
    assert "SL0207" not in codes(cilium(GET))


@pytest.mark.parametrize(("action", "told"), [("accept", True), ("pass", False), ("deny", False)])
def test_an_accept_of_the_admin_tier_voids_l7_rules(action: str, told: bool) -> None:
    """Rule 15."""
    ranked = RankedRule(action, Rule("ingress[0]"))  # type: ignore[arg-type]
    tier = TierPolicy(ObjectRef("ClusterNetworkPolicy", "", "t"), "admin", 1, _API, ingress=(ranked,))
    assert ("SL0208" in codes(cilium(GET), tier)) is told
