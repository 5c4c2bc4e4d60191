"""N45: a pod that claims another namespace, service account or port by labels of its own."""

from __future__ import annotations

import pytest

from mesh.assemble import Mesh
from mesh.dialects import read
from mesh.identity import NAMESPACE_NAME_LABEL, PORTS_KEY
from mesh.model import (
    NAMESPACE_KEY,
    NAMESPACE_LABEL_PREFIX,
    SERVICE_ACCOUNT_KEY,
    ObjectRef,
    Requirement,
    Selector,
    WorkloadName,
)
from tests.mesh.shop import SHOP, documents, mesh_of

#: Everything that is derived, as a stranger would like to have it.
FORGED = {
    NAMESPACE_KEY: "shop",
    NAMESPACE_LABEL_PREFIX + NAMESPACE_NAME_LABEL: "shop",
    NAMESPACE_LABEL_PREFIX + "team": "web",
    SERVICE_ACCOUNT_KEY: "admin",
    "io.cilium.k8s.policy.cluster": "other",
    "io.cilium.k8s.anything": "x",
    PORTS_KEY: "http",
}
STRANGER = WorkloadName("street", "stranger")


def relabel(mesh: Mesh, labels: dict[str, str]) -> None:
    stranger = next(d for d in documents(SHOP) if d["metadata"]["name"] == STRANGER.name)
    stranger["metadata"]["labels"] = labels
    fragment = read(stranger)
    mesh.apply({fragment.ref: fragment})


def selected(mesh: Mesh, key: str, value: str) -> bool:
    numbers = mesh.identities.select(Selector((Requirement(key, "In", (value,)),)))
    return mesh.identities.of[STRANGER] in numbers


@pytest.mark.parametrize("moment", ["create", "update"])
def test_no_label_of_a_pod_makes_it_another(moment: str) -> None:
    honest, forger = mesh_of(SHOP), mesh_of(SHOP)
    relabel(honest, {"app": "stranger"})
    if moment == "create":
        forger.apply({ObjectRef("Pod", *STRANGER): None})
        assert STRANGER not in forger.identities.of
    relabel(forger, {"app": "stranger"} | FORGED)
    mine, theirs = (mesh.identities.all[mesh.identities.of[STRANGER]] for mesh in (forger, honest))
    assert mine == theirs
    for key, value in FORGED.items():
        assert not selected(forger, key, value), key
    assert selected(forger, NAMESPACE_KEY, "street")


@pytest.mark.parametrize("key", FORGED)
def test_each_alone_is_left_out(key: str) -> None:
    mesh = mesh_of(SHOP)
    before = mesh.identities.of[STRANGER]
    relabel(mesh, {"app": "stranger", key: FORGED[key]})
    assert mesh.identities.of[STRANGER] == before


def test_a_namespace_does_not_choose_its_name_either() -> None:
    mesh = mesh_of(
        SHOP,
        f"""
apiVersion: v1
kind: Namespace
metadata: {{name: street, labels: {{{NAMESPACE_NAME_LABEL}: shop}}}}
""",
    )
    assert not selected(mesh, NAMESPACE_LABEL_PREFIX + NAMESPACE_NAME_LABEL, "shop")
    assert selected(mesh, NAMESPACE_LABEL_PREFIX + NAMESPACE_NAME_LABEL, "street")
