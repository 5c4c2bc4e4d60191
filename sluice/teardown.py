"""Taking a mesh down, whoever of it is still alive. It finds what to remove by the mesh's own names
and records and never touches anything else."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
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
from sluice.sandbox import recorded, remove_sandbox

#: How long a supervisor may take to end (seconds): its pods' grace, and some more.
_SUPERVISOR_PATIENCE = MAX_GRACE_SECONDS + 10


def hold_lock(mesh: MeshDirectory) -> int | None:
    """Become the only supervisor of the mesh for as long as the descriptor is open; None: another is."""
    mesh.run.mkdir(parents=True, exist_ok=True)
    fd = os.open(mesh.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def supervisor_pid(mesh: MeshDirectory) -> int | None:
    """The living supervisor of a mesh."""
    try:
        fd = os.open(mesh.lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(fd, 32, 0).decode().strip()
        return int(text) if text else None
    else:
        return None
    finally:
        os.close(fd)


def stop_supervisor(mesh: MeshDirectory) -> int:
    """End the supervisor and take its place; returns the lock's descriptor."""
    deadline = time.monotonic() + _SUPERVISOR_PATIENCE
    asked: int | None = None
    while (lock := hold_lock(mesh)) is None:
        pid = supervisor_pid(mesh)
        late = time.monotonic() > deadline
        if pid and (late or pid != asked):
            # Asked once: a second SIGTERM would interrupt what the first one made it do.
            asked = pid
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
        if time.monotonic() > deadline + 5:
            raise Failure(f"the supervisor of mesh {mesh.name} (process {pid}) does not end")
        time.sleep(0.05)
    return lock


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
