"""A small shop whose users write traffic rules, compiled as the control plane does it. The Envoy of its pod
`shop/client` is real and has what was rendered for it; the pods behind the Services are servers on loopback.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import yaml

from mesh.answers.explain import explain
from mesh.datapath import Node
from mesh.model import Backend, ServiceName
from mesh.proxy import Destination, ProxyView
from mesh.request import Request
from sluice.offline import NODE, Manifests
from tests.xds.render.backend import Backend as Server
from tests.xds.render.client import Answer, ask
from tests.xds.render.conftest import Serve
from tests.xds.render.standalone import Proxy
from xds.documents import parse

Object = dict[str, Any]

#: Pod -> its labels. Services select by `app`.
PODS = {
    "one": {"app": "web", "version": "v1"},
    "two": {"app": "web", "version": "v2"},
    "three": {"app": "shadow"},
    "client": {"app": "client", "team": "a"},
    "other": {"app": "other", "team": "b"},
}


def virtual_service(*http: Object, name: str = "web", namespace: str = "shop", **spec: Any) -> Object:
    """For `web`, unless other hosts are given."""
    content = {"hosts": ["web"], **({"http": list(http)} if http else {}), **spec}
    return object_of("networking.istio.io/v1", "VirtualService", name, namespace, content)


def destination_rule(name: str = "web", namespace: str = "shop", **spec: Any) -> Object:
    content = {"host": "web", **spec}
    return object_of("networking.istio.io/v1", "DestinationRule", name, namespace, content)


def versions(**policy: Any) -> Object:
    """The subsets v1 and v2 of `web`."""
    subsets = [{"name": v, "labels": {"version": v}} for v in ("v1", "v2")]
    return destination_rule(subsets=subsets, **({"trafficPolicy": policy} if policy else {}))


def to(host: str = "web", subset: str = "", weight: int | None = None, **fields: Any) -> Object:
    """A destination of a route."""
    target = {"host": host} | ({"subset": subset} if subset else {})
    return {"destination": target} | ({} if weight is None else {"weight": weight}) | fields


class Shop:
    """The mesh with these objects, and what it makes of them."""

    def __init__(self, *objects: Object, accept: Iterable[str] = ()) -> None:
        """Raises AssertionError for problems that do not hold one of the texts in `accept`."""
        text = yaml.safe_dump_all([*base(), *objects])
        documents = parse(text, "the test")
        assert not documents.problems
        self.mesh, found = Manifests({o.ref: o for o in documents.objects}).mesh()
        self.problems = found
        unexpected = [p for p in found if not any(text in f"{p.field} {p.message}" for text in accept)]
        assert not unexpected, unexpected
        self.node = Node(self.mesh, NODE, default=True)

    def view(self, pod: str = "shop/client") -> ProxyView:
        return self.node.proxies[pod]

    def steers(self, pod: str, service: str, port: int = 80) -> bool:
        """Do the kernel's tables send this pod's connections to its Envoy?"""
        view = self.node.state.pods[pod].view
        record = self.node.state.services[f"shop/{service}"]
        views = next(p.views for p in record.ports if p.port == port and p.protocol == "TCP")
        return "*" in views or view in views

    def explain(self, target: str, request: Request | None = None, pod: str = "shop/client") -> Object:
        return explain(self.mesh, pod, target, request=request)


class Served(Shop):
    """With the Envoy of one pod in front of servers on loopback."""

    def __init__(
        self,
        serve: Serve,
        servers: Mapping[str, Server],
        *objects: Object,
        pod: str = "shop/client",
        accept: Iterable[str] = (),
    ) -> None:
        super().__init__(*objects, accept=accept)
        ports = {name: server.port for name, server in servers.items()}
        view = self.view(pod)
        here = tuple(_on_loopback(found, ports) for found in view.destinations)
        self.proxy: Proxy = serve(replace(view, destinations=here))

    def port(self, service: str = "web", port: int = 80, kind: str = "") -> int:
        """Where on 127.0.0.1 connections to a service port arrive."""
        return self.proxy.ports[f"{ServiceName('shop', service).host}:{port}{kind}"]

    def ask(self, path: str, method: str = "GET", *headers: tuple[str, str], service: str = "web") -> Answer:
        return ask(self.port(service), path, method, headers)


def _on_loopback(destination: Destination, ports: Mapping[str, int]) -> Destination:
    parts = tuple(
        replace(
            part,
            backends=tuple(replace(b, address="127.0.0.1", port=ports[_server(b)]) for b in part.backends),
        )
        for part in destination.parts
    )
    return replace(destination, parts=parts)


def _server(backend: Backend) -> str:
    """What is no pod says in a label which server is meant."""
    return backend.workload.name if backend.workload else dict(backend.labels)["server"]


def pod(name: str, address: str, labels: Mapping[str, str], namespace: str = "shop") -> Object:
    spec = {"containers": [{"name": "main", "command": ["serve"]}]}
    found = object_of("v1", "Pod", name, namespace, spec)
    found["metadata"]["labels"] = dict(labels)
    found["status"] = {"podIPs": [{"ip": address}], "conditions": [{"type": "Ready", "status": "True"}]}
    return found


def placed(**places: str) -> tuple[Object, ...]:
    """These pods of the shop in places, such as `region.zone.subzone`."""
    found = []
    for item in _pods():
        if place := places.get(item["metadata"]["name"]):
            item["metadata"]["labels"]["istio-locality"] = place
            found.append(item)
    return tuple(found)


def base() -> list[Object]:
    """What is there without any rule."""
    return [*_pods(), *_services()]


def _pods() -> list[Object]:
    return [pod(name, f"10.64.0.{number}", labels) for number, (name, labels) in enumerate(PODS.items(), 10)]


def _services() -> list[Object]:
    ports = [
        {"name": "http", "port": 80, "targetPort": 8080},
        {"name": "tcp", "port": 90, "targetPort": 9090},
        {"name": "bare", "port": 70, "targetPort": 7070},
    ]
    return [
        object_of(
            "v1",
            "Service",
            app,
            "shop",
            {"clusterIP": f"10.128.0.{n}", "selector": {"app": app}, "ports": ports},
        )
        for n, app in enumerate(("web", "shadow", "nobody"), 10)
    ]


def object_of(version: str, kind: str, name: str, namespace: str, spec: Object) -> Object:
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }
