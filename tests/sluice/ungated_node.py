"""A mesh's node without control plane and agent, for tests of the pod runtime: `python FILE NAME`.

Its gate opens when the file RUN/open exists, so a test can hold pods back.
"""

from __future__ import annotations

import logging
import sys

from mesh.model import WorkloadName
from sluice.mesh_directory import MeshDirectory, claim_addresses
from sluice.node import run_node
from sluice.teardown import hold_lock


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
    run_node(mesh, plan, [], FileGate(mesh))
