"""The pods that serve Gateways: objects like a user's, but made by the mesh, as Istio's installation and its
controller for the Gateway API do it. A pod of the user's that a Gateway selects comes before ours.

The control plane reads them as it reads the user's files. Made of the stored objects, so that they are the
same after a restart.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from mesh.model import GATEWAY_CONTROLLER, Transport, WorkloadName
from mesh.routes.gateways import GATEWAY_NAME, OWN_CLASSES
from sluice.mesh_directory import MeshDirectory
from xds import atomic
from xds.dialects import read
from xds.watch import Watcher

Object = Mapping[str, Any]
Port = tuple[int, Transport]

#: Folders of the store: Gateways of both APIs, classes, and the pods that may serve them.
KINDS = ("Gateway", "Gateway.networking.istio.io", "GatewayClass", "Pod")
#: On the objects that are made here.
MANAGED = "gateway.sluice.io/managed"
#: Where Istio's own gateways run.
_ISTIO_NAMESPACE = "istio-system"


class Wished(NamedTuple):
    """Labels and annotations for what is made (Gateway API, GatewayInfrastructure)."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Serving:
    """A pod that serves some Gateways: at these ports, each with Istio's word for what is spoken there, by
    these labels; `ours` if nobody else brought it, and then with what the Gateway wants on it besides."""

    pod: WorkloadName
    labels: Mapping[str, str]
    ports: Mapping[Port, str]
    ours: bool
    wished: Wished = field(default_factory=lambda: Wished({}, {}))


def gateways_file(mesh: MeshDirectory) -> Path:
    """The manifest, from the beginning, so that it can be followed."""
    path = mesh.state / "gateways.json"
    if not path.exists():
        atomic.write(path, _listed([]))
    return path


class GatewayPods:
    """Keeps the manifest true to the Gateways in the store; `changed` is called when `ports` may have."""

    def __init__(self, mesh: MeshDirectory, changed: Callable[[], None]) -> None:
        self._path = mesh.state / "gateways.json"
        self._objects = mesh.objects
        self._last_valid = mesh.state / "last-valid"
        self._changed = changed
        self._stored: dict[str, dict[Path, Object]] = {kind: {} for kind in KINDS}
        #: The ports of each pod that serves Gateways, with what is spoken there.
        self.ports: dict[WorkloadName, Mapping[Port, str]] = {}

    async def keep(self) -> None:
        """Write it now and after every change, for ever."""
        folders = [self._objects / kind for kind in KINDS]
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(Watcher(folders, (".yaml",))) as watcher:
            touched = watcher.scan()
            while True:
                for path in touched:
                    self._read(path)
                self._write()
                touched = await watcher.touched()

    def _read(self, path: Path) -> None:
        """Take in one file of the store: of what cannot be read the last valid version (rule 18), if there is
        one."""
        known = self._stored[path.parent.name]
        earlier = self._last_valid / path.relative_to(self._objects)
        found = _readable(path) or (_readable(earlier) if path.exists() else None)
        if found is None:
            known.pop(path, None)
        else:
            known[path] = found

    def _write(self) -> None:
        found = serving(
            {kind: [known[path] for path in sorted(known)] for kind, known in self._stored.items()}
        )
        text = _listed([item for one in found if one.ours for item in manifest(one)])
        if not self._path.exists() or self._path.read_text() != text:
            atomic.write(self._path, text)
        self.ports = {one.pod: one.ports for one in found}
        self._changed()


def _readable(path: Path) -> Object | None:
    try:
        found: Object = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    # Of pods, of which there may be thousands, only the labels are asked.
    return found if path.parent.name == "Pod" or read(found).valid else None


def serving(stored: Mapping[str, Iterable[Object]]) -> list[Serving]:
    """Who serves the Gateways among stored objects."""
    pods = {_name(pod): _labels(pod) for pod in stored["Pod"] if MANAGED not in _labels(pod)}
    found: dict[WorkloadName, Serving] = {}
    for own, labels, ports, namespace, wished in _wanted(stored):
        fitting = [
            name
            for name, has in pods.items()
            if labels.items() <= has.items() and namespace in ("", name.namespace)
        ]
        for name in fitting or [own]:
            known = found.get(name)
            joined = {**ports, **known.ports} if known else ports
            found[name] = Serving(name, labels, joined, not fitting, wished)
    return [found[name] for name in sorted(found)]


def manifest(one: Serving) -> list[dict[str, Any]]:
    """The pod that we make, and its Service."""
    return [_pod(one), _service(one)]


