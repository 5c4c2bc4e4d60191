"""One node's part of the mesh: what the kernel and the agent must know, as small records.

The control plane computes them (`mesh.datapath`), `mesh.resources` turns each into bytes, they
travel under our own type URLs, and the agent lowers each to map entries (`agent.entries`). A
record never depends on another's content, so a change costs its own size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, NamedTuple

from mesh.model import Direction, Metric, Protocol, ServiceName, TagRule, WorkloadName

#: Reserved security ids, numbered as in Cilium. Workloads start at 256.
HOST_ID = 1
WORLD_ID = 2
REMOTE_NODE_ID = 6
FIRST_WORKLOAD_ID = 256

#: The view of a route that binds every caller.
EVERYONE = "*"

#: What a collector speaks.
Form = Literal["otlp", "zipkin", "zipkin-64", "datadog"]

Verdict = Literal["allow", "deny", "steer"]

#: A view, whether the client's address alone chooses, and (address, port, parts of the whole) for each
#: backend: what a route or DestinationRule makes of a service port without any Envoy.
Balance = tuple[str, bool, tuple[tuple[str, int, int], ...]]


def stable_id(*parts: object) -> int:
    """A non-zero 64-bit number made of content, the same in every process and after a restart."""
    digest = hashlib.blake2b("\x00".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") or 1


class Canonical(NamedTuple):
    """What metrics and traces call a workload (`mesh.observability.canonical`). `workload` is what owns the
    Pod, else its own name; `app` and `version` are its labels, empty where it has none."""

    workload: str
    app: str
    version: str
    service: str
    revision: str


#: Of whom nothing is known.
NOBODY = Canonical("", "", "", "", "latest")


@dataclass(frozen=True, slots=True)
class WorkloadRecord:
    """A workload anywhere in the mesh. Each address has the id of the set of policy CIDRs
    (`CidrPeer` with `pods`) that cover it, 0 for none."""

    name: WorkloadName
    security_id: int
    addresses: tuple[tuple[str, int], ...]
    node: str
    telemetry: Canonical = NOBODY


@dataclass(frozen=True, slots=True)
class BlockRecord:
    """An address block outside the mesh that some policy names: LPM prefix -> (id, CIDR set)."""

    cidr: str
    security_id: int
    cidr_set: int


@dataclass(frozen=True, slots=True)
class ServicePortRecord:
    """One port of a Service; `backends` are ready (address, port) pairs of both families, and
    `views` the callers that a route steers (`mesh.caller`), or EVERYONE. Others may have backends of
    their own (`balanced`)."""

    port: int
    protocol: Protocol
    backends: tuple[tuple[str, int], ...]
    views: tuple[str, ...] = ()
    balanced: tuple[Balance, ...] = ()


@dataclass(frozen=True, slots=True)
class ServiceRecord:
    name: ServiceName
    vips: tuple[str, ...]
    affinity_seconds: int
    ports: tuple[ServicePortRecord, ...]
    headless: bool = False


@dataclass(frozen=True, slots=True)
class PortVerdict:
    """What ports `first`..`last` of a protocol (None: every protocol, all ports) get.

    Entries of one class do not overlap, but for the protocol None entry that stands behind all.
    `listener` is the L7 class number for `steer`, else 0; `rules` name the deciding objects and
    fields, such as `CiliumNetworkPolicy shop/web ingress[0].toPorts[0]`. `audit` is what the verdict
    would be if policies in audit mode counted (None: the same), `audit_rules` by whom. Of a
    connection to the mesh's resolver, `names` are the patterns of which a query must fit one
    (None: none is asked for), `audit_names` what they would be. `unnamed`: it is denied because no service
    names the peer.
    """

    protocol: Protocol | None
    first: int
    last: int
    verdict: Verdict
    listener: int = 0
    rules: tuple[str, ...] = ()
    audit: Verdict | None = None
    audit_rules: tuple[str, ...] = ()
    names: tuple[str, ...] | None = None
    audit_names: tuple[str, ...] | None = None
    unnamed: bool = False


#: What a peer gets where no policy set says anything.
UNRESTRICTED = PortVerdict(None, 0, 65535, "allow")


@dataclass(frozen=True, slots=True)
class PolicyClass:
    """An interned table of verdicts; `id` is `stable_id` of its content, so it never changes
    meaning. What no entry covers is denied, by `rules`."""

    id: int
    verdicts: tuple[PortVerdict, ...]
    rules: tuple[str, ...] = ()

    def at(self, protocol: str | int, port: int) -> PortVerdict:
        """The verdict that the kernel finds: an entry of a protocol comes before the one of all."""
        for verdict in self.verdicts:
            if verdict.protocol == protocol and verdict.first <= port <= verdict.last:
                return verdict
        return next(verdict for verdict in self.verdicts if verdict.protocol is None)


@dataclass(frozen=True, slots=True)
class PolicySet:
    """The policies of one direction that select some local pod, resolved against every peer.

    `id` is `stable_id` of direction and policy names: an edit changes the content, not the id.
    `peers` maps (security id, CIDR set) to a class id where it differs from `default`. Flows that a
    policy decides bear what `logs` say of it: (policy, text).
    """

    id: int
    direction: Literal["ingress", "egress"]
    policies: tuple[str, ...]
    default: int
    peers: tuple[tuple[int, int, int], ...]
    logs: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Launch:
    """How a pod's Envoy is started, should it need one. `workers` 0: one for each CPU of the node.
    `drain_ms`: how long one that nobody needs may go on for its open connections (None: as long as always).
    A change of it counts from the next start on."""

    workers: int = 1
    environment: tuple[tuple[str, str], ...] = ()
    drain_ms: int | None = None


@dataclass(frozen=True, slots=True)
class PodRecord:
    """A pod of this node. Set id 0: no policy selects it in that direction, all is allowed.

    `reasons` say why it needs an Envoy (object and field, sorted); empty: it needs none.
    `ingress_listeners` and `egress_listeners` are the L7 classes its Envoy must serve,
    `routes` whether it needs the routing listener. `uid` is the pod's whom all this is about: another of
    its name is somebody else, even on its address (empty: not known). `view` says whose routes it sees.
    `launch` None: its Envoy is started as always. `gateway` are the TCP ports at which it serves Gateways.
    """

    name: WorkloadName
    addresses: tuple[str, ...]
    security_id: int
    ingress_set: int = 0
    egress_set: int = 0
    reasons: tuple[str, ...] = ()
    ingress_listeners: tuple[int, ...] = ()
    egress_listeners: tuple[int, ...] = ()
    routes: bool = False
    uid: str = ""
    view: str = ""
    launch: Launch | None = None
    gateway: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class NamesRecord:
    """What the resolver is to report: addresses of names of these patterns. `sequence` is its last
    report that this generation contains."""

    patterns: tuple[str, ...]
    sequence: int


@dataclass(frozen=True, slots=True)
class Collector:
    """Who takes spans or logs in some `form`: over HTTP where it has a `path`, else over gRPC. Without a
    `service` of the mesh `host` is a name of DNS. `timeout_ms` 0: none is set. `zipkin-64` is Zipkin's with
    ids of traces that have 64 bits."""

    host: str
    port: int
    service: ServiceName | None = None
    path: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    timeout_ms: int = 0
    form: Form = "otlp"


@dataclass(frozen=True, slots=True)
class TracingRecord:
    """Spans of the connections that a pod of this node opens: who takes them, how many of ALL begin a trace,
    what the pod is called in them, and (name, text) of tags that each bears."""

    pod: WorkloadName
    collector: Collector
    sampling: int
    service_name: str
    version: str
    tags: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class MetricChange:
    """One metric of what a pod sends or gets: it is not told at all, or some of its labels are others."""

    direction: Direction
    metric: Metric
    disabled: bool = False
    tags: tuple[TagRule, ...] = ()


@dataclass(frozen=True, slots=True)
class MetricsRecord:
    """How the metrics of a pod of this node differ from Istio's standard ones."""

    pod: WorkloadName
    changes: tuple[MetricChange, ...]


