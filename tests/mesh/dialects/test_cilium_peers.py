from __future__ import annotations

from typing import Any

import pytest

from mesh.model import (
    NAMESPACE_KEY,
    NAMESPACE_LABEL_PREFIX,
    SERVICE_ACCOUNT_KEY,
    ApiServerPeer,
    CidrGroupPeer,
    CidrPeer,
    EntityPeer,
    NamePattern,
    NamePeer,
    NodePeer,
    Requirement,
    Rule,
    RuleSet,
    Selector,
    ServicePeer,
    WorkloadPeer,
)
from tests.mesh.dialects.cilium import allows, refused_allow, spec
from tests.mesh.dialects.objects import APP_WEB, IN_SHOP, WEB, one_policy, policy, valid


@pytest.mark.parametrize(
    ("endpoint", "requirements"),
    [
        ({}, (IN_SHOP,)),
        (WEB, (APP_WEB, IN_SHOP)),
        ({"matchLabels": {"k8s:app": "web"}}, (APP_WEB, IN_SHOP)),
        ({"matchLabels": {"any:app": "web"}}, (APP_WEB, IN_SHOP)),
        ({"matchLabels": {"k8s:" + NAMESPACE_KEY: "b"}}, (Requirement(NAMESPACE_KEY, "In", ("b",)),)),
        (
            {"matchExpressions": [{"key": NAMESPACE_KEY, "operator": "Exists"}]},
            (Requirement(NAMESPACE_KEY, "Exists"),),
        ),
        (
            {"matchLabels": {"k8s:" + NAMESPACE_LABEL_PREFIX + "team": "a"}},
            (Requirement(NAMESPACE_LABEL_PREFIX + "team", "In", ("a",)),),
        ),
        (
            {"matchLabels": {SERVICE_ACCOUNT_KEY: "web"}},
            (Requirement(SERVICE_ACCOUNT_KEY, "In", ("web",)), IN_SHOP),
        ),
        (
            {"matchLabels": {"k8s.io/role": "web"}},
            (IN_SHOP, Requirement("k8s.io/role", "In", ("web",))),
        ),
    ],
)
def test_a_peer_that_names_no_namespace_is_of_the_policys_own(endpoint: Any, requirements: Any) -> None:
    expected = WorkloadPeer(Selector(tuple(sorted(requirements))))
    assert allows({"fromEndpoints": [endpoint]}) == (Rule("ingress[0]", (expected,)),)