def _wanted(
    stored: Mapping[str, Iterable[Object]],
) -> Iterator[tuple[WorkloadName, dict[str, str], dict[Port, str], str, Wished]]:
    """Of each Gateway: the pod that we would make, the labels of any that would do, its ports, the namespace
    in which such a pod must be ("": any), and what ours has on it besides."""
    for gateway in stored["Gateway.networking.istio.io"]:
        selector = dict(gateway["spec"].get("selector", {}))
        listed = (server["port"] for server in gateway["spec"].get("servers", []))
        ports = _ports((port["number"], port["protocol"]) for port in listed)
        name = WorkloadName(_ISTIO_NAMESPACE, f"istio-{selector.get('istio', 'gateway')}")
        yield name, selector, ports, "", Wished({}, {})
    ours = _our_classes(stored["GatewayClass"])
    for gateway in stored["Gateway"]:
        namespace, own = _name(gateway)
        class_name = gateway["spec"]["gatewayClassName"]
        if class_name in ours:
            listed = gateway["spec"]["listeners"]
            ports = _ports((listener["port"], listener["protocol"]) for listener in listed)
            name, said = WorkloadName(namespace, f"{own}-{class_name}"), gateway["spec"].get("infrastructure")
            wished = Wished(*((said or {}).get(key) or {} for key in Wished._fields))
            yield name, {GATEWAY_NAME: own}, ports, namespace, wished


def _ports(listed: Iterable[tuple[int, str]]) -> dict[Port, str]:
    return {(number, "UDP" if said == "UDP" else "TCP"): _spoken(said) for number, said in listed}


def _spoken(protocol: str) -> str:
    """What begins the name of a Service's port, for those who call it inside the mesh."""
    word = protocol.lower()
    return "http" if word in ("http2", "grpc") else word if word in ("http", "https", "tls", "udp") else "tcp"


def _our_classes(classes: Iterable[Object]) -> set[str]:
    said = {found["metadata"]["name"]: found["spec"]["controllerName"] for found in classes}
    ours = {name for name, controller in said.items() if controller == GATEWAY_CONTROLLER}
    return ours | (OWN_CLASSES - said.keys())


def _pod(one: Serving) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": "gateway",
        # All that answers is the Envoy that the agent starts beside it.
        "command": ["sleep", "infinity"],
        "ports": [
            {"name": f"p-{port}{'-udp' if transport == 'UDP' else ''}", "containerPort": port}
            | ({"protocol": "UDP"} if transport == "UDP" else {})
            for port, transport in sorted(one.ports)
        ],
    }
    if one.ports:
        container["readinessProbe"] = {**_answers(sorted(one.ports)), "periodSeconds": 1}
    spec = {"serviceAccountName": one.pod.name, "containers": [container]}
    # Who it is in telemetry; the version is what others have who say none.
    labels = {"app": one.pod.name, "version": "latest", **one.wished.labels, **one.labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": _metadata(one, labels), "spec": spec}


def _answers(ports: Sequence[Port]) -> dict[str, Any]:
    """A probe of the first port of TCP. Who has none but of UDP gives no sign of life: is anybody bound?"""
    tcp = [port for port, transport in ports if transport == "TCP"]
    if tcp:
        return {"tcpSocket": {"port": tcp[0]}}
    return {"exec": {"command": ["grep", "-q", f":{ports[0][0]:04X} ", "/proc/net/udp"]}}


def _service(one: Serving) -> dict[str, Any]:
    ports = [
        {"name": f"{spoken}-{port}", "port": port, "protocol": transport}
        for (port, transport), spoken in sorted(one.ports.items())
    ]
    spec = {"selector": {MANAGED: one.pod.name}, "ports": ports}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(one, one.wished.labels),
        "spec": spec,
    }


def _metadata(one: Serving, labels: Mapping[str, str]) -> dict[str, Any]:
    pod, annotations = one.pod, one.wished.annotations
    metadata = {"name": pod.name, "namespace": pod.namespace, "labels": {**labels, MANAGED: pod.name}}
    return metadata | ({"annotations": dict(annotations)} if annotations else {})


def _listed(items: list[dict[str, Any]]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items}) + "\n"


def _name(stored: Object) -> WorkloadName:
    return WorkloadName(stored["metadata"].get("namespace") or "default", stored["metadata"]["name"])


def _labels(pod: Object) -> Mapping[str, str]:
    labels = pod["metadata"].get("labels")
    return labels if isinstance(labels, dict) else {}
