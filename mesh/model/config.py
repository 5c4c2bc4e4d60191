"""What the whole mesh is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mesh.model.access_logging import DEFAULT_ACCESS_LOGGING, MeshAccessLogging
from mesh.model.authorization import AuthorizationProvider
from mesh.model.proxy_config import NO_SETTINGS, ProxySettings
from mesh.model.sidecar import OutboundMode
from mesh.model.telemetry import DEFAULT_TRACING, MeshTracing
from mesh.model.traffic_policy import NO_ORDER, LocalitySetting

PathNormalization = Literal["NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"]


@dataclass(frozen=True, slots=True)
class MeshConfig:
    """What the whole mesh is told: Istio's ConfigMap `istio`, as far as we read it."""

    root_namespace: str = "istio-system"
    trust_domain: str = "cluster.local"
    trust_domain_aliases: tuple[str, ...] = ()
    path_normalization: PathNormalization = "MERGE_SLASHES"
    providers: tuple[AuthorizationProvider, ...] = ()
    tracing: MeshTracing = DEFAULT_TRACING
    locality: LocalitySetting = NO_ORDER
    access_logging: MeshAccessLogging = DEFAULT_ACCESS_LOGGING
    proxy: ProxySettings = NO_SETTINGS
    outbound: OutboundMode = "ALLOW_ANY"
    #: Do callers begin mutual TLS with whoever takes nothing else, without a DestinationRule that says so?
    auto_mtls: bool = True

    @property
    def trust_domains(self) -> tuple[str, ...]:
        """Whose certificates are believed."""
        return tuple(dict.fromkeys((self.trust_domain, *self.trust_domain_aliases)))


#: Where nobody has said anything.
DEFAULT_CONFIG = MeshConfig()
