"""Print metrics in Prometheus' text format: the agent's own (sluice_*) and Istio's standard ones (istio_*) of
all pods, or those of one pod and its Envoy, as the pod serves them on :15020/stats/prometheus.

Examples:
  sluice metrics
  sluice metrics shop/web
"""

from __future__ import annotations

import argparse
import sys

from sluice.admin import Admin
from sluice.commands.options import add_name, pod_name
from sluice.mesh_directory import MeshDirectory

_PATH = "/stats/prometheus"


def configure(parser: argparse.ArgumentParser) -> None:
    add_name(parser)
    parser.add_argument("pod", nargs="?", type=pod_name, metavar="NAMESPACE/POD", help="default: all")


def run(options: argparse.Namespace) -> int:
    pod = options.pod
    path = f"/pods/{pod.namespace}/{pod.name}{_PATH}" if pod else _PATH
    for line in Admin.of_agent(MeshDirectory(options.name)).lines(path):
        sys.stdout.write(line.decode())
    return 0
