"""Rules that never decide anything, because others always do."""

from __future__ import annotations

from collections.abc import Iterator

from mesh.analysis.cover import Range, audience_of, ports_cover, ports_meet, ranges_of
from mesh.analysis.finding import Check, Trap, some, where
from mesh.analysis.view import TIERS, View, Written


def allow_behind_a_deny(view: View) -> Iterator[Trap]:
    """Semantics rule 15: any deny wins, so an allow for what a deny covers grants nothing."""
    rules = list(view.rules())
    denies = [w for w in rules if w.action == "deny"]
    for allow in rules:
        if allow.action != "accept":
            continue
        for deny in denies:
            if _covers(view, deny, allow):
                yield Trap(
                    allow.ref,
                    where(allow.rule.field),
                    f"grants nothing: {deny.ref} {deny.rule.field} denies all of it",
                    "take one of the two out, or narrow the deny",
                )


def behind_the_admin_tier(view: View) -> Iterator[Trap]:
    """An allow for what the Admin tier denies."""
    ranked = list(view.ranked("admin"))
    for allow in view.rules():
        if allow.action != "accept":
            continue
        for index, first in enumerate(ranked):
            if first.action != "deny" or not _covers(view, first, allow):
                continue
            if not any(_meets(view, earlier, allow) for earlier in ranked[:index]):
                yield Trap(
                    allow.ref,
                    where(allow.rule.field),
                    f"grants nothing: {first.ref} {first.rule.field} of the Admin tier denies all of it",
                    "take the rule out, or put a pass or accept before the deny",
                )
            break


def behind_an_earlier_rule(view: View) -> Iterator[Trap]:
    """In a tier the first rule that fits decides: one that an earlier rule covers is never asked."""
    for tier in TIERS:
        ranked = list(view.ranked(tier))
        for index, later in enumerate(ranked):
            earlier = next((w for w in ranked[:index] if _covers(view, w, later)), None)
            if earlier is not None:
                yield Trap(
                    later.ref,
                    where(later.rule.field),
                    f"is never asked: {earlier.ref} {earlier.rule.field} ({earlier.action}) comes first and "
                    "covers all of it",
                    "take it out, or give it a place or priority before the other",
                )


def equal_priorities(view: View) -> Iterator[Trap]:
    """policy-api, ClusterNetworkPolicySpec.priority: between equal priorities the order is the
    implementation's to choose. Ours goes by name; rely on it and another mesh decides otherwise."""
    for tier in TIERS:
        ranked = list(view.ranked(tier))
        priority = {policy.ref: policy.priority for policy in view.tiers if policy.tier == tier}
        told: set[tuple[object, object]] = set()
        for index, first in enumerate(ranked):
            for second in ranked[index + 1 :]:
                pair = (first.ref, second.ref)
                equal = first.ref != second.ref and priority[first.ref] == priority[second.ref]
                if not equal or first.action == second.action or pair in told:
                    continue
                shared = set(view.selected(first.subject)) & set(view.selected(second.subject))
                if shared and _meets(view, first, second):
                    told.add(pair)
                    yield Trap(
                        second.ref,
                        "spec.priority",
                        f"{priority[first.ref]} is also the priority of {first.ref}, and for "
                        f"{some(sorted(shared))} {first.rule.field} says {first.action} where "
                        f"{second.rule.field} says {second.action}",
                        "give one of them another priority",
                    )


def _covers(view: View, outer: Written, inner: Written) -> bool:
    """Does `outer` decide wherever `inner` could? Policies in audit mode decide nothing."""
    subjects = view.mesh.identities.select(inner.subject)
    return (
        outer.direction == inner.direction
        and not outer.audit
        and not inner.audit
        and bool(subjects)
        and subjects <= view.mesh.identities.select(outer.subject)
        and outer.rule.dns is None
        and audience_of(view, outer.rule).covers(audience_of(view, inner.rule))
        and ports_cover(_ranges(view, outer), _ranges(view, inner))
    )


def _meets(view: View, first: Written, second: Written) -> bool:
    select = view.mesh.identities.select
    return (
        first.direction == second.direction
        and not select(first.subject).isdisjoint(select(second.subject))
        and audience_of(view, first.rule).meets(audience_of(view, second.rule))
        and ports_meet(_ranges(view, first), _ranges(view, second))
    )


def _ranges(view: View, written: Written) -> frozenset[Range]:
    return ranges_of(view, written.rule, written.direction, written.subject)


CHECKS = (
    Check("SL0401", "Warning", "an allow rule grants nothing, a deny covers it", allow_behind_a_deny),
    Check("SL0402", "Warning", "an allow rule grants nothing, the Admin tier denies", behind_the_admin_tier),
    Check("SL0403", "Warning", "a rule of a tier is never asked", behind_an_earlier_rule),
    Check("SL0404", "Warning", "policies of one priority contradict each other", equal_priorities),
)
