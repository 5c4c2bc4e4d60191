from __future__ import annotations

from typing import Any

import pytest

from mesh.dialects import read
from mesh.model import (
    NAMESPACE_LABEL_PREFIX,
    CidrPeer,
    NamePattern,
    NamePeer,
    NodePeer,
    PortName,
    PortRange,
    RankedRule,
    Requirement,
    Rule,
    Selector,
    TierPolicy,
    WorkloadPeer,
)
from tests.mesh.dialects.objects import obj

API = "policy.networking.k8s.io/"
EVERYONE = {"namespaces": {}}
ALL = WorkloadPeer(Selector())
WEB = Requirement("app", "In", ("web",))
TEAM = Requirement(f"{NAMESPACE_LABEL_PREFIX}team", "In", ("a",))


def cluster(**spec: Any) -> Any:
    whole = {"tier": "Admin", "priority": 10, "subject": EVERYONE} | spec
    return obj(API + "v1alpha2", "ClusterNetworkPolicy", whole, namespace=None)


def admin(kind: str = "AdminNetworkPolicy", name: str = "one", **spec: Any) -> Any:
    whole = {"subject": EVERYONE} | ({"priority": 5} if kind[0] == "A" else {}) | spec
    return obj(API + "v1alpha1", kind, whole, name=name, namespace=None)


def one(object: Any) -> TierPolicy:
    (found,) = read(object).nouns
    assert isinstance(found, TierPolicy)
    return found


def ingress(**rule: Any) -> Any:
    return cluster(ingress=[{"action": "Deny", "from": [EVERYONE]} | rule])


def egress(*peers: Any, **rule: Any) -> Any:
    return cluster(egress=[{"action": "Accept", "to": list(peers)} | rule])


def test_a_policy_has_a_tier_a_priority_and_ranked_rules() -> None:
    rules = [{"action": a, "from": [EVERYONE]} for a in ("Accept", "Pass", "Deny")]
    found = one(cluster(tier="Baseline", ingress=rules))
    assert (found.tier, found.priority) == ("baseline", 10)
    assert [(r.action, r.rule.field) for r in found.ingress] == [
        ("accept", "ingress[0]"),
        ("pass", "ingress[1]"),
        ("deny", "ingress[2]"),
    ]


@pytest.mark.parametrize(
    ("subject", "wanted"),
    [
        ({"namespaces": {"matchLabels": {"team": "a"}}}, (TEAM,)),
        (
            {
                "pods": {
                    "namespaceSelector": {"matchLabels": {"team": "a"}},
                    "podSelector": {"matchLabels": {"app": "web"}},
                }
            },
            (WEB, TEAM),
        ),
    ],
)
def test_subjects_are_namespaces_or_pods(subject: Any, wanted: tuple[Requirement, ...]) -> None:
    assert one(cluster(subject=subject)).subject == Selector(wanted)


@pytest.mark.parametrize(
    ("peer", "wanted"),
    [
        ({"nodes": {"matchLabels": {"app": "web"}}}, NodePeer(Selector((WEB,)))),
        ({"networks": ["10.0.0.0/8"]}, CidrPeer("10.0.0.0/8", (), "anyone")),
        ({"domainNames": ["Example.com"]}, NamePeer(NamePattern("example.com"))),
        ({"domainNames": ["*.example.com"]}, NamePeer(NamePattern("**.example.com"))),
    ],
)
def test_egress_has_peers_of_its_own(peer: Any, wanted: Any) -> None:
    assert one(egress(peer)).egress[0].rule.peers == (wanted,)


@pytest.mark.parametrize(
    ("protocol", "wanted"),
    [
        ({"tcp": {"destinationPort": {"number": 80}}}, PortRange("TCP", 80, 80)),
        ({"udp": {"destinationPort": {"range": {"start": 1, "end": 9}}}}, PortRange("UDP", 1, 9)),
        ({"destinationNamedPort": "http"}, PortName(None, "http")),
    ],
)
def test_protocols(protocol: Any, wanted: Any) -> None:
    assert one(ingress(protocols=[protocol])).ingress[0].rule.ports == (wanted,)


def test_the_predecessors_differ_in_words() -> None:
    ports = [{"portNumber": {"port": 80}}, {"portRange": {"protocol": "UDP", "start": 1, "end": 9}}]
    rule = {"action": "Allow", "from": [EVERYONE], "ports": ports}
    found = one(admin(ingress=[rule]))
    assert (found.tier, found.priority) == ("admin", 5)
    assert found.ingress == (
        RankedRule("accept", Rule("ingress[0]", (ALL,), (PortRange("TCP", 80, 80), PortRange("UDP", 1, 9)))),
    )
    baseline = one(admin("BaselineAdminNetworkPolicy", "default", ingress=[rule]))
    assert baseline.tier == "baseline" and baseline.priority > 1000


@pytest.mark.parametrize(
    ("object", "field", "says"),
    [
        (cluster(tier="Mid"), "tier", "must be one of Admin, Baseline"),
        (cluster(priority=1001), "priority", "must be 0 to 1000"),
        (cluster(subject={}), "subject", "exactly one"),
        (ingress(action="Allow"), "ingress[0].action", "must be one of Accept"),
        (ingress(**{"from": []}), "ingress[0].from", "at least one peer"),
        (ingress(**{"from": [{}]}), "ingress[0].from[0]", "exactly one"),
        (ingress(**{"from": [{"networks": ["10.0.0.0/8"]}]}), "ingress[0].from[0].networks", "unknown field"),
        (ingress(protocols=[]), "ingress[0].protocols", "is empty"),
        (
            ingress(protocols=[{"tcp": {"destinationPort": {"range": {"start": 9, "end": 9}}}}]),
            "ingress[0].protocols[0].tcp.destinationPort.range",
            "less than its end",
        ),
        (egress({"domainNames": ["a..b"]}), "egress[0].to[0].domainNames[0]", "not a domain name"),
        (
            egress({"domainNames": ["a.b"]}, action="Deny"),
            "egress[0].to[0].domainNames",
            "accepting rules only",
        ),
        (admin("BaselineAdminNetworkPolicy", "other"), "", "must be default"),
    ],
)
def test_what_is_wrong_is_named(object: Any, field: str, says: str) -> None:
    fragment = read(object)
    assert not fragment.valid
    where = f"spec.{field}" if field else "metadata.name"
    assert says in {p.field: p.message for p in fragment.problems}[where]


BAD = [{"namespaces": {"matchLabels": 1}}]


@pytest.mark.parametrize("action", ["Deny", "Pass"])
def test_what_denies_or_passes_and_cannot_be_read_denies_everything(action: str) -> None:
    rules = [{"action": action, "from": BAD}, {"action": "Accept", "from": [EVERYONE]}]
    found = one(cluster(ingress=rules))
    assert found.ingress[0] == RankedRule("deny", Rule("ingress[0]"))
    assert found.ingress[1].action == "accept"


def test_what_accepts_and_cannot_be_read_matches_nothing() -> None:
    assert one(ingress(action="Accept", **{"from": BAD})).ingress == ()


def test_an_unreadable_subject_is_everyone_but_only_for_what_denies() -> None:
    rules = [{"action": a, "from": [EVERYONE]} for a in ("Accept", "Deny")]
    found = one(cluster(subject={"pods": 1}, ingress=rules))
    assert found.subject == Selector() and [r.action for r in found.ingress] == ["deny"]


def test_a_policy_with_an_unknown_field_denies_everything_first_of_all() -> None:
    found = one(cluster(priorty=1))
    assert (found.tier, found.priority) == ("admin", 0)
    assert found.ingress and found.egress
