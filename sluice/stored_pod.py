"""A pod as the command line finds it on disk, with the mesh running or half dead."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mesh.model import WorkloadName
from sluice.failure import Failure
from sluice.mesh_directory import MeshDirectory
from sluice.pod_spec import PodSpec, read_pod
from sluice.sandbox import Sandbox, recorded
from xds.store import stem


def find_pod(mesh: MeshDirectory, name: WorkloadName) -> tuple[PodSpec, Sandbox]:
    """A pod that has a sandbox, and how it is run. Failure names the pods there are."""
    sandboxes = {sandbox.pod: sandbox for sandbox in recorded(mesh)}
    if name not in sandboxes:
        there = ", ".join(map(str, sandboxes)) or "none"
        raise Failure(f"mesh {mesh.name} runs no pod {name}", f"there is: {there}")
    try:
        pod = json.loads((mesh.objects / "Pod" / f"{stem(*name)}.yaml").read_bytes())
    except FileNotFoundError:
        raise Failure(f"pod {name} is being deleted") from None
    spec = read_pod(pod).spec
    if spec is None:
        raise Failure(f"pod {name} cannot be read any more", "see `sluice status`")
    state = pod_states(mesh).get(str(name), {})
    if state.get("phase") == "Pending":
        # Nothing may run in it before the agent guards its link.
        raise Failure(f"pod {name} is pending", str(state.get("message")))
    return spec, sandboxes[name]


def pod_states(mesh: MeshDirectory) -> dict[str, dict[str, Any]]:
    """What the supervisor last said of its pods, by `namespace/name`."""
    return {pod["name"]: pod for pod in supervisor_report(mesh)["pods"]}


def supervisor_report(mesh: MeshDirectory) -> dict[str, Any]:
    """The supervisor's part of the status: pods, problems."""
    try:
        report: dict[str, Any] = json.loads(mesh.pod_status.read_text())
    except FileNotFoundError:
        return {"pods": [], "problems": [], "gateways": []}
    return report


def envoy_log(mesh: MeshDirectory, name: WorkloadName) -> Path:
    """What the Envoy of a pod has written, whenever it ran: warnings, and access logs to /dev/stdout."""
    return mesh.logs / f"envoy-{name.namespace}_{name.name}.log"


def log_files(mesh: MeshDirectory, name: WorkloadName) -> dict[str, Path]:
    """The log of each container that has ever run."""
    prefix = f"{name.namespace}_{name.name}_"
    return {path.stem.removeprefix(prefix): path for path in sorted(mesh.logs.glob(f"{prefix}*.log"))}
