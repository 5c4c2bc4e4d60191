from __future__ import annotations

import pytest

from mesh.model import Locality, Node, Workload, WorkloadName
from mesh.topology import HOSTNAME, REGION, SUBZONE, ZONE, labels_of, locality_of

PLACE = ((REGION, "us"), (ZONE, "east"))
NODES = {
    "n1": Node("n1", (*PLACE, ("disk", "fast"))),
    "n2": Node("n2", ((SUBZONE, "rack"), *PLACE)),
    "bare": Node("bare"),
}


def workload(node: str = "", **labels: str) -> Workload:
    own = tuple(sorted((key.replace("_", "-"), value) for key, value in labels.items()))
    return Workload(WorkloadName("shop", "web"), own, "default", node)


@pytest.mark.parametrize(
    ("found", "place"),
    [
        (workload(), ""),
        (workload("bare"), ""),
        (workload("gone"), ""),
        (workload("n1"), "us/east"),
        (workload("n2"), "us/east/rack"),
        (workload(istio_locality="eu"), "eu"),
        (workload(istio_locality="eu.west.rack"), "eu/west/rack"),
        (workload("n2", istio_locality="eu.west"), "eu/west"),
        (workload("n2", istio_locality="eu/w.1/r.2"), "eu/w.1/r.2"),
        (workload("n2", istio_locality=""), "us/east/rack"),
    ],
)
def test_a_pod_is_where_its_node_is_unless_a_label_says_otherwise(found: Workload, place: str) -> None:
    assert str(locality_of(dict(labels_of(found, NODES)))) == place


def test_a_pods_own_labels_stay_and_only_those_of_places_are_the_nodes() -> None:
    found = dict(labels_of(workload("n1", app="web"), NODES))
    assert found == {"app": "web", HOSTNAME: "n1", REGION: "us", ZONE: "east"}
    assert labels_of(workload(app="web"), NODES) == (("app", "web"),)


def test_labels_that_a_pod_was_given_count_where_no_node_is_known() -> None:
    own = Workload(WorkloadName("shop", "web"), PLACE, "default", "gone")
    assert locality_of(dict(labels_of(own, NODES))) == Locality("us", "east")
