"""Dialects: from an API object to a `Fragment` of the mesh and the problems that were found.

`DIALECTS` is the list of the APIs that are read; a new one is a file of its own and a line here.
Reading never raises: what a user got wrong is a `Problem` on that object, and what could not be
read fails closed (semantics rule 18).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from mesh.dialects.backend_tls_policy import read_backend_tls_policy
from mesh.dialects.cidr_group import read_cidr_group
from mesh.dialects.cilium import read_cilium_policy
from mesh.dialects.cluster_network_policy import (
    read_admin_network_policy,
    read_baseline_admin_network_policy,
    read_cluster_network_policy,
)
from mesh.dialects.connection_route import read_tcp_route, read_tls_route, read_udp_route
from mesh.dialects.gateway import read_gateway, read_gateway_class
from mesh.dialects.grpc_route import read_grpc_route
from mesh.dialects.http_route import read_http_route
from mesh.dialects.kubernetes import (
    read_endpoint_slice,
    read_namespace,
    read_node,
    read_pod,
    read_service,
)
from mesh.dialects.network_policy import read_network_policy
from mesh.dialects.rate_limit import read_rate_limit
from mesh.dialects.reading import Reader, shown
from mesh.dialects.reference_grant import read_reference_grant
from mesh.dialects.secret import read_secret, read_trust_bundle
from mesh.dialects.syntax import is_label, is_subdomain, name
from mesh.model import Fragment, Noun, ObjectRef, Problem

#: Where an object without a namespace belongs, as for kubectl.
DEFAULT_NAMESPACE = "default"


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one kind is read. What a `fail_closed` kind yields counts even if it is not valid; any
    other object that is not valid has no effect. `label` kinds have DNS labels for names."""

    read: Callable[[Reader, ObjectRef], tuple[Noun, ...]]
    namespaced: bool = True
    fail_closed: bool = False
    label: bool = False


DIALECTS: Mapping[tuple[str, str], Dialect] = {
    ("v1", "Namespace"): Dialect(read_namespace, namespaced=False, label=True),
    ("v1", "Node"): Dialect(read_node, namespaced=False),
    ("v1", "Pod"): Dialect(read_pod),
    ("v1", "Service"): Dialect(read_service, label=True),
    ("v1", "Secret"): Dialect(read_secret),
    ("v1", "ConfigMap"): Dialect(read_trust_bundle),
    ("discovery.k8s.io/v1", "EndpointSlice"): Dialect(read_endpoint_slice),
    ("networking.k8s.io/v1", "NetworkPolicy"): Dialect(read_network_policy, fail_closed=True),
    ("cilium.io/v2", "CiliumNetworkPolicy"): Dialect(read_cilium_policy, fail_closed=True),
    ("cilium.io/v2", "CiliumClusterwideNetworkPolicy"): Dialect(
        read_cilium_policy, namespaced=False, fail_closed=True
    ),
    ("cilium.io/v2", "CiliumCIDRGroup"): Dialect(read_cidr_group, namespaced=False),
    ("cilium.io/v2alpha1", "CiliumCIDRGroup"): Dialect(read_cidr_group, namespaced=False),
    ("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy"): Dialect(
        read_cluster_network_policy, namespaced=False, fail_closed=True
    ),
    ("policy.networking.k8s.io/v1alpha1", "AdminNetworkPolicy"): Dialect(
        read_admin_network_policy, namespaced=False, fail_closed=True
    ),
    ("policy.networking.k8s.io/v1alpha1", "BaselineAdminNetworkPolicy"): Dialect(
        read_baseline_admin_network_policy, namespaced=False, fail_closed=True
    ),
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): Dialect(read_http_route),
    ("gateway.networking.k8s.io/v1beta1", "HTTPRoute"): Dialect(read_http_route),
    ("gateway.networking.k8s.io/v1", "GRPCRoute"): Dialect(read_grpc_route),
    ("gateway.networking.k8s.io/v1", "TCPRoute"): Dialect(read_tcp_route),
    ("gateway.networking.k8s.io/v1alpha2", "TCPRoute"): Dialect(read_tcp_route),
    ("gateway.networking.k8s.io/v1", "TLSRoute"): Dialect(read_tls_route),
    ("gateway.networking.k8s.io/v1alpha3", "TLSRoute"): Dialect(read_tls_route),
    ("gateway.networking.k8s.io/v1alpha2", "TLSRoute"): Dialect(read_tls_route),
    ("gateway.networking.k8s.io/v1", "UDPRoute"): Dialect(read_udp_route),
    ("gateway.networking.k8s.io/v1alpha2", "UDPRoute"): Dialect(read_udp_route),
    ("gateway.networking.k8s.io/v1", "Gateway"): Dialect(read_gateway),
    ("gateway.networking.k8s.io/v1beta1", "Gateway"): Dialect(read_gateway),
    ("gateway.networking.k8s.io/v1", "GatewayClass"): Dialect(read_gateway_class, namespaced=False),
    ("gateway.networking.k8s.io/v1beta1", "GatewayClass"): Dialect(read_gateway_class, namespaced=False),
    ("gateway.networking.k8s.io/v1", "BackendTLSPolicy"): Dialect(read_backend_tls_policy),
    ("gateway.networking.k8s.io/v1alpha3", "BackendTLSPolicy"): Dialect(read_backend_tls_policy),
    ("gateway.networking.k8s.io/v1", "ReferenceGrant"): Dialect(read_reference_grant),
    ("gateway.networking.k8s.io/v1beta1", "ReferenceGrant"): Dialect(read_reference_grant),
    ("sluice.io/v1alpha1", "RateLimit"): Dialect(read_rate_limit),
}

