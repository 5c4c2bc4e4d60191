"""The lock that keeps a mesh from having two supervisors, and tells who the one is."""

from __future__ import annotations

import fcntl
import os

from sluice.mesh_directory import MeshDirectory


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
