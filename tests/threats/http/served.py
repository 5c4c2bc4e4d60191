"""A small mesh, written as its users write it and compiled as the control plane does. Its pod `shop/api`
stands behind a real Envoy that has what was rendered for it; what the kernel decides is asked of the tables.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from mesh.answers.called import party
from mesh.datapath import Node
from mesh.model import PathNormalization
from mesh.node import PodRecord, PortVerdict
from mesh.policies.policy import judge
from mesh.proxy import ProxyView
from sluice.offline import NODE, Manifests
from tests.xds.render.conftest import Serve
from tests.xds.render.standalone import Proxy
from xds.dialects import read
from xds.documents import parse
from xds.jwks import Fetched

#: Whose calls are judged, unless a test has callers of its own: namespace, pod, service account, address.
Caller = tuple[str, str, str, str]
ANN: Caller = ("shop", "ann", "ann", "10.64.0.20")

#: The address of `shop/api`, and its ports that its Service declares as HTTP, and as something else.
API, HTTP, TCP = "10.64.0.10", 8080, 9000
Object = dict[str, Any]


def policy(action: str, *rules: Object, name: str = "", **spec: Any) -> Object:
    """An AuthorizationPolicy for `shop/api`."""
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": name or action.lower(), "namespace": "shop"},
        "spec": {
            "selector": {"matchLabels": {"app": "api"}},
            "action": action,
            "rules": list(rules),
            **spec,
        },
    }


def to(**operation: list[str]) -> Object:
    """A rule about requests."""
    return {"to": [{"operation": operation}]}


def network_policy(*http: Object, port: int = HTTP) -> Object:
    """A CiliumNetworkPolicy that lets everyone make these requests of `shop/api`."""
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": f"api-{port}", "namespace": "shop"},
        "spec": {
            "endpointSelector": {"matchLabels": {"app": "api"}},
            "ingress": [
                {
                    "fromEntities": ["all"],
                    "toPorts": [
                        {"ports": [{"port": str(port), "protocol": "TCP"}], "rules": {"http": list(http)}}
                    ],
                }
            ],
        },
    }


def mesh_config(**settings: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "istio", "namespace": "istio-system"},
        "data": {"mesh": yaml.safe_dump(settings)},
    }


def normalising(mode: PathNormalization) -> Object:
    return mesh_config(pathNormalization={"normalization": mode})


class Compiled:
    """The mesh as the node of `shop/api` knows it."""

    def __init__(
        self,
        *objects: Object,
        callers: Iterable[Caller] = (ANN,),
        http: Iterable[int] = (HTTP,),
        unreadable: bool = False,
    ) -> None:
        """Raises AssertionError if something about the objects is wrong and that is not what is meant
        (`unreadable`), or the other way round. `http` are ports declared as that."""
        pods = [_pod(*caller) for caller in callers]
        text = yaml.safe_dump_all([*_api(http), *pods, *objects])
        documents = parse(text, "the test")
        assert not documents.problems
        self.mesh, problems = Manifests({found.ref: found for found in documents.objects}).mesh()
        assert bool(problems) == unreadable, problems
        self._node = Node(self.mesh, NODE, default=True)

    def verdict(self, caller: Caller = ANN, port: int = HTTP) -> PortVerdict:
        """What the kernel does with the caller's connection to this port."""
        return self._node.verdict(self._record.ingress_set, caller[3], "TCP", port)

    def reference(self, caller: Caller = ANN, port: int = HTTP) -> str:
        """What the reference semantics say of it, in the same words."""
        api, peer = (party(self.mesh, address) for address in (API, caller[3]))
        found = judge(self.mesh.all_policies(), "ingress", api, peer, "TCP", port, self.mesh.config)
        return type(found).__name__.lower()

    def listener(self, caller: Caller = ANN, port: int = HTTP) -> str:
        """Envoy's listener that the connection is sent to."""
        found = self.verdict(caller, port)
        assert found.verdict == "steer", found
        return f"virtualInbound|{found.listener}"

    def learn(self, fetched: Fetched) -> None:
        """Keys came, or did not."""
        self._node.update(self.mesh.apply({fetched.ref: fetched.fragment}))

    def edit(self, changed: Object) -> None:
        """An object is another now."""
        fragment = read(changed)
        assert fragment.valid, fragment.problems
        self._node.update(self.mesh.apply({fragment.ref: fragment}))

    @property
    def view(self) -> ProxyView:
        """What the pod's Envoy has to do."""
        return self._node.proxies["shop/api"]

    @property
    def _record(self) -> PodRecord:
        return self._node.state.pods["shop/api"]


class Served(Compiled):
    """With an Envoy in front of an application."""

    def __init__(
        self, serve: Serve, application: int, *objects: Object, updated: bool = False, **more: Any
    ) -> None:
        super().__init__(*objects, **more)
        self.proxy: Proxy = serve(self.view, ("127.0.0.1", application), updated=updated)

    def port(self, caller: Caller = ANN, port: int = HTTP) -> int:
        """Where on 127.0.0.1 the caller's connections to this port of the pod arrive."""
        return self.proxy.ports[self.listener(caller, port)]


def _api(http: Iterable[int]) -> list[Object]:
    ports: list[Object] = [{"name": f"http-{port}", "port": port} for port in http]
    ports.append({"name": "tcp-bytes", "port": TCP})
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "api", "namespace": "shop"},
        "spec": {"clusterIP": "10.128.0.10", "selector": {"app": "api"}, "ports": ports},
    }
    return [_pod("shop", "api", "api", API), service]


def _pod(namespace: str, name: str, account: str, address: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {
            "serviceAccountName": account,
            "containers": [{"name": "main", "command": ["serve"]}],
        },
        "status": {"podIPs": [{"ip": address}], "conditions": [{"type": "Ready", "status": "True"}]},
    }
