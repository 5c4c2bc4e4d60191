"""What objects, workloads and services are called, and the words that everything shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

Protocol = Literal["TCP", "UDP", "SCTP", "ICMP", "ICMPv6", "VRRP", "IGMP", "GRE", "IPIP", "IPV6", "ESP", "AH"]

Direction = Literal["ingress", "egress"]

Reach = Literal["world", "anyone", "nodes"]

#: Keys of identity labels that no user can set (threat N45): dialects lower namespace and
#: service-account selectors to these, so that every selector in every language is one `Selector`.
NAMESPACE_KEY = "io.kubernetes.pod.namespace"

NAMESPACE_LABEL_PREFIX = "io.cilium.k8s.namespace.labels."

SERVICE_ACCOUNT_KEY = "io.cilium.k8s.policy.serviceaccount"


#: The domain of the Services of a cluster.
CLUSTER_SUFFIX = "svc.cluster.local"


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
    """`namespace/name` of a Service. One that stands for a host of a ServiceEntry has the host for its name,
    in which, other than in a Service's, there is a dot."""

    namespace: str
    name: str

    @property
    def host(self) -> str:
        """The full DNS name."""
        return self.name if "." in self.name else f"{self.name}.{self.namespace}.{CLUSTER_SUFFIX}"

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def service_of(host: str) -> ServiceName | None:
    """The Service of which this is the full DNS name; None if it is no Service's."""
    name, dot, rest = host.partition(".")
    namespace, _, suffix = rest.partition(".")
    return ServiceName(namespace, name) if dot and namespace and suffix == CLUSTER_SUFFIX else None
