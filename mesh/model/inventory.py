"""Things that exist: workloads, services and what stands behind them, nodes, blocks of addresses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from mesh.model.names import ObjectRef, Protocol, ServiceName, WorkloadName
from mesh.model.probe import Probe
from mesh.model.proxy_config import NO_SETTINGS, ProxySettings


class Locality(NamedTuple):
    """Where something runs; what is not known is empty."""

    region: str = ""
    zone: str = ""
    subzone: str = ""

    @classmethod
    def of(cls, text: str) -> Locality:
        """`region/zone/subzone`, of which the last ones may be left out."""
        return cls(*text.split("/", 2))

    def __str__(self) -> str:
        return "/".join(self).rstrip("/")


NOWHERE = Locality()


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
    that had its name. `owner` is what made it (a Deployment, say), empty for a Pod made by hand; `proxy` is
    what it says itself of how its Envoy is run."""

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
    owner: str = ""
    proxy: ProxySettings = NO_SETTINGS


@dataclass(frozen=True, slots=True)
class ServicePort:
    name: str
    port: int
    protocol: Protocol
    target: int | str
    app_protocol: str = ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One place that an object names itself: `address` (canonical text), or as `name` the DNS name whose
    addresses count. `ports` are own numbers by the name of a service port."""

    address: str = ""
    name: str = ""
    ports: tuple[tuple[str, int], ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    weight: int = 1
    locality: Locality = NOWHERE

    def port(self, port: ServicePort) -> int:
        """What stands behind a service port; 0 if nothing does."""
        named = dict(self.ports)
        target = port.target
        return named.get(port.name) or (target if isinstance(target, int) else named.get(target, 0))


@dataclass(frozen=True, slots=True)
class WorkloadEntry:
    """A workload that is no pod. Services of its namespace that select its labels find it while it is
    `healthy`; to policies it is an address like any other. One that is `checked` is asked as its `group`
    (a WorkloadGroup's name) says."""

    name: WorkloadName
    endpoint: Endpoint
    healthy: bool = True
    group: str = ""
    checked: bool = False


@dataclass(frozen=True, slots=True)
class WorkloadGroup:
    """What WorkloadEntries of one kind have in common: how they are asked whether they can serve, if they
    are. What else it says is for who writes them."""

    name: WorkloadName
    probe: Probe | None = None


@dataclass(frozen=True, slots=True)
class Service:
    """A Kubernetes Service, or a host of a ServiceEntry. `vips` is what the object asks for (empty: to be
    allocated).

    `headless` is `clusterIP: None`; `affinity_seconds` is 0 without session affinity. `labels` are
    the Service's own; `near`: its callers prefer backends of their own zone, or of their own node before
    those. A ServiceEntry may name `endpoints` and what their certificates are to say, `subject_names`; it is
    for the namespaces `exported` (`*` is each), and the older one comes first. `pattern` is the host of its
    HostPattern, if it is of one.
    """

    name: ServiceName
    ports: tuple[ServicePort, ...]
    selector: tuple[tuple[str, str], ...] | None
    vips: tuple[str, ...] = ()
    families: tuple[Literal["IPv4", "IPv6"], ...] = ("IPv4", "IPv6")
    headless: bool = False
    affinity_seconds: int = 0
    labels: tuple[tuple[str, str], ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    subject_names: tuple[str, ...] = ()
    exported: tuple[str, ...] = ("*",)
    created: str = ""
    near: Literal["", "zone", "node"] = ""
    pattern: str = ""

    def has_port(self, number: int, protocol: Protocol) -> bool:
        return any((port.port, port.protocol) == (number, protocol) for port in self.ports)


@dataclass(frozen=True, slots=True)
class HostPattern:
    """A pattern among the hosts of a ServiceEntry, resolved by the name that is asked for (DYNAMIC_DNS): each
    such name is a service like `template`, whose host is the pattern, and stands at itself."""

    template: Service

    def service(self, host: str) -> Service:
        name = ServiceName(self.template.name.namespace, host)
        own = (Endpoint(name=host),)
        return replace(self.template, name=name, endpoints=own, pattern=self.template.name.host)


@dataclass(frozen=True, slots=True)
class Alias:
    """A Kubernetes Service of type ExternalName: a name that stands for another one, `target` (a full DNS
    name, lower case, no final dot). It has no address, and nothing stands behind it."""

    name: ServiceName
    target: str


@dataclass(frozen=True, slots=True)
class SliceEndpoint:
    """`zone` is where it is, if it is no pod of the mesh."""

    addresses: tuple[str, ...]
    ready: bool
    workload: WorkloadName | None = None
    zone: str = ""


@dataclass(frozen=True, slots=True)
class EndpointSlice:
    """Endpoints of `service` given by hand; they replace those derived from its selector."""

    ref: ObjectRef
    service: ServiceName
    ports: tuple[tuple[str, int, Protocol], ...]
    endpoints: tuple[SliceEndpoint, ...]


@dataclass(frozen=True, slots=True, order=True)
class Backend:
    """One ready address:port behind a service port. What is no pod may have `labels` of its own, by which
    subsets choose, and a `locality`; of connections it gets a share by `weight`."""

    address: str
    port: int
    workload: WorkloadName | None = None
    labels: tuple[tuple[str, str], ...] = ()
    weight: int = 1
    locality: Locality = NOWHERE


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the cluster: its own addresses (canonical text) are no pod's."""

    name: str
    labels: tuple[tuple[str, str], ...] = ()
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LearnedNames:
    """What DNS answers said of names (lower case, no final dot): addresses that are still good. The
    resolver counts its reports with `sequence`, by which it learns what is in force. `current` is the last
    answer of those names that ServiceEntries lead to; `asked` are names that pods asked for and that
    HostPatterns of some namespace stand for; `looked_up` are (namespace, host) of services for which pods
    asked whose scope that widens."""

    sequence: int = 0
    names: tuple[tuple[str, tuple[str, ...]], ...] = ()
    current: tuple[tuple[str, tuple[str, ...]], ...] = ()
    asked: tuple[str, ...] = ()
    looked_up: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class CidrGroup:
    """A CiliumCIDRGroup: blocks under a name, to which policies refer."""

    name: str
    labels: tuple[tuple[str, str], ...]
    cidrs: tuple[str, ...]
