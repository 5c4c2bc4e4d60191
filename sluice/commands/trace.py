"""A look into the kernel, with bcc: how long connect() takes, what connections go through (round-trip times,
retransmitted segments, resets), or which packets are dropped and why; by pod and Service. The program is
compiled when it is asked for, and nothing of it is left afterwards. What policy refuses at connect() never
becomes a packet: `sluice observe --verdict DROPPED` shows it.

Examples:
  sluice trace connect
  sluice trace tcp shop/web --duration 10
  sluice trace drops -o json

Without --duration until Ctrl-C. As root. Pods that come later are not seen.
Exit status: 0 traced; 1 failed; 2 wrong usage; 3 bcc or kernel headers are not installed.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from sluice.admin import Admin
from sluice.commands.options import add_name, add_output, pod_name, seconds
from sluice.failure import Failure
from sluice.kernel_trace import KernelTrace
from sluice.mesh_directory import NETNS_ROOT, MeshDirectory
from sluice.sandbox import recorded
from sluice.trace_machine import Lacking
from sluice.trace_names import NODE, TraceNames, concerns
from sluice.trace_text import connect_line, drop_line, tcp_table

_SHOWN = {"connect": connect_line, "drops": drop_line}

LACKING = 3


def configure(parser: argparse.ArgumentParser) -> None:
    add_name(parser)
    add_output(parser)
    parser.add_argument("what", choices=("connect", "tcp", "drops"), metavar="connect|tcp|drops")
    parser.add_argument(
        "pod", nargs="?", type=pod_name, metavar="NAMESPACE/POD", help="only what concerns it"
    )
    parser.add_argument(
        "--duration", type=seconds, default=math.inf, metavar="SECONDS", help="default: until Ctrl-C"
    )


def run(options: argparse.Namespace) -> int:
    mesh = MeshDirectory(options.name)
    names = _names(mesh)
    if options.pod is not None and str(options.pod) not in names.owners.values():
        raise Failure(f"mesh {mesh.name} runs no pod {options.pod}", "`sluice status` names those it runs")
    try:
        _trace(options, names)
    except Lacking as lacking:
        print(f"sluice: {lacking}", file=sys.stderr)
        return LACKING
    return 0


def _trace(options: argparse.Namespace, names: TraceNames) -> None:
    with KernelTrace(options.what, list(names.owners)) as trace:
        print(f"tracing {options.what}; Ctrl-C ends it", file=sys.stderr)
        with suppress(KeyboardInterrupt):
            for line in trace.lines(time.monotonic() + options.duration):
                _show(options, names, [line])
        *found, last = trace.end() or [{"lost": 0}]
        _show(options, names, found)
        if last.get("lost"):
            print(f"{last['lost']} events came too fast and are not shown", file=sys.stderr)


def _show(options: argparse.Namespace, names: TraceNames, lines: list[dict[str, Any]]) -> None:
    told = [names.tell(line) for line in lines]
    wanted = [entry for entry in told if options.pod is None or concerns(entry, str(options.pod))]
    if options.output == "json":
        for entry in wanted:
            print(json.dumps(entry))
    elif options.what == "tcp":
        print(tcp_table(wanted))
    else:
        for entry in wanted:
            print(_SHOWN[options.what](entry))
    sys.stdout.flush()


def _names(mesh: MeshDirectory) -> TraceNames:
    """Raises Failure when the control plane is not there."""
    known = Admin.of_control_plane(mesh).get("/names")
    owners = {_inode(Path(sandbox.netns)): str(sandbox.pod) for sandbox in recorded(mesh)}
    owners[_inode(NETNS_ROOT / mesh.node_netns)] = NODE
    services = {at: tuple(found) for at, found in known["services"].items()}
    return TraceNames({inode: name for inode, name in owners.items() if inode}, known["addresses"], services)


def _inode(netns: Path) -> int:
    """0 where it is gone."""
    try:
        return netns.stat().st_ino
    except FileNotFoundError:
        return 0
