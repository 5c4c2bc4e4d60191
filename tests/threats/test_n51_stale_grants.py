"""N51 (CVE-2023-34242, CVE-2024-42486): leave to refer to another namespace's Service or Secret lasts as long
as its ReferenceGrant, is for what it names, and its end reaches every proxy that used it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.traffic.edge import Certificate, gate, gateway, http_route
from tests.traffic.shop import Object, Shop, object_of
from xds.dialects import read
from xds.render import readable, render

TLS = {"certificateRefs": [{"name": "a", "namespace": "shop"}]}
LISTENER: Object = {"name": "https", "port": 443, "protocol": "HTTPS", "tls": TLS}
FAR = {"backendRefs": [{"name": "web", "namespace": "shop", "port": 80}]}
GROUP = "gateway.networking.k8s.io"
SHOWN, SENT = "kubernetes://shop/a", "outbound|80||web.shop.svc.cluster.local"


def grant(name: str, kind: str, *targets: Object) -> Object:
    source = {"group": GROUP, "kind": kind, "namespace": "edge"}
    spec = {"from": [source], "to": list(targets)}
    return object_of(f"{GROUP}/v1beta1", "ReferenceGrant", name, "shop", spec)


SERVICE = grant("service", "HTTPRoute", {"group": "", "kind": "Service", "name": "web"})
SECRET = grant("secret", "Gateway", {"group": "", "kind": "Secret", "name": "a"})
#: Leave for something else that looks alike.
OTHERS = (
    grant("other-kind", "GRPCRoute", {"group": "", "kind": "Service", "name": "web"}),
    grant("other-name", "Gateway", {"group": "", "kind": "Secret", "name": "b"}),
    grant("other-target", "Gateway", {"group": "", "kind": "ConfigMap", "name": "a"}),
    grant("crossed", "HTTPRoute", {"group": "", "kind": "Secret", "name": "a"}),
)


def told(shop: Shop) -> set[str]:
    """The cluster and the secret, as far as the gateway's Envoy has them."""
    view = shop.node.proxies.get("edge/gate")
    resources: Any = readable(render(view)) if view else {}
    names = {found["name"] for kind in ("clusters", "secrets") for found in resources.get(kind, [])}
    return names & {SHOWN, SENT}


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    route = http_route(FAR, namespace="edge")
    secret = Certificate("a.example", tmp_path).secret("a", namespace="shop")
    return Shop(gate(), gateway(LISTENER), route, secret, accept=["ReferenceGrant"])


def apply(shop: Shop, *objects: Object) -> None:
    shop.node.update(shop.mesh.apply({f.ref: f for f in map(read, objects)}))


def remove(shop: Shop, found: Object) -> None:
    shop.node.update(shop.mesh.apply({read(found).ref: None}))


def test_what_a_grant_gives_ends_with_it(shop: Shop) -> None:
    assert told(shop) == set()
    apply(shop, SERVICE, SECRET)
    assert told(shop) == {SHOWN, SENT}
    remove(shop, SERVICE)
    assert told(shop) == {SHOWN}
    apply(shop, SERVICE)
    remove(shop, SECRET)
    assert SHOWN not in told(shop)


def test_a_grant_that_changes_gives_no_more_than_it_says(shop: Shop) -> None:
    apply(shop, SERVICE, SECRET)
    narrower = SERVICE | {
        "spec": SERVICE["spec"] | {"to": [{"group": "", "kind": "Service", "name": "shadow"}]}
    }
    apply(shop, narrower)
    assert told(shop) == {SHOWN}


def test_leave_for_something_else_is_none(shop: Shop) -> None:
    apply(shop, *OTHERS)
    assert told(shop) == set()
