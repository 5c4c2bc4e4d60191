"""Routes and clusters are swapped under load, and no request fails (promise 3)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.node.mesh import RUN, RunningMesh

pytestmark = [pytest.mark.root, pytest.mark.slow]

LOAD = Path(__file__).with_name("load.py")
RATE = 500


def swapped(number: int) -> str:
    """Other backends, another subset, another traffic policy: each a new route and a new cluster."""
    version = f"v{1 + number % 2}"
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: swap, namespace: shop}}
spec:
  hosts: [web]
  http:
  - retries: {{attempts: 0}}
    route: [{{destination: {{host: web, subset: s{number}, port: {{number: 80}}}}}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: swap, namespace: shop}}
spec:
  host: web
  trafficPolicy: {{connectionPool: {{tcp: {{connectTimeout: {10 + number % 7}s}}}}}}
  subsets: [{{name: s{number}, labels: {{version: {version}}}}}]
"""


@pytest.mark.timeout(700)
def test_swaps_of_routes_and_clusters_fail_no_request(mesh: RunningMesh, long: bool) -> None:
    swaps = 500 if long else 40
    mesh.apply(swapped(0))
    command = (sys.executable, str(LOAD), "http://web/", str(RATE), str(swaps * 0.6))
    load = subprocess.Popen(
        [*RUN, "exec", "--name", mesh.name, "shop/client", "--", *command], stdout=subprocess.PIPE, text=True
    )
    try:
        assert load.stdout is not None
        assert load.stdout.readline().strip() == "ready"
        done = 0
        while load.poll() is None and done < swaps:
            done += 1
            mesh.apply(swapped(done))
        told = json.loads(load.communicate(timeout=600)[0])
    finally:
        load.kill()
        load.wait()
        mesh.delete(swapped(0))
    print(f"{done} swaps, {told['sent']} requests, {len(told['failed'])} failed")
    assert done >= swaps // 2 and told["sent"] > 100
    assert told["failed"] == []
