"""What concerns one pod or one Service, in the shape of `istioctl x describe`: its ports and the protocols
they select, the rules that bind it and the place where each is enforced (kernel, caller's Envoy,
destination's Envoy), why it has an Envoy, who may reach it, and what is odd or wrong.

Examples:
  sluice describe pod shop/web
  sluice describe svc shop/catalog
  sluice describe pod shop/web -o json | jq '.rules[] | select(.enforced_by != "kernel")'

Exit status: 0 described; 1 failed; 2 wrong usage.
"""

from __future__ import annotations

import argparse

from sluice.admin import Admin
from sluice.commands.options import add_format, add_name, pod_name
from sluice.data_text import data_text
from sluice.describe_text import pod_text, service_text
from sluice.mesh_directory import MeshDirectory

_KINDS = {"pod": "pod", "po": "pod", "service": "service", "svc": "service"}


def configure(parser: argparse.ArgumentParser) -> None:
    add_name(parser)
    add_format(parser)
    parser.add_argument("kind", choices=tuple(_KINDS), metavar="pod|svc")
    parser.add_argument("target", type=pod_name, metavar="NAMESPACE/NAME")


def run(options: argparse.Namespace) -> int:
    kind = _KINDS[options.kind]
    query = {kind: str(options.target)}
    told = Admin.of_control_plane(MeshDirectory(options.name)).get("/describe", query, timeout=120)
    if options.output == "short":
        print("\n".join(pod_text(told) if kind == "pod" else service_text(told)))
    else:
        print(data_text(told, options.output))
    return 0
