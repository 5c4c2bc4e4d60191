"""N10 (ISTIO-SECURITY-2024-006): no address makes a caller internal, and none that it claims is believed
where a rule is about the one that it has. The kernel knows that one; Envoy is not told.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.threats.http.application import Application
from tests.threats.http.served import Caller, Object, Served, policy, to
from tests.threats.http.speaking import ask, ask2, fields, get
from tests.xds.render.conftest import Serve

ANN: Caller = ("shop", "ann", "ann", "10.64.0.20")
BOB: Caller = ("shop", "bob", "bob", "10.64.0.21")
PRIVATE = (
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "127.0.0.1",
    "169.254.0.1",
    "100.64.0.1",
    "fd00::1",
    "::1",
)
#: Headers in which one may claim to be somebody, and how each is written.
CLAIMS = {
    "x-forwarded-for": "{}",
    "forwarded": "for={}",
    "x-real-ip": "{}",
    "true-client-ip": "{}",
    "x-envoy-external-address": "{}",
    "x-client-ip": "{}",
    "cf-connecting-ip": "{}",
}


def claims(address: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, text.format(address)) for name, text in CLAIMS.items())


def source(field: str, *blocks: str) -> Object:
    return {"from": [{"source": {field: list(blocks)}}]}


def managers(value: Any) -> Iterator[dict[str, Any]]:
    """Every connection manager of a dump."""
    if isinstance(value, dict):
        if "http_filters" in value and "stat_prefix" in value:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from managers(item)


def test_envoys_own_dump_says_that_nobody_is_internal(serve: Serve, application: Application) -> None:
    """Unset is what says so: Envoy reads an empty `internal_address_config` as all private addresses."""
    served = Served(serve, application.port, policy("DENY", to(paths=["/hidden"])))
    found = list(managers(json.loads(served.proxy.admin("/config_dump"))))
    assert found
    for manager in found:
        assert manager["use_remote_address"] is False
        assert "internal_address_config" not in manager
        assert "original_ip_detection_extensions" not in manager


def test_a_private_address_gives_no_power_over_envoy(serve: Serve, application: Application) -> None:
    """The peer itself is on the loopback, which Envoy used to trust."""
    port = Served(serve, application.port, policy("DENY", to(paths=["/hidden"]))).port()
    orders = (("x-envoy-internal", "true"), ("x-envoy-max-retries", "9"), ("x-envoy-retry-on", "5xx"))
    application.forget()
    for headers in (orders, *((*orders, ("x-forwarded-for", address)) for address in PRIVATE)):
        assert (ask(port, get("/", *headers)), ask2(port, fields("/", *headers))) == (200, 200)
    read = {name for found in application.requests for name, _ in found.fields}
    assert not [name for name in read if name.startswith("x-envoy")]


@pytest.mark.parametrize(
    ("rule", "ann", "bob"),
    [
        (source("ipBlocks", f"{ANN[3]}/32"), "steer", "deny"),
        (source("notIpBlocks", f"{BOB[3]}"), "steer", "deny"),
        (source("ipBlocks", "10.64.0.20/31", "fd00::/8"), "steer", "steer"),
    ],
)
def test_whoever_a_caller_claims_to_be_a_block_means_its_own_address(
    rule: Object, ann: str, bob: str, serve: Serve, application: Application
) -> None:
    rule = rule | to(paths=["/shown"])
    served = Served(serve, application.port, policy("ALLOW", rule), callers=(ANN, BOB))
    assert [served.verdict(caller).verdict for caller in (ANN, BOB)] == [ann, bob]
    for address in (ANN[3], BOB[3], "8.8.8.8", *PRIVATE):
        headers = claims(address)
        found = [ask(served.port(ANN), get(path, *headers)) for path in ("/shown", "/hidden")]
        assert found == [200, 403], address


def test_a_deny_of_a_block_is_about_the_connection_too(serve: Serve, application: Application) -> None:
    rule = source("ipBlocks", f"{ANN[3]}/32") | to(paths=["/hidden"])
    served = Served(serve, application.port, policy("DENY", rule), callers=(ANN, BOB))
    assert served.verdict(BOB).verdict == "allow"
    for address in (BOB[3], "8.8.8.8", *PRIVATE):
        found = [ask(served.port(ANN), get(path, *claims(address))) for path in ("/hidden", "/shown")]
        assert found == [403, 200], address


def test_only_the_last_hop_of_x_forwarded_for_is_a_remote_address(
    serve: Serve, application: Application
) -> None:
    """As Istio has it without trusted proxies; no other header counts."""
    served = Served(serve, application.port, policy("DENY", source("remoteIpBlocks", "127.0.0.0/8")))
    others = [claim for claim in claims("8.8.8.8") if claim[0] != "x-forwarded-for"]
    assert ask(served.port(), get("/", *others)) == 403
    assert ask(served.port(), get("/", ("x-forwarded-for", "8.8.8.8, 127.0.0.1"))) == 403
    assert ask(served.port(), get("/", ("x-forwarded-for", "127.0.0.1, 8.8.8.8"))) == 200
    lines = [("x-forwarded-for", "8.8.8.8"), ("x-forwarded-for", "127.0.0.1")]
    assert (ask(served.port(), get("/", *lines)), ask2(served.port(), fields("/", *lines))) == (403, 403)
