"""How far the mesh is: the generation wanted and applied, each pod with its addresses, its security
id and its Envoy (or that it needs none), and every problem of every object.

Examples:
  sluice status
  sluice status --wait
  sluice status -o json | jq '.pods[] | select(.proxy.running) | .name'
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from sluice.commands.options import add_name, add_output, add_timeout
from sluice.failure import Failure
from sluice.mesh_directory import NODE, MeshDirectory
from sluice.report import mesh_report, unready
from sluice.text_table import few, text_table


def configure(parser: argparse.ArgumentParser) -> None:
    add_name(parser)
    add_output(parser)
    parser.add_argument(
        "--wait", action="store_true", help="until all is applied and every pod that can be ready is"
    )
    add_timeout(parser, 60)


def run(options: argparse.Namespace) -> int:
    mesh = MeshDirectory(options.name)
    report = mesh_report(mesh)
    missing = unready(report)
    if options.wait:
        deadline = time.monotonic() + options.timeout
        while missing and time.monotonic() < deadline:
            time.sleep(0.1)
            report = mesh_report(mesh)
            missing = unready(report)
    if options.output == "json":
        print(json.dumps(report, indent=2))
    else:
        _print(report)
    if options.wait and missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise Failure(f"not ready after {options.timeout:g} s: {missing[0]}{more}")
    return 0


def _print(report: dict[str, Any]) -> None:
    behind = "" if report["applied"] == report["generation"] else f", {report['applied']} applied"
    print(f"mesh {report['mesh']}, generation {report['generation']}{behind}")
    if not report["agent"]["running"]:
        print(f"agent: {report['agent']['error']}", file=sys.stderr)
    if report["supervisor"] is None:
        print("nobody supervises this mesh; `sluice up` goes on with it", file=sys.stderr)
    local = [pod for pod in report["pods"] if pod["node"] == NODE]
    if local:
        head = ("POD", "STATE", "RESTARTS", "ADDRESS", "ID", "PROXY")
        print(text_table(head, [_row(pod) for pod in local]))
    if recorded := len(report["pods"]) - len(local):
        print(f"and {recorded} pods of other nodes")
    for way in report["gateways"]:
        print(f"gateway {way['pod']} port {way['port']}: {way['url']}")
    for problem in report["problems"]:
        field = f" {problem['field']}" if problem["field"] else ""
        print(f"problem: {problem['object']}{field}: {problem['message']}")


def _row(pod: dict[str, Any]) -> tuple[str, ...]:
    state = "Ready" if pod["ready"] else pod["phase"]
    if not pod["ready"] and pod["message"]:
        state = f"{state} ({pod['message']})"
    restarts = sum(container["restarts"] for container in pod["containers"])
    identity = str(pod["security_id"] or "-")
    return pod["name"], state, str(restarts), pod["ip"] or "-", identity, _proxy(pod["proxy"])


def _proxy(proxy: dict[str, Any]) -> str:
    reasons = few(proxy["reasons"])
    if proxy["error"]:
        return f"Envoy fails: {proxy['error']}"
    if proxy["running"]:
        state = "" if proxy["ready"] else " starting"
        return f"Envoy {proxy['pid']}{state}: {reasons or 'draining'}"
    return f"Envoy wanted: {reasons}" if reasons else "none (kernel)"
