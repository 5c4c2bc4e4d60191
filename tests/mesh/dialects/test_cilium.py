from __future__ import annotations

from typing import Any

import pytest

from mesh.dialects import read
from mesh.model import (
    NAMESPACE_KEY,
    NAMESPACE_LABEL_PREFIX,
    CidrPeer,
    EntityPeer,
    Policy,
    PortRange,
    Rule,
    RuleSet,
    Selector,
    WorkloadPeer,
)
from tests.mesh.dialects.cilium import EVERYTHING, PORT_80, TCP_80, WORLD, denies, refused_allow, spec
from tests.mesh.dialects.objects import (
    ALL_OF_SHOP,
    APP_WEB,
    IN_SHOP,
    WEB,
    cilium_policy,
    clusterwide,
    one_policy,
    policy,
    refused,
    valid,
)


@pytest.mark.parametrize(
    "subject",
    [
        {},
        {"matchExpressions": [{"key": NAMESPACE_KEY, "operator": "Exists"}]},
        {"matchExpressions": [{"key": NAMESPACE_KEY, "operator": "DoesNotExist"}]},
        {"matchExpressions": [{"key": "k8s:" + NAMESPACE_KEY, "operator": "NotIn", "values": ["shop"]}]},
        {"matchExpressions": [{"key": NAMESPACE_LABEL_PREFIX + "team", "operator": "In", "values": ["a"]}]},
    ],
)
def test_a_namespaced_policy_selects_only_its_own_namespace_whatever_it_says(subject: Any) -> None:
    assert IN_SHOP in policy(spec(endpointSelector=subject, ingress=[])).subject.requirements


def test_a_namespaced_policy_that_asks_for_another_namespace_is_refused() -> None:
    asks = spec(endpointSelector={"matchLabels": {"k8s:" + NAMESPACE_KEY: "other"}}, ingress=[{}])
    assert "only pods of that namespace" in refused(asks)["spec.endpointSelector"]
    assert one_policy(read(asks)).subject == ALL_OF_SHOP


def test_a_clusterwide_policy_selects_and_admits_every_namespace() -> None:
    found = policy(clusterwide({"endpointSelector": {}, "ingress": [{"fromEndpoints": [WEB]}]}))
    assert found.subject == EVERYTHING
    assert found.ingress == RuleSet((Rule("ingress[0]", (WorkloadPeer(Selector((APP_WEB,))),)),))


def test_specs_are_policies_of_their_own() -> None:
    one = {"endpointSelector": WEB, "ingress": [{}]}
    nouns = valid(cilium_policy(None) | {"specs": [one, one]}).nouns
    assert [n.ingress.allow[0].field for n in nouns if isinstance(n, Policy) and n.ingress] == [
        "specs[0].ingress[0]",
        "specs[1].ingress[0]",
    ]


@pytest.mark.parametrize(
    "broken",
    [
        None,
        [],
        {"ingress": [{}]},
        {"endpointSelector": "web", "ingress": [{}]},
        {"endpointSelector": {"matchLabels": {"container:app": "web"}}, "ingress": [{}]},
        {"endpointSelector": {"matchLabels": {"reserved:host": ""}}, "ingress": [{}]},
        {"endpointSelector": {}, "nodeSelector": {}, "ingress": [{}]},
        {"endpointSelector": 1, "enableDefaultDeny": {"ingress": False, "egress": False}},
    ],
)
def test_an_unreadable_subject_is_the_whole_namespace_denied_both_ways(broken: Any) -> None:
    for object, subject in ((cilium_policy(broken), ALL_OF_SHOP), (clusterwide(broken), EVERYTHING)):
        fragment = read(object)
        found = one_policy(fragment)
        assert not fragment.valid
        assert (found.subject, found.ingress, found.egress) == (subject, RuleSet(), RuleSet())


def test_the_denies_of_an_unreadable_subject_stay_in_force() -> None:
    broken = cilium_policy({"endpointSelector": 1, "ingressDeny": [{"fromEntities": ["world"]}]})
    assert denies(broken) == (Rule("ingressDeny[0]", (EntityPeer("world"),)),)


def test_a_host_policy_is_refused_and_touches_no_pod() -> None:
    fragment = read(clusterwide({"nodeSelector": {}, "ingress": [{}]}))
    assert (fragment.nouns, fragment.valid) == ((), False)


# --- default deny -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sections", "ingress", "egress"),
    [
        ({"ingress": [{}]}, True, None),
        ({"ingress": []}, True, None),
        ({"ingressDeny": [{}]}, True, None),
        ({"egress": [{}]}, None, True),
        ({"ingress": [{}], "enableDefaultDeny": {"ingress": False}}, False, None),
        ({"ingress": [{}], "enableDefaultDeny": {"egress": True}}, True, True),
        ({"enableDefaultDeny": {"egress": True}}, None, True),
    ],
)
def test_a_section_denies_by_default_unless_enable_default_deny_says_otherwise(
    sections: Any, ingress: bool | None, egress: bool | None
) -> None:
    found = policy(spec(**sections))
    assert (found.ingress and found.ingress.default_deny) is ingress
    assert (found.egress and found.egress.default_deny) is egress


@pytest.mark.parametrize("section", ["all", {}, 1, [None]])
def test_an_unreadable_section_grants_nothing_and_denies_by_default(section: Any) -> None:
    found = one_policy(read(spec(ingress=section)))
    assert found.ingress == RuleSet()


