"""The Pod and the Service of the mesh's own resolver: objects like a user's, but made by the mesh.

It runs as any pod does, so who asks is known by the address a question comes from, policies bind the way to
it, and it outlives control plane and agent. Names outside the mesh it asks the machine's resolvers for.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mesh.dns import FOLDER, PORT, RESOLVER, RESOLVER_POD
from sluice.address_plan import AddressPlan
from sluice.child import child_environment
from sluice.mesh_directory import MeshDirectory
from xds import atomic

_LABELS = {"k8s-app": "kube-dns"}


def write_resolver(mesh: MeshDirectory, plan: AddressPlan) -> Path:
    """The manifest, which the control plane reads with the user's. Only a change touches it."""
    path = mesh.state / "resolver.json"
    ours = child_environment()
    env: list[dict[str, Any]] = [
        {"name": name, "value": ours[name]} for name in ("PYTHONPATH", "PYTHONSAFEPATH") if name in ours
    ]
    folders = ["--run", str(mesh.run / FOLDER), "--state", str(mesh.state / FOLDER)]
    items = resolver_objects(plan, [sys.executable, "-m", "agent.dns", *folders], env)
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items}) + "\n"
    if not path.exists() or path.read_text() != text:
        atomic.write(path, text)
    return path


def resolver_objects(
    plan: AddressPlan, command: Sequence[str], env: Sequence[dict[str, Any]] = ()
) -> list[dict[str, Any]]:
    """The Pod, which runs `command`, and the Service."""
    return [_pod(command, env), _service(plan)]


def _pod(command: Sequence[str], env: Sequence[dict[str, Any]]) -> dict[str, Any]:
    own = {"name": "POD_IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIPs"}}}
    container = {
        "name": "resolver",
        "command": [*command, "--listen", "$(POD_IPS)"],
        "env": [*env, own],
        "ports": [
            {"name": "dns", "containerPort": PORT, "protocol": "UDP"},
            {"name": "dns-tcp", "containerPort": PORT, "protocol": "TCP"},
        ],
        "readinessProbe": {"tcpSocket": {"port": PORT}},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": RESOLVER_POD.name, "namespace": RESOLVER_POD.namespace, "labels": _LABELS},
        # It must not ask itself what it does not know.
        "spec": {"serviceAccountName": RESOLVER_POD.name, "dnsPolicy": "Default", "containers": [container]},
    }


def _service(plan: AddressPlan) -> dict[str, Any]:
    ports = [
        {"name": "dns", "port": PORT, "protocol": "UDP", "targetPort": "dns"},
        {"name": "dns-tcp", "port": PORT, "protocol": "TCP", "targetPort": "dns-tcp"},
    ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": RESOLVER.name, "namespace": RESOLVER.namespace, "labels": _LABELS},
        "spec": {"clusterIPs": list(plan.resolver), "selector": _LABELS, "ports": ports},
    }
