"""Bad input: a Problem that names object and field, and the rest of the input keeps working."""

from __future__ import annotations

import pytest

from tests.node.manifests import GET_ONLY
from tests.node.mesh import RunningMesh, sluice

BAD = {
    "unknown kind": ("apiVersion: v1\nkind: Gadget\nmetadata: {name: a, namespace: shop}", "Gadget"),
    "bad operator": (
        """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: bad, namespace: shop}
spec: {podSelector: {matchExpressions: [{key: app, operator: Near, values: [web]}]}}
""",
        "operator",
    ),
    "host bits": (
        """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: bad, namespace: shop}
spec: {podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.7/8}}]}]}
""",
        "10.0.0.0/8",
    ),
    "expression": (GET_ONLY.replace('"/public.*"', '"/public(("'), "path"),
    "weight": (
        """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: bad, namespace: shop}
spec:
  parentRefs: [{kind: Service, group: "", name: web, port: 80}]
  rules: [{backendRefs: [{name: web, port: 80, weight: -1}]}]
""",
        "weight",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_apply_refuses_the_bad_and_takes_the_good(mesh: RunningMesh, case: str) -> None:
    text, word = BAD[case]
    good = "apiVersion: v1\nkind: Namespace\nmetadata: {name: also-here}"
    done = sluice("apply", "--name", mesh.name, "-f", "-", stdin=f"{text}\n---\n{good}")
    assert done.returncode == 1
    assert word in done.stderr
    assert "also-here" in done.stdout
    assert mesh.get("shop/other", "http://web/")[0] == 200, "what was refused has no effect"


def test_a_malformed_file_is_an_error_and_no_traceback(mesh: RunningMesh) -> None:
    done = sluice("apply", "--name", mesh.name, "-f", "-", stdin="a: [b\n")
    assert done.returncode == 1
    assert "YAML" in done.stderr and "Traceback" not in done.stderr


def test_a_valid_earlier_version_stays_in_force(mesh: RunningMesh) -> None:
    mesh.apply(GET_ONLY)
    try:
        done = sluice("apply", "--name", mesh.name, "-f", "-", stdin=BAD["expression"][0])
        assert done.returncode == 1
        assert mesh.get("shop/client", "http://web/secret")[0] == 403
        assert mesh.get("shop/client", "http://web/public")[0] == 200
    finally:
        mesh.delete(GET_ONLY)


def test_assembly_problems_are_in_status(mesh: RunningMesh) -> None:
    route = (
        BAD["weight"][0]
        .replace("weight: -1", "weight: 1")
        .replace("name: web, port: 80, w", "name: gone, port: 80, w")
    )
    taken = """
apiVersion: v1
kind: Service
metadata: {name: zz, namespace: shop}
spec: {clusterIP: %s, selector: {app: web}, ports: [{port: 80}]}
"""
    vip = mesh.python("shop/client", 'import socket; print(socket.gethostbyname("web"))')
    first, second = taken % "10.250.0.9", (taken % "10.250.0.9").replace("zz", "zzz")
    assert vip
    mesh.apply(route, first, second)
    try:
        problems = mesh.status()["problems"]
        assert {(p["object"], p["field"]) for p in problems} == {
            ("HTTPRoute shop/bad", "spec.rules[0].backendRefs[0]"),
            ("Service shop/zzz", "spec.clusterIP"),
        }
    finally:
        mesh.delete(route, first, second)


def test_usage_errors_exit_with_two() -> None:
    assert sluice("explain").returncode == 2
    assert sluice("no-such-command").returncode == 2
