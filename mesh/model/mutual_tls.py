"""Mutual TLS between the Envoys of the mesh: where it is asked for, and of whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mesh.model.names import ObjectRef
from mesh.model.selection import Selector

#: PERMISSIVE takes mutual TLS and whatever else comes, STRICT nothing else.
MutualTlsMode = Literal["DISABLE", "PERMISSIVE", "STRICT"]


@dataclass(frozen=True, slots=True)
class PeerAuthentication:
    """What workloads ask of those that connect (istio/api, security/v1beta1 PeerAuthentication). Those with
    `labels`; None: all of the namespace, or of the mesh. A mode that is None is that of the next level up."""

    ref: ObjectRef
    created: str
    mode: MutualTlsMode | None = None
    ports: tuple[tuple[int, MutualTlsMode | None], ...] = ()
    labels: tuple[tuple[str, str], ...] | None = None


@dataclass(frozen=True, slots=True)
class MutualTlsPort:
    """A port whose Envoy ends mutual TLS, for the sake of `origins` (objects and their fields). Certificates
    are of one of the trust `domains`; hellos may ask for `server_names` besides Istio's of a target."""

    mode: Literal["PERMISSIVE", "STRICT"]
    domains: tuple[str, ...]
    server_names: tuple[str, ...] = ()
    origins: tuple[tuple[ObjectRef, str], ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """Such as `PeerAuthentication shop/default mtls.mode`."""
        return tuple(f"{ref} {field}" for ref, field in self.origins)


@dataclass(frozen=True, slots=True)
class MutualTls:
    """Where a workload's TCP connections come in mutual TLS: at `ports`, of which None are left alone, and
    at all `others`, if that is said. It is made for the workload: `subject` is whoever that is."""

    others: MutualTlsPort | None = None
    ports: tuple[tuple[int, MutualTlsPort | None], ...] = ()
    subject: Selector = Selector()

    @property
    def ref(self) -> ObjectRef:
        """The first object that says so."""
        found = (self.others, *(port for _, port in self.ports))
        return min(ref for port in found if port for ref, _ in port.origins)

    def at(self, port: int) -> MutualTlsPort | None:
        return dict(self.ports).get(port, self.others)
