"""CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy of cilium.io/v2.

The validation is Cilium's own; what it accepts and we do not support is refused by name. Where
something could not be read the policy fails closed (semantics rule 18). It knows nothing of how
policies of several languages add up (rule 15).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from mesh.dialects.audit import audited
from mesh.dialects.cilium_icmp import read_icmps
from mesh.dialects.cilium_l7 import NOTHING
from mesh.dialects.cilium_peers import (
    EGRESS_DENY_PEERS,
    EGRESS_PEERS,
    INGRESS_PEERS,
    cilium_key,
    read_peers,
)
from mesh.dialects.cilium_ports import Opening, read_openings
from mesh.dialects.reading import Fields, Reader
from mesh.dialects.selection import in_namespace, requirements, selector
from mesh.model import NAMESPACE_KEY, Direction, ObjectRef, Peer, Policy, Requirement, Rule, RuleSet

OBJECT = Fields(("apiVersion", "kind", "metadata", "spec", "specs", "status"))
#: `description` and `labels` say nothing of who may talk to whom.
SPEC = Fields(
    (
        "endpointSelector",
        "ingress",
        "ingressDeny",
        "egress",
        "egressDeny",
        "enableDefaultDeny",
        "description",
        "labels",
        "log",
    ),
    refused=("nodeSelector",),
)
DEFAULT_DENY = Fields(("ingress", "egress"))
AUTHENTICATION = Fields(("mode",))
LOG = Fields(("value",))

#: What narrows a rule to ports or protocols; everything else in it says who the peer is.
_L4 = ("toPorts", "icmps")


@dataclass(frozen=True, slots=True)
class Section:
    """One list of rules: what may stand in it, and which of its fields name the peer."""

    fields: Fields
    peers: Fields
    deny: bool


def _section(peers: Fields, deny: bool) -> Section:
    """A deny rule has no `authentication` and no `toFQDNs` at all."""
    read = (*peers.read, *_L4) if deny else (*peers.read, *_L4, "authentication")
    return Section(Fields(read, peers.refused), peers, deny)


SECTIONS: dict[str, Section] = {
    "ingress": _section(INGRESS_PEERS, deny=False),
    "ingressDeny": _section(INGRESS_PEERS, deny=True),
    "egress": _section(EGRESS_PEERS, deny=False),
    "egressDeny": _section(EGRESS_DENY_PEERS, deny=True),
}


def read_cilium_policy(root: Reader, ref: ObjectRef) -> tuple[Policy, ...]:
    """The policies of `spec` and of each entry of `specs`; clusterwide ones have no namespace."""
    root.fields(OBJECT)
    spec, specs = root.at("spec"), root.at("specs")
    many = specs.items()
    if not spec.present and not many and specs.sound:
        root.refuse("has no policy: spec or specs is required")
    readers = [reader.fields(SPEC) for reader in ([spec] if spec.present else []) + many]
    # What an unknown field or an unreadable spec denied is lost, so nothing that the object grants counts.
    trusted = not any(reader.strange for reader in (root, specs, *readers))
    found = [policy for reader in readers for policy in _policy(reader, ref, trusted)]
    if not readers or specs.strange:
        found.append(_closed(ref))
    # In audit mode only what was read whole.
    audit = audited(root) and root.sound
    return tuple(replace(policy, audit=audit) for policy in found)


def _own(ref: ObjectRef) -> list[Requirement]:
    """Threat N44: whatever it says, a namespaced policy selects only its own namespace."""
    return [in_namespace(ref.namespace)] if ref.namespace else []


def _closed(ref: ObjectRef, ingress: RuleSet | None = None, egress: RuleSet | None = None) -> Policy:
    """What is left of a policy whose subject is unreadable: default deny both ways, and its denies."""
    return Policy(
        ref,
        selector(_own(ref)),
        RuleSet(deny=ingress.deny if ingress else ()),
        RuleSet(deny=egress.deny if egress else ()),
    )


def _policy(spec: Reader, ref: ObjectRef, trusted: bool) -> tuple[Policy, ...]:
    spec.at("enableDefaultDeny").fields(DEFAULT_DENY)
    ingress = _rule_set(spec, "ingress", trusted)
    egress = _rule_set(spec, "egress", trusted)
    if spec.at("nodeSelector").present and not spec.at("endpointSelector").present and not spec.strange:
        return ()  # A host policy: it selects nodes, so it says nothing of any pod.

    subject = spec.at("endpointSelector")
    subject.require()
    wanted = requirements(subject, cilium_key)
    for wish in wanted if ref.namespace else ():
        if wish.key == NAMESPACE_KEY and wish.operator == "In" and ref.namespace not in wish.values:
            subject.refuse(f"a policy of namespace {ref.namespace} selects only pods of that namespace")
    if not subject.sound or spec.at("nodeSelector").present:
        return (_closed(ref, ingress, egress),)
    if ingress is None and egress is None:
        spec.note("has no effect: it has none of ingress, ingressDeny, egress, egressDeny")
    log = spec.at("log").fields(LOG).at("value").text()
    return (Policy(ref, selector([*_own(ref), *wanted]), ingress, egress, log=log),)


def _rule_set(spec: Reader, direction: Direction, trusted: bool) -> RuleSet | None:
    allow, deny, switch = spec.at(direction), spec.at(direction + "Deny"), spec.at("enableDefaultDeny")
    # An empty section is a section: an empty set matches nothing and still denies (threat N46).
    stated = switch.at(direction).boolean(default=allow.present or deny.present)
    default_deny = stated or not switch.sound or not trusted
    allows = _rules(allow, SECTIONS[direction], _allowed)
    denies = _rules(deny, SECTIONS[direction + "Deny"], _denied)
    if deny.strange:
        denies = (Rule(deny.rule_field),)
    if not (default_deny or allow.present or deny.present):
        return None
    return RuleSet(allows if trusted else (), denies, default_deny)


#: Makes the rules of one entry from what was read of its peers and of its `toPorts`.
_Builder = Callable[[Reader, tuple[Peer, ...] | None, list[Opening]], list[Rule]]


def _rules(section: Reader, kind: Section, build: _Builder) -> tuple[Rule, ...]:
    found: list[Rule] = []
    for item in section.items():
        item.fields(kind.fields)
        peers = read_peers(item, kind.peers)
        _check_authentication(item.at("authentication").fields(AUTHENTICATION))
        icmps = item.at("icmps")
        if icmps.present and item.at("toPorts").present:
            icmps.refuse("cannot stand beside toPorts: write two rules")
        openings = read_openings(item.at("toPorts"), kind.deny, egress=kind.peers is not INGRESS_PEERS)
        if icmps.present:
            types = read_icmps(icmps)
            openings = [Opening(item, types if icmps.sound else None, NOTHING)]
        found += build(item, peers, openings)
    return tuple(found)


def _allowed(item: Reader, peers: tuple[Peer, ...] | None, openings: list[Opening]) -> list[Rule]:
    if not item.sound:
        return []
    if not openings:
        return [Rule(item.rule_field, peers)]
    return [
        Rule(o.reader.rule_field, peers, o.ports, o.l7.http, o.l7.server_names, o.l7.dns) for o in openings
    ]


def _check_authentication(reader: Reader) -> None:
    """Mutual authentication needs certificates, which are not here yet."""
    reader.at("mode").choice(("disabled",), "disabled", unsupported=("required", "test-always-fail"))


def _denied(item: Reader, peers: tuple[Peer, ...] | None, openings: list[Opening]) -> list[Rule]:
    """What could not be read of a deny is everything: each part for itself, so that an unreadable
    port does not deny peers that were never named."""
    if item.strange or not item.sound_but_for(*_L4):
        peers = None
    if not openings or item.strange or item.at("toPorts").strange or not item.at("icmps").sound:
        return [Rule(item.rule_field, peers)]
    return [Rule(o.reader.rule_field, peers, o.ports) for o in openings]
