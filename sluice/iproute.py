"""The `ip` command of iproute2, one process for many changes (`ip -batch`)."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence

from sluice.failure import Failure


def change(lines: Sequence[str], netns: str | None = None) -> None:
    """Carry out `ip` commands (without the word `ip`) in order inside a named network namespace.

    Stops at the first that fails: Failure names it.
    """
    where = ["-n", netns] if netns else []
    done = subprocess.run(
        ["ip", *where, "-batch", "-"], input="\n".join(lines) + "\n", capture_output=True, text=True
    )
    if done.returncode:
        failed = re.search(r"Command failed -:(\d+)", done.stderr)
        line = lines[int(failed[1]) - 1] if failed else "; ".join(lines)
        reason = done.stderr.strip().splitlines()[0] if done.stderr.strip() else "no reason given"
        raise Failure(f"ip {line}{f' in {netns}' if netns else ''}: {reason}")
