"""What a pod's Envoy has, as it says itself, in the shape of `istioctl proxy-config`: its clusters,
listeners, routes, endpoints, secrets, extension configurations (ecds) or bootstrap, or all of it. A pod
without an Envoy is on the kernel path; that is no error.

Examples:
  sluice proxy-config clusters shop/web --fqdn catalog --port 80
  sluice pc listeners shop/web
  sluice pc routes shop/web --name catalog.shop.svc.cluster.local:80 -o json
  sluice pc endpoints shop/web --cluster 'outbound|80||catalog.shop.svc.cluster.local'
  sluice pc all shop/web -o json > config_dump.json
  sluice pc log shop/web --level http:debug,router:debug
  sluice proxy-config --name MESH clusters shop/web

With -o json or yaml the resources stand as Envoy printed them (admin interface, /config_dump).
Exit status: 0 shown, also where there is no Envoy; 1 failed; 2 wrong usage.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, fields
from types import ModuleType
from typing import Any
from urllib.parse import urlencode

from sluice.commands.options import add_format, add_name, count, pod_name
from sluice.data_text import data_text
from sluice.live_envoy import UNSTEERED, LiveEnvoy, envoy_of
from sluice.mesh_directory import MeshDirectory
from sluice.proxy_text import clusters, ecds, endpoints, listeners, routes, secrets
from sluice.proxy_text.dump import part
from sluice.proxy_text.wanted import Wanted
from sluice.text_table import text_table


@dataclass(frozen=True, slots=True)
class _Section:
    """A table of a dump: its module, its other names, and the filters it knows."""

    module: ModuleType
    summary: str
    aliases: tuple[str, ...]
    filters: tuple[str, ...] = ()


_SECTIONS = {
    "clusters": _Section(clusters, "clusters", ("cluster", "c"), ("fqdn", "port", "subset", "direction")),
    "listeners": _Section(
        listeners, "listeners and their filter chains", ("listener", "l"), ("address", "port", "type")
    ),
    "routes": _Section(routes, "route configurations", ("route", "r"), ("name",)),
    "endpoints": _Section(
        endpoints,
        "endpoints and their health",
        ("endpoint", "ep"),
        ("address", "port", "cluster", "status"),
    ),
    "secrets": _Section(secrets, "secrets", ("secret", "s")),
    "ecds": _Section(ecds, "extension configurations, those of WasmPlugins", ("ec",)),
}

#: What each filter fits, for `--help`.
_FILTERS = {
    "fqdn": "part of the service's name",
    "port": "the port",
    "subset": "part of the subset",
    "direction": "inbound or outbound",
    "address": "the address",
    "type": "HTTP, TCP, HTTP+TCP or UDP",
    "name": "the route configuration's name",
    "cluster": "the cluster's name",
    "status": "such as HEALTHY",
}


def configure(parser: argparse.ArgumentParser) -> None:
    add_name(parser)
    sections = parser.add_subparsers(dest="section", metavar="SECTION", required=True)
    for name, section in _SECTIONS.items():
        own = _parser(sections, name, section.summary, section.aliases, _show(section))
        add_format(own)
        for filter_ in section.filters:
            own.add_argument(
                f"--{filter_}",
                # `--name` is the mesh's before the section.
                dest="route" if filter_ == "name" else filter_,
                type=count if filter_ == "port" else str,
                metavar=filter_.upper(),
                help=_FILTERS[filter_],
            )
    add_format(_parser(sections, "bootstrap", "what it was started with", ("b",), _bootstrap))
    add_format(_parser(sections, "all", "every section", ("a",), _all))
    log = _parser(sections, "log", "log levels: show, or change until it ends", ("o",), _log)
    log.add_argument(
        "--level", metavar="LEVEL|LOGGER:LEVEL,...", help="such as debug, or http:debug,rbac:trace"
    )


def _parser(
    sections: Any, name: str, summary: str, aliases: tuple[str, ...], show: Callable[..., str]
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = sections.add_parser(
        name,
        aliases=list(aliases),
        help=summary,
        epilog=f"Examples:\n  sluice proxy-config {name} shop/web\n  sluice pc {aliases[-1]} shop/web",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("pod", type=pod_name, metavar="NAMESPACE/POD")
    parser.set_defaults(show=show, output="short")
    return parser


def run(options: argparse.Namespace) -> int:
    envoy = envoy_of(MeshDirectory(options.name), options.pod)
    if envoy is not None:
        print(options.show(envoy, options))
    elif options.output == "short":
        print(f"pod {options.pod}: {UNSTEERED}")
    else:
        print(data_text({"reason": UNSTEERED}, options.output))
    return 0


def _show(section: _Section) -> Callable[[LiveEnvoy, argparse.Namespace], str]:
    def show(envoy: LiveEnvoy, options: argparse.Namespace) -> str:
        told = envoy.clusters() if section.module is endpoints else envoy.config_dump()
        wanted = Wanted(**{f.name: getattr(options, f.name, None) for f in fields(Wanted)})
        selected = section.module.select(told, wanted)
        if options.output != "short":
            return data_text(selected, options.output)
        return _table(section, selected)

    return show


def _table(section: _Section, selected: Any) -> str:
    return text_table(section.module.HEAD, section.module.rows(selected))


def _bootstrap(envoy: LiveEnvoy, options: argparse.Namespace) -> str:
    # There is no table of it, with istioctl either.
    form = "json" if options.output == "short" else options.output
    return data_text(part(envoy.config_dump(), "BootstrapConfigDump"), form)


def _all(envoy: LiveEnvoy, options: argparse.Namespace) -> str:
    dump = envoy.config_dump()
    if options.output != "short":
        return data_text(dump, options.output)
    state = envoy.clusters()
    tables = (
        _table(section, section.module.select(state if section.module is endpoints else dump, Wanted()))
        for section in _SECTIONS.values()
    )
    return "\n\n".join(tables)


def _log(envoy: LiveEnvoy, options: argparse.Namespace) -> str:
    if options.level is None:
        query = ""
    elif ":" in options.level:
        query = "?" + urlencode({"paths": options.level})
    else:
        query = "?" + urlencode({"level": options.level})
    return envoy.logging(query).rstrip("\n")
