"""HTTPRoutes on Services go through the caller's Envoy (rules 1-4, 22)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.node.manifests import CANARY, EGRESS_GET_ONLY
from tests.node.mesh import RunningMesh


@pytest.fixture(scope="module")
def routed(mesh: RunningMesh) -> Iterator[RunningMesh]:
    mesh.apply(CANARY)
    yield mesh
    mesh.delete(CANARY)


def answer(mesh: RunningMesh, url: str, *curl: str) -> dict[str, object]:
    status, body = mesh.get("shop/client", url, *curl)
    assert status == 200 and isinstance(body, dict), (status, body)
    return body


def test_a_header_chooses_the_canary_and_weights_the_rest(routed: RunningMesh) -> None:
    assert answer(routed, "http://web/", "-H", "x-canary: yes")["name"] == "v2"
    assert {answer(routed, "http://web/")["name"] for _ in range(8)} == {"v1"}


def test_a_redirect_is_answered_by_the_callers_envoy(routed: RunningMesh) -> None:
    status, _ = routed.get("shop/client", "http://web/old/a")
    assert status == 301


def test_headers_are_set_and_nothing_else_is_added(routed: RunningMesh) -> None:
    """Rule 22: being steered changes nothing else."""
    direct = answer(routed, "http://web-v1/")["headers"]
    steered = answer(routed, "http://web/")["headers"]
    assert isinstance(direct, dict) and isinstance(steered, dict)
    assert steered.pop("x-routed") == "by-sluice"
    # Envoy says which scheme it was, where the client did not.
    assert steered.keys() - direct.keys() == {"x-forwarded-proto"}


def test_both_families_are_steered(routed: RunningMesh) -> None:
    for family in ("-4", "-6"):
        headers = answer(routed, "http://web/", family)["headers"]
        assert isinstance(headers, dict) and headers["x-routed"] == "by-sluice"


def test_another_services_name_in_host_does_not_lead_there(routed: RunningMesh) -> None:
    """Rule 4: the virtual hosts of a chain belong to the address that was dialled."""
    said = answer(routed, "http://web/", "-H", "Host: web-v2")
    assert said["name"] == "v1"


def test_the_route_binds_the_service_address_and_no_other(routed: RunningMesh) -> None:
    """Rule 1: a second service over the same pods has no route."""
    headers = answer(routed, "http://web-v1/")["headers"]
    assert isinstance(headers, dict) and "x-routed" not in headers
    assert routed.explain("shop/client", "shop/web:80")["path"] == "envoy"
    assert routed.explain("shop/client", "shop/web-v1:80")["path"] == "kernel"


def test_egress_rules_ride_on_every_route_to_the_backend(routed: RunningMesh) -> None:
    routed.apply(EGRESS_GET_ONLY)
    try:
        ip = routed.pod("shop/web-v1")["ip"]
        for url in ("http://web", "http://web-v1", f"http://{ip}:8080"):
            assert routed.get("shop/client", f"{url}/public")[0] == 200, url
            assert routed.get("shop/client", f"{url}/secret")[0] == 403, url
        assert routed.get("shop/client", "http://web:9000/")[0] == 0, "the echo port is not allowed"
        assert routed.get("shop/other", "http://web/secret")[0] == 200, "only its subject is bound"
    finally:
        routed.delete(EGRESS_GET_ONLY)
    assert routed.get("shop/client", "http://web/secret")[0] == 200
