"""Which services a caller is told of, whether it may reach anything else, and what is taken in its stead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from mesh.model.names import ObjectRef
from mesh.model.network_policy import Rule
from mesh.model.selection import Callers, Selector
from mesh.routes.host_pattern import covers, is_pattern

#: Where connections of TCP may go that no service names.
OutboundMode = Literal["ALLOW_ANY", "REGISTRY_ONLY"]


class Binding(NamedTuple):
    """An address of loopback at which a workload's Envoy listens for it: for HTTP, or for whole connections,
    of which in `tls` the hello says to whom they are."""

    field: str
    address: str
    http: bool
    tls: bool = False


@dataclass(frozen=True, slots=True)
class Imports:
    """Hosts of namespaces (`*` is each, `.` the caller's own, `~` none), each a name or a pattern, at one
    port (0: any), and where they can be dialled besides."""

    hosts: tuple[tuple[str, str], ...]
    port: int = 0
    binding: Binding | None = None
    _names: frozenset[tuple[str, str]] = field(init=False, compare=False, repr=False)
    _patterns: tuple[tuple[str, str], ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        # Hundreds of names, each asked for every service.
        patterns = tuple(host for host in self.hosts if is_pattern(host[1]))
        object.__setattr__(self, "_patterns", patterns)
        object.__setattr__(self, "_names", frozenset(self.hosts) - set(patterns))

    def hold(self, own: str, namespace: str, host: str) -> bool:
        """Is what a namespace says of a host among them, for a caller whose own namespace is `own`?"""
        places = ("*", namespace, ".") if own == namespace else ("*", namespace)
        if any((where, host) in self._names for where in places):
            return True
        return any(where in places and covers(pattern, host) for where, pattern in self._patterns)


class OwnEndpoint(NamedTuple):
    """Where a workload listens for its Envoy: on an address of loopback, its own of either family (0.0.0.0,
    ::), or the path of a Unix socket, which has no port."""

    address: str
    port: int = 0

    def __str__(self) -> str:
        if not self.port:
            return f"unix://{self.address}"
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    def of(self, addresses: Sequence[str]) -> OwnEndpoint:
        """The same for a workload with these addresses."""
        if self.address not in ("0.0.0.0", "::"):
            return self
        family = [address for address in addresses if (":" in address) == (":" in self.address)]
        return self._replace(address=(*family, *addresses)[0])


@dataclass(frozen=True, slots=True)
class IngressListener:
    """A port of a workload at which its Envoy takes TCP connections and hands them on, without `endpoint` to
    where they were sent. `kind` is what comes there, None: the first bytes tell."""

    field: str
    port: int
    endpoint: OwnEndpoint | None = None
    kind: Literal["http", "plain"] | None = None


@dataclass(frozen=True, slots=True)
class Sidecar:
    """For `callers`, or (None) for all of a namespace, or of the mesh, who have none of their own. Without
    `outbound` MeshConfig's counts. One that `widens` is for what pods of the namespace look up, too."""

    ref: ObjectRef
    created: str
    egress: tuple[Imports, ...]
    callers: Callers | None = None
    outbound: OutboundMode | None = None
    ingress: tuple[IngressListener, ...] = ()
    widens: bool = False

    def tells(self, own: str, namespace: str, host: str, port: int) -> bool:
        """Are callers whose own namespace is `own` told what another one says of a host and port?"""
        named = (imports for imports in self.egress if imports.port in (0, port))
        return any(imports.hold(own, namespace, host) for imports in named)


@dataclass(frozen=True, slots=True)
class SidecarIngress:
    """What a workload's Sidecar has its Envoy take: made for the workload, `subject` is whoever that is."""

    ref: ObjectRef
    listeners: tuple[IngressListener, ...]
    subject: Selector = Selector()

    def at(self, port: int) -> IngressListener | None:
        return next((listener for listener in self.listeners if listener.port == port), None)


@dataclass(frozen=True, slots=True)
class Registry:
    """REGISTRY_ONLY for some callers: their connections of TCP go to what some rule of `named` fits, to the
    mesh's resolver, and nowhere else (rule 23). `ref` and `field` say by whom, `caller` for whom, by which it
    is known who is bound: `subject` is everybody."""

    ref: ObjectRef
    field: str
    caller: str
    named: tuple[Rule, ...]
    subject: Selector = Selector()

    @property
    def key(self) -> str:
        return f"{self.ref} {self.field}"
