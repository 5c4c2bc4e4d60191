"""Backends as a caller meets them: each with what stands between the two."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mesh.answers.called import party
from mesh.answers.stages import Finding, Question, judged
from mesh.assemble import Mesh
from mesh.model import Backend, Protocol, Workload
from mesh.policies.registry import Registries
from mesh.proxy import Target
from mesh.request import Request
from mesh.routes import steer


@dataclass(frozen=True, slots=True)
class Judgement:
    """One backend as the caller meets it."""

    backend: Backend
    finding: Finding

    def plain(self, share: float | None) -> dict[str, Any]:
        answer: dict[str, Any] = {
            "address": self.backend.address,
            "port": self.backend.port,
            "pod": str(self.backend.workload) if self.backend.workload else None,
            "verdict": "allow" if self.finding.allowed else "deny",
            "path": "envoy" if self.finding.steered else "kernel",
        }
        return answer if share is None else answer | {"share": round(share, 4)}


def judge(
    mesh: Mesh,
    registries: Registries,
    sources: Sequence[str],
    backend: Backend,
    protocol: Protocol,
    request: Request | None,
    begun: Container[Backend],
) -> Judgement:
    """Mutual TLS is `begun` with some backends."""
    same_family = [a for a in sources if (":" in a) == (":" in backend.address)]
    caller, callee = party(mesh, (same_family or list(sources))[0]), party(mesh, backend.address)
    question = Question(caller, callee, protocol, backend.port, request, backend in begun)
    return Judgement(backend, judged(mesh, registries, question))


def in_mutual_tls(mesh: Mesh, caller: Workload, targets: Iterable[Target]) -> frozenset[Backend]:
    """Those to whom the caller's Envoy speaks it."""
    found: set[Backend] = set()
    for target in targets:
        if members := steer.members(mesh, mesh.callers.of(caller.name), target):
            found.update(steer.mutual(mesh, target, members[1], members[0]))
    return frozenset(found)
