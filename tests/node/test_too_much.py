"""More than the kernel's tables can hold: what was in force stays, and holds up nothing that comes later."""

from __future__ import annotations

import json

from tests.node.mesh import RunningMesh, sluice

#: Each port of a thousand endpoints takes 16,381 of the million places in the table of backends.
PORTS, ENDPOINTS = 66, 1000


def huge() -> str:
    ports = [{"number": 2000 + n, "name": f"tcp-{n}", "protocol": "TCP"} for n in range(PORTS)]
    endpoints = [{"address": f"198.18.{n // 250}.{n % 250 + 1}"} for n in range(ENDPOINTS)]
    spec = {"hosts": ["huge.example"], "resolution": "STATIC", "ports": ports, "endpoints": endpoints}
    return json.dumps(
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "ServiceEntry",
            "metadata": {"name": "huge", "namespace": "shop"},
            "spec": spec,
        }
    )


def test_a_generation_that_does_not_fit_makes_room_for_the_next(mesh: RunningMesh) -> None:
    done = sluice("apply", "--name", mesh.name, "--timeout", "3", "-f", "-", stdin=huge())
    assert done.returncode == 1 and "is not applied" in done.stderr
    assert mesh.get("shop/client", "http://web/")[0] == 200
    assert [p for p in mesh.status()["problems"] if "in sl_maglev failed" in p["message"]]
    mesh.delete(huge())
    assert mesh.status()["problems"] == []
    assert mesh.get("shop/client", "http://web/")[0] == 200