@pytest.mark.parametrize("switch", ["off", {"ingress": "false"}, {"ingres": False}])
def test_an_unreadable_switch_denies_by_default(switch: Any) -> None:
    found = one_policy(read(spec(enableDefaultDeny=switch, egress=[{}])))
    assert found.ingress == RuleSet()
    assert found.egress is not None
    assert found.egress.default_deny


def test_an_unknown_field_of_the_spec_voids_all_that_it_grants_but_no_deny() -> None:
    found = one_policy(read(spec(ingress=[{}], ingressDeny=[{}], ingres=[])))
    assert found.ingress == RuleSet((), (Rule("ingressDeny[0]"),))
    assert found.egress == RuleSet()


def test_an_unreadable_spec_beside_others_voids_what_they_grant() -> None:
    one = {"endpointSelector": WEB, "ingress": [{}]}
    fragment = read(cilium_policy(None) | {"specs": [one, 7]})
    assert fragment.nouns == (
        Policy(fragment.ref, Selector((APP_WEB, IN_SHOP)), RuleSet(), RuleSet()),
        Policy(fragment.ref, ALL_OF_SHOP, RuleSet(), RuleSet()),
    )


# --- rules ------------------------------------------------------------------------------------


def test_egress_rules_have_their_own_peers() -> None:
    rule = {"toCIDRSet": [{"cidr": "10.0.0.0/8"}], "toPorts": [{"ports": [TCP_80]}]}
    found = policy(spec(egress=[rule])).egress
    peers = (CidrPeer("10.0.0.0/8", (), reach="world"),)
    assert found == RuleSet((Rule("egress[0].toPorts[0]", peers, (PortRange("TCP", 80, 80),)),))
    for field in ("toGroups", "toRequires"):
        assert "not supported yet" in refused(spec(egress=[{field: [{}]}]))[f"spec.egress[0].{field}"]


def test_an_annotation_makes_a_policy_tell_only_and_what_is_no_yes_or_no_does_not() -> None:
    wanted = spec(ingress=[{}])
    assert not policy(wanted).audit
    wanted["metadata"]["annotations"] = {"sluice.io/audit": "true"}
    assert policy(wanted).audit
    wanted["metadata"]["annotations"] = {"sluice.io/audit": "yes"}
    assert "must be one of true, false" in refused(wanted)["metadata.annotations['sluice.io/audit']"]
    assert not one_policy(read(wanted)).audit


def test_an_allow_that_needs_authentication_grants_nothing_and_says_why() -> None:
    said = refused_allow({"authentication": {"mode": "required"}})
    assert "required is not supported yet" in said["authentication.mode"]


def test_a_deny_has_no_names_and_no_authentication() -> None:
    for field in ("toFQDNs", "authentication"):
        assert "unknown field" in refused(spec(egressDeny=[{field: []}]))[f"spec.egressDeny[0].{field}"]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"fromEntities": ["world"]}, Rule("ingressDeny[0]", WORLD)),
        ({"fromEndpoints": []}, Rule("ingressDeny[0]", ())),
        (
            {"fromEntities": ["world"], "toPorts": [{"ports": [TCP_80]}]},
            Rule("ingressDeny[0].toPorts[0]", WORLD, PORT_80),
        ),
    ],
)
def test_a_deny_that_can_be_read_denies_what_it_says(rule: Any, expected: Rule) -> None:
    found = policy(spec(ingressDeny=[rule])).ingress
    assert found == RuleSet((), (expected,))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"fromEntities": ["wrld"]}, Rule("ingressDeny[0]")),
        ({"fromGroups": [{}]}, Rule("ingressDeny[0]")),
        ({"fromEntities": ["world"], "icmps": [{"fields": [{"type": 300}]}]}, Rule("ingressDeny[0]", WORLD)),
        ({"fromEntities": ["world"], "frmCIDR": []}, Rule("ingressDeny[0]")),
        ({"fromEntities": ["world"], "icmps": []}, Rule("ingressDeny[0]", WORLD)),
        ({"fromEntities": ["world"], "toPorts": "80"}, Rule("ingressDeny[0]", WORLD)),
        ({"fromEntities": ["world"], "toPorts": []}, Rule("ingressDeny[0]", WORLD)),
        ({"fromEntities": ["world"], "toPorts": [None]}, Rule("ingressDeny[0]", WORLD)),
        (
            {"fromEntities": ["world"], "toPorts": [{"ports": [{"port": "x y"}]}]},
            Rule("ingressDeny[0].toPorts[0]", WORLD),
        ),
        (
            {"fromCIDR": ["10.0.0.5/8"], "toPorts": [{"ports": [TCP_80]}]},
            Rule("ingressDeny[0].toPorts[0]", None, PORT_80),
        ),
        (
            {"fromEntities": ["world"], "toPorts": [{"ports": [TCP_80], "rules": {"http": [{}]}}]},
            Rule("ingressDeny[0].toPorts[0]", WORLD, PORT_80),
        ),
    ],
)
def test_what_cannot_be_read_of_a_deny_is_everything(rule: Any, expected: Rule) -> None:
    bad = spec(ingressDeny=[rule])
    assert refused(bad)
    assert denies(bad) == (expected,)


def test_an_unreadable_section_of_denies_denies_everything() -> None:
    assert denies(spec(ingressDeny="all")) == (Rule("ingressDeny"),)
