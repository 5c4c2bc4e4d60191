"""Done-when 6: a purge leaves nothing, and a second mesh on the machine is not disturbed."""

from __future__ import annotations

from pathlib import Path

from tests.node.manifests import GET_ONLY, MESH
from tests.node.mesh import RunningMesh, sluice


def test_a_purge_leaves_nothing_and_disturbs_nobody(tmp_path: Path) -> None:
    one, two = RunningMesh(), RunningMesh()
    try:
        one.up(MESH, GET_ONLY, folder=tmp_path / "one")
        two.up(MESH, folder=tmp_path / "two")
        assert one.get("shop/client", "http://web/secret")[0] == 403
        assert two.get("shop/client", "http://web/secret")[0] == 200
        assert {p["ip"] for p in one.status()["pods"]}.isdisjoint(p["ip"] for p in two.status()["pods"])
        one.run("down", "--purge")
        assert one.residue() == []
        assert two.get("shop/client", "http://web/secret")[0] == 200
    finally:
        for mesh in (one, two):
            sluice("down", "--name", mesh.name, "--purge")
    assert two.residue() == []


def test_what_was_applied_is_there_again_after_down_and_up(tmp_path: Path) -> None:
    mesh = RunningMesh()
    try:
        mesh.up(MESH, folder=tmp_path / "mesh")
        mesh.apply(GET_ONLY)
        vips = mesh.run("exec", "shop/client", "--", "getent", "ahostsv4", "web")
        mesh.run("down")
        assert mesh.pids() == []
        mesh.up(folder=tmp_path / "mesh")
        assert mesh.get("shop/client", "http://web/secret")[0] == 403
        assert mesh.run("exec", "shop/client", "--", "getent", "ahostsv4", "web") == vips
    finally:
        sluice("down", "--name", mesh.name, "--purge")
    assert mesh.residue() == []
