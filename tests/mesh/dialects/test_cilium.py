from __future__ import annotations

from typing import Any

import pytest

from mesh.dialects import read
from mesh.model import (
    NAMESPACE_KEY,
    NAMESPACE_LABEL_PREFIX,
    SERVICE_ACCOUNT_KEY,
    ApiServerPeer,
    CidrGroupPeer,
    CidrPeer,
    EntityPeer,
    HeaderAction,
    HeaderMatch,
    HttpMatch,
    NamePattern,
    NamePeer,
    NodePeer,
    Policy,
    PortName,
    PortRange,
    Requirement,
    Rule,
    RuleSet,
    Selector,
    ServicePeer,
    WorkloadPeer,
)
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

TCP_80 = {"port": "80", "protocol": "TCP"}
EVERYTHING = Selector()


def spec(**sections: Any) -> Any:
    return cilium_policy({"endpointSelector": WEB} | sections)


def allows(rule: Any) -> tuple[Rule, ...]:
    found = policy(spec(ingress=[rule])).ingress
    assert found is not None
    return found.allow


def denies(fragment_of: Any) -> tuple[Rule, ...]:
    found = one_policy(read(fragment_of)).ingress
    assert found is not None
    return found.deny


# --- subjects -----------------------------------------------------------------------------------


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


# --- peers ------------------------------------------------------------------------------------


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


# --- ports and requests -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("port", "match"),
    [
        (TCP_80, PortRange("TCP", 80, 80)),
        ({"port": "80"}, PortRange(None, 80, 80)),
        ({"port": "80", "protocol": "ANY"}, PortRange(None, 80, 80)),
        ({"port": "0", "protocol": "UDP"}, PortRange("UDP", 0, 65535)),
        ({"port": "80", "endPort": 90, "protocol": "SCTP"}, PortRange("SCTP", 80, 90)),
        ({"port": "HTTP", "protocol": "TCP"}, PortName("TCP", "http")),
    ],
)
def test_ports_are_numbers_ranges_or_names_of_one_protocol_or_any(port: Any, match: Any) -> None:
    assert allows({"toPorts": [{"ports": [port]}]}) == (Rule("ingress[0].toPorts[0]", None, (match,)),)


def test_each_entry_of_to_ports_is_a_rule_with_its_own_requests() -> None:
    http = [
        {"method": "GET", "path": "/public/.*", "host": "web.*"},
        {"headers": ["X-Token: a b", "X-Seen"]},
        {},
    ]
    rule = {
        "fromEntities": ["all"],
        "toPorts": [{"ports": [TCP_80], "rules": {"http": http}}, {"ports": [TCP_80]}],
    }
    peers, ports = (EntityPeer("all"),), (PortRange("TCP", 80, 80),)
    matches = (
        HttpMatch("GET", "/public/.*", "web.*"),
        HttpMatch(headers=(HeaderMatch("x-seen"), HeaderMatch("x-token", "a b"))),
        HttpMatch(),
    )
    assert allows(rule) == (
        Rule("ingress[0].toPorts[0]", peers, ports, matches),
        Rule("ingress[0].toPorts[1]", peers, ports),
    )


WORLD = (EntityPeer("world"),)
PORT_80 = (PortRange("TCP", 80, 80),)
CLUSTER = "io.cilium.k8s.policy.cluster"


def with_port(port: Any, **rest: Any) -> Any:
    return {"toPorts": [{"ports": [port]} | rest]}


def with_http(http: Any, **port: Any) -> Any:
    return {"toPorts": [{"ports": [TCP_80 | port], "rules": {"http": http}}]}


