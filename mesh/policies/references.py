"""What a rule refers to by name, put in its place: groups, nodes, services, DNS names.

A policy is judged and compiled with resolved peers only, so nothing behind this file knows that
a block came from a CiliumCIDRGroup or from a DNS answer. A reference to nothing is nobody: it
leaves no peer, and a rule without peers matches no one (threat N46).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Literal

from mesh.dns_name import matches
from mesh.entry_hosts import is_entry
from mesh.model import (
    DEFAULT_CONFIG,
    NAMESPACE_KEY,
    ApiServerPeer,
    Authorization,
    CidrGroup,
    CidrGroupPeer,
    CidrPeer,
    EndpointSlice,
    EnvoyFilter,
    JwtRule,
    KeySet,
    KeySource,
    MeshConfig,
    Module,
    ModuleSource,
    MutualTls,
    NamePattern,
    NamePeer,
    Node,
    NodePeer,
    ObjectRef,
    Peer,
    Policy,
    RateLimit,
    Reach,
    Reference,
    Registry,
    RequestAuthentication,
    Requirement,
    ResolvedPeer,
    Rule,
    RuleSet,
    Selector,
    Service,
    ServiceName,
    ServicePeer,
    SidecarIngress,
    Term,
    TierPolicy,
    WasmPlugin,
    WorkloadPeer,
)
from mesh.policies.cidr import contains, prefix_of

#: What is asked of requests, at the destination. They select by labels or by Services.
SubjectPolicy = Authorization | RequestAuthentication | RateLimit
#: What is asked of them, or done to them.
RequestPolicy = SubjectPolicy | EnvoyFilter
#: What selects a workload and binds its connections.
AnyPolicy = Policy | TierPolicy | RequestPolicy
#: The same, and those that are made for one workload (`mesh.policies.own_conditions`).
AnyCondition = AnyPolicy | Registry | MutualTls | SidecarIngress

#: The kinds of thing that a policy can refer to.
Source = Literal["groups", "nodes", "services", "names", "config", "keys", "modules"]

#: Where the API server stands (EndpointSlices of this Service).
API_SERVER = ServicePeer("default", "kubernetes", None)


@dataclass(frozen=True, slots=True)
class Directory:
    """What references can name. The mappings are read, never changed. `names`: DNS name, lower
    case without its final dot -> the addresses that answers gave."""

    nodes: Mapping[str, Node] = field(default_factory=dict)
    groups: Mapping[str, CidrGroup] = field(default_factory=dict)
    services: Mapping[ServiceName, Service] = field(default_factory=dict)
    slices: Mapping[ServiceName, Mapping[ObjectRef, EndpointSlice]] = field(default_factory=dict)
    names: Mapping[str, frozenset[str]] = field(default_factory=dict)
    keys: Mapping[KeySource, KeySet] = field(default_factory=dict)
    modules: Mapping[ModuleSource, Module] = field(default_factory=dict)
    config: MeshConfig = DEFAULT_CONFIG


def sources_of(policy: AnyPolicy) -> set[Source]:
    """The kinds of thing that its meaning depends on."""
    if isinstance(policy, RequestPolicy):
        of_services = isinstance(policy, SubjectPolicy | WasmPlugin) and policy.services is not None
        found: set[Source] = {"config", "services"} if of_services else {"config"}
        if isinstance(policy, WasmPlugin):
            found.add("modules")
        return found | {"keys"} if key_sources_of(policy) else found
    return {_SOURCES[type(peer)] for peer in _references(policy)}


_SOURCES: Mapping[type[Reference], Source] = {
    CidrGroupPeer: "groups",
    NodePeer: "nodes",
    ServicePeer: "services",
    ApiServerPeer: "services",
    NamePeer: "names",
}


def cidrs_of(policies: Iterable[AnyPolicy]) -> set[CidrPeer]:
    """Every block that resolved policies name."""
    found: set[CidrPeer] = set()
    for policy in policies:
        if isinstance(policy, RequestAuthentication | RateLimit | EnvoyFilter):
            continue
        if isinstance(policy, Authorization):
            found.update(
                value for term in _terms(policy) for value in term.values if isinstance(value, CidrPeer)
            )
            continue
        for rule in rules_of(policy):
            found.update(peer for peer in rule.peers or () if isinstance(peer, CidrPeer))
    return found


def field_of_names(policy: AnyPolicy) -> str:
    """The first rule that speaks of DNS names, of peers or of queries; empty if none does."""
    if isinstance(policy, RequestPolicy):
        return ""
    for rule in rules_of(policy):
        if rule.dns is not None or any(isinstance(peer, NamePeer) for peer in rule.peers or ()):
            return rule.field
    return ""


def patterns_of(policy: AnyPolicy) -> set[NamePattern]:
    """The DNS names whose addresses a policy speaks of."""
    if isinstance(policy, RequestPolicy):
        return set()
    return {peer.pattern for peer in _references(policy) if isinstance(peer, NamePeer)}


def key_sources_of(policy: AnyPolicy) -> set[KeySource]:
    """Where the keys come from that a policy does not bring itself."""
    return {source for _, source in fields_of_keys(policy)}


def fields_of_keys(policy: AnyPolicy) -> Iterator[tuple[str, KeySource]]:
    """The same, each with the field that says so."""
    for rule in policy.rules if isinstance(policy, RequestAuthentication) else ():
        if isinstance(rule.keys, KeySource):
            yield f"{rule.field}.{'issuer' if rule.keys.discovery else 'jwksUri'}", rule.keys


def _terms(policy: Authorization) -> Iterator[Term]:
    """Those that the kernel can judge by address."""
    for rule in policy.rules:
        for term in chain(*(rule.sources or ()), rule.conditions):
            if term.attribute == "source_ip":
                yield term


def _references(policy: Policy | TierPolicy) -> set[Reference]:
    return {peer for rule in rules_of(policy) for peer in rule.peers or () if isinstance(peer, Reference)}


def rules_of(policy: Policy | TierPolicy) -> Iterator[Rule]:
    """Every rule of both directions."""
    if isinstance(policy, TierPolicy):
        yield from (ranked.rule for ranked in (*policy.ingress, *policy.egress))
        return
    for rules in (policy.ingress, policy.egress):
        if rules is not None:
            yield from rules.allow
            yield from rules.deny


def resolve(policy: AnyPolicy, directory: Directory) -> tuple[AnyPolicy, ...]:
    """The policy with resolved peers only, once for each subject that it turns out to have."""
    if isinstance(policy, Authorization):
        return tuple(replace(policy, subject=found, services=None) for found in _subjects(policy, directory))
    if isinstance(policy, RequestAuthentication):
        rules = tuple(_with_keys(rule, directory) for rule in policy.rules)
        known = replace(policy, rules=rules, services=None)
        return tuple(replace(known, subject=found) for found in _subjects(policy, directory))
    if isinstance(policy, RateLimit):
        return tuple(replace(policy, subject=found, services=None) for found in _subjects(policy, directory))
    if isinstance(policy, WasmPlugin):
        module = directory.modules.get(policy.source) if policy.source else None
        plugin = replace(policy, code=module.code if module else b"", services=None)
        return tuple(replace(plugin, subject=found) for found in _subjects(policy, directory))
    if isinstance(policy, EnvoyFilter):
        return (replace(policy, subject=_at_home(policy, directory)),)
    if not _references(policy):
        return (policy,)
    if isinstance(policy, TierPolicy):
        ingress, egress = (
            tuple(replace(ranked, rule=_rule(ranked.rule, directory)) for ranked in rules)
            for rules in (policy.ingress, policy.egress)
        )
        return (replace(policy, ingress=ingress, egress=egress),)
    return (
        replace(
            policy,
            ingress=_rule_set(policy.ingress, directory),
            egress=_rule_set(policy.egress, directory),
        ),
    )


def _with_keys(rule: JwtRule, directory: Directory) -> JwtRule:
    if not isinstance(rule.keys, KeySource):
        return rule
    found = directory.keys.get(rule.keys)
    return replace(rule, keys=found.keys if found else "")


def _subjects(policy: SubjectPolicy | WasmPlugin, directory: Directory) -> Iterator[Selector]:
    """A policy of the root namespace is for all; one of a Service is for what stands behind it."""
    own = Requirement(NAMESPACE_KEY, "In", (policy.ref.namespace,))
    if policy.services is not None:
        for name in policy.services:
            service = directory.services.get(name)
            if service is not None and service.selector:
                labels = [Requirement(key, "In", (value,)) for key, value in service.selector]
                yield Selector(tuple(sorted([own, *labels])))
    else:
        yield _at_home(policy, directory)


def _at_home(policy: RequestPolicy, directory: Directory) -> Selector:
    """Whom a policy selects by labels."""
    if policy.ref.namespace == directory.config.root_namespace:
        return policy.subject
    own = Requirement(NAMESPACE_KEY, "In", (policy.ref.namespace,))
    return Selector(tuple(sorted([own, *policy.subject.requirements])))


def _rule_set(rules: RuleSet | None, directory: Directory) -> RuleSet | None:
    if rules is None:
        return None
    allow, deny = (tuple(_rule(rule, directory) for rule in part) for part in (rules.allow, rules.deny))
    return RuleSet(allow, deny, rules.default_deny)


def _rule(rule: Rule, directory: Directory) -> Rule:
    if rule.peers is None:
        return rule
    found: list[Peer] = []
    for peer in rule.peers:
        found += resolved(peer, directory) if isinstance(peer, Reference) else [peer]
    return replace(rule, peers=tuple(dict.fromkeys(found)))


def resolved(peer: Reference, directory: Directory) -> list[ResolvedPeer]:
    """The peers that a reference stands for, in a stable order."""
    match peer:
        case CidrGroupPeer():
            return list(_group(peer, directory.groups))
        case NodePeer(selector):
            chosen = (n for _, n in sorted(directory.nodes.items()) if selector.matches(dict(n.labels)))
            return [_block(address, "nodes") for node in chosen for address in node.addresses]
        case NamePeer(pattern):
            found = (a for name, a in directory.names.items() if matches(pattern, name))
            return [_block(address, "world") for address in sorted(set().union(*found))]
        case ServicePeer():
            return list(_services(peer, directory))
        case ApiServerPeer():
            return list(_services(API_SERVER, directory))


def _group(peer: CidrGroupPeer, groups: Mapping[str, CidrGroup]) -> Iterator[CidrPeer]:
    for name, group in sorted(groups.items()):
        if peer.name is not None:
            chosen = name == peer.name
        else:
            chosen = peer.selector is not None and peer.selector.matches(dict(group.labels))
        for cidr in group.cidrs if chosen else ():
            inside = (e for e in peer.exceptions if contains(prefix_of(cidr), prefix_of(e)))
            if not any(contains(prefix_of(e), prefix_of(cidr)) for e in peer.exceptions):
                yield CidrPeer(cidr, tuple(inside), "world")


def _services(peer: ServicePeer, directory: Directory) -> Iterator[ResolvedPeer]:
    for name in _chosen(peer, directory.services):
        service = directory.services[name]
        if service.selector:
            own = [Requirement(NAMESPACE_KEY, "In", (name.namespace,))]
            labels = [Requirement(key, "In", (value,)) for key, value in service.selector]
            yield WorkloadPeer(Selector(tuple(sorted(own + labels))))
            continue
        for _, entry in sorted(directory.slices.get(name, {}).items()):
            for endpoint in entry.endpoints:
                yield from (_block(address, "anyone") for address in endpoint.addresses)


def _chosen(peer: ServicePeer, services: Mapping[ServiceName, Service]) -> Iterable[ServiceName]:
    def chosen(name: ServiceName) -> bool:
        if is_entry(name):
            return False  # Cilium speaks of Services of the cluster
        if peer.namespace not in (None, name.namespace):
            return False
        if peer.name is not None:
            return name.name == peer.name
        return peer.selector is not None and peer.selector.matches(dict(services[name].labels))

    if peer.namespace is not None and peer.name is not None:
        exact = ServiceName(peer.namespace, peer.name)
        return [exact] if exact in services else []
    return sorted(filter(chosen, services))


def _block(address: str, reach: Reach) -> CidrPeer:
    return CidrPeer(f"{address}/{128 if ':' in address else 32}", (), reach)
