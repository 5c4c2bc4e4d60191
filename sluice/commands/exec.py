"""Run a command inside a pod: in its network namespace and cgroup, with its names and environment.
Its exit status becomes ours.

Examples:
  sluice exec shop/web -- curl -s http://catalog:8080/
  sluice exec shop/web -c app -- sh
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from sluice.commands.options import add_name, pod_name
from sluice.environment import environment
from sluice.failure import Failure
from sluice.launcher import launch_command
from sluice.mesh_directory import NODE, MeshDirectory
from sluice.stored_pod import find_pod


def configure(parser: argparse.ArgumentParser) -> None:
    parser.usage = "sluice exec [--name MESH] [-c CONTAINER] NAMESPACE/POD -- COMMAND..."
    add_name(parser)
    parser.add_argument("-c", "--container", help="default: the first")
    parser.add_argument("pod", type=pod_name, metavar="NAMESPACE/POD")
    parser.add_argument("argv", nargs="+", metavar="COMMAND")


def run(options: argparse.Namespace) -> int:
    mesh = MeshDirectory(options.name)
    if os.geteuid() != 0:
        raise Failure("entering a pod needs root", "use sudo")
    spec, sandbox = find_pod(mesh, options.pod)
    names = [container.name for container in spec.containers]
    wanted = options.container or names[0]
    if wanted not in names:
        raise Failure(f"pod {options.pod} has no container {wanted}", f"it has {', '.join(names)}")
    container = spec.containers[names.index(wanted)]
    cgroup = Path(sandbox.cgroup, container.name)
    cgroup.mkdir(parents=True, exist_ok=True)
    variables = environment(spec, container, sandbox.addresses, NODE, os.environ)
    for terminal in ("TERM", "COLUMNS", "LINES"):
        if terminal in os.environ:
            variables.setdefault(terminal, os.environ[terminal])
    files = mesh.pod_files(sandbox.pod)
    argv = launch_command(sandbox.netns, cgroup, files, options.argv, container.working_directory)
    # We become the command: its exit status, its terminal and its signals are ours.
    os.execvpe(argv[0], argv, variables)
