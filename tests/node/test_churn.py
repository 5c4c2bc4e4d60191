"""Rules that come and go while Envoys start and end: what is said to be in force is served."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.node.manifests import CANARY, GET_ONLY
from tests.node.mesh import RunningMesh, sluice, until


def is_asked_to_end(pid: int) -> bool:
    """A frozen process has SIGTERM waiting for it."""
    pending = next(
        line.split()[1]
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("ShdPnd:")
    )
    return bool(int(pending, 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize(("rule", "pod"), [(GET_ONLY, "shop/web-v1"), (CANARY, "shop/client")])
def test_a_rule_that_returns_while_its_envoy_ends_waits_for_the_next_envoy(
    mesh: RunningMesh, rule: str, pod: str
) -> None:
    mesh.apply(rule)
    try:
        ending = mesh.pod(pod)["proxy"]["pid"]
        mesh.delete(rule)
        os.kill(ending, signal.SIGSTOP)
        until(lambda: is_asked_to_end(ending), "nobody needs the Envoy, it is to end")
        early = sluice("apply", "--name", mesh.name, "--timeout", "1", "-f", "-", stdin=rule)
        assert early.returncode == 1 and "not applied" in early.stderr
        assert mesh.get("shop/client", "http://web-v1/public")[0] == 200, "until then it is as it was"
        os.kill(ending, signal.SIGCONT)
        mesh.run("status", "--wait")
        assert mesh.pod(pod)["proxy"]["pid"] not in (None, ending)
        for service in ("web", "web-v1"):
            assert mesh.get("shop/client", f"http://{service}/public")[0] == 200
    finally:
        mesh.delete(rule)
