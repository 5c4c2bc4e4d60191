"""What applying manifests would change, before it does: which groups of pods would get another verdict
or path at which ports and by which rule, and which of the connections and requests that were seen lately
would. Against the running mesh, or with --from against manifests that run nowhere.

Examples:
  sluice diff -f policy.yaml
  cat policy.yaml | sluice diff -f -
  sluice diff --from shop.yaml policies/ -f policy.yaml
  sluice diff -f policy.yaml -o json | jq '.pairs[] | select(.after.verdict == "deny")'

Exit status: 0 no verdict or path changes; 1 some do; 2 wrong usage, or it failed, or an
object would be refused.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from mesh.answers.flow import Flow
from mesh.answers.groups import Group
from mesh.answers.reach import Access
from sluice.access_text import deciding, names, outcome_of, short
from sluice.commands.options import add_files, add_name, add_output
from sluice.failure import Failure
from sluice.flow_samples import samples_of
from sluice.mesh_directory import MeshDirectory
from sluice.offline import HOSTS, manifests_from, texts_from
from sluice.paint import Paint, paint_for_output

#: Flows of the past that are asked for.
_FLOWS = 100_000


def configure(parser: argparse.ArgumentParser) -> None:
    add_files(parser, "what would be applied: a file, a folder, or - for standard input")
    parser.add_argument(
        "--from",
        dest="old",
        action="extend",
        nargs="+",
        default=[],
        metavar="PATH",
        help="compare with these manifests, not with a running mesh",
    )
    add_name(parser)
    add_output(parser)


def run(options: argparse.Namespace) -> int:
    try:
        answer = _offline(options) if options.old else _online(options)
    except (Failure, OSError) as error:
        # 1 is an answer here, as it is for diff(1) and kubectl diff.
        print(f"sluice: {error}", file=sys.stderr)
        return 2
    if options.output == "json":
        print(json.dumps(answer, indent=2))
    else:
        _print(answer, paint_for_output())
    if answer["refused"]:
        return 2
    return 1 if answer["pairs"] or answer["flows"] else 0


def _online(options: argparse.Namespace) -> dict[str, Any]:
    from sluice.admin import Admin

    mesh = MeshDirectory(options.name)
    manifests = list(texts_from(map(Path, options.files)))
    control_plane = Admin.of_control_plane(mesh)
    try:
        lines = Admin.of_agent(mesh).lines("/flows", {"last": str(_FLOWS)})
        seen = samples_of(Flow.from_json(json.loads(line)) for line in lines)
    except Failure as failure:
        print(f"without the flows that were seen: {failure}", file=sys.stderr)
        seen = []
    body = {"manifests": manifests, "samples": [(s.flow.to_json(), s.count) for s in seen]}
    answer: dict[str, Any] = control_plane.post("/diff", json.dumps(body).encode(), timeout=300)
    return answer


def _offline(options: argparse.Namespace) -> dict[str, Any]:
    from mesh.answers.difference import difference

    old = manifests_from(map(Path, options.old))
    new = manifests_from(map(Path, options.files))
    before, problems = old.mesh(HOSTS)
    after, later = old.with_(new).mesh(HOSTS)
    fresh = [problem for problem in later if problem not in problems]
    said = [{"object": str(p.object), "field": p.field, "message": p.message} for p in fresh]
    return difference(before, after).plain() | {"refused": new.refused, "problems": said}


def _print(answer: dict[str, Any], paint: Paint) -> None:
    for problem in answer["problems"]:
        print(f"problem: {problem['object']} {problem['field']}: {problem['message']}", file=sys.stderr)
    for name in answer["refused"]:
        print(f"{name} would be refused", file=sys.stderr)
    for item in answer["objects"]:
        print(f"{item['object']} {item['action']}")
    if not (answer["pairs"] or answer["flows"] or answer["refused"]):
        print("no verdict and no path changes")
    for change in answer["pairs"]:
        callee = Group.from_plain(change["to"])
        callers = [Group.from_plain(caller).name for caller in change["from"]]
        port = paint(f"{callee.name} {change['protocol']} {change['port']}", "bold")
        print(f"\n{port}  from {names(callers, 8)}")
        before, after = Access.from_plain(change["before"]), Access.from_plain(change["after"])
        if before.outcome == after.outcome:
            said = "other rules for requests" if after.verdict == "partly" else "routed otherwise"
            print(f"  ~ {_outcome(after, paint)}, {said}  {paint(deciding(after), 'dim')}")
            continue
        _access("-", before, paint)
        _access("+", after, paint)
    if answer["flows"]:
        print(f"\n{paint('seen lately, and would change', 'bold')}")
    for change in answer["flows"]:
        flow, count = Flow.from_json(change["flow"]), change["count"]
        times = f"{count} times, last " if count > 1 else ""
        request = f" {flow.l7.method} {flow.l7.path}" if flow.l7 else ""
        before, after = (Access.from_plain(change[key]) for key in ("before", "after"))
        print(f"  {flow.source} -> {flow.destination} {flow.protocol}{request}  ({times}{flow.time})")
        print(f"    {_outcome(before, paint)} -> {_outcome(after, paint)}: {deciding(after)}")


def _access(sign: str, access: Access, paint: Paint) -> None:
    print(f"  {sign} {_outcome(access, paint)}  {paint(deciding(access), 'dim')}")


def _outcome(access: Access, paint: Paint) -> str:
    return paint(short(access), outcome_of(access))
