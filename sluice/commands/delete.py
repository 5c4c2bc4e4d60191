"""Delete objects of a running mesh, by kind and name or those that a manifest names. Returns when the node
has forgotten them.

Examples:
  sluice delete httproute web -n shop
  sluice delete -f policy.yaml
  cat route.yaml | sluice delete -f -

Exit status: 0 deleted; 1 failed, or something was not there; 2 wrong usage.
"""

from __future__ import annotations

import argparse

from mesh.dialects import DEFAULT_NAMESPACE
from sluice.data_text import data_text
from sluice.edit import Manifest, add_manifests, configure_edit, manifests, run_edit
from sluice.kinds import kind_of, named


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", nargs="?", metavar="KIND")
    parser.add_argument("objects", nargs="*", metavar="NAME")
    parser.add_argument("-n", "--namespace", default=DEFAULT_NAMESPACE, help=f"default: {DEFAULT_NAMESPACE}")
    add_manifests(parser, required=False)
    configure_edit(parser)
    parser.set_defaults(misused=parser.error)


def run(options: argparse.Namespace) -> int:
    if bool(options.files) == bool(options.kind) or bool(options.kind) != bool(options.objects):
        options.misused("write KIND NAME..., or -f PATH")
    return run_edit("delete", _named(options) if options.kind else manifests(options.files), options)


def _named(options: argparse.Namespace) -> list[Manifest]:
    kind = kind_of(options.kind)
    found = (named(kind, options.namespace, name) for name in options.objects)
    return [("the command line", data_text(item, "json").encode()) for item in found]
