"""Stop a mesh: pods, proxies, agent, control plane, namespaces, BPF programs. Its objects and the
addresses of its services are kept, and `sluice up` resumes with them; --purge removes those too.
Works also when parts of the mesh are dead already, and never touches another mesh.

Examples:
  sluice down
  sluice down --name second --purge
"""

from __future__ import annotations

import argparse
import os

from sluice.commands.options import add_name
from sluice.failure import Failure
from sluice.mesh_directory import MeshDirectory
from sluice.teardown import stop_supervisor, take_down


def configure(parser: argparse.ArgumentParser) -> None:
    add_name(parser)
    parser.add_argument("--purge", action="store_true", help="leave nothing of this mesh on the machine")


def run(options: argparse.Namespace) -> int:
    mesh = MeshDirectory(options.name)
    if os.geteuid() != 0:
        raise Failure("stopping a mesh needs root", "use sudo")
    known = mesh.exists()
    lock = stop_supervisor(mesh)
    try:
        take_down(mesh, options.purge)
    finally:
        os.close(lock)
    if not known:
        print(f"mesh {mesh.name} was not there")
    elif options.purge:
        print(f"mesh {mesh.name} is gone")
    else:
        print(f"mesh {mesh.name} is down; `sluice up --name {mesh.name}` resumes it")
    return 0