#: Kinds of which another API has one, too. Their objects are told apart as kubectl does it, `Kind.group`.
_SECOND = frozenset({("networking.istio.io", "Gateway")})

_CLUSTER_SCOPED = frozenset(kind for (_, kind), dialect in DIALECTS.items() if not dialect.namespaced)


def ref_of(object: Any) -> ObjectRef:
    """The name of any object, however malformed; parts that cannot be a name are made printable."""
    fields = object if isinstance(object, Mapping) else {}
    metadata = fields.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    kind, own, namespace = fields.get("kind"), metadata.get("name"), metadata.get("namespace")
    if isinstance(kind, str) and kind in _CLUSTER_SCOPED:
        namespace = ""
    elif namespace is None:
        namespace = DEFAULT_NAMESPACE
    group = str(fields.get("apiVersion")).rpartition("/")[0]
    if isinstance(kind, str) and (group, kind) in _SECOND:
        kind = f"{kind}.{group}"
    return ObjectRef(_printable(kind), _printable(namespace), _printable(own))


def _printable(part: object) -> str:
    if part is None:
        return ""
    plain = isinstance(part, str) and part.isascii() and part.isprintable() and len(part) <= 253
    return str(part) if plain else shown(part)


def read(
    object: Any,
    dialects: Mapping[tuple[str, str], Dialect] = DIALECTS,
    missing: Mapping[str, str] = MappingProxyType({}),
) -> Fragment:
    """What is understood of one API object by these dialects; `missing` says of kinds that people know why
    they are not read. Never raises."""
    ref = ref_of(object)
    problems: list[Problem] = []
    root = Reader(object, ref, problems)
    dialect = _dialect(root, dialects, missing)
    nouns: tuple[Noun, ...] = ()
    if dialect and _has_name(root, dialect):
        nouns = dialect.read(root, ref)
        if not root.sound and not dialect.fail_closed:
            nouns = ()
    return Fragment(ref, nouns, tuple(sorted(set(problems))), root.sound)


def _dialect(
    root: Reader, dialects: Mapping[tuple[str, str], Dialect], missing: Mapping[str, str]
) -> Dialect | None:
    if not isinstance(root.value, Mapping):
        root.refuse(f"an API object is a mapping, not {shown(root.value)}")
        return None
    version, kind = root.at("apiVersion"), root.at("kind")
    if not (version.require() and kind.require()):
        return None
    found = dialects.get((version.text(), kind.text()))
    if found is None and root.sound:
        versions = [v for v, k in dialects if k == kind.value]
        if versions:
            version.refuse(f"{kind.value} is read as {' or '.join(versions)}, not {shown(version.value)}")
        elif why := missing.get(kind.value):
            kind.refuse(f"{kind.value} is not supported: {why}")
        else:
            near = get_close_matches(kind.text(), {k for _, k in dialects}, 1, 0.75)
            hint = f"; is {near[0]} meant?" if near else ": docs/fields.md lists the kinds that are"
            kind.refuse(f"kind {shown(kind.value)} is not supported{hint}")
    return found


def _has_name(root: Reader, dialect: Dialect) -> bool:
    """An object without a proper name cannot be stored, so nothing of it counts."""
    metadata = root.at("metadata").mapping()
    own, namespace = metadata.at("name"), metadata.at("namespace")
    if metadata.require() and own.require() and not name(own, label=dialect.label) and own.sound:
        own.refuse("is required")
    if dialect.namespaced:
        name(namespace, label=True)
        if namespace.value == "":
            namespace.refuse("is empty; leave it out or name one")
    elif namespace.present:
        namespace.refuse(f"a {root.at('kind').value} belongs to no namespace")
    return metadata.sound


__all__ = ["DIALECTS", "Dialect", "is_label", "is_subdomain", "read", "ref_of"]