@dataclass(frozen=True, slots=True)
class ConnectionLog:
    """One log of connections that no Envoy carries (`mesh.model.AccessLogProvider`): lines of `text` or
    `labels` to a `path` of the pod's Envoy, or records to a `collector`, whose `resource` says of the pod
    what it must. `filter` is of CEL, "": everything."""

    text: str
    labels: str = ""
    path: str = ""
    omit_empty: bool = False
    filter: str = ""
    collector: Collector | None = None
    resource: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class LoggingRecord:
    """The logs of the connections that a pod of this node opens (egress) and accepts (ingress)."""

    pod: WorkloadName
    egress: tuple[ConnectionLog, ...]
    ingress: tuple[ConnectionLog, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the Envoy of one local pod is to be served: type URL -> Envoy name -> content hash. A pod may have
    several, each with some of it."""

    pod: WorkloadName
    resources: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Generation:
    """Sent last in every push: all that came before is generation `number`, complete."""

    number: int
    trace: str = ""


Record = (
    WorkloadRecord
    | BlockRecord
    | ServiceRecord
    | PolicyClass
    | PolicySet
    | PodRecord
    | NamesRecord
    | TracingRecord
    | MetricsRecord
    | LoggingRecord
    | Manifest
    | Generation
)


@dataclass(frozen=True, slots=True)
class NodeState:
    """All records of one node, by name. Names are what the discovery protocol calls them."""

    workloads: Mapping[str, WorkloadRecord] = field(default_factory=dict)
    blocks: Mapping[str, BlockRecord] = field(default_factory=dict)
    services: Mapping[str, ServiceRecord] = field(default_factory=dict)
    classes: Mapping[str, PolicyClass] = field(default_factory=dict)
    sets: Mapping[str, PolicySet] = field(default_factory=dict)
    pods: Mapping[str, PodRecord] = field(default_factory=dict)
    names: Mapping[str, NamesRecord] = field(default_factory=dict)
    tracings: Mapping[str, TracingRecord] = field(default_factory=dict)
    metrics: Mapping[str, MetricsRecord] = field(default_factory=dict)
    loggings: Mapping[str, LoggingRecord] = field(default_factory=dict)

    def tables(self) -> Mapping[str, Mapping[str, Record]]:
        """Table name -> its records."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


def readable(state: NodeState) -> dict[str, dict[str, Any]]:
    """All records as plain data, for people; what only some verdicts have stands only there."""

    def plain(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return {key: value for key, value in pairs if key not in _RARE or value not in (None, (), False)}

    return {
        table: {name: asdict(record, dict_factory=plain) for name, record in sorted(records.items())}
        for table, records in state.tables().items()
    }


_RARE = frozenset(
    {"audit", "audit_rules", "balanced", "names", "audit_names", "unnamed", "logs", "launch", "gateway"}
)
