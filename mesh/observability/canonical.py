"""What metrics and traces call a workload: Istio's canonical service and its companions, of a Pod's labels.

Knows no metric. Istio: "Canonical Service" (`service.istio.io/canonical-name`) and the standard metrics'
labels `workload`, `app` and `version`.
"""

from __future__ import annotations

from functools import lru_cache

from mesh.model import Workload
from mesh.node import Canonical

_NAME = ("service.istio.io/canonical-name", "app.kubernetes.io/name", "app")
_REVISION = ("service.istio.io/canonical-revision", "app.kubernetes.io/version", "version")


def canonical(workload: Workload) -> Canonical:
    """The first of Istio's labels that the Pod has; the name of a service falls back to the workload's."""
    labels = dict(workload.labels)
    owner = workload.owner or workload.name.name
    return _shared(
        owner,
        labels.get("app", ""),
        labels.get("version", ""),
        next((labels[key] for key in _NAME if labels.get(key)), owner),
        next((labels[key] for key in _REVISION if labels.get(key)), "latest"),
    )


#: The pods of one Deployment share one value.
_shared = lru_cache(maxsize=16384)(Canonical)
