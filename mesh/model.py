"""The nouns of a mesh, whatever API they were written in.

A dialect produces them, `assemble` joins them, the two back ends consume them. They are frozen
and normalised when built, so `==` means "the same meaning". This file knows no API version, no
YAML, no Envoy and no kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Protocol = Literal["TCP", "UDP", "SCTP", "ICMP", "ICMPv6", "VRRP", "IGMP", "GRE", "IPIP", "IPV6", "ESP", "AH"]
Direction = Literal["ingress", "egress"]
Reach = Literal["world", "anyone", "nodes"]

#: Keys of identity labels that no user can set (threat N45): dialects lower namespace and
#: service-account selectors to these, so that every selector in every language is one `Selector`.
NAMESPACE_KEY = "io.kubernetes.pod.namespace"
NAMESPACE_LABEL_PREFIX = "io.cilium.k8s.namespace.labels."
SERVICE_ACCOUNT_KEY = "io.cilium.k8s.policy.serviceaccount"


class ObjectRef(NamedTuple):
    """Names one API object. Prints as `Kind namespace/name`; cluster-scoped ones have no namespace."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        full = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.kind} {full}"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """A user's error, as a value: which object, which field, and what would be right."""

    object: ObjectRef
    field: str
    message: str


class WorkloadName(NamedTuple):
    """`namespace/name` of a Pod."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class ServiceName(NamedTuple):
    """`namespace/name` of a Service."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


# --- selection -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class Requirement:
    """One clause over identity labels, as in Kubernetes' LabelSelectorRequirement."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case "In":
                return value is not None and value in self.values
            case "NotIn":
                return value is None or value not in self.values
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None


@dataclass(frozen=True, slots=True, order=True)
class Selector:
    """A conjunction of requirements over identity labels; without any it selects every workload."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(r.matches(labels) for r in self.requirements)


#: The mesh's own resolver. No pod of a user carries these without leave to use that account.
RESOLVER = Selector(
    (
        Requirement(SERVICE_ACCOUNT_KEY, "In", ("sluice-dns",)),
        Requirement(NAMESPACE_KEY, "In", ("kube-system",)),
    )
)


# --- things that exist -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Namespace:
    name: str
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class NamedPort:
    """A container port with a name, to which policies and Services may refer."""

    name: str
    port: int
    protocol: Protocol


@dataclass(frozen=True, slots=True)
class Workload:
    """A Pod. `addresses` are canonical text, IPv4 first; `labels` are the pod's own, sorted. `hostname`
    is its name in DNS below the headless Service `subdomain` of its namespace; `uid` tells it from others
    that had its name."""

    name: WorkloadName
    labels: tuple[tuple[str, str], ...]
    service_account: str
    node: str
    addresses: tuple[str, ...] = ()
    ports: tuple[NamedPort, ...] = ()
    ready: bool = False
    hostname: str = ""
    subdomain: str = ""
    uid: str = ""


@dataclass(frozen=True, slots=True)
class ServicePort:
    name: str
    port: int
    protocol: Protocol
    target: int | str
    app_protocol: str = ""


@dataclass(frozen=True, slots=True)
class Service:
    """A Kubernetes Service. `vips` is what the object asks for (empty: to be allocated).

    `headless` is `clusterIP: None`; `affinity_seconds` is 0 without session affinity. `labels` are
    the Service's own.
    """

    name: ServiceName
    ports: tuple[ServicePort, ...]
    selector: tuple[tuple[str, str], ...] | None
    vips: tuple[str, ...] = ()
    families: tuple[Literal["IPv4", "IPv6"], ...] = ("IPv4", "IPv6")
    headless: bool = False
    affinity_seconds: int = 0
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class SliceEndpoint:
    addresses: tuple[str, ...]
    ready: bool
    workload: WorkloadName | None = None


@dataclass(frozen=True, slots=True)
class EndpointSlice:
    """Endpoints of `service` given by hand; they replace those derived from its selector."""

    ref: ObjectRef
    service: ServiceName
    ports: tuple[tuple[str, int, Protocol], ...]
    endpoints: tuple[SliceEndpoint, ...]


