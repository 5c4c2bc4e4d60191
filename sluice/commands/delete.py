"""Delete the objects that a manifest names from a running mesh. Returns when the node has forgotten
them.

Examples:
  sluice delete -f policy.yaml
  cat route.yaml | sluice delete -f -
"""

from __future__ import annotations

import argparse

from sluice.edit import configure_edit, run_edit


def configure(parser: argparse.ArgumentParser) -> None:
    configure_edit(parser)


def run(options: argparse.Namespace) -> int:
    return run_edit("delete", options)
