"""What this machine offers to a mesh and what it lacks, with how to get it. The kernel's hooks are
really tried (as root), and nothing is left attached. Exit status 1 when something needed is missing.

Examples:
  sluice doctor
  sluice doctor -o json
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from sluice.commands.options import add_output
from sluice.machine import examine
from sluice.text_table import text_table


def configure(parser: argparse.ArgumentParser) -> None:
    add_output(parser)


def run(options: argparse.Namespace) -> int:
    findings = list(examine())
    missing = [finding.name for finding in findings if finding.state == "missing"]
    if options.output == "json":
        print(json.dumps({"ok": not missing, "findings": [asdict(f) for f in findings]}, indent=2))
        return 1 if missing else 0
    rows = [(f.name, f.state, f.detail + (f"; {f.remedy}" if f.remedy else "")) for f in findings]
    print(text_table(("WHAT", "STATE", "DETAIL"), rows))
    if missing:
        print(f"sluice: no mesh can run here without: {', '.join(missing)}", file=sys.stderr)
    return 1 if missing else 0
