"""Services that pods look up whose scope that widens: they are told, and answered when Envoys know of it."""

from __future__ import annotations

import asyncio
import dataclasses
import time

import pytest

from agent.dns.memory import MOST_LOOKED_UP, Memory
from agent.dns.zone import Authority
from mesh.dns import POLICY, RECORDS, Learned, LookedUp
from tests.agent.dns.running import BOUND, FREE, WEB, ZONE, Resolver, policy, rcode, until, values

DB = "db.shop.svc.cluster.local"
SHOP = {FREE: "shop", BOUND: "street"}


def zone(*widening: str) -> str:
    return dataclasses.replace(ZONE, widening=widening).to_json()


def looked_up(resolver: Resolver) -> tuple[tuple[str, str], ...]:
    return resolver.learned.live(time.time()).looked_up


async def test_a_service_is_answered_when_it_is_in_force(resolver: Resolver) -> None:
    resolver.put(RECORDS, zone("shop"))
    resolver.put(POLICY, dataclasses.replace(policy(), namespaces=SHOP).to_json())
    asking = asyncio.create_task(resolver.ask("WEB.shop.svc.cluster.local"))
    await until(lambda: looked_up(resolver) == (("shop", WEB),))
    await asyncio.sleep(0.2)
    assert not asking.done(), "no Envoy knows of it yet"
    resolver.acknowledge(resolver.learned.sequence)
    assert values(await asking) == ["10.128.0.1"]
    assert values(await resolver.ask(WEB)) == ["10.128.0.1"], "what is known costs nothing"
    resolver.put(RECORDS, zone())
    await until(lambda: looked_up(resolver) == ())


async def test_what_is_not_in_force_in_time_is_not_answered(resolver: Resolver) -> None:
    resolver.put(RECORDS, zone("*"))
    resolver.put(POLICY, dataclasses.replace(policy(), namespaces=SHOP).to_json())
    assert rcode(await resolver.ask(WEB)) == "SERVFAIL"
    assert rcode(await resolver.ask("nobody.shop.svc.cluster.local")) == "NXDOMAIN"


async def test_others_are_answered_at_once(resolver: Resolver) -> None:
    resolver.put(RECORDS, zone("elsewhere"))
    resolver.put(POLICY, dataclasses.replace(policy(), namespaces=SHOP).to_json())
    assert values(await resolver.ask(WEB)) == ["10.128.0.1"]
    assert looked_up(resolver) == ()


@pytest.mark.parametrize(
    ("name", "namespace", "host"),
    [
        (WEB, "shop", WEB),
        ("db-0.db.shop.svc.cluster.local", "shop", DB),
        (WEB, "street", ""),
        ("nobody.shop.svc.cluster.local", "shop", ""),
        ("example.com", "shop", ""),
        ("entry.example.com", "shop", "entry.example.com"),
    ],
)
def test_names_of_pods_are_of_their_service(name: str, namespace: str, host: str) -> None:
    addresses = {**ZONE.addresses, "entry.example.com": ("10.128.0.9",)}
    authority = Authority(dataclasses.replace(ZONE, addresses=addresses, widening=("shop",)))
    assert authority.widened_by(name, namespace) == host


def test_the_one_that_was_asked_for_longest_ago_makes_room() -> None:
    memory = Memory(Learned(3, looked_up=(LookedUp("shop", "old", 2), LookedUp("street", "old", 2))), 3)
    assert {memory.look_up("shop", f"n{at}") for at in range(MOST_LOOKED_UP - 1)} == {4}
    assert memory.look_up("shop", "old") == 2, "now n0 is the oldest"
    assert memory.look_up("shop", "new") == 4
    again = Memory(Learned.from_json(memory.report().to_json()), 4)
    assert len(again.looked_up) == MOST_LOOKED_UP + 1
    assert ("shop", "n0") not in again.looked_up
    assert {("shop", "old"), ("street", "old"), ("shop", "n1")} <= set(again.looked_up)
