"""What a pod's Envoy is served, or the tables of the node's kernel, readable. For the running mesh,
or with -f for manifests that run nowhere.

Examples:
  sluice render --pod shop/web
  sluice render --node -o json
  sluice render -f shop.yaml policies/ --pod shop/web
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from mesh.model import WorkloadName
from sluice.commands.options import add_files, add_name, add_output, existing_path, pod_name
from sluice.failure import Failure
from sluice.mesh_directory import NODE, MeshDirectory


def configure(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--pod", type=pod_name, metavar="NAMESPACE/POD", help="its Envoy's resources")
    what.add_argument("--node", action="store_true", help="the node's tables")
    add_files(parser, "render these manifests, not a running mesh", required=False)
    add_name(parser)
    add_output(parser)


def run(options: argparse.Namespace) -> int:
    content = _offline(options.files, options.pod) if options.files else _online(options)
    if options.output == "json":
        print(json.dumps(content, indent=2))
        return 0
    if options.pod and not content:
        print(f"pod {options.pod} needs no Envoy", file=sys.stderr)
        return 0
    import yaml

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    yaml.dump(content, sys.stdout, Dumper=dumper, sort_keys=False, width=110, allow_unicode=True)
    return 0


def _online(options: argparse.Namespace) -> Any:
    from sluice.admin import Admin

    query = {"pod": str(options.pod)} if options.pod else {"node": NODE}
    return Admin.of_control_plane(MeshDirectory(options.name)).get("/render", query)


def _offline(files: list[str], pod: WorkloadName | None) -> Any:
    from mesh.node import readable as tables
    from sluice.offline import mesh_from, tell
    from xds.render import readable
    from xds.snapshot import NodeSnapshot

    try:
        mesh, problems = mesh_from(existing_path(path) for path in files)
    except argparse.ArgumentTypeError as error:
        raise Failure(str(error)) from None
    tell(problems)
    snapshot = NodeSnapshot(mesh, NODE, default=True)
    if pod is None:
        return json.loads(json.dumps(tables(snapshot.state)))
    if pod not in mesh.workloads:
        raise Failure(f"the manifests hold no Pod {pod}")
    return readable(snapshot.rendered.get(str(pod), ()))
