"""Which services a caller's Envoy is told of."""

from __future__ import annotations

from dataclasses import dataclass

from mesh.host_pattern import covers
from mesh.model.names import ObjectRef
from mesh.model.selection import Callers


@dataclass(frozen=True, slots=True)
class Imports:
    """Hosts of namespaces (`*` is each, `.` the caller's own, `~` none), each a name or a pattern, at one
    port (0: any)."""

    hosts: tuple[tuple[str, str], ...]
    port: int = 0

    def hold(self, own: str, namespace: str, host: str) -> bool:
        """Is what a namespace says of a host among them, for a caller whose own namespace is `own`?"""
        return any(
            (own if where == "." else where) in ("*", namespace) and covers(pattern, host)
            for where, pattern in self.hosts
        )


@dataclass(frozen=True, slots=True)
class Sidecar:
    """For `callers`, or (None) for all of a namespace, or of the mesh, who have none of their own."""

    ref: ObjectRef
    created: str
    egress: tuple[Imports, ...]
    callers: Callers | None = None

    def tells(self, own: str, namespace: str, host: str, port: int) -> bool:
        """Are callers whose own namespace is `own` told what another one says of a host and port?"""
        named = (imports for imports in self.egress if imports.port in (0, port))
        return any(imports.hold(own, namespace, host) for imports in named)
