"""Whether each Envoy has what it was sent, by xDS type, in the shape of `istioctl proxy-status`: SYNCED, it
has accepted all of it; STALE, not yet; NOT SENT, there is nothing of that type; NACKED, it refuses some of
it, which is told below with the object to blame and Envoy's words. With a pod: what its Envoy has against
what it was sent.

Examples:
  sluice proxy-status
  sluice ps shop/web
  sluice ps -o json | jq '.[] | select(.nacked != []) | .name'

Exit status: 0 all in sync, or no Envoy; 1 failed; 2 wrong usage; 3 something is not in sync.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator

from mesh.model import WorkloadName
from sluice.admin import Admin
from sluice.commands.options import add_format, add_name, pod_name
from sluice.data_text import data_text
from sluice.live_envoy import UNSTEERED, envoy_of
from sluice.mesh_directory import MeshDirectory
from sluice.proxy_difference import Difference, differences
from sluice.proxy_sync import TYPES, ProxySync, proxies
from sluice.text_table import text_table

HEAD = ("NAME", *TYPES)
OUT_OF_SYNC = 3


def configure(parser: argparse.ArgumentParser) -> None:
    add_name(parser)
    add_format(parser)
    parser.add_argument(
        "pod", nargs="?", type=pod_name, metavar="NAMESPACE/POD", help="compare this one's Envoy"
    )


def run(options: argparse.Namespace) -> int:
    mesh = MeshDirectory(options.name)
    if options.pod is not None:
        return _compare(mesh, options.pod, options.output)
    found = proxies(Admin.of_control_plane(mesh).get("/proxies"), Admin.of_agent(mesh).get("/proxies"))
    if options.output != "short":
        print(data_text([proxy.plain() for proxy in found], options.output))
    elif found:
        print("\n".join(status_text(found)))
    else:
        print(f"no pod has an Envoy: {UNSTEERED}")
    settled = all(sync in ("SYNCED", "NOT SENT") for proxy in found for _, sync in proxy.types)
    return 0 if settled else OUT_OF_SYNC


def status_text(found: Iterable[ProxySync]) -> Iterator[str]:
    """The table, and under it what is refused and what fails."""
    proxies = list(found)
    yield text_table(HEAD, [(proxy.pod, *(sync for _, sync in proxy.types)) for proxy in proxies])
    for proxy in proxies:
        if proxy.error:
            yield f"{proxy.pod}: {proxy.error}"
        for refused in proxy.refused:
            objects = ", ".join(refused.origins)
            yield f"{proxy.pod} refuses {refused.type} {refused.name} ({objects}): {refused.error}"


def _compare(mesh: MeshDirectory, pod: WorkloadName, output: str) -> int:
    envoy = envoy_of(mesh, pod)
    if envoy is None:
        print(f"pod {pod}: {UNSTEERED}" if output == "short" else data_text({"reason": UNSTEERED}, output))
        return 0
    control_plane = Admin.of_control_plane(mesh)
    wanted = control_plane.get("/proxies").get(str(pod), {})
    rendered = control_plane.get("/render", {"pod": str(pod)})
    found = list(differences(wanted, rendered, envoy.config_dump()))
    if output == "short":
        print("\n".join(map(difference_text, found)))
    else:
        print(data_text([difference.plain() for difference in found], output))
    return 0 if all(difference.matches for difference in found) else OUT_OF_SYNC


def difference_text(difference: Difference) -> str:
    return f"{difference.kind} Match" if difference.matches else difference.text
