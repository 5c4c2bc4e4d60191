"""A small mesh to set traps in: web and api behind Services in `shop`, a database, a lone pod elsewhere."""

from __future__ import annotations

from collections.abc import Iterable

from mesh.analysis import Finding, View, analyze
from mesh.assemble import Mesh
from mesh.identity import Allocations
from mesh.model import Fragment, Noun, ObjectRef
from tests.mesh.shop import documents
from xds.dialects import read

MESH = """
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: web}}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {nodeName: here, serviceAccountName: web, containers: [{name: c, command: ["true"]}]}
status: {podIPs: [{ip: 10.64.0.10}], conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: api, namespace: shop, labels: {app: api}}
spec:
  nodeName: here
  containers: [{name: c, command: ["true"], ports: [{name: http, containerPort: 8080}]}]
status: {podIPs: [{ip: 10.64.0.11}], conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
spec:
  nodeName: here
  containers: [{name: c, command: ["true"], ports: [{name: pg, containerPort: 5432}]}]
status: {podIPs: [{ip: 10.64.0.12}], conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: lone, namespace: street, labels: {app: lone}}
spec: {nodeName: here, containers: [{name: c, command: ["true"]}]}
status: {podIPs: [{ip: 10.64.0.13}], conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop}
spec: {clusterIP: 10.128.0.80, selector: {app: api}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: 10.128.0.81, selector: {app: db}, ports: [{name: tcp-pg, port: 5432}]}
"""


def mesh_with(text: str = "", *nouns: Noun, base: str = MESH) -> Mesh:
    """The mesh, what `text` says, and nouns that no dialect made."""
    fragments = {
        fragment.ref: fragment for fragment in map(read, documents(base, text) if text else documents(base))
    }
    for noun in nouns:
        ref = getattr(noun, "ref", ObjectRef(type(noun).__name__, "", "made"))
        fragments[ref] = Fragment(ref, (noun,))
    mesh = Mesh(Allocations(("10.128.0.0/16",)))
    mesh.apply(fragments)
    return mesh


def findings(text: str = "", *nouns: Noun) -> tuple[Finding, ...]:
    mesh = mesh_with(text, *nouns)
    own = [problem for fragment in mesh.fragments().values() for problem in fragment.problems]
    return analyze(View.of(mesh, (*own, *mesh.problems)))


def codes(text: str = "", *nouns: Noun) -> set[str]:
    return {finding.code for finding in findings(text, *nouns)}


def only(code: str, found: Iterable[Finding]) -> Finding:
    """The one finding of a code."""
    chosen = [finding for finding in found if finding.code == code]
    assert len(chosen) == 1, chosen
    return chosen[0]


def network_policy(spec: str, name: str = "p") -> str:
    return f"""
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: {name}, namespace: shop}}
spec: {spec}
"""


def cilium(spec: str, name: str = "c") -> str:
    return f"""
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: {name}, namespace: shop}}
spec: {spec}
"""
