"""The mesh of the node tests: two clients in `shop`, a stranger in `street`, and `web` in two versions."""

from __future__ import annotations

import sys
from pathlib import Path

SERVER = Path(__file__).with_name("server.py")


def pod(name: str, namespace: str, labels: str, *args: str, more: str = "") -> str:
    command = ", ".join(f'"{word}"' for word in (sys.executable, str(SERVER), *args))
    if not args:
        command = '"sleep", "infinity"'
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {namespace}, labels: {labels}}}
spec:
  containers:
  - name: main
    command: [{command}]
{more}
"""


PROBE = """
    readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 0.2}
    ports: [{name: http, containerPort: 8080}]
"""

NAMESPACES = """
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Namespace
metadata: {name: street}
"""

WEB_V1 = pod("web-v1", "shop", "{app: web, version: v1}", "v1", "8080", "9000", more=PROBE)
WEB_V2 = pod("web-v2", "shop", "{app: web, version: v2}", "v2", "8080", "9000", more=PROBE)
CLIENT = pod("client", "shop", "{app: client}")
OTHER = pod("other", "shop", "{app: other}")
STRANGER = pod("stranger", "street", "{app: stranger}")

SERVICES = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: http}
  - {name: echo, port: 9000, protocol: TCP}
  - {name: echo-udp, port: 9000, protocol: UDP}
---
apiVersion: v1
kind: Service
metadata: {name: web-v1, namespace: shop}
spec: {selector: {app: web, version: v1}, ports: [{name: http, port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: web-v2, namespace: shop}
spec: {selector: {app: web, version: v2}, ports: [{name: http, port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: nobody, namespace: shop}
spec: {selector: {app: nobody}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: sticky, namespace: shop}
spec:
  selector: {app: web}
  sessionAffinity: ClientIP
  ports: [{name: http, port: 80, targetPort: http}]
"""

MESH = "\n---\n".join((NAMESPACES, WEB_V1, WEB_V2, CLIENT, OTHER, STRANGER, SERVICES))

L4 = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web-from-shop, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: client}}}]
    ports: [{port: 8080, protocol: TCP}]
"""

GET_ONLY = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: get-only, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: web}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: client}}]
    toPorts:
    - ports: [{port: "8080", protocol: TCP}]
      rules: {http: [{method: GET, path: "/public.*"}]}
"""

EGRESS_GET_ONLY = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: out-get-only, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: client}}
  egress:
  - toEndpoints: [{matchLabels: {io.kubernetes.pod.namespace: kube-system, k8s-app: kube-dns}}]
  - toEndpoints: [{matchLabels: {app: web}}]
    toPorts:
    - ports: [{port: "8080", protocol: TCP}]
      rules: {http: [{method: GET, path: "/public.*"}]}
"""

CANARY = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: canary, namespace: shop}
spec:
  parentRefs: [{kind: Service, group: "", name: web, port: 80}]
  rules:
  - matches: [{headers: [{name: x-canary, value: "yes"}]}]
    backendRefs: [{name: web-v2, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /old}}]
    filters:
    - type: RequestRedirect
      requestRedirect: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}, statusCode: 301}
  - backendRefs: [{name: web-v1, port: 80, weight: 1}, {name: web-v2, port: 80, weight: 0}]
    filters:
    - type: RequestHeaderModifier
      requestHeaderModifier: {set: [{name: x-routed, value: "by-sluice"}]}
"""
