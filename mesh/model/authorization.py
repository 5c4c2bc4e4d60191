"""AuthorizationPolicy: conditions on requests and on who sends them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mesh.model.names import ObjectRef, ServiceName
from mesh.model.network_policy import CidrPeer
from mesh.model.selection import Selector


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
    a header's lower-case name, `path` leads to a claim: names of claims may hold dots. `known` has no
    values: the peer is a workload.
    """

    attribute: ConnectionAttribute | RequestAttribute
    values: tuple[TextMatch | CidrPeer | int, ...] = ()
    negated: bool = False
    key: str = ""
    path: tuple[str, ...] = ()


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
