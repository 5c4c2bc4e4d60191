"""What an Envoy says of itself in its node's metadata, by which EnvoyFilters and Istio's tools know it. The
bootstrap has it (`proxy_configs`); a test holds both together.
"""

from __future__ import annotations

from collections.abc import Mapping

from mesh.model import WorkloadName

#: The one whose proxies are Envoys of the version that is pinned here.
ISTIO_VERSION = "1.32.0"


def metadata(pod: WorkloadName) -> Mapping[str, str]:
    """What is the same from one start to the next."""
    return {
        "NAME": pod.name,
        "NAMESPACE": pod.namespace,
        "CLUSTER_ID": "Kubernetes",
        "MESH_ID": "cluster.local",
        "ISTIO_VERSION": ISTIO_VERSION,
    }


def is_of(pod: WorkloadName, wanted: tuple[tuple[str, str], ...]) -> bool:
    """Does its Envoy say all that is wanted?"""
    return not wanted or dict(wanted).items() <= metadata(pod).items()