@pytest.mark.parametrize("name", ["host", "world"])
def test_a_reserved_label_alone_is_an_entity(name: str) -> None:
    for key in (f"reserved:{name}", f"reserved.{name}"):
        (rule,) = allows({"fromEndpoints": [{"matchLabels": {key: ""}}]})
        assert rule.peers == (EntityPeer(name),)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rule", "peers"),
    [
        ({}, None),
        ({"fromEndpoints": None}, None),
        ({"fromEndpoints": []}, ()),
        ({"fromCIDR": []}, ()),
        ({"fromEntities": []}, ()),
        ({"fromEntities": ["all", "cluster"]}, (EntityPeer("all"), EntityPeer("cluster"))),
        ({"fromCIDR": ["10.0.0.0/8"]}, (CidrPeer("10.0.0.0/8", (), reach="world"),)),
        ({"fromCIDR": ["fd00::1"]}, (CidrPeer("fd00::1/128", (), reach="world"),)),
        (
            {"fromCIDRSet": [{"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}]},
            (CidrPeer("10.0.0.0/8", ("10.1.0.0/16",), reach="world"),),
        ),
    ],
)
def test_an_absent_peer_is_anyone_and_an_empty_one_is_nobody(rule: Any, peers: Any) -> None:
    assert allows(rule) == (Rule("ingress[0]", peers),)


@pytest.mark.parametrize("entity", ["init", "health", "unmanaged", "ingress", "cluster-mesh"])
def test_an_entity_of_which_there_is_none_matches_nobody_and_says_so(entity: str) -> None:
    found = valid(spec(ingress=[{"fromEntities": [entity]}]))
    assert one_policy(found).ingress == RuleSet((Rule("ingress[0]", ()),))
    assert "matches nobody" in found.problems[0].message


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (
            {"toServices": [{"k8sService": {"serviceName": "db"}}]},
            Rule("egress[0]", (ServicePeer(None, "db", None),)),
        ),
        (
            {"toServices": [{"k8sServiceSelector": {"namespace": "far", "selector": WEB}}]},
            Rule("egress[0]", (ServicePeer("far", None, Selector((APP_WEB,))),)),
        ),
        (
            {"toFQDNs": [{"matchName": "API.Example.com."}]},
            Rule("egress[0]", (NamePeer(NamePattern("api.example.com")),)),
        ),
        ({"toFQDNs": [{"matchPattern": "*.x"}]}, Rule("egress[0]", (NamePeer(NamePattern("*.x")),))),
        ({"toNodes": [WEB]}, Rule("egress[0]", (NodePeer(Selector((APP_WEB,))),))),
        ({"toCIDRSet": [{"cidrGroupRef": "g"}]}, Rule("egress[0]", (CidrGroupPeer("g", None),))),
        (
            {"toCIDRSet": [{"cidrGroupSelector": WEB, "except": ["10.0.0.0/8"]}]},
            Rule("egress[0]", (CidrGroupPeer(None, Selector((APP_WEB,)), ("10.0.0.0/8",)),)),
        ),
        ({"toEntities": ["kube-apiserver"]}, Rule("egress[0]", (ApiServerPeer(),))),
        ({"toEntities": ["remote-node"]}, Rule("egress[0]", (EntityPeer("remote-node"),))),
        ({"toEntities": ["world-ipv6"]}, Rule("egress[0]", (CidrPeer("::/0", (), "world"),))),
        ({"toEntities": ["none"]}, Rule("egress[0]", ())),
        (
            {"toEndpoints": [{"matchLabels": {"reserved:kube-apiserver": ""}}]},
            Rule("egress[0]", (ApiServerPeer(),)),
        ),
    ],
)
def test_every_kind_of_egress_peer_is_read(rule: Any, expected: Rule) -> None:
    assert policy(spec(egress=[rule])).egress == RuleSet((expected,))


@pytest.mark.parametrize(
    ("rule", "field", "says"),
    [
        ({"fromEndpoints": [{}], "fromCIDR": ["10.0.0.0/8"]}, "fromCIDR", "cannot stand beside"),
        ({"fromGroups": [{}]}, "fromGroups", "field fromGroups is not supported yet"),
        ({"fromRequires": [{}]}, "fromRequires", "not supported yet"),
        ({"fromPods": []}, "fromPods", "unknown field"),
        ({"toEndpoints": []}, "toEndpoints", "unknown field"),
        ({"fromEntities": ["wrld"]}, "fromEntities[0]", "must be one of all, world, cluster, host"),
        ({"fromCIDR": ["10.0.0.5/8"]}, "fromCIDR[0]", "did you mean 10.0.0.0/8?"),
        ({"fromCIDRSet": [{"cidr": "10.0.0.5"}]}, "fromCIDRSet[0].cidr", "did you mean 10.0.0.5/32?"),
        (
            {"fromCIDRSet": [{"cidrGroupRef": "a", "cidr": "10.0.0.0/8"}]},
            "fromCIDRSet[0]",
            "needs exactly one",
        ),
        ({"fromCIDRSet": [{}]}, "fromCIDRSet[0]", "needs exactly one of cidr, cidrGroupRef"),
        (
            {"fromCIDRSet": [{"cidr": "10.0.0.0/16", "except": ["10.0.0.0/8"]}]},
            "fromCIDRSet[0].except[0]",
            "not inside",
        ),
        (
            {"fromEndpoints": [{"matchLabels": {"reserved:none-such": ""}}]},
            "fromEndpoints[0].matchLabels['reserved:none-such']",
            "source 'reserved'",
        ),
        (
            {"fromEndpoints": [{"matchLabels": {"io.cilium.k8s.policy.cluster": "a"}}]},
            "fromEndpoints[0].matchLabels['io.cilium.k8s.policy.cluster']",
            "not supported yet",
        ),
    ],
)
def test_an_allow_that_cannot_be_read_grants_nothing_and_says_why(rule: Any, field: str, says: str) -> None:
    assert says in refused_allow(rule)[field]
