"""The connections and requests that were seen: when, from whom, to whom, by which path, what became
of them and by which policy. Denied ones are DROPPED, those that went into Envoy REDIRECTED.

Examples:
  sluice observe --last 10
  sluice observe --follow --to shop/payment
  sluice observe --verdict DROPPED -o json
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import deque
from collections.abc import Callable, Iterator

from mesh.answers.flow import Flow, Peer
from sluice.admin import Admin
from sluice.commands.options import add_name, add_output, count
from sluice.mesh_directory import MeshDirectory

VERDICTS = ("FORWARDED", "REDIRECTED", "DROPPED")

#: How many flows are asked for when a filter may leave few of them.
_PLENTY = 100_000

_COLOURS = {"FORWARDED": "32", "REDIRECTED": "36", "DROPPED": "31"}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--follow", action="store_true", help="go on with new ones as they come")
    parser.add_argument("--last", type=count, metavar="N", help="default: 20, with --follow 0")
    where = "NAMESPACE/POD|NAMESPACE/SERVICE|NAMESPACE|ADDRESS, each also with :PORT"
    parser.add_argument("--from", dest="source", metavar="PEER", help=where)
    parser.add_argument("--to", dest="target", metavar="PEER", help="likewise")
    parser.add_argument(
        "--verdict", choices=VERDICTS, type=str.upper, action="append", help="may be repeated"
    )
    add_name(parser)
    add_output(parser)


def run(options: argparse.Namespace) -> int:
    last = options.last if options.last is not None else (0 if options.follow else 20)
    wanted = _filter(options)
    agent = Admin.of_agent(MeshDirectory(options.name))
    filtered = options.source or options.target or options.verdict
    past = agent.lines("/flows", {"last": str(_PLENTY if filtered and last else last)})
    show = _show(options.output == "json")
    if last:
        for flow in deque(filter(wanted, map(_flow, past)), maxlen=last):
            show(flow)
    if options.follow:
        for flow in filter(wanted, map(_flow, agent.lines("/flows", {"last": "0", "follow": "1"}))):
            show(flow)
            sys.stdout.flush()
    return 0


def _flow(line: bytes) -> Flow:
    return Flow.from_json(json.loads(line))


def _filter(options: argparse.Namespace) -> Callable[[Flow], bool]:
    def wanted(flow: Flow) -> bool:
        return (
            (not options.source or is_peer(flow.source, options.source))
            and (not options.target or is_peer(flow.destination, options.target))
            and (not options.verdict or flow.verdict in options.verdict)
        )

    return wanted


def is_peer(peer: Peer, wanted: str) -> bool:
    """Whether one end of a flow is what the user named."""
    return any(name == wanted for name in _names(peer))


def _names(peer: Peer) -> Iterator[str]:
    plain = [peer.ip, peer.namespace, f"{peer.namespace}/{peer.pod}", peer.service]
    for name in filter(None, plain):
        yield name
        yield f"[{name}]:{peer.port}" if name == peer.ip and ":" in name else f"{name}:{peer.port}"


def _show(as_json: bool) -> Callable[[Flow], None]:
    if as_json:
        return lambda flow: print(json.dumps(flow.to_json()))
    if not sys.stdout.isatty():
        return print

    def coloured(flow: Flow) -> None:
        colour = f"\x1b[{_COLOURS[flow.verdict]}m{flow.verdict}\x1b[0m"
        print(str(flow).replace(flow.verdict, colour, 1))

    return coloured
