"""A shop as manifest files: two pods of this machine, one recorded on another node, two Services."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from mesh.model import WorkloadName
from xds.documents import ApiObject, parse
from xds.sandbox import Placement, Sandbox

SHOP = """
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {containers: [{name: web, command: ["true"]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: cart, namespace: shop, labels: {app: cart}}
spec: {containers: [{name: cart, command: ["true"], ports: [{name: http, containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: far, namespace: shop, labels: {app: cart}}
spec: {nodeName: elsewhere, containers: [{name: cart, command: ["true"]}]}
status: {podIPs: [{ip: 10.99.0.1}], conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {selector: {app: cart}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
"""

WEB, CART = WorkloadName("shop", "web"), WorkloadName("shop", "cart")
SANDBOXES = {
    WEB: Sandbox(("10.64.0.5", "fd51:ce00:0:1::5"), True),
    CART: Sandbox(("10.64.0.6", "fd51:ce00:0:1::6"), True),
}
PLACEMENTS = tuple(Placement(pod, sandbox) for pod, sandbox in SANDBOXES.items())


def policy(name: str, port: int | str = 8080, **spec: Any) -> str:
    """A NetworkPolicy on the cart that allows the web pod one port."""
    return yaml.safe_dump(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {
                "podSelector": {"matchLabels": {"app": "cart"}},
                "ingress": [
                    {
                        "from": [{"podSelector": {"matchLabels": {"app": "web"}}}],
                        "ports": [{"port": port}],
                    }
                ],
            }
            | spec,
        }
    )


def http_policy(path: str = "/items.*") -> str:
    """A CiliumNetworkPolicy on the cart that needs an Envoy in its pod."""
    return f"""
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: items, namespace: shop}}
spec:
  endpointSelector: {{matchLabels: {{app: cart}}}}
  ingress:
  - toPorts:
    - ports: [{{port: "8080", protocol: TCP}}]
      rules: {{http: [{{method: GET, path: "{path}"}}]}}
"""


def objects(text: str) -> tuple[ApiObject, ...]:
    documents = parse(text, "test.yaml")
    assert not documents.problems
    return documents.objects


def one(text: str) -> ApiObject:
    (item,) = objects(text)
    return item


def write_sandboxes(state: Path) -> None:
    """What the supervisor would have written."""
    folder = state / "sandboxes"
    folder.mkdir(parents=True, exist_ok=True)
    for pod, sandbox in SANDBOXES.items():
        document = {
            "namespace": pod.namespace,
            "name": pod.name,
            "uid": sandbox.uid,
            "addresses": sandbox.addresses,
            "ready": sandbox.ready,
        }
        (folder / f"{pod.namespace}_{pod.name}.json").write_text(json.dumps(document))
