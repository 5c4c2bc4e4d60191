"""NetworkPolicy of networking.k8s.io/v1, complete.

Where something could not be read the policy fails closed (semantics rule 18): a rule grants
nothing, an unreadable subject is the whole namespace, and both directions default to deny. It
knows nothing of how policies of several languages add up (rule 15).
"""

from __future__ import annotations

from mesh.dialects.audit import audited
from mesh.dialects.reading import OBJECT, Fields, Reader
from mesh.dialects.selection import in_namespace, namespace_key, pod_key, requirements, selector
from mesh.dialects.syntax import exceptions, network, port_match, port_or_name, transport
from mesh.model import (
    CidrPeer,
    Direction,
    ObjectRef,
    Peer,
    Policy,
    PortMatch,
    Rule,
    RuleSet,
    WorkloadPeer,
)

SPEC = Fields(("podSelector", "policyTypes", "ingress", "egress"))
INGRESS = Fields(("from", "ports"))
EGRESS = Fields(("to", "ports"))
PEER = Fields(("podSelector", "namespaceSelector", "ipBlock"))
BLOCK = Fields(("cidr", "except"))
PORT = Fields(("port", "endPort", "protocol"))

TYPES: dict[str, Direction] = {"Ingress": "ingress", "Egress": "egress"}


def read_network_policy(root: Reader, ref: ObjectRef) -> tuple[Policy, ...]:
    root.fields(OBJECT)
    spec = root.at("spec").fields(SPEC)
    spec.require()
    pods = spec.at("podSelector")
    wanted = requirements(pods, pod_key)
    directions = _directions(spec)
    allows = {direction: _allows(spec.at(direction), direction) for direction in TYPES.values()}
    if root.strange or spec.strange or not pods.sound:
        directions, allows = set(TYPES.values()), {}
    if not pods.sound:
        wanted = []

    rule_sets = {direction: RuleSet(allows.get(direction, ())) for direction in directions}
    subject = selector([in_namespace(ref.namespace), *wanted])
    audit = audited(root) and root.sound
    return (Policy(ref, subject, rule_sets.get("ingress"), rule_sets.get("egress"), audit),)


def _directions(spec: Reader) -> set[Direction]:
    """API reference, NetworkPolicySpec.policyTypes: ingress always, egress if it has any rule."""
    types = spec.at("policyTypes")
    named = [item.choice(tuple(TYPES)) for item in types.items()]
    if not types.sound:
        return set(TYPES.values())
    if named:
        return {TYPES[name] for name in named}
    egress = spec.at("egress").value
    return {"ingress", "egress"} if egress is not None and egress != [] else {"ingress"}


def _allows(section: Reader, direction: Direction) -> tuple[Rule, ...]:
    rules = [(item, _rule(item, direction)) for item in section.items()]
    return tuple(rule for item, rule in rules if item.sound)


def _rule(item: Reader, direction: Direction) -> Rule:
    """An absent list and an empty one are the same here: every peer, every port."""
    item.fields(INGRESS if direction == "ingress" else EGRESS)
    peers = tuple(_peer(p) for p in item.at("from" if direction == "ingress" else "to").items())
    ports = tuple(_port(p) for p in item.at("ports").items())
    return Rule(item.rule_field, peers or None, ports or None)


def _peer(reader: Reader) -> Peer:
    reader.fields(PEER)
    pods, namespaces, block = (reader.at(name) for name in PEER.read)
    if block.present:
        if pods.present or namespaces.present:
            reader.refuse("ipBlock stands alone: podSelector and namespaceSelector need a peer of their own")
        return _block(block)
    if not pods.present and not namespaces.present and not reader.strange:
        reader.refuse("is empty: name a podSelector, a namespaceSelector or an ipBlock")
    wanted = requirements(pods, pod_key) + requirements(namespaces, namespace_key)
    if not namespaces.present:
        wanted.append(in_namespace(reader.ref.namespace))
    return WorkloadPeer(selector(wanted))


def _block(reader: Reader) -> CidrPeer:
    reader.fields(BLOCK)
    reader.at("cidr").require()
    block = network(reader.at("cidr")) if reader.at("cidr").present else None
    # Rule 17: ipBlock matches every address, pods included.
    return CidrPeer(str(block), exceptions(reader.at("except"), block, strict=True), reach="anyone")


def _port(reader: Reader) -> PortMatch:
    reader.fields(PORT)
    number = reader.at("port")
    named = port_or_name(number) if number.present else None
    return port_match(transport(reader.at("protocol")), named, reader.at("endPort"))