@pytest.mark.parametrize(
    ("rule", "field", "says"),
    [
        ({"fromEndpoints": [{}], "fromCIDR": ["10.0.0.0/8"]}, "fromCIDR", "cannot stand beside"),
        ({"fromGroups": [{}]}, "fromGroups", "field fromGroups is not supported yet"),
        ({"fromRequires": [{}]}, "fromRequires", "not supported yet"),
        ({"authentication": {"mode": "required"}}, "authentication.mode", "required is not supported yet"),
        ({"icmps": [{"fields": [{"type": 256}]}]}, "icmps[0].fields[0].type", "must be 0 to 255"),
        ({"icmps": [{"fields": [{"type": "Ech"}]}]}, "icmps[0].fields[0].type", "no type of IPv4"),
        ({"icmps": [{"fields": [{"type": 1}] * 41}]}, "icmps[0].fields", "at most 40"),
        (
            {"icmps": [{"fields": [{"type": 8}]}], "toPorts": [{"ports": [TCP_80]}]},
            "icmps",
            "cannot stand beside",
        ),
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
        ({"toPorts": []}, "toPorts", "leave it out for every port"),
        ({"toPorts": [{}]}, "toPorts[0].ports", "needs at least one port"),
        ({"toPorts": [{"ports": [TCP_80] * 41}]}, "toPorts[0].ports", "has 41 entries; at most 40"),
        (
            {"toPorts": [{"ports": [{"port": 80}]}]},
            "toPorts[0].ports[0].port",
            'must be a string: write "80"',
        ),
        (with_port({"port": "65536"}), "toPorts[0].ports[0].port", "must be 0 to 65535"),
        (with_port({"port": "080"}), "toPorts[0].ports[0].port", "not a port name"),
        (with_port({"protocol": "TCP"}), "toPorts[0].ports[0].port", "is required"),
        (
            {"toPorts": [{"ports": [{"port": "1", "protocol": "GRE"}]}]},
            "toPorts[0].ports[0].port",
            "GRE has no ports",
        ),
        (
            {"toPorts": [{"ports": [{"port": "8", "protocol": "ICMP"}]}]},
            "toPorts[0].ports[0].protocol",
            "ICMP is not supported yet",
        ),
        (
            {"toPorts": [{"ports": [{"port": "0", "endPort": 9}]}]},
            "toPorts[0].ports[0].endPort",
            "every port already",
        ),
        (
            {"toPorts": [{"ports": [TCP_80], "serverNames": [""]}]},
            "toPorts[0].serverNames",
            "not empty",
        ),
        (
            {"toPorts": [{"ports": [TCP_80], "serverNames": ["a"], "rules": {"http": [{}]}}]},
            "toPorts[0].serverNames",
            "needs terminatingTLS",
        ),
        (
            {"toPorts": [{"ports": [TCP_80], "rules": {"dns": [{"matchName": "a"}]}}]},
            "toPorts[0].rules.dns",
            "goes with egress only",
        ),
        (with_http([]), "toPorts[0].rules.http", "needs at least one rule"),
        (with_http([{"path": "/("}]), "toPorts[0].rules.http[0].path", "missing ): /("),
        (with_http([{"path": "/(?=a)"}]), "toPorts[0].rules.http[0].path", "invalid perl operator"),
        (with_http([{"host": "a" * 1025}]), "toPorts[0].rules.http[0].host", "at most 1024"),
        (with_http([{"headers": ["X-A:b"]}]), "toPorts[0].rules.http[0].headers[0]", "'X-A:b' is not a name"),
        (
            with_http([{"headers": ["X-A: b\r\nc"]}]),
            "toPorts[0].rules.http[0].headers[0]",
            "control character",
        ),
        (
            with_http([{"headerMatches": [{"name": "x", "secret": {"name": "s"}}]}]),
            "toPorts[0].rules.http[0].headerMatches[0].secret",
            "not supported yet",
        ),
        (
            with_http(
                [{"headerMatches": [{"name": f"x-{n}", "value": "1", "mismatch": "ADD"} for n in range(5)]}]
            ),
            "toPorts[0].rules.http[0].headerMatches",
            "at most 4",
        ),
        (with_http([{}], protocol="ANY"), "toPorts[0].ports[0].protocol", "write protocol TCP, not ANY"),
        (with_http([{}], protocol="UDP"), "toPorts[0].ports[0].protocol", "write protocol TCP, not UDP"),
        (with_http([{}], port="0"), "toPorts[0].ports[0].port", "HTTP rules need a port"),
    ],
)
def test_an_allow_that_cannot_be_read_grants_nothing_and_says_why(rule: Any, field: str, says: str) -> None:
    bad = spec(ingress=[rule, {"fromEntities": ["host"]}])
    assert says in refused(bad)[f"spec.ingress[0].{field}"]
    assert one_policy(read(bad)).ingress == RuleSet((Rule("ingress[1]", (EntityPeer("host"),)),))


