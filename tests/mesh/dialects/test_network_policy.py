from __future__ import annotations

from typing import Any

import pytest

from mesh.dialects import read
from mesh.model import (
    NAMESPACE_LABEL_PREFIX,
    CidrPeer,
    PortName,
    PortRange,
    Requirement,
    Rule,
    RuleSet,
    Selector,
    WorkloadPeer,
)
from tests.mesh.dialects.objects import (
    ALL_OF_SHOP,
    APP_WEB,
    IN_SHOP,
    WEB,
    network_policy,
    one_policy,
    policy,
    refused,
)


def ingress(*rules: Any, **spec: Any) -> Any:
    return network_policy({"podSelector": WEB, "ingress": list(rules)} | spec)


def first_rule(object: Any) -> Rule:
    found = policy(object).ingress
    assert found is not None
    return found.allow[0]


def test_the_subject_is_always_confined_to_the_policys_namespace() -> None:
    assert policy(ingress()).subject == Selector((APP_WEB, IN_SHOP))
    assert policy(network_policy({"podSelector": {}})).subject == ALL_OF_SHOP
    assert policy(network_policy({})).subject == ALL_OF_SHOP


@pytest.mark.parametrize(
    ("spec", "directions"),
    [
        ({}, "i"),
        ({"ingress": []}, "i"),
        ({"egress": []}, "i"),
        ({"egress": [{}]}, "ie"),
        ({"policyTypes": ["Egress"]}, "e"),
        ({"policyTypes": ["Egress"], "ingress": [{}]}, "e"),
        ({"policyTypes": ["Ingress", "Egress"]}, "ie"),
        ({"policyTypes": []}, "i"),
    ],
)
def test_policy_types_default_to_ingress_and_to_egress_only_if_it_has_a_rule(
    spec: dict[str, Any], directions: str
) -> None:
    found = policy(network_policy({"podSelector": {}} | spec))
    assert ("i" if found.ingress else "") + ("e" if found.egress else "") == directions


def test_an_empty_list_of_rules_grants_nothing_and_denies_by_default() -> None:
    assert policy(ingress()).ingress == RuleSet(allow=(), default_deny=True)


@pytest.mark.parametrize("rule", [{}, {"from": []}, {"from": None}, {"ports": []}, {"from": [], "ports": []}])
def test_absent_and_empty_peers_and_ports_are_all_peers_and_ports(rule: Any) -> None:
    assert first_rule(ingress(rule)) == Rule("ingress[0]", None, None)


@pytest.mark.parametrize(
    ("peer", "requirements"),
    [
        ({"podSelector": WEB}, (APP_WEB, IN_SHOP)),
        ({"podSelector": {}}, (IN_SHOP,)),
        ({"namespaceSelector": {}}, ()),
        (
            {"namespaceSelector": {"matchLabels": {"team": "a"}}},
            (Requirement(NAMESPACE_LABEL_PREFIX + "team", "In", ("a",)),),
        ),
        (
            {"namespaceSelector": {"matchLabels": {"team": "a"}}, "podSelector": WEB},
            (APP_WEB, Requirement(NAMESPACE_LABEL_PREFIX + "team", "In", ("a",))),
        ),
    ],
)
def test_pod_and_namespace_selectors_count_alone_and_together(peer: Any, requirements: Any) -> None:
    assert first_rule(ingress({"from": [peer]})).peers == (WorkloadPeer(Selector(requirements)),)


def test_every_operator_of_a_selector_is_read() -> None:
    expressions = [
        {"key": "a", "operator": "In", "values": ["2", "1", "2"]},
        {"key": "b", "operator": "NotIn", "values": ["3"]},
        {"key": "c", "operator": "Exists"},
        {"key": "d", "operator": "DoesNotExist", "values": []},
    ]
    found = first_rule(ingress({"from": [{"podSelector": {"matchExpressions": expressions}}]})).peers
    assert found == (
        WorkloadPeer(
            Selector(
                (
                    Requirement("a", "In", ("1", "2")),
                    Requirement("b", "NotIn", ("3",)),
                    Requirement("c", "Exists"),
                    Requirement("d", "DoesNotExist"),
                    IN_SHOP,
                )
            )
        ),
    )


def test_an_ip_block_matches_pods_too_and_keeps_its_exceptions_sorted() -> None:
    block = {"cidr": "10.0.0.0/8", "except": ["10.9.0.0/16", "10.1.0.0/16"]}
    peers = first_rule(ingress({"from": [{"ipBlock": block}]})).peers
    assert peers == (CidrPeer("10.0.0.0/8", ("10.1.0.0/16", "10.9.0.0/16"), reach="anyone"),)


@pytest.mark.parametrize(
    ("port", "match"),
    [
        ({}, PortRange("TCP")),
        ({"protocol": "UDP"}, PortRange("UDP", 0, 65535)),
        ({"port": 80}, PortRange("TCP", 80, 80)),
        ({"port": 80, "endPort": 90, "protocol": "SCTP"}, PortRange("SCTP", 80, 90)),
        ({"port": "http", "protocol": "UDP"}, PortName("UDP", "http")),
    ],
)
def test_ports_are_numbers_ranges_or_names_of_one_protocol(port: Any, match: Any) -> None:
    assert first_rule(ingress({"ports": [port]})).ports == (match,)


