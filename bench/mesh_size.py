"""Manifests of a mesh of any size: ten workloads a service, a policy for each tenth service or for more.

All workloads but a few are *recorded*: they bear another node's name and a status, as the API server would
say of pods that run elsewhere. Those that run here are `caller/client`, the servers `bench/a` and `bench/b`,
and idle ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench.load import ECHO_PORT, HTTP_PORT, LOAD

Manifest = dict[str, Any]
#: What runs on this node, servers and client included.
LOCAL = 20
WORKLOADS_PER_SERVICE = 10
WORKLOADS_PER_NODE = 100
#: Objects in one file, so that reading them back costs what reading a real folder costs.
PER_FILE = 500


@dataclass(frozen=True, slots=True)
class Size:
    """Without `policies`, each tenth service has one."""

    workloads: int
    policies: int = 0

    @property
    def services(self) -> int:
        return self.workloads // WORKLOADS_PER_SERVICE


def metadata(name: str, namespace: str = "bench", **labels: str) -> Manifest:
    return {"name": name, "namespace": namespace, "labels": labels}


def running(name: str, command: tuple[str, ...], namespace: str = "bench") -> Manifest:
    """A pod that runs here."""
    ports = [{"name": "echo", "containerPort": ECHO_PORT}, {"name": "http", "containerPort": HTTP_PORT}]
    container: Manifest = {"name": "main", "image": "none", "command": list(command), "ports": ports}
    if "serve" in command:
        container["readinessProbe"] = {"tcpSocket": {"port": "http"}, "periodSeconds": 0.2}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata(name, namespace, app=name),
        "spec": {"containers": [container]},
    }


def recorded(number: int) -> Manifest:
    """A pod that runs on another node, at an address outside every mesh's own ranges."""
    address = f"10.{200 + number // 60_000}.{number // 250 % 240}.{number % 250 + 1}"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata(f"w-{number:05}", app=f"s-{number // WORKLOADS_PER_SERVICE:04}"),
        "spec": {
            "nodeName": f"elsewhere-{number // WORKLOADS_PER_NODE:03}",
            "containers": [{"name": "main", "image": "none", "command": ["true"]}],
        },
        "status": {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def service(name: str, selector: str | None, namespace: str = "bench") -> Manifest:
    ports = [
        {"name": "echo", "port": ECHO_PORT, "targetPort": ECHO_PORT},
        {"name": "http", "port": 80, "targetPort": HTTP_PORT},
    ]
    spec: Manifest = {"ports": ports} | ({"selector": {"app": selector}} if selector else {})
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata(name, namespace), "spec": spec}


def policy(name: str, subject: str, *peers: str) -> Manifest:
    """Only `peers` (values of the label `app`, in any namespace) may reach the pods of `subject`."""
    sources = [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": peer}}} for peer in peers]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(name),
        "spec": {
            "podSelector": {"matchLabels": {"app": subject}},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": sources}],
        },
    }


def everyone(*peers: str) -> Manifest:
    """Only `peers` may reach any pod of the namespace, where there are all but one, that has no better."""
    made = policy("everyone", "", *peers)
    made["spec"]["podSelector"] = {}
    return made


def endpoints(name: str, address: str, namespace: str = "bench") -> Manifest:
    """The one endpoint of the Service `name`, which has no selector."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata(f"{name}-1", namespace, **{"kubernetes.io/service-name": name}),
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": HTTP_PORT, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
    }


def route(name: str, parent: str, backend: str, namespace: str = "bench") -> Manifest:
    """Callers of `namespace` that ask for `bench/PARENT` are sent to `NAMESPACE/BACKEND` by their Envoy."""
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": metadata(name, namespace),
        "spec": {
            "parentRefs": [
                {"group": "", "kind": "Service", "namespace": "bench", "name": parent, "port": 80}
            ],
            "rules": [{"backendRefs": [{"name": backend, "port": 80}]}],
        },
    }


def manifests(size: Size) -> Iterator[Manifest]:
    """The whole mesh."""
    for namespace in ("bench", "caller"):
        yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    yield running("client", ("sleep", "infinity"), "caller")
    yield from (running(name, (*LOAD, "serve")) for name in ("a", "b"))
    yield from (running(f"idle-{number:02}", ("sleep", "infinity")) for number in range(LOCAL - 3))
    yield from (recorded(number) for number in range(size.workloads - LOCAL))
    for number in range(size.services):
        name = f"s-{number:04}"
        yield service(name, name)
        if number < size.policies or (not size.policies and number % 10 == 0):
            yield policy(name, name, "client", f"s-{number + 1:04}")
    yield service("a", "a")


def write(folder: Path, objects: Iterator[Manifest]) -> None:
    """Writes a folder of files with PER_FILE objects each."""
    folder.mkdir(parents=True, exist_ok=True)
    batch: list[Manifest] = []
    count = 0
    for manifest in objects:
        batch.append(manifest)
        if len(batch) == PER_FILE:
            put(folder / f"{count:03}.yaml", *batch)
            batch, count = [], count + 1
    put(folder / f"{count:03}.yaml", *batch)


def put(path: Path, *objects: Manifest) -> None:
    """Replaces a file at once, as an editor or `kubectl` would."""
    fresh = path.with_suffix(".new")
    fresh.write_text(yaml.dump_all(objects, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper)))
    fresh.replace(path)
