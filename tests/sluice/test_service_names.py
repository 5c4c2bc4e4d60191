"""Service names inside pods, from a real control plane to getaddrinfo."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
import yaml

from sluice.admin import Admin
from tests.sluice.conftest import Node, eventually

pytestmark = pytest.mark.root


def service(name: str, namespace: str = "shop") -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80}]},
    }


def pod(name: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "labels": {"app": name}},
        "spec": {"containers": [{"name": "app", "command": ["sleep", "1000"]}]},
    }


def resolve(node: Node, name: str) -> list[str]:
    """The addresses of a name in pod web, sorted; none if it is unknown."""
    try:
        lines = node.execute("web", "getent", "ahosts", name).splitlines()
    except subprocess.CalledProcessError:
        return []
    return sorted({line.split()[0] for line in lines})


def addresses(node: Node, name: str) -> list[str]:
    status = Admin.of_control_plane(node.mesh).get("/status")
    return next(sorted(s["addresses"]) for s in status["services"] if s["name"] == name)


def test_every_form_of_a_service_name_resolves_to_all_its_addresses(node: Node, tmp_path: Path) -> None:
    manifest = tmp_path / "mesh.yaml"
    manifest.write_text(yaml.safe_dump_all([pod("web"), service("catalog"), service("bank", "finance")]))
    node.start(manifest)
    node.ready("web")
    own, other = addresses(node, "shop/catalog"), addresses(node, "finance/bank")
    assert len(own) == len(other) == 2
    forms = ("catalog", "catalog.shop", "catalog.shop.svc", "catalog.shop.svc.cluster.local")
    for name in forms:
        assert resolve(node, name) == own
    assert resolve(node, "bank") == []
    assert resolve(node, "bank.finance") == other


def test_a_new_service_is_known_in_a_pod_that_runs_and_a_control_plane_that_dies_comes_back(
    node: Node, tmp_path: Path
) -> None:
    manifest = tmp_path / "mesh.yaml"
    manifest.write_text(yaml.safe_dump_all([pod("web"), service("catalog")]))
    node.start(manifest)
    node.ready("web")
    pid = eventually(lambda: [c["pid"] for c in node.state("web").get("containers", ())])[0]
    record = node.mesh.run / "xds.json"
    first = json.loads(record.read_text())["pid"]
    os.kill(first, signal.SIGKILL)
    eventually(lambda: json.loads(record.read_text())["pid"] != first)
    manifest.write_text(yaml.safe_dump_all([pod("web"), service("catalog"), service("cart")]))
    eventually(lambda: resolve(node, "cart"))
    assert node.state("web")["containers"][0]["pid"] == pid
