"""Waiting until a generation is in force: applied by the node, and its names known inside the pods."""

from __future__ import annotations

import time

from sluice.admin import Admin, Refused
from sluice.failure import Failure
from sluice.mesh_directory import MeshDirectory
from sluice.stored_pod import supervisor_report
from sluice.supervisor_lock import supervisor_pid


def wait_until_enforced(mesh: MeshDirectory, generation: int, timeout: float) -> None:
    """Return when the node enforces `generation`; Failure after `timeout` seconds."""
    control_plane = Admin.of_control_plane(mesh)
    deadline = time.monotonic() + timeout
    while True:
        left = max(deadline - time.monotonic(), 0.1)
        try:
            query = {"generation": str(generation), "timeout": f"{left:.3f}"}
            control_plane.get("/wait", query, timeout=left + 5)
            break
        except Refused:
            raise
        except Failure:
            # It may have been restarted in the middle of the wait.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
    while supervisor_pid(mesh) is not None and supervisor_report(mesh)["names"] < generation:
        if time.monotonic() > deadline:
            raise Failure(f"pods do not know the service names of generation {generation} yet")
        time.sleep(0.01)
