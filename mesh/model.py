"""The nouns of a mesh, whatever API they were written in.

A dialect produces them, `assemble` joins them, the two back ends consume them. They are frozen
and normalised when built, so `==` means "the same meaning". This file knows no API version, no
YAML, no Envoy and no kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Protocol = Literal["TCP", "UDP", "SCTP", "ICMP", "ICMPv6"]
Direction = Literal["ingress", "egress"]

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
    """A Pod. `addresses` are canonical text, IPv4 first; `labels` are the pod's own, sorted."""

    name: WorkloadName
    labels: tuple[tuple[str, str], ...]
    service_account: str
    node: str
    addresses: tuple[str, ...] = ()
    ports: tuple[NamedPort, ...] = ()
    ready: bool = False


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

    `headless` is `clusterIP: None`; `affinity_seconds` is 0 without session affinity.
    """

    name: ServiceName
    ports: tuple[ServicePort, ...]
    selector: tuple[tuple[str, str], ...] | None
    vips: tuple[str, ...] = ()
    families: tuple[Literal["IPv4", "IPv6"], ...] = ("IPv4", "IPv6")
    headless: bool = False
    affinity_seconds: int = 0


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


# --- network policy --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WorkloadPeer:
    """Every workload whose identity labels match."""

    selector: Selector


@dataclass(frozen=True, slots=True)
class CidrPeer:
    """An address block less its exceptions (canonical text).

    `pods` says whether it matches mesh workloads too: NetworkPolicy's ipBlock does, Cilium's
    CIDRs never match pods, nodes or the host (semantics rule 17).
    """

    cidr: str
    exceptions: tuple[str, ...]
    pods: bool


@dataclass(frozen=True, slots=True)
class EntityPeer:
    """A Cilium entity: `all`, `world`, `cluster`, `host`."""

    name: Literal["all", "world", "cluster", "host"]


Peer = WorkloadPeer | CidrPeer | EntityPeer


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
class HttpMatch:
    """Cilium's PortRuleHTTP: RE2 expressions that match the whole of `:method`, `:path` (query
    included, after normalisation) and `:authority`; None matches anything."""

    method: str | None = None
    path: str | None = None
    host: str | None = None
    headers: tuple[HeaderMatch, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of one direction. `peers` None is any peer, () is none; `ports` likewise.

    With `http`, TCP connections to those ports go through Envoy and each request must match one
    entry. `field` is the path in the object, such as `ingress[0].toPorts[1]`.
    """

    field: str
    peers: tuple[Peer, ...] | None = None
    ports: tuple[PortMatch, ...] | None = None
    http: tuple[HttpMatch, ...] | None = None


@dataclass(frozen=True, slots=True)
class RuleSet:
    """What one policy says of one direction. Deny beats allow (rule 15)."""

    allow: tuple[Rule, ...] = ()
    deny: tuple[Rule, ...] = ()
    default_deny: bool = True


@dataclass(frozen=True, slots=True)
class Policy:
    """A network policy of any language. A direction that is None is not concerned."""

    ref: ObjectRef
    subject: Selector
    ingress: RuleSet | None = None
    egress: RuleSet | None = None

    def rules(self, direction: Direction) -> RuleSet | None:
        return self.ingress if direction == "ingress" else self.egress


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

Noun = Namespace | Workload | Service | EndpointSlice | Policy | Route


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
