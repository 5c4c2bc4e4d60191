"""Where workloads are: region, zone and subzone as labels, of the node or of the pod itself.

As in Istio these labels count beside the pod's own wherever a rule about traffic asks for a caller's labels.
Knows no rule and no service.
"""

from __future__ import annotations

from collections.abc import Mapping

from mesh.model import Locality, Node, Workload

REGION = "topology.kubernetes.io/region"
ZONE = "topology.kubernetes.io/zone"
SUBZONE = "topology.istio.io/subzone"
HOSTNAME = "kubernetes.io/hostname"
#: What a Locality is made of.
LOCALITY = (REGION, ZONE, SUBZONE)
#: Labels of places: a caller of whom one is not known is nowhere near what has none, either.
PLACES = frozenset({*LOCALITY, HOSTNAME})

#: The label of a pod that says it otherwise, with dots for slashes, since labels have none.
OVERRIDE = "istio-locality"

Labels = tuple[tuple[str, str], ...]


def labels_of(workload: Workload, nodes: Mapping[str, Node]) -> Labels:
    """All by which the places of pods are compared: their own, with those of their nodes."""
    node = nodes.get(workload.node)
    own = dict(workload.labels)
    override = own.get(OVERRIDE, "")
    if not (node or override or workload.node):
        return workload.labels
    if node:
        own |= {key: value for key, value in node.labels if key in LOCALITY}
    if workload.node:
        own[HOSTNAME] = workload.node
    if override:
        for key in LOCALITY:
            own.pop(key, None)
        own |= labels_at(Locality.of(override if "/" in override else override.replace(".", "/")))
    return tuple(sorted(own.items()))


def labels_at(locality: Locality) -> dict[str, str]:
    """The labels of whatever is there."""
    return {key: value for key, value in zip(LOCALITY, locality, strict=True) if value}


def locality_of(labels: Mapping[str, str]) -> Locality:
    return Locality(labels.get(REGION, ""), labels.get(ZONE, ""), labels.get(SUBZONE, ""))
