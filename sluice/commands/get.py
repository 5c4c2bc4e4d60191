"""Objects as the mesh has them stored, in the shape of `kubectl get`. Those of the Gateway API come with the
status that the control plane gives them: accepted or not, by whom, and why; at which addresses Gateways are
reached. Kinds are called as for kubectl: singular, plural or short.

Examples:
  sluice get gateways -A
  sluice get httproute web -n shop -o yaml
  sluice get gateway public -n shop -o json | jq '.status.listeners[].attachedRoutes'

Exit status: 0 shown; 1 failed, or there is no object of that name; 2 wrong usage.
"""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime

from mesh.dialects import DEFAULT_NAMESPACE
from sluice.admin import Admin
from sluice.commands.options import add_name
from sluice.data_text import data_text
from sluice.failure import Failure
from sluice.kinds import is_namespaced, kind_of
from sluice.mesh_directory import MeshDirectory
from sluice.object_table import object_table


def configure(parser: argparse.ArgumentParser) -> None:
    # The mesh's name is an option everywhere; what is called NAME here is the object's.
    add_name(parser)
    parser.add_argument("kind", metavar="KIND")
    parser.add_argument("object", nargs="?", metavar="NAME")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("-n", "--namespace", default=DEFAULT_NAMESPACE, help=f"default: {DEFAULT_NAMESPACE}")
    where.add_argument("-A", "--all-namespaces", action="store_true", help="of every namespace")
    parser.add_argument(
        "-o", "--output", choices=("short", "wide", "json", "yaml"), default="short", help="default: a table"
    )


def run(options: argparse.Namespace) -> int:
    kind = kind_of(options.kind)
    query = {"kind": kind}
    where = ""
    if is_namespaced(kind) and not options.all_namespaces:
        query["namespace"] = options.namespace
        where = f" in namespace {options.namespace}"
    if options.object:
        query["name"] = options.object
    items = Admin.of_control_plane(MeshDirectory(options.name)).get("/get", query, timeout=120)["items"]
    if options.object and not items:
        raise Failure(f"there is no {kind} {options.object}{where}", f"sluice get {options.kind} -A")
    if options.output in ("json", "yaml"):
        alone = options.object and len(items) == 1
        listed = {"apiVersion": "v1", "kind": "List", "items": items}
        print(data_text(items[0] if alone else listed, options.output))
    elif not items:
        print(f"there is no {kind}{where}", file=sys.stderr)
    else:
        shown = is_namespaced(kind) and options.all_namespaces
        wide = options.output == "wide"
        print(object_table(kind, items, datetime.now(UTC), namespaces=shown, wide=wide))
    return 0
