"""Traps: what is valid and yet not what its author meant, each with a code, the object, the field and
the remedy. For the running mesh, or with -f for manifests that run nowhere.

A check is silenced for one object by an annotation on it, with codes joined by commas or `*`:
`sluice.io/analyze-suppress: SL0101` (`galley.istio.io/analyze-suppress` is read too).

Examples:
  sluice analyze
  sluice analyze -f shop.yaml policies/
  sluice analyze -f policies/ --fail-on Warning --suppress SL0301
  sluice analyze --list

Exit status: 0 nothing as bad as --fail-on; 79 something is (as for istioctl analyze); 1 failed; 2 wrong
usage.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mesh.analysis import CHECKS, SEVERITIES
from sluice.commands.options import add_files, add_name, add_output
from sluice.mesh_directory import MeshDirectory
from sluice.paint import Paint, paint_for_output
from sluice.text_table import text_table

#: Istio's `ExitAnalyzerFoundIssues`.
FOUND = 79


def configure(parser: argparse.ArgumentParser) -> None:
    add_files(parser, "look at these manifests, not at a running mesh", required=False)
    add_name(parser)
    add_output(parser)
    parser.add_argument(
        "--suppress",
        action="append",
        default=[],
        choices=[c.code for c in CHECKS],
        metavar="CODE",
        help="leave a check out; may be repeated",
    )
    parser.add_argument(
        "--fail-on", choices=SEVERITIES, default="Error", type=str.capitalize, help="default: Error"
    )
    parser.add_argument("--list", action="store_true", help="say what is looked for, and look for nothing")


def run(options: argparse.Namespace) -> int:
    if options.list:
        rows = [(check.code, check.severity, check.title) for check in CHECKS]
        print(text_table(("CODE", "SEVERITY", "LOOKS FOR"), rows))
        return 0
    found = _offline(options.files) if options.files else _online(options.name)
    findings = [finding for finding in found if finding["code"] not in options.suppress]
    if options.output == "json":
        print(json.dumps({"findings": findings}, indent=2))
    else:
        _print(findings, paint_for_output())
    grave = SEVERITIES[: SEVERITIES.index(options.fail_on) + 1]
    return FOUND if any(finding["severity"] in grave for finding in findings) else 0


def _online(name: str) -> list[dict[str, Any]]:
    from sluice.admin import Admin

    answer = Admin.of_control_plane(MeshDirectory(name)).get("/analyze", timeout=300)
    findings: list[dict[str, Any]] = answer["findings"]
    return findings


def _offline(files: Iterable[str]) -> list[dict[str, Any]]:
    from mesh.analysis import View, analyze, suppressions
    from sluice.offline import HOSTS, manifests_from

    manifests = manifests_from(map(Path, files))
    mesh, problems = manifests.mesh(HOSTS)
    allowed = suppressions((ref, item.content) for ref, item in manifests.objects.items())
    return [finding.plain() for finding in analyze(View.of(mesh, problems), allowed)]


def _print(findings: Iterable[dict[str, Any]], paint: Paint) -> None:
    count = 0
    for finding in findings:
        count += 1
        severity = paint(finding["severity"], finding["severity"])
        print(f"{severity} [{finding['code']}] {finding['object']} {finding['field']}")
        print(f"  {finding['message']}")
        print(paint(f"  remedy: {finding['remedy']}", "dim"))
    print(f"{count} found" if count else "nothing found")
