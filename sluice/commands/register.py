"""Register a machine outside of the mesh: makes a WorkloadEntry from its WorkloadGroup. Services and
ServiceEntries whose selector fits its labels send to it; if the group has a probe, not before the node
found it healthy, and not while it is not.

Examples:
  sluice register shop/legacy 192.0.2.7
  sluice register shop/legacy 192.0.2.8 --port http=9080 --label version=v2
  sluice register shop/legacy 192.0.2.7 --dry-run
  sluice get workloadentries -n shop
  sluice delete workloadentry legacy-192.0.2.7 -n shop

Exit status: 0 registered; 1 failed or refused; 2 wrong usage.
"""

from __future__ import annotations

import argparse
from ipaddress import ip_address

from sluice.admin import Admin
from sluice.commands.options import pod_name
from sluice.data_text import data_text
from sluice.edit import configure_edit, run_edit
from sluice.failure import Failure
from sluice.mesh_directory import MeshDirectory
from sluice.registration import workload_entry
from xds.dialects import read


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("group", type=_group, metavar="NAMESPACE/GROUP")
    parser.add_argument("address", type=_address, metavar="ADDRESS")
    parser.add_argument(
        "--port",
        dest="ports",
        action="append",
        default=[],
        type=_port,
        metavar="NAME=NUMBER",
        help="where a named port is on this machine, if not where the group says; repeatable",
    )
    parser.add_argument(
        "--label",
        dest="labels",
        action="append",
        default=[],
        type=_pair,
        metavar="KEY=VALUE",
        help="beside those of the group; repeatable",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the WorkloadEntry, change nothing")
    configure_edit(parser)


def run(options: argparse.Namespace) -> int:
    group = _stored(MeshDirectory(options.name), options.group)
    entry = workload_entry(group, options.address, dict(options.ports), dict(options.labels))
    if options.dry_run:
        print(data_text(entry, "json" if options.output == "json" else "yaml"))
        return 0
    return run_edit("apply", [("the entry", data_text(entry, "json").encode())], options)


def _stored(mesh: MeshDirectory, name: tuple[str, str]) -> dict[str, object]:
    namespace, own = name
    query = {"kind": "WorkloadGroup", "namespace": namespace, "name": own}
    items = Admin.of_control_plane(mesh).get("/get", query)["items"]
    if not items:
        raise Failure(f"there is no WorkloadGroup {namespace}/{own}", "sluice get workloadgroups -A")
    found: dict[str, object] = items[0]
    if not read(found).valid:
        raise Failure(f"WorkloadGroup {namespace}/{own} cannot be read", "see `sluice status`")
    return found


def _group(text: str) -> tuple[str, str]:
    try:
        return pod_name(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAMESPACE/GROUP") from None


def _address(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an IP address") from None


def _pair(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not (key and sign):
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value


def _port(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if not (name and number.isascii() and number.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=NUMBER")
    return name, int(number)
