"""A small mesh for tests: storefront -> reviews (v1, v2), and a stranger in another namespace."""

from __future__ import annotations

from typing import Any

import yaml

from mesh.assemble import Mesh
from mesh.identity import Allocations
from xds.dialects import read

SHOP = """
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: web}}
---
apiVersion: v1
kind: Pod
metadata: {name: storefront, namespace: shop, labels: {app: storefront}}
spec: {nodeName: here, containers: [{name: c, command: ["true"]}]}
status: {podIPs: [{ip: 10.64.0.10}, {ip: "fd51:ce00:0:1::a"}], conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: reviews-v1, namespace: shop, labels: {app: reviews, version: v1}}
spec:
  nodeName: here
  containers: [{name: c, command: ["true"], ports: [{name: http, containerPort: 8080}]}]
status: {podIPs: [{ip: 10.64.0.11}, {ip: "fd51:ce00:0:1::b"}], conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: reviews-v2, namespace: shop, labels: {app: reviews, version: v2}}
spec:
  nodeName: here
  containers: [{name: c, command: ["true"], ports: [{name: http, containerPort: 8081}]}]
status: {podIPs: [{ip: 10.64.0.12}, {ip: "fd51:ce00:0:1::c"}], conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: stranger, namespace: street, labels: {app: stranger}}
spec: {nodeName: here, containers: [{name: c, command: ["true"]}]}
status: {podIPs: [{ip: 10.64.0.13}], conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: shop}
spec: {clusterIP: 10.128.0.80, selector: {app: reviews}, ports: [{name: http, port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: reviews-v2, namespace: shop}
spec: {selector: {app: reviews, version: v2}, ports: [{name: http, port: 80, targetPort: http}]}
"""

GET_ONLY = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: get-only, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: reviews}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: storefront}}]
    toPorts:
    - ports: [{port: "8080", protocol: TCP}]
      rules: {http: [{method: GET, path: "/.*"}]}
"""

CANARY = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: canary, namespace: shop}
spec:
  parentRefs: [{kind: Service, group: "", name: reviews, port: 80}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /new}}]
    backendRefs: [{name: reviews-v2, port: 80}]
  - backendRefs: [{name: reviews, port: 80, weight: 9}, {name: reviews-v2, port: 80, weight: 1}]
"""


def documents(*texts: str) -> list[Any]:
    return [document for text in texts for document in yaml.safe_load_all(text)]


def mesh_of(*texts: str) -> Mesh:
    fragments = [read(document) for document in documents(*texts)]
    assert not [problem for fragment in fragments for problem in fragment.problems]
    mesh = Mesh(Allocations(("10.128.0.0/16", "fd51:ce00:0:2::/112")))
    mesh.apply({fragment.ref: fragment for fragment in fragments})
    return mesh