@dataclass(frozen=True, slots=True, order=True)
class Backend:
    """One ready address:port behind a service port."""

    address: str
    port: int
    workload: WorkloadName | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the cluster: its own addresses (canonical text) are no pod's."""

    name: str
    labels: tuple[tuple[str, str], ...] = ()
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LearnedNames:
    """What DNS answers said of names (lower case, no final dot): addresses that are still good. The
    resolver counts its reports with `sequence`, by which it learns what is in force."""

    sequence: int = 0
    names: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class CidrGroup:
    """A CiliumCIDRGroup: blocks under a name, to which policies refer."""

    name: str
    labels: tuple[tuple[str, str], ...]
    cidrs: tuple[str, ...]


# --- network policy --------------------------------------------------------------------------


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


#: What a rule says once every reference in it is resolved (`mesh.references`).
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


# --- authorization -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TextMatch:
    """A value of AuthorizationPolicy. `present`: any value that is not empty. `template`: a path in
    which `{*}` is one element and a final `{**}` any number (Envoy's URI template)."""

    kind: Literal["exact", "prefix", "suffix", "present", "template"]
    value: str = ""


#: What a term looks at. The first six are known of a connection, and the kernel can judge them; the
#: rest only Envoy sees.
ConnectionAttribute = Literal[
    "principal", "namespace", "service_account", "known", "source_ip", "destination_port"
]
RequestAttribute = Literal[
    "method",
    "path",
    "host",
    "header",
    "request_principal",
    "audience",
    "presenter",
    "claim",
    "remote_ip",
    "destination_ip",
    "sni",
]


@dataclass(frozen=True, slots=True)
class Term:
    """True if one of `values` matches the attribute, or, negated, if none does.

    Values are `TextMatch`; of `source_ip`, `remote_ip` and `destination_ip` `CidrPeer` that reach
    anyone; of `destination_port` numbers. Values of `service_account` are `namespace/name`. `key` is
    a header's lower-case name or a claim's path, its elements joined by dots. `known` has no values:
    the peer is a workload.
    """

    attribute: ConnectionAttribute | RequestAttribute
    values: tuple[TextMatch | CidrPeer | int, ...] = ()
    negated: bool = False
    key: str = ""


@dataclass(frozen=True, slots=True)
class AuthorizationRule:
    """Fits if some source, some operation and every condition does. A source or operation is a
    conjunction of terms; None means that any will do, () that none does."""

    field: str
    sources: tuple[tuple[Term, ...], ...] | None = None
    operations: tuple[tuple[Term, ...], ...] | None = None
    conditions: tuple[Term, ...] = ()


@dataclass(frozen=True, slots=True)
class Authorization:
    """An AuthorizationPolicy: a condition of its own, at the destination, for TCP (rule 15).

    `subject` selects by the pod's own labels, in the policy's namespace or, if that is the root
    namespace, everywhere; `services` (targetRefs) by what stands behind Services of its namespace.
    `provider` names MeshConfig's extension provider of a `custom` one.
    """

    ref: ObjectRef
    action: Literal["allow", "deny", "audit", "custom"]
    rules: tuple[AuthorizationRule, ...]
    subject: Selector = Selector()
    services: tuple[ServiceName, ...] | None = None
    provider: str = ""
    audit: bool = False


@dataclass(frozen=True, slots=True)
class AuthorizationProvider:
    """An external authorization service (MeshConfig, ExtAuthzGrpc and ExtAuthzHttp). Times are
    milliseconds, `body_bytes` 0 sends no body. Header lists hold exact, prefix and suffix matches."""

    name: str
    kind: Literal["grpc", "http"]
    service: str
    port: int
    timeout_ms: int = 600_000
    fail_open: bool = False
    status_on_error: int = 403
    path_prefix: str = ""
    include_request_headers: tuple[TextMatch, ...] = ()
    include_additional_headers: tuple[tuple[str, str], ...] = ()
    headers_to_upstream_on_allow: tuple[TextMatch, ...] = ()
    headers_to_downstream_on_deny: tuple[TextMatch, ...] = ()
    headers_to_downstream_on_allow: tuple[TextMatch, ...] = ()
    body_bytes: int = 0
    allow_partial_body: bool = False


PathNormalization = Literal["NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"]


