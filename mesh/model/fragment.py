"""What a dialect understood of one object."""

from __future__ import annotations

from dataclasses import dataclass

from mesh.model.authentication import KeySet, RequestAuthentication
from mesh.model.authorization import Authorization
from mesh.model.config import MeshConfig
from mesh.model.credentials import BackendTls, Secret, TrustBundle
from mesh.model.envoy_filter import EnvoyFilter
from mesh.model.gateway import Gateway, GatewayClass, ReferenceGrant
from mesh.model.inventory import (
    Alias,
    CidrGroup,
    EndpointSlice,
    HostPattern,
    LearnedNames,
    Namespace,
    Node,
    Service,
    Workload,
    WorkloadEntry,
    WorkloadGroup,
)
from mesh.model.mutual_tls import PeerAuthentication
from mesh.model.names import ObjectRef, Problem
from mesh.model.network_policy import Policy, TierPolicy
from mesh.model.proxy_config import ProxyConfig
from mesh.model.rate_limit import RateLimit
from mesh.model.routing import Route
from mesh.model.sidecar import Sidecar
from mesh.model.telemetry import Telemetry
from mesh.model.traffic_policy import DestinationRule
from mesh.model.wasm_plugin import Module

Noun = (
    Namespace
    | Workload
    | WorkloadEntry
    | WorkloadGroup
    | Service
    | HostPattern
    | Alias
    | EndpointSlice
    | Node
    | CidrGroup
    | LearnedNames
    | KeySet
    | Module
    | Policy
    | TierPolicy
    | Authorization
    | RequestAuthentication
    | PeerAuthentication
    | RateLimit
    | EnvoyFilter
    | MeshConfig
    | Route
    | DestinationRule
    | Sidecar
    | ReferenceGrant
    | GatewayClass
    | Gateway
    | Secret
    | TrustBundle
    | BackendTls
    | Telemetry
    | ProxyConfig
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
