"""Istio's names of a workload, of a Pod's labels and owner."""

from __future__ import annotations

import pytest

from mesh.model import Workload, WorkloadName
from mesh.node import Canonical
from mesh.observability.canonical import canonical

CANONICAL, RECOMMENDED = "service.istio.io/canonical-", "app.kubernetes.io/"


@pytest.mark.parametrize(
    ("labels", "service", "revision"),
    [
        ({}, "web", "latest"),
        ({"app": "a", "version": "v1"}, "a", "v1"),
        ({"app": "a", "version": "v1", RECOMMENDED + "name": "b", RECOMMENDED + "version": "v2"}, "b", "v2"),
        ({RECOMMENDED + "name": "b", CANONICAL + "name": "c", CANONICAL + "revision": "v3"}, "c", "v3"),
        ({"app": "", CANONICAL + "name": ""}, "web", "latest"),
    ],
)
def test_the_first_of_istios_labels_names_the_service_and_its_revision(
    labels: dict[str, str], service: str, revision: str
) -> None:
    workload = Workload(
        WorkloadName("shop", "web-7d9f-abcde"), tuple(sorted(labels.items())), "default", "node1", owner="web"
    )
    found = canonical(workload)
    assert (found.service, found.revision) == (service, revision)
    assert (found.app, found.version) == (labels.get("app", ""), labels.get("version", ""))
    assert found.workload == "web"


def test_a_pod_that_nobody_owns_is_its_own_workload_and_pods_of_one_share_a_value() -> None:
    alone = Workload(WorkloadName("shop", "job"), (), "default", "node1")
    assert canonical(alone) == Canonical("job", "", "", "job", "latest")
    first, second = (Workload(WorkloadName("shop", n), (), "default", "node1", owner="web") for n in "ab")
    assert canonical(first) is canonical(second)
