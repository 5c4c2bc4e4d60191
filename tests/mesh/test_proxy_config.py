"""How Envoys are run: MeshConfig, root namespace, namespace, annotation, selector, each field by the
narrowest."""

from __future__ import annotations

import pytest

from mesh.datapath import Node
from mesh.node import Launch, readable
from tests.mesh.shop import SHOP, mesh_of

MESH = """
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    defaultConfig: {concurrency: 3, proxyMetadata: {A: mesh, Z: mesh}, terminationDrainDuration: 7s}
"""


def proxy_config(namespace: str, spec: str, name: str = "one", created: str = "2024-01-01T00:00:00Z") -> str:
    return f"""
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "{created}"}}
spec: {spec}
"""


ROOT = proxy_config("istio-system", "{concurrency: 4, environmentVariables: {A: root, R: root}}")
SHOPS = proxy_config("shop", "{environmentVariables: {A: shop}}")
STREETS = proxy_config("street", "{concurrency: 9}")
OWN = proxy_config("shop", "{selector: {matchLabels: {app: storefront}}, concurrency: 0}", "own")
OTHERS = proxy_config("shop", "{selector: {matchLabels: {app: nobody}}, concurrency: 9}", "others")
ABROAD = proxy_config("istio-system", "{selector: {matchLabels: {app: storefront}}, concurrency: 9}", "two")
OLDER = proxy_config("shop", "{environmentVariables: {A: older}}", "zero", "2023-01-01T00:00:00Z")
NOTHING = proxy_config("shop", "{concurrency: 1}")


def launch(*texts: str, annotation: str = "") -> Launch | None:
    shop = SHOP
    if annotation:
        named = "metadata: {name: storefront, namespace: shop, "
        assert shop.count(named) == 1
        shop = shop.replace(named, f"{named}annotations: {{proxy.istio.io/config: '{annotation}'}}, ")
    return Node(mesh_of(shop, *texts), "here").state.pods["shop/storefront"].launch


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ((), None),
        ((NOTHING,), None),
        ((MESH,), Launch(3, (("A", "mesh"), ("Z", "mesh")), 7000)),
        ((MESH, ROOT), Launch(4, (("A", "root"), ("R", "root"), ("Z", "mesh")), 7000)),
        ((MESH, ROOT, SHOPS), Launch(4, (("A", "shop"), ("R", "root"), ("Z", "mesh")), 7000)),
        ((SHOPS, OWN), Launch(0, (("A", "shop"),))),
        ((SHOPS, OLDER), Launch(1, (("A", "older"),))),
        ((STREETS, OTHERS, ABROAD), None),
    ],
)
def test_the_narrowest_that_says_a_field_counts(texts: tuple[str, ...], expected: Launch | None) -> None:
    assert launch(*texts) == expected


def test_an_annotation_counts_more_than_the_namespace_and_less_than_what_selects_the_pod() -> None:
    said = "{concurrency: 5, proxyMetadata: {A: pod}, terminationDrainDuration: 1s}"
    assert launch(MESH, ROOT, SHOPS, annotation=said) == Launch(
        5, (("A", "pod"), ("R", "root"), ("Z", "mesh")), 1000
    )
    assert launch(OWN, annotation=said) == Launch(0, (("A", "pod"),), 1000)


def test_how_an_envoy_is_run_is_no_reason_for_one() -> None:
    """Rule 20."""
    node = Node(mesh_of(SHOP, MESH, ROOT, OWN), "here")
    assert node.proxies == {}
    assert not any(pod.reasons for pod in node.state.pods.values())


def test_a_pod_of_which_nothing_is_said_has_no_such_entry() -> None:
    assert not any("launch" in pod for pod in readable(Node(mesh_of(SHOP), "here").state)["pods"].values())