@pytest.mark.parametrize(
    ("rule", "field", "says"),
    [
        ({"from": [{}]}, "from[0]", "is empty"),
        ({"from": [None]}, "from[0]", "must not be null"),
        ({"from": [{"podSelektor": WEB}]}, "from[0].podSelektor", "unknown field 'podSelektor'"),
        ({"from": [{"ipBlock": {"cidr": "10.0.0.5/8"}}]}, "from[0].ipBlock.cidr", "did you mean 10.0.0.0/8?"),
        ({"from": [{"ipBlock": {"cidr": "10.0.0.5"}}]}, "from[0].ipBlock.cidr", "did you mean 10.0.0.5/32?"),
        (
            {"from": [{"ipBlock": {"cidr": "::ffff:10.0.0.0/104"}}]},
            "from[0].ipBlock.cidr",
            "write 10.0.0.0/8",
        ),
        (
            {"from": [{"ipBlock": {"cidr": "10.0.0.0/255.0.0.0"}}]},
            "from[0].ipBlock.cidr",
            "not an address block",
        ),
        ({"from": [{"ipBlock": {"cidr": "10.0.0.0/33"}}]}, "from[0].ipBlock.cidr", "not an address block"),
        ({"from": [{"ipBlock": {"except": []}}]}, "from[0].ipBlock.cidr", "is required"),
        (
            {"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}}]},
            "from[0].ipBlock.except[0]",
            "not inside 10.0.0.0/8",
        ),
        (
            {"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}}]},
            "from[0].ipBlock.except[0]",
            "must be part of",
        ),
        (
            {"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}]},
            "from[0]",
            "ipBlock stands alone",
        ),
        (
            {"from": [{"podSelector": {"matchLabels": {"a": 1}}}]},
            "from[0].podSelector.matchLabels.a",
            'write "1"',
        ),
        (
            {"from": [{"podSelector": {"matchExpressions": [{"key": "a", "operator": "Is"}]}}]},
            "from[0].podSelector.matchExpressions[0].operator",
            "must be one of In, NotIn, Exists, DoesNotExist",
        ),
        (
            {"from": [{"podSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}]},
            "from[0].podSelector.matchExpressions[0].values",
            "needs at least one value",
        ),
        ({"ports": [{"port": 0}]}, "ports[0].port", "is 0; must be 1 to 65535"),
        ({"ports": [{"port": 70000}]}, "ports[0].port", "is 70000; must be 1 to 65535"),
        ({"ports": [{"port": "80"}]}, "ports[0].port", "not a port name"),
        ({"ports": [{"port": True}]}, "ports[0].port", "must be an integer, not true"),
        ({"ports": [{"port": 80, "endPort": 79}]}, "ports[0].endPort", "less than port 80"),
        ({"ports": [{"port": "http", "endPort": 79}]}, "ports[0].endPort", "needs a port that is a number"),
        ({"ports": [{"endPort": 79}]}, "ports[0].endPort", "needs a port that is a number"),
        ({"ports": [{"protocol": "ICMP"}]}, "ports[0].protocol", "must be one of TCP, UDP, SCTP"),
        ({"to": []}, "to", "unknown field 'to'; the fields here are from, ports"),
    ],
)
def test_a_rule_that_cannot_be_read_grants_nothing_and_says_why(rule: Any, field: str, says: str) -> None:
    bad = ingress(rule, {"ports": [{"port": 443}]})
    assert says in refused(bad)[f"spec.ingress[0].{field}"]
    # The rule beside it still grants what it says.
    assert one_policy(read(bad)).ingress == RuleSet(
        (Rule("ingress[1]", None, (PortRange("TCP", 443, 443),)),)
    )


@pytest.mark.parametrize(
    "spec",
    [
        None,
        "all",
        [],
        {"podSelector": "web", "ingress": [{}]},
        {"podSelector": {"matchLabels": {"app": 1}}, "ingress": [{}], "policyTypes": ["Ingress"]},
        {"podSelector": {"app": "web"}, "ingress": [{}]},
        {"podSelektor": WEB, "ingress": [{}]},
    ],
)
def test_an_unreadable_subject_is_the_whole_namespace_denied_both_ways(spec: Any) -> None:
    fragment = read(network_policy(spec))
    found = one_policy(fragment)
    assert not fragment.valid
    assert (found.subject, found.ingress, found.egress) == (ALL_OF_SHOP, RuleSet(), RuleSet())


def test_an_unknown_field_of_the_spec_voids_all_that_it_grants() -> None:
    fragment = read(ingress({}, polcyTypes=["Egress"]))
    found = one_policy(fragment)
    assert (found.subject, found.ingress, found.egress) == (
        Selector((APP_WEB, IN_SHOP)),
        RuleSet(),
        RuleSet(),
    )


def test_unreadable_policy_types_are_both() -> None:
    found = one_policy(read(ingress({}, policyTypes=["ingress"])))
    assert found.ingress is not None
    assert found.egress == RuleSet()
