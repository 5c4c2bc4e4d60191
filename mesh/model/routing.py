"""Routes: which requests and connections to a service address go where, and what happens on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mesh.model.gateway import GatewayParent
from mesh.model.names import ObjectRef, Protocol, ServiceName
from mesh.model.selection import Callers

#: The gateway that stands for the pods of the mesh, as Istio calls it.
MESH_GATEWAY = "mesh"


# --- which requests ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PathMatch:
    """Of a path without its query. `prefix` matches whole elements (Gateway API), `start` characters
    (Istio); `regex` is RE2 over the whole."""

    kind: Literal["exact", "prefix", "start", "regex"]
    value: str
    ignore_case: bool = False


@dataclass(frozen=True, slots=True)
class ValueMatch:
    """A header (lower-case name) or a query parameter; `present` has no value. Of requests the method,
    the authority and the scheme are the headers `:method`, `:authority` and `:scheme`. A negated one
    matches what is absent, too."""

    name: str
    kind: Literal["exact", "prefix", "regex", "present"]
    value: str = ""
    negated: bool = False


@dataclass(frozen=True, slots=True)
class ClaimMatch:
    """A claim of the request's good token, by its path in the payload: a text, or a list of which one text is
    enough; `present` is any value. Without a good token there is no claim, and a negated one matches what is
    absent, too."""

    path: tuple[str, ...]
    kind: Literal["exact", "prefix", "regex", "present"]
    value: str = ""
    negated: bool = False


@dataclass(frozen=True, slots=True)
class RouteMatch:
    """`port` is the one that was dialled (0: any); `callers` whose requests are meant. What stands for calls
    of gRPC says in `call` how many characters of their service and of their method it names. `claims` are
    known at Gateways only: elsewhere a match that asks for any is nobody's."""

    path: PathMatch = PathMatch("prefix", "/")
    headers: tuple[ValueMatch, ...] = ()
    query: tuple[ValueMatch, ...] = ()
    port: int = 0
    callers: Callers = Callers()
    call: tuple[int, int] | None = None
    claims: tuple[ClaimMatch, ...] = ()


# --- what is done to them ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HeaderChange:
    set: tuple[tuple[str, str], ...] = ()
    add: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()

    def then(self, later: HeaderChange) -> HeaderChange:
        """Both, one after the other, in normal form; in each, Envoy removes before it sets and adds."""
        gone: set[str] = set()
        values: dict[str, list[str]] = {}
        for change in (self, later):
            gone.update(change.remove, (name for name, _ in change.set))
            values |= {name: [] for name in change.remove} | {name: [value] for name, value in change.set}
            for name, value in change.add:
                values.setdefault(name, []).append(value)
        kept = [name for name in sorted(values) if name not in gone]
        fresh = [name for name in sorted(values) if name in gone and values[name]]
        return HeaderChange(
            set=tuple((name, values[name][0]) for name in fresh),
            add=tuple((name, value) for name in kept for value in values[name])
            + tuple((name, value) for name in fresh for value in values[name][1:]),
            remove=tuple(name for name in sorted(gone) if not values[name]),
        )


@dataclass(frozen=True, slots=True)
class PathChange:
    """`full` replaces the whole path, `prefix` the whole elements that the match names, `start` the
    characters that it names (of an exact path or an expression the whole path), `regex` whatever `pattern`
    (RE2) finds, with `\\1` for its groups."""

    kind: Literal["full", "prefix", "start", "regex"]
    value: str
    pattern: str = ""


@dataclass(frozen=True, slots=True)
class Redirect:
    """`port` None leaves the one of the request's Host; `derived` is that of the scheme, if one is given,
    else the one that was dialled (HTTPRequestRedirectFilter.port); `dialled` is the latter in any case."""

    scheme: str | None = None
    hostname: str | None = None
    port: int | Literal["derived", "dialled"] | None = None
    path: PathChange | None = None
    status: int = 302


@dataclass(frozen=True, slots=True)
class Rewrite:
    hostname: str | None = None
    path: PathChange | None = None


