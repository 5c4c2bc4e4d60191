"""Print what a pod's container wrote to stdout and stderr, or the log of a part of the mesh itself:
supervisor, xds (the control plane) or agent.

The container istio-proxy is the pod's Envoy, where it has or had one: its warnings, and the access logs that
MeshConfig and Telemetry send to /dev/stdout, also of connections without any Envoy. They are written once a
second. Of any log of more than 10 MiB the newest is kept, and as much before it, which is shown without
--follow.

Examples:
  sluice logs shop/web
  sluice logs shop/web -c app --follow
  sluice logs shop/web -c istio-proxy
  sluice logs agent
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from agent.log_rotation import older
from sluice.commands.options import add_name, pod_name
from sluice.failure import Failure
from sluice.mesh_directory import MeshDirectory
from sluice.stored_pod import envoy_log, log_files

#: What Istio calls a pod's Envoy.
PROXY = "istio-proxy"

PARTS = ("supervisor", "xds", "agent")


def configure(parser: argparse.ArgumentParser) -> None:
    add_name(parser)
    parser.add_argument("-c", "--container", help="needed when the pod has several")
    parser.add_argument("--follow", action="store_true", help="go on as more is written")
    parser.add_argument("what", metavar="NAMESPACE/POD|PART", help=f"a pod, or one of {', '.join(PARTS)}")


def run(options: argparse.Namespace) -> int:
    path = _path(MeshDirectory(options.name), options.what, options.container)
    # Following, tail would print the older file anew whenever the agent makes another of it.
    before = [] if options.follow or not older(path).exists() else [str(older(path))]
    follow = ["-F"] if options.follow else []
    os.execvp("tail", ["tail", "-q", "-n", "+1", *follow, "--", *before, str(path)])


def _path(mesh: MeshDirectory, what: str, container: str | None) -> Path:
    if what in PARTS:
        path = mesh.logs / f"{what}.log"
        if not path.exists():
            raise Failure(f"mesh {mesh.name} has no log of its {what}")
        return path
    try:
        pod = pod_name(what)
    except argparse.ArgumentTypeError as error:
        raise Failure(str(error)) from None
    found = log_files(mesh, pod)
    if container == PROXY and PROXY not in found:
        path = envoy_log(mesh, pod)
        if not path.exists():
            raise Failure(
                f"pod {what} has had no Envoy, and nothing was logged",
                f"`sluice describe {what}` says what needs one",
            )
        return path
    if container in found:
        return found[container]
    if container is None and len(found) == 1:
        return next(iter(found.values()))
    if not found:
        raise Failure(f"mesh {mesh.name} has no log of pod {what}")
    if container is not None:
        raise Failure(f"pod {what} has no container {container}; it has {', '.join(found)}")
    raise Failure(f"which container of pod {what}?", f"-c {' | '.join(found)}")
