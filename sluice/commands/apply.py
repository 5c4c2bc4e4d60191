"""Create or change objects of a running mesh. Returns when the node enforces the change, and says
which objects were refused and why; the others are applied all the same.

Examples:
  sluice apply -f policy.yaml
  sluice apply -f policies/ --no-wait
  cat route.yaml | sluice apply -f -
"""

from __future__ import annotations

import argparse

from sluice.edit import add_manifests, configure_edit, manifests, run_edit


def configure(parser: argparse.ArgumentParser) -> None:
    add_manifests(parser)
    configure_edit(parser)


def run(options: argparse.Namespace) -> int:
    return run_edit("apply", manifests(options.files), options)
