"""ClusterNetworkPolicy of policy.networking.k8s.io/v1alpha2, and its predecessors of v1alpha1,
AdminNetworkPolicy and BaselineAdminNetworkPolicy.

Where something could not be read the API itself says what "fail closed" means: an accepting rule
matches nothing, a denying or passing one denies everything. An unreadable subject is everything,
but only for what denies. It knows nothing of how tiers add up (semantics rule 15).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from mesh.dialects.audit import audited
from mesh.dialects.cluster_network_peers import Peers, read_peers
from mesh.dialects.cluster_network_ports import read_ports, read_protocols
from mesh.dialects.reading import OBJECT, Fields, Reader
from mesh.dialects.selection import namespace_key, pod_key, requirements, selector
from mesh.model import Direction, ObjectRef, RankedRule, Rule, Selector, TierPolicy

Action = Literal["accept", "deny", "pass"]

SUBJECT = Fields(("namespaces", "pods"))
PODS = Fields(("namespaceSelector", "podSelector"))

MAX_PRIORITY = 1000
_MAX_NAME = 100


@dataclass(frozen=True, slots=True)
class Form:
    """In what the kinds differ."""

    spec: Fields
    actions: dict[str, Action]
    ports: str
    at_most: int
    egress: Peers


_NAMESPACED = ("namespaces", "pods")
_CLUSTER = Form(
    Fields(("tier", "priority", "subject", "ingress", "egress")),
    {"Accept": "accept", "Deny": "deny", "Pass": "pass"},
    "protocols",
    25,
    Peers((*_NAMESPACED, "nodes", "networks", "domainNames"), 25),
)
_ADMIN = Form(
    Fields(("priority", "subject", "ingress", "egress")),
    {"Allow": "accept", "Deny": "deny", "Pass": "pass"},
    "ports",
    100,
    Peers((*_NAMESPACED, "nodes", "networks", "domainNames"), 100),
)
_BASELINE = Form(
    Fields(("subject", "ingress", "egress")),
    {"Allow": "accept", "Deny": "deny"},
    "ports",
    100,
    Peers((*_NAMESPACED, "nodes", "networks"), 100),
)


def read_cluster_network_policy(root: Reader, ref: ObjectRef) -> tuple[TierPolicy, ...]:
    spec = root.at("spec")
    tier = spec.at("tier")
    tier.require()
    chosen: Literal["admin", "baseline"] = (
        "baseline" if tier.choice(("Admin", "Baseline")) == "Baseline" else "admin"
    )
    return _read(root, ref, _CLUSTER, chosen, _priority(spec))


def read_admin_network_policy(root: Reader, ref: ObjectRef) -> tuple[TierPolicy, ...]:
    return _read(root, ref, _ADMIN, "admin", _priority(root.at("spec")))


def read_baseline_admin_network_policy(root: Reader, ref: ObjectRef) -> tuple[TierPolicy, ...]:
    """There is one, and it comes last of its tier."""
    if ref.name != "default":
        root.at("metadata").at("name").refuse("must be default: a cluster has one BaselineAdminNetworkPolicy")
    return _read(root, ref, _BASELINE, "baseline", MAX_PRIORITY + 1)


def _priority(spec: Reader) -> int:
    reader = spec.at("priority")
    reader.require()
    return reader.integer(0, MAX_PRIORITY)


def _read(
    root: Reader, ref: ObjectRef, form: Form, tier: Literal["admin", "baseline"], priority: int
) -> tuple[TierPolicy, ...]:
    root.fields(OBJECT)
    spec = root.at("spec").fields(form.spec)
    spec.require()
    subject, whole = _subject(spec.at("subject"))
    ingress, egress = (_rules(spec.at(direction), direction, form) for direction in ("ingress", "egress"))
    policy = TierPolicy(ref, tier, priority, subject, ingress, egress, audited(root) and root.sound)
    if root.strange or spec.strange or not spec.at("priority").sound or not spec.at("tier").sound:
        # What was lost could have denied anything, from any place in any tier.
        return (TierPolicy(ref, "admin", 0, subject, (_deny_all("ingress"),), (_deny_all("egress"),)),)
    if not whole:
        return (replace(policy, ingress=_denying(ingress), egress=_denying(egress), audit=False),)
    return (policy,)


def _denying(rules: tuple[RankedRule, ...]) -> tuple[RankedRule, ...]:
    return tuple(rule for rule in rules if rule.action == "deny")


def _deny_all(field: str) -> RankedRule:
    return RankedRule("deny", Rule(field))


def _subject(reader: Reader) -> tuple[Selector, bool]:
    """Whom it selects, and whether that could be read: an unreadable subject is everything."""
    reader.fields(SUBJECT)
    reader.require()
    namespaces, pods = reader.at("namespaces"), reader.at("pods")
    if namespaces.present == pods.present and reader.sound:
        reader.refuse("needs exactly one of namespaces and pods")
    wanted = requirements(namespaces, namespace_key)
    if pods.present:
        pods.fields(PODS)
        wanted += requirements(pods.at("namespaceSelector"), namespace_key)
        wanted += requirements(pods.at("podSelector"), pod_key)
    return (selector(wanted), True) if reader.sound else (Selector(), False)


def _rules(section: Reader, direction: Direction, form: Form) -> tuple[RankedRule, ...]:
    items = section.items(at_most=form.at_most)
    found = [rule for item in items if (rule := _rule(item, direction, form)) is not None]
    if section.strange or (section.value and not items):
        # Not even the rules are known: they may have denied anything.
        return (_deny_all(section.rule_field),)
    return tuple(found)


def _rule(item: Reader, direction: Direction, form: Form) -> RankedRule | None:
    """None: an accepting rule that could not be read."""
    side = "from" if direction == "ingress" else "to"
    item.fields(Fields(("name", "action", side, form.ports)))
    if len(item.at("name").text()) > _MAX_NAME:
        item.at("name").refuse(f"is longer than {_MAX_NAME} characters")
    action = item.at("action")
    action.require()
    chosen = form.actions.get(action.choice(tuple(form.actions)))
    peers = Peers(_NAMESPACED, form.egress.at_most) if direction == "ingress" else form.egress
    who = read_peers(item.at(side), peers, chosen)
    where = item.at(form.ports)
    ports = read_protocols(where) if form.ports == "protocols" else read_ports(where)
    if item.sound and chosen is not None:
        return RankedRule(chosen, Rule(item.rule_field, who, ports))
    if chosen == "accept":
        return None
    return _deny_all(item.rule_field)