@dataclass(frozen=True, slots=True)
class DirectResponse:
    """What Envoy answers itself."""

    status: int
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Retries:
    """`on` are Envoy's conditions (x-envoy-retry-on and -grpc-on), `statuses` what else is tried again.
    Times are milliseconds: 0 is none, of `backoff_ms` Envoy's default, 25."""

    attempts: int
    on: tuple[str, ...] = ()
    statuses: tuple[int, ...] = ()
    per_try_ms: int = 0
    backoff_ms: int = 0
    other_localities: bool = False
    same_host: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done to a share of the requests, in millionths; a delay comes before an abort."""

    delay_ms: int = 0
    delayed: int = 0
    status: int = 0
    grpc_status: int | None = None
    aborted: int = 0


@dataclass(frozen=True, slots=True)
class Mirror:
    """A copy of a share of the requests, in millionths, whose answers nobody waits for."""

    service: ServiceName | None
    port: int
    subset: str = ""
    share: int = 1_000_000


@dataclass(frozen=True, slots=True)
class CorsPolicy:
    """Cross-origin requests (Fetch, 3.2). `origins` are exact, prefix or RE2; `credentials` None is not
    said. `forward_unmatched`: preflights of other origins go to the service."""

    origins: tuple[ValueMatch, ...] = ()
    methods: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    exposed: tuple[str, ...] = ()
    max_age_s: int | None = None
    credentials: bool | None = None
    forward_unmatched: bool = True


# --- where they go ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RouteBackend:
    """A weighted destination; `service` None is one that must not or cannot be reached. `port` 0 is the
    only one that the service has, else the one that was dialled; `subset` is a DestinationRule's. With an
    `address` it is that backend alone, which was dialled."""

    service: ServiceName | None
    port: int
    weight: int = 1
    request_headers: HeaderChange = HeaderChange()
    response_headers: HeaderChange = HeaderChange()
    subset: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class RouteRule:
    """One rule about requests: a rule of an HTTPRoute or GRPCRoute, an `http` route of a VirtualService.

    Timeouts are milliseconds, 0 is none. Header changes of the rule come before those of a backend.
    `retries` None are the mesh's default. A share whose backend cannot be reached, or does not
    exist, is answered `lost` (HTTPRoute 500; GRPCRoute and Istio 503, which gRPC calls UNAVAILABLE).
    One that `says_headers` takes no header changes from a rule that delegates to it; with `by_headers` the
    hostname of its rewrite is one of these.
    """

    field: str
    matches: tuple[RouteMatch, ...]
    backends: tuple[RouteBackend, ...] = ()
    request_headers: HeaderChange = HeaderChange()
    response_headers: HeaderChange = HeaderChange()
    redirect: Redirect | None = None
    rewrite: Rewrite | None = None
    direct: DirectResponse | None = None
    timeout_ms: int = 0
    backend_timeout_ms: int = 0
    retries: Retries | None = None
    fault: Fault | None = None
    mirrors: tuple[Mirror, ...] = ()
    cors: CorsPolicy | None = None
    delegate: ObjectRef | None = None
    says_headers: bool = False
    by_headers: bool = False
    lost: int = 500

    @property
    def targets(self) -> tuple[RouteBackend | Mirror, ...]:
        """Everything to which it sends."""
        return (*self.backends, *self.mirrors)


@dataclass(frozen=True, slots=True)
class ConnectionMatch:
    """Which connections: `blocks` hold the address that was dialled (canonical text), `server_names` are
    DNS names or `*.` wildcards that a TLS hello asks for; () is any. `port` 0 is any."""

    port: int = 0
    blocks: tuple[str, ...] = ()
    server_names: tuple[str, ...] = ()
    callers: Callers = Callers()


@dataclass(frozen=True, slots=True)
class ConnectionRule:
    """One rule about whole connections: a rule of a TCPRoute, TLSRoute or UDPRoute, a `tcp` or `tls` route
    of a VirtualService. No match is any connection."""

    field: str
    kind: Literal["tcp", "tls", "udp"]
    matches: tuple[ConnectionMatch, ...] = ()
    backends: tuple[RouteBackend, ...] = ()

    @property
    def protocol(self) -> Protocol:
        """Of the connections, and of the service ports to which they go."""
        return "UDP" if self.kind == "udp" else "TCP"

    @property
    def targets(self) -> tuple[RouteBackend, ...]:
        """Everything to which it sends."""
        return self.backends


@dataclass(frozen=True, slots=True)
class Parent:
    """The Service, and the port (None: each), to whose callers a route applies."""

    service: ServiceName
    port: int | None


@dataclass(frozen=True, slots=True)
class Route:
    """An HTTPRoute, GRPCRoute, TCPRoute, ... or VirtualService.

    It binds callers of its `parents` and, with `hosts`, of every service whose full name one of those
    patterns (`*`, `*.example.com`) fits. In the namespace of the service it is a producer's route and
    binds callers in the namespaces that `exported` names (`*`: all); elsewhere it is a consumer's and
    binds callers of its own namespace only (GEP-1226; for VirtualServices threat N50).

    `in_order`: the first rule that fits wins (VirtualService), else the most specific one does
    (Gateway API). `gateways` are those for which it holds, `namespace/name` of an Istio Gateway or
    MESH_GATEWAY; `attached` are those of Gateway API. At a gateway `hosts` and `names` are what a request,
    or the hello of a TLS connection, must ask for.
    """

    ref: ObjectRef
    created: str
    parents: tuple[Parent, ...]
    rules: tuple[RouteRule, ...] = ()
    connections: tuple[ConnectionRule, ...] = ()
    hosts: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    exported: tuple[str, ...] = ("*",)
    gateways: tuple[str, ...] = (MESH_GATEWAY,)
    in_order: bool = False
    attached: tuple[GatewayParent, ...] = ()

    @property
    def protocol(self) -> Protocol:
        """Of the service ports that it is for and to which it sends: of a route all rules have the same."""
        return next((rule.protocol for rule in self.connections), "TCP")

    @property
    def all_rules(self) -> tuple[RouteRule | ConnectionRule, ...]:
        return (*self.rules, *self.connections)
