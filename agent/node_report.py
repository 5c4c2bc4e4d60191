"""What is wrong on this node, as plain data, for the admin interface and the control plane."""

from __future__ import annotations

from collections.abc import Iterable

from mesh.model import WorkloadName
from mesh.rollout import Refusal


def refusals(found: Iterable[Refusal]) -> list[dict[str, str]]:
    """What Envoys refuse."""
    return [
        {"pod": str(r.pod), "type": r.type_url, "name": r.name, "hash": r.hash, "error": r.error}
        for r in found
    ]


def problem(pod: WorkloadName | None, error: str) -> dict[str, str]:
    """What is wrong with a pod, or (None) the node."""
    return {"pod": str(pod) if pod else "", "type": "", "name": "", "hash": "", "error": error}
