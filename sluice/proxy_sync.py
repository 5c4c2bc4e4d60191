"""Whether an Envoy has what it was sent: of each xDS type what the control plane wants it to have, against
what Envoy has accepted by its own account and what it refused. Versions are hashes of content, so equal
versions are equal resources. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

#: The columns: those of `istioctl proxy-status`, secrets, and the type behind each.
TYPES = {
    "CDS": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
    "LDS": "type.googleapis.com/envoy.config.listener.v3.Listener",
    "EDS": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
    "RDS": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
    "ECDS": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
    "SDS": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
}

Sync = Literal["SYNCED", "STALE", "STALE (Never Acknowledged)", "NOT SENT", "NACKED"]

Data = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Refused:
    """A resource that Envoy refuses, in its words, and the objects that made it what it is."""

    type: str
    name: str
    error: str
    origins: tuple[str, ...]

    def plain(self) -> dict[str, Any]:
        return {"type": self.type, "name": self.name, "error": self.error, "objects": list(self.origins)}


@dataclass(frozen=True, slots=True)
class ProxySync:
    """One proxy. `types` in the order of TYPES; `error` says why it does not run or serve, if so."""

    pod: str
    types: tuple[tuple[str, Sync], ...]
    refused: tuple[Refused, ...] = ()
    error: str = ""

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.pod,
            "types": dict(self.types),
            "nacked": [refused.plain() for refused in self.refused],
            "error": self.error,
        }


def proxies(wanted: Data, agent: Sequence[Data]) -> list[ProxySync]:
    """Every proxy that is wanted or runs, by pod: `wanted` is the control plane's `/proxies`, `agent` the
    agent's."""
    known = {entry["pod"]: entry for entry in agent}
    names = {pod for pod, entry in known.items() if entry["admin"]} | wanted.keys()
    return [_proxy(pod, wanted.get(pod, {}), known.get(pod, {})) for pod in sorted(names)]


def _proxy(pod: str, wanted: Data, agent: Data) -> ProxySync:
    refused = tuple(_refused(wanted, agent))
    nacked = {found.type for found in refused}
    types = tuple(
        (
            name,
            "NACKED"
            if name in nacked
            else _sync(wanted.get(url, {}), agent.get("accepted", {}).get(url, {})),
        )
        for name, url in TYPES.items()
    )
    return ProxySync(pod, types, refused, agent.get("error", ""))


def _sync(wanted: Data, accepted: Data) -> Sync:
    if not wanted and not accepted:
        return "NOT SENT"
    # More than is wanted it may hold for a moment: what connections of a generation ago may need.
    if {name: entry["version"] for name, entry in wanted.items()}.items() <= accepted.items():
        return "SYNCED"
    return "STALE" if accepted else "STALE (Never Acknowledged)"


def _refused(wanted: Data, agent: Data) -> Iterator[Refused]:
    """Refusals of what is wanted now; of an older version nobody needs to hear any more."""
    for name, url in TYPES.items():
        for entry in agent.get("refused", ()):
            resource = wanted.get(url, {}).get(entry["name"], {})
            if entry["type"] == url and entry["hash"] == resource.get("version"):
                yield Refused(name, entry["name"], entry["error"].strip(), tuple(resource["origins"]))