@dataclass(frozen=True, slots=True)
class MeshConfig:
    """What the whole mesh is told: Istio's ConfigMap `istio`, as far as we read it."""

    root_namespace: str = "istio-system"
    trust_domain: str = "cluster.local"
    trust_domain_aliases: tuple[str, ...] = ()
    path_normalization: PathNormalization = "MERGE_SLASHES"
    providers: tuple[AuthorizationProvider, ...] = ()


#: Where nobody has said anything.
DEFAULT_CONFIG = MeshConfig()


# --- routes ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PathMatch:
    """`prefix` matches whole path elements; `regex` is RE2 over the whole path without query."""

    kind: Literal["exact", "prefix", "regex"]
    value: str


@dataclass(frozen=True, slots=True)
class ValueMatch:
    """A header (lower-case name) or a query parameter."""

    name: str
    kind: Literal["exact", "regex"]
    value: str


@dataclass(frozen=True, slots=True)
class RouteMatch:
    path: PathMatch = PathMatch("prefix", "/")
    method: str | None = None
    headers: tuple[ValueMatch, ...] = ()
    query: tuple[ValueMatch, ...] = ()


@dataclass(frozen=True, slots=True)
class HeaderChange:
    set: tuple[tuple[str, str], ...] = ()
    add: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PathChange:
    kind: Literal["full", "prefix"]
    value: str


@dataclass(frozen=True, slots=True)
class Redirect:
    scheme: str | None = None
    hostname: str | None = None
    port: int | None = None
    path: PathChange | None = None
    status: int = 302


@dataclass(frozen=True, slots=True)
class Rewrite:
    hostname: str | None = None
    path: PathChange | None = None


@dataclass(frozen=True, slots=True)
class RouteBackend:
    """A weighted destination; `service` None is one that must not or cannot be reached (answers 500)."""

    service: ServiceName | None
    port: int
    weight: int = 1
    request_headers: HeaderChange = HeaderChange()
    response_headers: HeaderChange = HeaderChange()


@dataclass(frozen=True, slots=True)
class RouteRule:
    """One rule of an HTTPRoute; timeouts are milliseconds, 0 is none."""

    field: str
    matches: tuple[RouteMatch, ...]
    backends: tuple[RouteBackend, ...] = ()
    request_headers: HeaderChange = HeaderChange()
    response_headers: HeaderChange = HeaderChange()
    redirect: Redirect | None = None
    rewrite: Rewrite | None = None
    timeout_ms: int = 0
    backend_timeout_ms: int = 0


@dataclass(frozen=True, slots=True)
class Parent:
    """The Service, and the port (None: each), to whose callers a route applies."""

    service: ServiceName
    port: int | None


@dataclass(frozen=True, slots=True)
class Route:
    """An HTTPRoute on Services. In the Service's namespace it binds every caller (producer
    route); elsewhere only callers of its own namespace (consumer route): GEP-1226."""

    ref: ObjectRef
    created: str
    parents: tuple[Parent, ...]
    rules: tuple[RouteRule, ...]


# --- what a dialect understood -----------------------------------------------------------------

Noun = (
    Namespace
    | Workload
    | Service
    | EndpointSlice
    | Node
    | CidrGroup
    | LearnedNames
    | Policy
    | TierPolicy
    | Authorization
    | MeshConfig
    | Route
)


@dataclass(frozen=True, slots=True)
class Fragment:
    """What was understood of one object.

    `valid` is False when something could not be read: then `nouns` holds what rule 18 demands
    without an earlier version (an allow that grants nothing, a deny of all it selects, default
    deny for the namespace of an unreadable subject), and an earlier valid version, if there is
    one, stays in force instead.
    """

    ref: ObjectRef
    nouns: tuple[Noun, ...] = ()
    problems: tuple[Problem, ...] = ()
    valid: bool = True


@dataclass(frozen=True, slots=True)
class Identity:
    """What policy may know of a workload: its policy-relevant labels, its namespace's, its
    service account. Numbered by `SecurityId`; two workloads alike share one."""

    labels: tuple[tuple[str, str], ...]
    mapping: Mapping[str, str] = field(init=False, compare=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "mapping", dict(self.labels))
