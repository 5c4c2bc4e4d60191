"""A WorkloadEntry for a machine, made of its WorkloadGroup as Istio makes one of a machine that registers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from istio_integration.workload_entry import CHECKED, GROUP


def workload_entry(
    group: Mapping[str, Any], address: str, ports: Mapping[str, int], labels: Mapping[str, str]
) -> dict[str, Any]:
    """`group` is a WorkloadGroup that was read and is sound. `ports` and `labels` are the machine's own, and
    come before those of the group."""
    name, namespace = group["metadata"]["name"], group["metadata"].get("namespace") or "default"
    spec = group["spec"]
    template, common = dict(spec["template"]), spec.get("metadata") or {}
    whole = {**(common.get("labels") or {}), **(template.get("labels") or {}), **labels}
    annotations = {**(common.get("annotations") or {}), GROUP: name}
    if spec.get("probe"):
        annotations[CHECKED] = "true"
    own = {**(template.get("ports") or {}), **ports}
    content = {**template, "address": address, "labels": whole} | ({"ports": own} if own else {})
    return {
        "apiVersion": group["apiVersion"],
        "kind": "WorkloadEntry",
        "metadata": {
            "name": _name(name, address, template.get("network") or ""),
            "namespace": namespace,
            "labels": dict(whole),
            "annotations": annotations,
        },
        "spec": content,
    }


def _name(group: str, address: str, network: str) -> str:
    """Istio's: group, address and network."""
    parts = [group, address.replace(":", "-").strip("-"), network]
    return "-".join(part for part in parts if part)
