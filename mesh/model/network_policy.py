"""Network policy in every language: peers, ports, rules, tiers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mesh.model.names import Direction, ObjectRef, Protocol, Reach
from mesh.model.selection import Selector


@dataclass(frozen=True, slots=True, order=True)
class NamePattern:
    """A DNS name in lower case without its final dot, or, with `*` in it, Cilium's matchPattern
    (`pkg/fqdn/matchpattern`): `*` is any characters of one label, a leading `**.` one or more
    whole labels, a lone `*` every name."""

    text: str


@dataclass(frozen=True, slots=True)
class WorkloadPeer:
    """Every workload whose identity labels match."""

    selector: Selector


@dataclass(frozen=True, slots=True)
class CidrPeer:
    """An address block less its exceptions (canonical text).

    `reach` says whose addresses it matches (semantics rule 17): NetworkPolicy's ipBlock matches
    `anyone`, Cilium's CIDRs the `world` only, and what stands for nodes the `nodes` only.
    """

    cidr: str
    exceptions: tuple[str, ...]
    reach: Reach


@dataclass(frozen=True, slots=True)
class EntityPeer:
    """A Cilium entity that is a kind of peer; `host` is the pod's own node, `remote-node` another."""

    name: Literal["all", "world", "cluster", "host", "remote-node"]


@dataclass(frozen=True, slots=True)
class CidrGroupPeer:
    """The blocks of the CidrGroup `name`, or (name None) of all that `selector` matches by their own
    labels, less the exceptions; they match the world only."""

    name: str | None
    selector: Selector | None
    exceptions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NodePeer:
    """Every node whose own labels match; never a pod (threat N48)."""

    selector: Selector


@dataclass(frozen=True, slots=True)
class ServicePeer:
    """What stands behind Services: pods that their selectors match, and the addresses of the
    EndpointSlices of those without one. By name, or (name None) by the Service's own labels,
    in `namespace` or everywhere."""

    namespace: str | None
    name: str | None
    selector: Selector | None


@dataclass(frozen=True, slots=True)
class NamePeer:
    """Addresses outside the mesh that a DNS answer gave for a name of this pattern."""

    pattern: NamePattern


@dataclass(frozen=True, slots=True)
class ApiServerPeer:
    """The addresses behind the Service `default/kubernetes`, whosoever they are."""


#: What a rule says once every reference in it is resolved (`mesh.policies.references`).
ResolvedPeer = WorkloadPeer | CidrPeer | EntityPeer

Reference = CidrGroupPeer | NodePeer | ServicePeer | NamePeer | ApiServerPeer

Peer = ResolvedPeer | Reference


@dataclass(frozen=True, slots=True)
class PortRange:
    """Ports `first`..`last` of one protocol; protocol None is any, 0..65535 all ports."""

    protocol: Protocol | None
    first: int = 0
    last: int = 65535


@dataclass(frozen=True, slots=True)
class PortName:
    """A named port of the destination workload."""

    protocol: Protocol | None
    name: str


PortMatch = PortRange | PortName


@dataclass(frozen=True, slots=True)
class HeaderMatch:
    """A request header that must be present, or, with a value, equal it. Names are lower case."""

    name: str
    value: str | None = None


@dataclass(frozen=True, slots=True)
class HeaderAction:
    """Cilium's HeaderMatch with a mismatch action: a request of a rule that fits, whose header
    `name` (lower case) has another value, is not refused but changed or only logged."""

    name: str
    value: str
    action: Literal["LOG", "ADD", "DELETE", "REPLACE"]


@dataclass(frozen=True, slots=True)
class HttpMatch:
    """Cilium's PortRuleHTTP: RE2 expressions that match the whole of `:method`, `:path` (query
    included, after normalisation) and `:authority`; None matches anything. `actions` are taken in
    order on a request that fits; of several matches that fit, the first one's."""

    method: str | None = None
    path: str | None = None
    host: str | None = None
    headers: tuple[HeaderMatch, ...] = ()
    actions: tuple[HeaderAction, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of one direction. `peers` None is any peer, () is none; `ports` likewise.

    At most one of the last three is there. With `http`, TCP connections to those ports go through
    Envoy and each request must match one entry; with `server_names`, each must begin with a TLS
    hello whose SNI is one of the patterns; with `dns`, queries go to the mesh's resolver, which
    answers names of the patterns. `field` is the path in the object, such as `ingress[0].toPorts[1]`.
    """

    field: str
    peers: tuple[Peer, ...] | None = None
    ports: tuple[PortMatch, ...] | None = None
    http: tuple[HttpMatch, ...] | None = None
    server_names: tuple[NamePattern, ...] | None = None
    dns: tuple[NamePattern, ...] | None = None


@dataclass(frozen=True, slots=True)
class RuleSet:
    """What one policy says of one direction. Deny beats allow (rule 15)."""

    allow: tuple[Rule, ...] = ()
    deny: tuple[Rule, ...] = ()
    default_deny: bool = True


@dataclass(frozen=True, slots=True)
class Policy:
    """A NetworkPolicy or Cilium policy. A direction that is None is not concerned. With `audit`
    it changes no verdict; what it would have changed is told. Flows that it decides bear `log`."""

    ref: ObjectRef
    subject: Selector
    ingress: RuleSet | None = None
    egress: RuleSet | None = None
    audit: bool = False
    log: str = ""

    def rules(self, direction: Direction) -> RuleSet | None:
        return self.ingress if direction == "ingress" else self.egress


@dataclass(frozen=True, slots=True)
class RankedRule:
    """One rule of a tier: `pass` leaves the decision to the tiers behind it."""

    action: Literal["accept", "deny", "pass"]
    rule: Rule


@dataclass(frozen=True, slots=True)
class TierPolicy:
    """A ClusterNetworkPolicy, AdminNetworkPolicy or BaselineAdminNetworkPolicy. In a tier the lowest
    priority comes first, then the name, then the order of the rules; the first that fits decides."""

    ref: ObjectRef
    tier: Literal["admin", "baseline"]
    priority: int
    subject: Selector
    ingress: tuple[RankedRule, ...] = ()
    egress: tuple[RankedRule, ...] = ()
    audit: bool = False

    def rules(self, direction: Direction) -> tuple[RankedRule, ...]:
        return self.ingress if direction == "ingress" else self.egress
