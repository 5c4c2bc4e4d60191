"""Who can reach whom on what: every group of pods, the node and the world against every port that a
Service, a container or a policy names. For the running mesh, or with -f for manifests that run nowhere.

A cell is about connections to the pod itself; a route at a Service in front of it is told too. Pods that
no policy can tell apart are one row; in a wide table rows and columns that are alike are folded into one.

Examples:
  sluice matrix
  sluice matrix -f shop.yaml policies/
  sluice matrix -n shop -o svg > matrix.svg
  sluice matrix -o json | jq -r '.columns[] | select(.access[].verdict == "deny") | .to.name'

Exit status: 0 done, 1 failed, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from mesh.answers.matrix import Matrix
from sluice.commands.options import add_files, add_name
from sluice.mesh_directory import MeshDirectory

#: Rows or columns up to which nothing is folded.
_TABLE_FITS, _PICTURE_FITS = 16, 120


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-n",
        "--namespace",
        dest="namespaces",
        action="append",
        default=[],
        metavar="NAMESPACE",
        help="only what runs in it, as columns; may be repeated",
    )
    parser.add_argument("--all-lines", action="store_true", help="fold nothing")
    add_files(parser, "ask about these manifests, not about a running mesh", required=False)
    add_name(parser)
    parser.add_argument(
        "-o", "--output", choices=("table", "json", "svg"), default="table", help="default: table"
    )


def run(options: argparse.Namespace) -> int:
    matrix = _offline(options) if options.files else _online(options)
    if options.output == "json":
        print(json.dumps(matrix.plain(), indent=2))
        return 0
    from sluice.matrix_grid import grid_of

    most = max(len(matrix.callers), len(matrix.columns))
    if options.output == "svg":
        from sluice.matrix_svg import svg

        title = "Who can reach whom"
        print(svg(grid_of(matrix, most > _PICTURE_FITS and not options.all_lines), title), end="")
        return 0
    from sluice.matrix_table import table
    from sluice.paint import paint_for_output

    grid = grid_of(matrix, most > _TABLE_FITS and not options.all_lines)
    print(table(grid, shutil.get_terminal_size((100, 24)).columns, paint_for_output()))
    return 0


def _online(options: argparse.Namespace) -> Matrix:
    from sluice.admin import Admin

    query = tuple(("namespace", namespace) for namespace in options.namespaces)
    control_plane = Admin.of_control_plane(MeshDirectory(options.name))
    return Matrix.from_plain(control_plane.get("/matrix", query, timeout=300))


def _offline(options: argparse.Namespace) -> Matrix:
    from mesh.answers.matrix import matrix
    from sluice.offline import HOSTS, manifests_from, tell

    mesh, problems = manifests_from(map(Path, options.files)).mesh(HOSTS)
    tell(problems)
    return matrix(mesh, options.namespaces)
