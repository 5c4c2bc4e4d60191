"""N53 (GO-2026-6005, GO-2026-6009): no object whatever stops the compiler, and one that is broken breaks
nothing that is not its own. What a dialect lets pass goes all the way: assembled, steered, rendered, and the
valid ones shown to Envoy.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesh.datapath import Node
from mesh.model import Fragment, ObjectRef
from tests.agreement.test_routes import service
from tests.istio_integration.test_junk import ALL as ISTIO
from tests.mesh.dialects.test_junk import ALL as KUBERNETES
from tests.mesh.dialects.test_junk import damaged, junk, places, put
from tests.traffic.edge import gate
from tests.traffic.shop import Object, Shop, versions, virtual_service
from tests.xds.render.standalone import validate
from xds.dialects import read
from xds.render import readable, render

#: Namespaced objects; those for everyone are everyone's own.
BARE = ("Namespace", "Pod", "Service", "EndpointSlice")
NAMED = {
    name: found
    for name, found in {**KUBERNETES, **ISTIO}.items()
    if found["metadata"].get("namespace") and found["kind"] not in BARE
}
#: How many objects Envoy is shown, each about a Service of its own.
SHOWN = 40


class Compiler:
    """A healthy mesh, in which `shop/client` is steered."""

    def __init__(self, *more: Object) -> None:
        route = {"route": [{"destination": {"host": "web", "subset": "v1"}}]}
        self.shop = Shop(gate(), virtual_service(route), versions(), *more)
        self.node: Node = self.shop.node
        self.before = self.told("shop/client")

    def told(self, pod: str) -> Mapping[str, Any]:
        return readable(render(self.node.proxies[pod]))

    def take(self, fragments: Mapping[ObjectRef, Fragment | None]) -> None:
        """Compiles and renders everything that changes."""
        self.node.update(self.shop.mesh.apply(fragments))
        for view in self.node.proxies.values():
            render(view)
        assert all(p.message.isprintable() for p in self.shop.mesh.problems)


@pytest.fixture(scope="module")
def compiler() -> Compiler:
    return Compiler()


def moved(found: Any, namespace: str) -> Any:
    """The object as somebody else's."""
    metadata = found["metadata"] if isinstance(found["metadata"], dict) else {}
    return found | {"metadata": metadata | {"namespace": namespace}}


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(damaged(NAMED, junk), st.sampled_from(["street", "shop"]))
def test_a_broken_object_stops_nothing_and_binds_no_other_namespace(
    compiler: Compiler, case: tuple[str, Any], namespace: str
) -> None:
    found = moved(case[1], namespace)
    if namespace == "street" and isinstance(found.get("spec"), dict) and found["kind"] in ABOUT:
        found = found | {"spec": found["spec"] | ABOUT[found["kind"]]("web.shop.svc.cluster.local")}
    fragment = read(found)
    compiler.take({fragment.ref: fragment})
    if fragment.ref.namespace == "street":
        assert compiler.told("shop/client") == compiler.before
    compiler.take({fragment.ref: None})
    assert compiler.told("shop/client") == compiler.before


def test_what_passes_the_dialects_is_valid_to_envoy(tmp_path: Path) -> None:
    """Of the traffic kinds: each object with a value of another one's, as far as the dialects let it pass."""
    rng = random.Random(53)
    chosen = [found for found in NAMED.values() if found["kind"] in ABOUT]
    values = [inner for found in chosen for inner in _values(found)]
    compiler = Compiler(*(service(number, f"x{number}") for number in range(SHOWN)))
    passed: list[Object] = []
    while len(passed) < SHOWN:
        found, name = rng.choice(chosen), f"x{len(passed)}"
        where = rng.choice([place for place in places(found["spec"]) if place])
        spec = put(found["spec"], where, rng.choice(values)) | ABOUT[found["kind"]](name)
        broken = found | {"metadata": {"name": name, "namespace": "shop"}, "spec": spec}
        fragment = read(broken)
        if fragment.valid and fragment.nouns and spec != found["spec"] | ABOUT[found["kind"]](name):
            compiler.take({fragment.ref: fragment})
            passed.append(broken)
    steered = {port.service.name for port in compiler.node.proxies["shop/client"].routed}
    assert len(steered) > SHOWN // 2
    for pod, view in compiler.node.proxies.items():
        assert validate(render(view), tmp_path) == "", f"{pod}\n{yaml.safe_dump_all(passed)}"


def _parent(name: str) -> Object:
    own, _, rest = name.partition(".")
    namespace = rest.partition(".")[0] or "shop"
    parent = {"group": "", "kind": "Service", "name": own, "namespace": namespace}
    return {"parentRefs": [parent], "hostnames": []}


#: Kind -> what makes an object of it one about this Service.
ABOUT: dict[str, Callable[[str], Object]] = {
    "VirtualService": lambda name: {"hosts": [name], "gateways": ["mesh"], "exportTo": ["*"]},
    "DestinationRule": lambda name: {"host": name, "workloadSelector": None, "exportTo": ["*"]},
    "HTTPRoute": _parent,
    "GRPCRoute": _parent,
}


def _values(found: Any) -> list[Any]:
    if isinstance(found, dict):
        return [inner for value in found.values() for inner in _values(value)]
    if isinstance(found, list):
        return [inner for value in found for inner in _values(value)]
    return [found]
