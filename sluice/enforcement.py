"""Waiting until a generation is in force: applied by the node."""

from __future__ import annotations

import time

from sluice.admin import Admin, Refused
from sluice.failure import Failure
from sluice.mesh_directory import MeshDirectory


def wait_until_enforced(mesh: MeshDirectory, generation: int, timeout: float) -> None:
    """Return when the node enforces `generation`; Failure after `timeout` seconds."""
    control_plane = Admin.of_control_plane(mesh)
    deadline = time.monotonic() + timeout
    while True:
        left = max(deadline - time.monotonic(), 0.1)
        try:
            query = {"generation": str(generation), "timeout": f"{left:.3f}"}
            control_plane.get("/wait", query, timeout=left + 5)
            return
        except Refused:
            raise
        except Failure:
            # It may have been restarted in the middle of the wait.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
