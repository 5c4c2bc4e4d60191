"""The benchmark's meshes are what the figures say they are."""

from __future__ import annotations

import pytest

from bench.figures import Figure, percentile, ratio
from bench.mesh_size import LOCAL, Size, endpoints, everyone, manifests, policy, route
from mesh.dialects import read


@pytest.mark.parametrize("workloads", [100, 10_000])
def test_a_mesh_has_as_many_workloads_and_services_as_its_size_says(workloads: int) -> None:
    size = Size(workloads)
    made = list(manifests(size))
    pods = [manifest for manifest in made if manifest["kind"] == "Pod"]
    assert len(pods) == workloads
    assert sum("nodeName" not in pod["spec"] for pod in pods) == LOCAL
    assert sum(manifest["kind"] == "Service" for manifest in made) == size.services + 1


def test_a_mesh_has_as_many_policies_as_its_size_says() -> None:
    counted = {
        size: sum(manifest["kind"] == "NetworkPolicy" for manifest in manifests(size))
        for size in (Size(10_000), Size(10_000, policies=1_000))
    }
    assert list(counted.values()) == [100, 1_000]


def test_no_two_recorded_workloads_share_an_address() -> None:
    pods = [manifest for manifest in manifests(Size(10_000)) if "status" in manifest]
    assert len({pod["status"]["podIP"] for pod in pods}) == len(pods)


def test_our_dialects_find_no_problem_in_a_benchmark_mesh() -> None:
    changing = [
        policy("a", "a", "client"),
        everyone("nobody"),
        endpoints("target", "10.64.0.2"),
        route("shift", "shift", "target"),
    ]
    for manifest in [*manifests(Size(100)), *changing]:
        assert not read(manifest).problems, manifest


def test_a_ratio_is_the_median_of_pairs() -> None:
    figure = ratio("x", [2.0, 3.0, 40.0], [1.0, 1.0, 10.0], "µs", at_most=3.0)
    assert figure.value == 3.0
    assert figure.reached


def test_a_figure_beyond_its_target_is_not_reached() -> None:
    assert not Figure("x", 1.01, "ratio", at_most=1.0).reached
    assert not Figure("x", 0.99, "ratio", at_least=1.0).reached


def test_percentiles_are_nearest_ranks() -> None:
    values = [float(value) for value in range(100)]
    assert percentile(values, 0.5) == 50.0
    assert percentile(values, 0.99) == 99.0
    assert percentile([7.0], 0.99) == 7.0
