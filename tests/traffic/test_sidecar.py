"""Sidecars as their users write them: of what a pod's Envoy is told; all else goes as without a rule."""

from __future__ import annotations

from typing import Any

from mesh.model import Fragment, LearnedNames
from tests.traffic.shop import (
    Object,
    Served,
    Shop,
    object_of,
    to,
    versions,
    virtual_service,
)
from tests.traffic.test_virtual_service import Servers
from tests.xds.render.conftest import Serve
from xds.resolver import LEARNED_REF

ROUTED = (
    virtual_service({"route": [to(subset="v1")]}),
    virtual_service({"route": [to("web", "v2")]}, name="shadow", hosts=["shadow"]),
    versions(),
)


def sidecar(
    *hosts: str, name: str = "default", namespace: str = "shop", created: str = "", **spec: Any
) -> Object:
    found = object_of(
        "networking.istio.io/v1", "Sidecar", name, namespace, {"egress": [{"hosts": list(hosts)}], **spec}
    )
    found["metadata"] |= {"creationTimestamp": created} if created else {}
    return found


def steered(shop: Shop, pod: str = "shop/client") -> list[str]:
    return [name for name in ("web", "shadow") if shop.steers(pod, name)]


def test_an_envoy_is_told_of_what_its_sidecar_names(serve: Serve, servers: Servers) -> None:
    shop = Served(serve, servers, *ROUTED, sidecar("./web.shop.svc.cluster.local"))
    assert shop.ask("/").backend == "one"
    assert {port.service.name for port in shop.view().routed} == {"web"}
    assert "shadow" not in shop.proxy.admin("/config_dump")
    assert steered(shop) == ["web"]


def test_what_it_leaves_out_keeps_its_address_in_the_kernel() -> None:
    """Rule 23."""
    shop = Shop(*ROUTED, sidecar("~/*"))
    assert steered(shop) == [] and "shop/client" not in shop.node.proxies
    found = shop.explain("shop/web:80")
    assert (found["verdict"], found["path"], len(found["backends"])) == ("allow", "kernel", 2)


def test_the_sidecar_of_a_workload_comes_before_that_of_its_namespace_and_that_before_the_root() -> None:
    root = sidecar("~/*", namespace="istio-system")
    own = sidecar("./web.shop.svc.cluster.local")
    selected = sidecar("./*", name="a", workloadSelector={"labels": {"team": "a"}})
    assert steered(Shop(*ROUTED, root)) == []
    assert steered(Shop(*ROUTED, root, own)) == ["web"]
    shop = Shop(*ROUTED, root, own, selected)
    assert (steered(shop), steered(shop, "shop/other")) == (["web", "shadow"], ["web"])


def test_of_two_for_one_namespace_the_older_counts_and_the_later_is_a_problem() -> None:
    old = sidecar("~/*", name="old", created="2026-01-01T00:00:00Z")
    new = sidecar("*/*", name="new", created="2026-01-02T00:00:00Z")
    shop = Shop(*ROUTED, new, old, accept=["is for all of the namespace"])
    assert [str(problem.object) for problem in shop.problems] == ["Sidecar shop/new"]
    assert steered(shop) == []


def test_virtual_services_are_of_the_namespaces_that_it_names_and_lead_anywhere() -> None:
    far = virtual_service(
        {"route": [to(subset="v1")]}, namespace="istio-system", hosts=["web.shop.svc.cluster.local"]
    )
    rule = [far["spec"]["http"][0]["route"][0]["destination"]]
    rule[0] |= {"host": "shadow.shop.svc.cluster.local"}
    del rule[0]["subset"]
    web = "shop/web.shop.svc.cluster.local"
    assert steered(Shop(far, sidecar(web))) == []
    shop = Shop(far, sidecar(web, "istio-system/*"))
    assert steered(shop) == ["web"]
    assert "shadow" in {found.target.service.name for found in shop.view().destinations}


def test_it_narrows_by_port() -> None:
    at = {"port": {"number": 70}, "hosts": ["./*"]}
    spec = sidecar("~/*")
    spec["spec"]["egress"].insert(0, at)
    shop = Shop(*ROUTED, spec)
    assert (shop.steers("shop/client", "web", 70), shop.steers("shop/client", "web", 80)) == (True, False)


def looking_up(shop: Shop, *hosts: tuple[str, str]) -> None:
    learned = LearnedNames(1, looked_up=tuple(sorted(hosts)))
    shop.node.update(shop.mesh.apply({LEARNED_REF: Fragment(LEARNED_REF, (learned,))}))


def test_look_ups_widen_a_sidecar_that_says_so() -> None:
    """For all pods of the namespace that it is for, and as if it named the host."""
    web, shadow = ("shop", "web.shop.svc.cluster.local"), ("shop", "shadow.shop.svc.cluster.local")
    narrow = sidecar("~/*", workloadSelector={"labels": {"team": "a"}})
    plain = Shop(*ROUTED, narrow)
    looking_up(plain, web)
    assert steered(plain) == []
    narrow["metadata"]["annotations"] = {"sluice.io/widen-by-lookup": "true"}
    shop = Shop(*ROUTED, narrow)
    assert (steered(shop), steered(shop, "shop/other")) == ([], ["web", "shadow"])
    looking_up(shop, web, ("street", shadow[1]))
    assert steered(shop) == ["web"]
    assert {port.service.name for port in shop.view().routed} == {"web"}
    looking_up(shop, web, shadow)
    assert steered(shop) == ["web", "shadow"]
    looking_up(shop)
    assert steered(shop) == [] and "shop/client" not in shop.node.proxies


def test_a_sidecar_of_the_root_namespace_widens_for_each_namespace() -> None:
    narrow = sidecar("~/*", namespace="istio-system")
    narrow["metadata"]["annotations"] = {"sluice.io/widen-by-lookup": "true"}
    shop = Shop(*ROUTED, narrow)
    assert shop.mesh.scopes.widening(shop.mesh.config) == ("*",)
    looking_up(shop, ("shop", "web.shop.svc.cluster.local"))
    assert steered(shop) == ["web"]
