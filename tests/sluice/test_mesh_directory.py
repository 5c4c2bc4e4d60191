"""Names, paths and address ranges of meshes."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from sluice import mesh_directory
from sluice.address_plan import MESHES, AddressPlan
from sluice.failure import Failure
from sluice.mesh_directory import MeshDirectory, claim_addresses


@pytest.mark.parametrize("name", ["", "A", "a/b", "..", "a_b", "-a", "a-", "x" * 33, "a b"])
def test_a_name_that_could_leave_its_directories_is_refused(name: str) -> None:
    with pytest.raises(Failure, match="cannot name a mesh"):
        MeshDirectory(name)


def test_the_ranges_of_all_meshes_are_apart() -> None:
    plans = [AddressPlan(i) for i in range(MESHES)]
    for family in (0, 1):
        blocks = [block for plan in plans for block in (plan.pods[family], plan.services[family])]
        assert not any(a.overlaps(b) for a, b in itertools.combinations(blocks, 2))  # type: ignore[arg-type]


def test_a_pod_number_becomes_addresses_and_back() -> None:
    plan = AddressPlan(10)
    assert plan.node == ("10.74.0.1", "fd51:ce00:a:1::1")
    assert plan.pod(0x1FE) == ("10.74.1.254", "fd51:ce00:a:1::1fe")
    assert plan.number("10.74.1.254") == 0x1FE


def test_each_mesh_claims_the_smallest_free_number_and_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mesh_directory, "STATE_ROOT", tmp_path)
    one, two, three = (MeshDirectory(name) for name in ("one", "two", "three"))
    assert [claim_addresses(mesh).index for mesh in (one, two, one)] == [0, 1, 0]
    (one.state / "mesh.json").unlink()
    assert claim_addresses(three).index == 0


def test_a_mesh_called_like_a_pods_namespace_keeps_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mesh_directory, "STATE_ROOT", tmp_path)
    mesh, other = MeshDirectory("a"), MeshDirectory("a-0123abcd")
    assert mesh.is_pod_netns("sluice-a-0123abcd")
    assert not mesh.is_pod_netns("sluice-a-0123abcde")
    assert not mesh.is_pod_netns("sluice-b-0123abcd")
    claim_addresses(other)
    assert not mesh.is_pod_netns(other.node_netns)
