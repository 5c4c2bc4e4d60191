from __future__ import annotations

from dataclasses import replace

from mesh.model import (
    NAMESPACE_KEY,
    CidrPeer,
    ObjectRef,
    PortRange,
    RankedRule,
    Requirement,
    Rule,
    Selector,
    TierPolicy,
)
from tests.mesh.analysis.traps import cilium, codes, findings, network_policy, only

_API = Selector((Requirement(NAMESPACE_KEY, "In", ("shop",)), Requirement("app", "In", ("api",))))
ALLOW = (
    "{podSelector: {matchLabels: {app: api}}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]}"
)
DENY = (
    "{endpointSelector: {matchLabels: {app: api}}, "
    "ingressDeny: [{fromEndpoints: [{matchLabels: {app: %s}}]}]}"
)


def ranked(action: str, ports: tuple[int, int] | None = None, field: str = "ingress[0]") -> RankedRule:
    matches = (PortRange("TCP", *ports),) if ports else None
    return RankedRule(action, Rule(field, None, matches))  # type: ignore[arg-type]


def tier(name: str, priority: int, *rules: RankedRule, kind: str = "admin") -> TierPolicy:
    ref = ObjectRef("ClusterNetworkPolicy", "", name)
    return TierPolicy(ref, kind, priority, _API, ingress=rules)  # type: ignore[arg-type]


def test_an_allow_that_a_deny_covers_grants_nothing() -> None:
    found = only("SL0401", findings(network_policy(ALLOW) + cilium(DENY % "web")))
    assert found.trap.object == ObjectRef("NetworkPolicy", "shop", "p")
    assert "CiliumNetworkPolicy shop/c ingressDeny[0]" in found.trap.message


def test_a_deny_of_others_shadows_nothing() -> None:
    assert "SL0401" not in codes(network_policy(ALLOW) + cilium(DENY % "db"))


def test_a_deny_of_part_of_it_shadows_nothing() -> None:
    wide = ALLOW.replace("{podSelector: {matchLabels: {app: web}}}", "{podSelector: {}}")
    assert "SL0401" not in codes(network_policy(wide) + cilium(DENY % "web"))


def test_an_allow_that_the_admin_tier_denies_grants_nothing() -> None:
    assert "SL0402" in codes(network_policy(ALLOW), tier("t", 1, ranked("deny")))
    for first in ("pass", "accept"):
        rules = (ranked(first), ranked("deny", field="ingress[1]"))
        assert "SL0402" not in codes(network_policy(ALLOW), tier("t", 1, *rules))


def test_a_rule_of_a_tier_behind_one_that_covers_it_is_never_asked() -> None:
    wide, narrow = ranked("deny", (1, 100)), ranked("accept", (10, 20), "ingress[1]")
    found = only("SL0403", findings("", tier("t", 1, wide, narrow)))
    assert found.trap.field == "spec.ingress[1]"
    assert "SL0403" not in codes("", tier("t", 1, narrow, wide))
    assert "SL0403" not in codes("", tier("t", 1, ranked("deny", (1, 15)), narrow))


def test_a_policy_in_audit_mode_shadows_nothing() -> None:
    deny = replace(tier("t", 1, ranked("deny")), audit=True)
    assert "SL0402" not in codes(network_policy(ALLOW), deny)


def test_priority_decides_which_policy_comes_first() -> None:
    first, second = tier("z", 1, ranked("deny")), tier("a", 2, ranked("accept", (10, 20)))
    assert only("SL0403", findings("", first, second)).trap.object.name == "a"


def test_policies_of_one_priority_that_contradict_each_other_are_told() -> None:
    accept, deny = tier("a", 5, ranked("accept", (10, 20))), tier("b", 5, ranked("deny", (15, 30)))
    assert only("SL0404", findings("", accept, deny)).trap.object.name == "b"
    assert "SL0404" not in codes("", accept, tier("b", 6, ranked("deny", (15, 30))))
    assert "SL0404" not in codes("", accept, tier("b", 5, ranked("deny", (21, 30))))
    assert "SL0404" not in codes("", accept, tier("b", 5, ranked("accept", (15, 30))))
    assert "SL0404" not in codes("", accept, tier("b", 5, ranked("deny", (15, 30)), kind="baseline"))


def test_blocks_shadow_blocks_but_for_their_exceptions() -> None:
    def blocks(name: str, priority: int, action: str, cidr: str, *exceptions: str) -> TierPolicy:
        rule = Rule("ingress[0]", (CidrPeer(cidr, exceptions, "world"),))
        return tier(name, priority, RankedRule(action, rule))  # type: ignore[arg-type]

    inner = blocks("b", 2, "accept", "192.0.2.128/25")
    assert "SL0403" in codes("", blocks("a", 1, "deny", "192.0.2.0/24"), inner)
    assert "SL0403" not in codes("", blocks("a", 1, "deny", "192.0.2.0/24", "192.0.2.192/26"), inner)
    assert "SL0403" in codes("", blocks("a", 1, "deny", "192.0.2.0/24", "192.0.2.0/26"), inner)
