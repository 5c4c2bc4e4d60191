"""Decision 3: what the socket hooks did not see is judged packet by packet, by the same verdict."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest

from agent.kernel.namespace import run_in_netns
from bpf.layout import DropReason, EventType, PodFlags, Verdict
from tests.kernel.box import NODE4, NODE6, Box
from tests.kernel.host import ICMP, ICMP6, TCP, Pod
from tests.kernel.wire import outsider


def deny_egress(box: Box, pod: Pod) -> None:
    box.select(pod, egress=1)


def deny_ingress(box: Box, pod: Pod) -> None:
    box.select(pod, ingress=1)


@pytest.mark.parametrize("side", [deny_egress, deny_ingress])
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
def test_a_denied_connect_fails_at_once_and_is_told(box: Box, side: object, family: int) -> None:
    one, two, _ = box.pods
    deny_egress(box, one) if side is deny_egress else deny_ingress(box, two)
    box.apply()
    with pytest.raises(PermissionError):
        one.connect(two.ip4 if family == socket.AF_INET else two.ip6, 8080)
    reason = DropReason.POLICY_EGRESS if side is deny_egress else DropReason.POLICY_INGRESS
    assert [(e.reason, e.verdict) for e in box.events(EventType.CONNECT)] == [(reason, Verdict.DENY)]


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
def test_a_socket_that_no_hook_sees_is_judged_at_tc(box: Box, family: int) -> None:
    one, two, _ = box.pods
    deny_ingress(box, two)
    box.apply()
    target = two.ip4 if family == socket.AF_INET else two.ip6
    with two.listen(8080, family), outsider(one, family) as client, pytest.raises(TimeoutError):
        client.connect((target, 8080))
    (event, *_) = box.events(EventType.DROP)
    assert (event.reason, event.src_id, event.dst_id, event.dst_port) == (
        DropReason.POLICY_INGRESS,
        one.id,
        two.id,
        8080,
    )


def test_only_an_envoys_socket_may_open_what_must_be_steered(box: Box) -> None:
    one, two, _ = box.pods
    box.select(one, egress=1, flags=PodFlags.PROXY)
    box.peers(1, {(0, 0): 100})
    box.rule(100, Verdict.STEER, listener=0x100)
    box.apply()
    with two.listen(8080), outsider(one) as client, pytest.raises(TimeoutError):
        client.connect((two.ip4, 8080))
    assert box.events(EventType.DROP)[0].reason == DropReason.NOT_PROXY


def test_a_packet_to_a_service_address_that_was_not_translated_is_dropped(box: Box) -> None:
    one, two, _ = box.pods
    box.service("10.128.0.10", 80, [(two.ip4, 8080)])
    box.apply()
    with outsider(one) as client, pytest.raises(TimeoutError):
        client.connect(("10.128.0.10", 80))
    assert box.events(EventType.DROP)[0].reason == DropReason.UNTRANSLATED


def test_the_node_reaches_its_pods_unless_that_is_switched_off(box: Box) -> None:
    one, _, _ = box.pods
    box.select(one, ingress=1)
    box.apply()
    with one.listen(8080) as server:
        with box.host.connect(one.ip4, 8080, source=("10.64.0.1", 0)):
            server.accept()[0].close()
        box.kernel.set_config(3, 0)
        try:
            with pytest.raises(TimeoutError):
                box.host.connect(one.ip4, 8080, source=("10.64.0.1", 0), timeout=0.3)
        finally:
            box.kernel.set_config(3, 1)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
def test_a_ping_socket_that_connects_asks_for_an_echo(box: Box, family: int) -> None:
    one, two, _ = box.pods
    protocol, echo = (ICMP, 8) if family == socket.AF_INET else (ICMP6, 128)
    permit = "/proc/sys/net/ipv4/ping_group_range"
    run_in_netns(one.netns, lambda: Path(permit).write_text("0 2147483647"))
    box.select(one, egress=1)
    box.peers(1, {(two.id, 0): 100})
    box.rule(100, Verdict.ALLOW, protocol=protocol, port=echo)
    box.apply()
    with one.open_socket(family, socket.SOCK_DGRAM, protocol) as client:
        client.connect((two.ip4 if family == socket.AF_INET else two.ip6, 0))
    with one.open_socket(family, socket.SOCK_DGRAM, protocol) as client, pytest.raises(PermissionError):
        client.connect((NODE4 if family == socket.AF_INET else NODE6, 0))


def test_the_world_is_judged_by_its_address_blocks(box: Box) -> None:
    one, _, _ = box.pods
    box.select(one, ingress=1, egress=2)
    box.block("192.0.2.0/24", 2, cidrs=5)
    box.peers(1, {(2, 5): 100})
    box.rule(100, Verdict.ALLOW, protocol=TCP, port=8080)
    box.peers(2, {(2, 5): 101})
    box.rule(101, Verdict.ALLOW, protocol=TCP, port=9090)
    box.apply()
    with one.listen(8080) as server, box.world.connect(one.ip4, 8080):
        server.accept()[0].close()
    with box.world.listen(9090) as server, one.connect(box.world.ip4, 9090):
        server.accept()[0].close()
    with one.listen(8081), pytest.raises(TimeoutError):
        box.world.connect(one.ip4, 8081, timeout=0.3)
    with pytest.raises(PermissionError):
        one.connect(box.world.ip4, 9091)


def test_an_unsolicited_reset_or_ack_opens_nothing(box: Box) -> None:
    one, two, _ = box.pods
    for pod in (one, two):
        deny_ingress(box, pod)
    box.apply()
    segment = struct.pack("!HHIIBBHHH", 4000, 5000, 1, 1, 5 << 4, 0x10, 1000, 0, 0)
    with outsider(one, type=socket.SOCK_RAW, proto=TCP) as raw:
        raw.sendto(segment, (two.ip4, 0))
    assert [e.reason for e in box.events(EventType.DROP)] == [DropReason.NO_FLOW]
