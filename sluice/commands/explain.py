"""What would happen to a connection or a request: verdict, path (kernel or envoy), the rules that
decide it and what enforces each, and every backend; of a pod that serves a Gateway also which host and
route take the request there, and where that leads. Or who can reach a port: every group of pods, the
node and the world, with verdict, path and the deciding rule. For the running mesh, or with -f for
manifests that run nowhere.

Examples:
  sluice explain --from shop/web --to shop/catalog:8080
  sluice explain --from shop/web --to 10.64.0.5:8080 --protocol UDP
  sluice explain --from shop/web --to shop/catalog:8080 --method POST --path /admin --header x-user=ann
  sluice explain --from 192.0.2.1 --to shop/gateway:443 --host www.example.com --path /admin
  sluice explain --from shop/web --to shop/catalog:8080 --claim iss=https://id.example --claim sub=ann
  sluice explain --from shop/web --to shop/catalog:8080 -f shop.yaml -f policies/
  sluice explain --who-can-reach shop/catalog:8080
  sluice explain --who-can-reach 10.64.0.5:53 --protocol UDP -o json

Exit status: 0 answered, whatever the verdict; 1 failed; 2 wrong usage.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mesh.answers.asked_request import asked_request, claim, pair
from sluice.commands.options import add_files, add_name, add_output, existing_path
from sluice.failure import Failure
from sluice.mesh_directory import MeshDirectory

PROTOCOLS = ("TCP", "UDP", "SCTP", "ICMP", "ICMPv6")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--from", dest="source", metavar="NAMESPACE/POD|ADDRESS")
    parser.add_argument("--to", dest="target", metavar="NAMESPACE/SERVICE:PORT|HOST:PORT|ADDRESS:PORT")
    parser.add_argument(
        "--who-can-reach",
        dest="reached",
        metavar="NAMESPACE/SERVICE:PORT|NAMESPACE/POD:PORT|ADDRESS:PORT",
        help="instead of --from and --to",
    )
    parser.add_argument("--protocol", choices=PROTOCOLS, default="TCP", type=_protocol, help="default: TCP")
    parser.add_argument("--method", help="of a request")
    parser.add_argument("--path", help="of a request")
    parser.add_argument("--host", help="the Host of a request")
    parser.add_argument(
        "--header", action="append", default=[], metavar="NAME=VALUE", type=_header, help="of a request"
    )
    parser.add_argument(
        "--claim",
        dest="claims",
        action="append",
        default=[],
        metavar="NAME[INNER]=VALUE",
        type=_claim,
        help="of a good token that the request brings, such as iss, sub, groups or team[name]; repeatable",
    )
    add_files(parser, "ask about these manifests, not about a running mesh", required=False)
    add_name(parser)
    add_output(parser)
    parser.set_defaults(misused=parser.error)


def run(options: argparse.Namespace) -> int:
    if options.reached:
        others = ("source", "target", "method", "path", "host", "header", "claims")
        if any(getattr(options, name) for name in others):
            options.misused("--who-can-reach stands alone, with --protocol at most")
        return _who_can_reach(options)
    if not (options.source and options.target):
        options.misused("--from and --to are required, or --who-can-reach")
    answer = _offline(options) if options.files else _online(options)
    if options.output == "json":
        print(json.dumps(answer, indent=2))
    else:
        _print(answer)
    return 0


def _online(options: argparse.Namespace) -> dict[str, Any]:
    from sluice.admin import Admin

    query = [("from", options.source), ("to", options.target), ("protocol", options.protocol)]
    query += [(key, value) for key in ("method", "path", "host") if (value := getattr(options, key))]
    query += [("header", text) for text in options.header] + [("claim", text) for text in options.claims]
    answer: dict[str, Any] = Admin.of_control_plane(MeshDirectory(options.name)).get("/explain", tuple(query))
    return answer


def _offline(options: argparse.Namespace) -> dict[str, Any]:
    from mesh.answers.called import UnknownName
    from mesh.answers.explain import explain
    from sluice.offline import mesh_from, tell

    try:
        mesh, problems = mesh_from(existing_path(path) for path in options.files)
    except argparse.ArgumentTypeError as error:
        raise Failure(str(error)) from None
    tell(problems)
    request = asked_request(
        options.method or "",
        options.path or "",
        options.host or "",
        map(pair, options.header),
        map(claim, options.claims),
    )
    try:
        return explain(mesh, options.source, options.target, options.protocol, request)
    except UnknownName as error:
        raise Failure(str(error)) from None


def _who_can_reach(options: argparse.Namespace) -> int:
    from mesh.answers.matrix import Matrix

    matrix: Matrix
    if options.files:
        from mesh.answers.called import UnknownName
        from mesh.answers.matrix import who_can_reach
        from sluice.offline import HOSTS, manifests_from, tell

        mesh, problems = manifests_from(map(Path, options.files)).mesh(HOSTS)
        tell(problems)
        try:
            matrix = who_can_reach(mesh, options.reached, options.protocol)
        except UnknownName as error:
            raise Failure(str(error)) from None
    else:
        from sluice.admin import Admin

        query = {"to": options.reached, "protocol": options.protocol}
        control_plane = Admin.of_control_plane(MeshDirectory(options.name))
        matrix = Matrix.from_plain(control_plane.get("/who-can-reach", query, timeout=120))
    if options.output == "json":
        print(json.dumps(matrix.plain(), indent=2))
        return 0
    from sluice.access_text import who
    from sluice.paint import paint_for_output

    print(who(matrix, paint_for_output()))
    return 0


def _print(answer: dict[str, Any]) -> None:
    way = {"kernel": "by the kernel path", "envoy": "through Envoy"}[answer["path"]]
    status = f", Envoy answers {answer['status']}" if answer.get("status") else ""
    print(f"{answer['verdict']}, {way}{status}")
    _print_leg(answer, "requests" if answer["path"] == "envoy" else "connections")
    if onward := answer.get("onward"):
        print(f"then, from the Gateway's pod {onward['pod']}:")
        _print_leg(onward, "requests")
    for remedy in answer.get("to_allow", ()):
        print(f"to allow it: {remedy}")


def _print_leg(leg: dict[str, Any], shared: str) -> None:
    for reason in leg["reasons"]:
        rule = f" {reason['rule']}" if reason["rule"] else ""
        print(f"  {reason['object']}{rule}: {reason['effect']} [{reason['enforced_by']}]")
    if leg["backends"]:
        print("backends:")
    for backend in leg["backends"]:
        host = f"[{backend['address']}]" if ":" in backend["address"] else backend["address"]
        address = f"{host}:{backend['port']}"
        share = f", {backend['share']:.0%} of {shared}" if "share" in backend else ""
        who = f"{address} {backend['pod']}" if backend["pod"] else address
        print(f"  {who}: {backend['verdict']}, {backend['path']}{share}")


def _header(text: str) -> str:
    return _checked(text, pair)


def _claim(text: str) -> str:
    return _checked(text, claim)


def _checked(text: str, read: Callable[[str], object]) -> str:
    try:
        read(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _protocol(text: str) -> str:
    return next((name for name in PROTOCOLS if name.lower() == text.lower()), text)
