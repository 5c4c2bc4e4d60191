"""Where this machine's pods run: sandbox files, and a Pod with the status they give it.

A sandbox file is to us what CNI result and kubelet status are to Kubernetes. `placed` is pure;
Pods of other nodes are *recorded*, their status counts as written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesh.model import WorkloadName
from xds.status_files import StatusFiles


@dataclass(frozen=True, slots=True)
class Sandbox:
    """Addresses, IPv4 first, whether the readiness probe is content, and which pod of its name it is."""

    addresses: tuple[str, ...]
    ready: bool
    uid: str = ""


@dataclass(frozen=True, slots=True)
class Placement:
    """The pod has this sandbox now, or none."""

    pod: WorkloadName
    sandbox: Sandbox | None


def placed(pod: Mapping[str, Any], sandbox: Sandbox | None, node: str) -> Mapping[str, Any]:
    """The Pod object as it stands: one of `node`, or of no node yet, gets node and status from
    its sandbox and from nowhere else; any other is returned as it is."""
    spec = pod.get("spec")
    if not isinstance(spec, dict) or spec.get("nodeName") not in (None, "", node):
        return pod
    status: dict[str, Any] = {"phase": "Pending"}
    metadata = pod.get("metadata")
    if sandbox is not None:
        if sandbox.uid and isinstance(metadata, dict):
            metadata = metadata | {"uid": sandbox.uid}
        status = {
            "phase": "Running",
            "podIPs": [{"ip": address} for address in sandbox.addresses],
            "conditions": [{"type": "Ready", "status": "True" if sandbox.ready else "False"}],
        }
        if sandbox.addresses:
            status["podIP"] = sandbox.addresses[0]
    return {**pod, "metadata": metadata, "spec": {**spec, "nodeName": node}, "status": status}


def sandboxes(folder: Path) -> StatusFiles[Sandbox, Placement]:
    """The folder of sandbox files."""
    return StatusFiles(
        folder,
        lambda said: Sandbox(tuple(map(str, said["addresses"])), said["ready"] is True, str(said["uid"])),
        Placement,
    )
