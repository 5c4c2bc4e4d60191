"""Each protocol that a rule can name: its packets pass by that rule and by no other, in both families."""

from __future__ import annotations

import socket

import pytest

from agent.entries import PROTOCOL_NUMBERS, class_entries
from bpf import layout
from mesh.model import Protocol
from mesh.node import PolicyClass, PortVerdict
from tests.kernel.box import Box
from tests.kernel.host import ICMP, ICMP6
from tests.threats.capture import captured
from tests.threats.ways import UDPLITE, UNNAMED, Attempt, body

NUMBERS = sorted({*PROTOCOL_NUMBERS.values(), UDPLITE, UNNAMED})


def allow(box: Box, *protocols: Protocol | None) -> None:
    """Two's ingress policy, lowered as the agent does."""
    number = 100 + hash(protocols) % 1000
    record = PolicyClass(number, tuple(PortVerdict(p, 0, 65535, "allow") for p in protocols))
    for table, key, value in class_entries(record):
        box.wanted.slots.setdefault(table, {})[key] = layout.RulePage.unpack(value)
    box.select(box.pods[1], ingress=1)
    box.peers(1, {(0, 0): number})
    box.apply(forget_flows=True)


def arriving(box: Box, family: int) -> set[int]:
    """The protocols of those of one's packets that reach two, of one packet of each protocol."""
    one, two, _ = box.pods
    attempt = Attempt(one, two, family, False)
    with captured(two) as capture:
        attempt.send_frames(*(attempt.packet(number, body(number, family)) for number in NUMBERS))
        return {packet.protocol for packet in capture.from_(one)}


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("protocol", PROTOCOL_NUMBERS)
def test_a_rule_for_a_protocol_is_for_no_other(box: Box, protocol: Protocol, family: int) -> None:
    allow(box, protocol)
    wanted = {PROTOCOL_NUMBERS[protocol]}
    if family == socket.AF_INET6 and protocol in ("AH", "ICMP"):
        # AH is an extension header of IPv6: what stands behind it is judged. ICMP is IPv4's.
        wanted = {ICMP} if protocol == "ICMP" else set()
    if family == socket.AF_INET and protocol == "ICMPv6":
        wanted = {ICMP6}
    assert arriving(box, family) == wanted


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
def test_a_rule_for_every_protocol_is_for_those_without_a_name_too(box: Box, family: int) -> None:
    allow(box, None)
    assert arriving(box, family) == set(NUMBERS)
    allow(box, *PROTOCOL_NUMBERS)
    # Behind the authentication header of IPv6 stands a protocol without a name.
    behind = {socket.IPPROTO_AH} if family == socket.AF_INET6 else set()
    assert arriving(box, family) == {*PROTOCOL_NUMBERS.values()} - behind
