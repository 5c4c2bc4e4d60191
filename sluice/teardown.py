"""Taking a mesh down, whoever of it is still alive. It finds what to remove by the mesh's own names
and records and never touches anything else."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path

from mesh.model import WorkloadName
from sluice.cgroups import is_populated, kill_all, remove_cgroup, signal_all
from sluice.child import child_record, stop_recorded
from sluice.failure import Failure
from sluice.mesh_directory import MeshDirectory
from sluice.namespaces import delete_netns, netns_names
from sluice.pod_spec import MAX_GRACE_SECONDS
from sluice.processes import end_process
from sluice.sandbox import recorded, remove_sandbox
from sluice.supervisor_lock import hold_lock, supervisor_pid

#: How long a supervisor may take to end (seconds): its pods' grace, and some more.
_SUPERVISOR_PATIENCE = MAX_GRACE_SECONDS + 10


def stop_supervisor(mesh: MeshDirectory) -> int:
    """End the supervisor and take its place; returns the lock's descriptor."""
    if lock := hold_lock(mesh):
        return lock
    while (pid := supervisor_pid(mesh)) is None:
        # It holds the lock and has not written who it is yet, or has just ended.
        if lock := hold_lock(mesh):
            return lock
        time.sleep(0.01)
    # The lock alone does not tell its end: it takes the mesh down, the lock's file included, then goes.
    for number, patience in ((signal.SIGTERM, _SUPERVISOR_PATIENCE), (signal.SIGKILL, 5.0)):
        if end_process(pid, number, patience):
            break
    if lock := hold_lock(mesh):
        return lock
    raise Failure(f"the supervisor of mesh {mesh.name} (process {pid}) does not end, or another began")


def take_down(mesh: MeshDirectory, purge: bool) -> None:
    """Stop and remove everything but the stored objects and allocations; with `purge` those too.

    The caller holds the lock. Blocks for the pods' grace period at most, plus what the kernel takes.
    """
    stop_recorded([child_record(mesh, module) for module in ("xds", "agent")])
    grace = max((_grace(mesh, sandbox.pod) for sandbox in recorded(mesh)), default=0.0)
    pods = mesh.cgroup / "pods"
    signal_all(pods, signal.SIGTERM)
    deadline = time.monotonic() + grace
    while is_populated(pods) and time.monotonic() < deadline:
        time.sleep(0.02)
    kill_all(mesh.cgroup)
    for sandbox in list(recorded(mesh)):
        remove_sandbox(mesh, sandbox)
    for netns in netns_names():
        if netns == mesh.node_netns or mesh.is_pod_netns(netns):
            delete_netns(netns)
    _remove_tree(mesh.pins)
    remove_cgroup(mesh.cgroup)
    for path in (mesh.state,) if purge else (mesh.sandboxes, mesh.state / "pods"):
        _remove_tree(path)
    _remove_tree(mesh.run)


def _grace(mesh: MeshDirectory, pod: WorkloadName) -> float:
    """How long a pod may take to end, in seconds; none if nothing of it ever ran."""
    try:
        return float(json.loads(mesh.process_record(pod).read_text())["grace_seconds"])
    except (FileNotFoundError, ValueError, KeyError):
        return 0.0


def _remove_tree(path: Path) -> None:
    if path.exists():
        shutil.rmtree(path)
