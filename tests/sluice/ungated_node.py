"""A mesh's node without an agent, for tests of the pod runtime: `python FILE NAME [MANIFEST...]`.

With manifests there is a control plane, which reads them. The gate opens when the file RUN/open
exists, so a test can hold pods back.
"""

from __future__ import annotations

import logging
import sys

from mesh.model import WorkloadName
from sluice.mesh_directory import MeshDirectory, claim_addresses
from sluice.node import run_node
from sluice.supervisor import mesh_children
from sluice.supervisor_lock import hold_lock


class FileGate:
    def __init__(self, mesh: MeshDirectory) -> None:
        self._file = mesh.run / "open"

    async def is_enforced(self, pod: WorkloadName) -> bool:
        return self._file.exists()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    mesh = MeshDirectory(sys.argv[1])
    plan = claim_addresses(mesh)
    lock = hold_lock(mesh)
    control_plane, _ = mesh_children(mesh, plan, sys.argv[2:])
    run_node(mesh, plan, [control_plane] if sys.argv[2:] else [], FileGate(mesh))