def test_egress_rules_have_their_own_peers() -> None:
    rule = {"toCIDRSet": [{"cidr": "10.0.0.0/8"}], "toPorts": [{"ports": [TCP_80]}]}
    found = policy(spec(egress=[rule])).egress
    peers = (CidrPeer("10.0.0.0/8", (), reach="world"),)
    assert found == RuleSet((Rule("egress[0].toPorts[0]", peers, (PortRange("TCP", 80, 80),)),))
    for field in ("toGroups", "toRequires"):
        assert "not supported yet" in refused(spec(egress=[{field: [{}]}]))[f"spec.egress[0].{field}"]


EGRESS_RULES: list[tuple[Any, Rule]] = [
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
    ({"icmps": [{"fields": [{"type": "EchoRequest"}]}]}, Rule("egress[0]", None, (PortRange("ICMP", 8, 8),))),
    (
        {"icmps": [{"fields": [{"family": "IPv6", "type": 128}]}]},
        Rule("egress[0]", None, (PortRange("ICMPv6", 128, 128),)),
    ),
    (
        {"toPorts": [{"ports": [{"port": "0", "protocol": "ESP"}]}]},
        Rule("egress[0].toPorts[0]", None, (PortRange("ESP"),)),
    ),
    (
        {"toPorts": [{"ports": [TCP_80], "serverNames": ["*.Example.com"]}]},
        Rule("egress[0].toPorts[0]", None, PORT_80, server_names=(NamePattern("*.example.com"),)),
    ),
    (
        {
            "toPorts": [
                {"ports": [{"port": "53", "protocol": "ANY"}], "rules": {"dns": [{"matchPattern": "*"}]}}
            ]
        },
        Rule("egress[0].toPorts[0]", None, (PortRange(None, 53, 53),), dns=(NamePattern("*"),)),
    ),
    (
        with_http(
            [{"headerMatches": [{"name": "X-A", "value": "1"}, {"name": "X-B", "mismatch": "DELETE"}]}]
        ),
        Rule(
            "egress[0].toPorts[0]",
            None,
            PORT_80,
            (HttpMatch(headers=(HeaderMatch("x-a", "1"),), actions=(HeaderAction("x-b", "", "DELETE"),)),),
        ),
    ),
]


@pytest.mark.parametrize(("rule", "expected"), EGRESS_RULES)
def test_every_kind_of_egress_rule_is_read(rule: Any, expected: Rule) -> None:
    assert policy(spec(egress=[rule])).egress == RuleSet((expected,))


@pytest.mark.parametrize("entity", ["init", "health", "unmanaged", "ingress", "cluster-mesh"])
def test_an_entity_of_which_there_is_none_matches_nobody_and_says_so(entity: str) -> None:
    found = valid(spec(ingress=[{"fromEntities": [entity]}]))
    assert one_policy(found).ingress == RuleSet((Rule("ingress[0]", ()),))
    assert "matches nobody" in found.problems[0].message


def test_an_annotation_makes_a_policy_tell_only_and_what_is_no_yes_or_no_does_not() -> None:
    wanted = spec(ingress=[{}])
    assert not policy(wanted).audit
    wanted["metadata"]["annotations"] = {"sluice.io/audit": "true"}
    assert policy(wanted).audit
    wanted["metadata"]["annotations"] = {"sluice.io/audit": "yes"}
    assert "must be one of true, false" in refused(wanted)["metadata.annotations['sluice.io/audit']"]
    assert not one_policy(read(wanted)).audit


def test_a_deny_has_no_names_and_no_authentication() -> None:
    for field in ("toFQDNs", "authentication"):
        assert "unknown field" in refused(spec(egressDeny=[{field: []}]))[f"spec.egressDeny[0].{field}"]


# --- denies -----------------------------------------------------------------------------------


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
