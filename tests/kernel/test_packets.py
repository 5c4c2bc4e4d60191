"""Rule 13 and spoofing at tc: sources, extension headers, fragments, ICMP and neighbours."""

from __future__ import annotations

import socket
import struct

import pytest

from agent.kernel.namespace import run_in_netns
from bpf.layout import DropReason, EventType, Verdict
from tests.kernel.box import Box
from tests.kernel.host import ICMP, ICMP6, UDP, arrives
from tests.kernel.wire import frame, internet_sum, outsider, packet_socket, ping, udp4


@pytest.mark.parametrize(
    "source", ["10.64.0.6", "10.64.0.77", "10.64.0.1", "192.0.2.2", "127.0.0.6", "0.0.0.0"]
)
def test_a_packet_socket_cannot_speak_for_others(box: Box, source: str) -> None:
    one, _, three = box.pods
    with three.open_socket(type=socket.SOCK_DGRAM) as server, packet_socket(one) as raw:
        server.bind(("", 5000))
        raw.send(frame(one, 0x0800, udp4(source, three.ip4, 4000, 5000)))
        assert not arrives(server, 0.2)
        assert {e.reason for e in box.events(EventType.DROP)} == {DropReason.SPOOFED_SOURCE}
        raw.send(frame(one, 0x0800, udp4(one.ip4, three.ip4, 4000, 5000)))
        assert arrives(server)


def test_unknown_ethertypes_and_mapped_addresses_on_the_wire_are_dropped(box: Box) -> None:
    one, two, _ = box.pods
    mapped = [socket.inet_pton(socket.AF_INET6, f"::ffff:{address}") for address in (one.ip4, two.ip4)]
    ip6 = (
        struct.pack("!IHBB16s16s", 6 << 28, 9, UDP, 64, *mapped)
        + struct.pack("!HHHH", 4000, 5000, 9, 0)
        + b"x"
    )
    with packet_socket(one) as raw:
        raw.send(frame(one, 0x88B5, bytes(60)))
        raw.send(frame(one, 0x86DD, ip6))
    assert [e.reason for e in box.events(EventType.DROP)] == [
        DropReason.UNPARSABLE,
        DropReason.SPOOFED_SOURCE,
    ]


def test_a_routing_header_is_not_let_through(box: Box) -> None:
    one, two, _ = box.pods
    ends = [socket.inet_pton(socket.AF_INET6, address) for address in (one.ip6, two.ip6)]
    udp = struct.pack("!HHHH", 4000, 5000, 9, 0) + b"x"
    routing = struct.pack("!BBBB4s", UDP, 0, 0, 0, bytes(4))
    padding = struct.pack("!BB6s", 43, 0, b"\x01\x04" + bytes(4))
    head = struct.pack("!IHBB16s16s", 6 << 28, len(padding + routing + udp), 60, 64, *ends)
    with packet_socket(one) as raw:
        raw.send(frame(one, 0x86DD, head + padding + routing + udp))
    assert [e.reason for e in box.events(EventType.DROP)] == [DropReason.UNPARSABLE]


def test_extension_headers_do_not_hide_the_port(box: Box) -> None:
    one, two, _ = box.pods
    box.select(two, ingress=1)
    box.peers(1, {(0, 0): 100})
    box.rule(100, Verdict.ALLOW, protocol=UDP, port=5001)
    box.apply()
    with (
        two.open_socket(socket.AF_INET6, socket.SOCK_DGRAM) as server,
        outsider(one, socket.AF_INET6, socket.SOCK_DGRAM) as client,
    ):
        server.bind(("", 5001))
        client.setsockopt(socket.IPPROTO_IPV6, 59, b"\x00" + bytes([0, 1, 4]) + bytes(4))  # IPV6_DSTOPTS
        client.sendto(b"x", (two.ip6, 5000))
        client.sendto(b"x", (two.ip6, 5001))
        assert arrives(server)
    assert [(e.reason, e.dst_port) for e in box.events(EventType.DROP)] == [(DropReason.POLICY_INGRESS, 5000)]


def test_a_pod_answers_arp_for_its_own_address_only(box: Box) -> None:
    one, two, _ = box.pods

    def arp(sender: str) -> bytes:
        return frame(
            one,
            0x0806,
            struct.pack(
                "!HHBBH6s4s6s4s",
                1,
                0x0800,
                6,
                4,
                2,
                bytes(6),
                socket.inet_aton(sender),
                bytes(6),
                socket.inet_aton("10.64.0.1"),
            ),
        )

    before = box.dropped(DropReason.SPOOFED_SOURCE)
    with packet_socket(one) as raw:
        raw.send(arp(two.ip4))
        assert box.dropped(DropReason.SPOOFED_SOURCE) == before + 1
        raw.send(arp(one.ip4))
        assert box.dropped(DropReason.SPOOFED_SOURCE) == before + 1


@pytest.mark.parametrize("size", [100, 4000, 60000])
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
def test_fragments_follow_their_first(box: Box, size: int, family: int) -> None:
    one, two, _ = box.pods
    target = two.ip4 if family == socket.AF_INET else two.ip6
    box.select(two, ingress=1)
    box.peers(1, {(0, 0): 100})
    box.rule(100, Verdict.ALLOW, protocol=UDP, port=5000)
    box.apply()
    with (
        two.open_socket(family, socket.SOCK_DGRAM) as server,
        outsider(one, family, socket.SOCK_DGRAM) as client,
    ):
        server.bind(("", 5000))
        client.sendto(bytes(size), (target, 5000))
        assert len(server.recv(65536)) == size
        client.sendto(bytes(size), (target, 5001))
        drops = [e.reason for e in box.events(EventType.DROP)]
        assert drops[0] == DropReason.POLICY_INGRESS
        assert set(drops[1:]) <= {DropReason.FRAGMENT}


@pytest.mark.parametrize("family", [4, 6])
def test_echo_is_a_flow_by_itself(box: Box, family: int) -> None:
    one, two, _ = box.pods
    target = two.ip4 if family == 4 else two.ip6
    assert ping(one, target, timeout=5)
    box.select(one, ingress=1)
    box.apply()
    assert ping(one, target, timeout=5), "answers to the pod's own requests pass its ingress policy"
    assert not ping(two, one.ip4 if family == 4 else one.ip6, timeout=0.2)
    box.peers(1, {(0, 0): 100})
    box.rule(100, Verdict.ALLOW, protocol=ICMP if family == 4 else ICMP6, port=8 if family == 4 else 128)
    box.apply()
    assert ping(two, one.ip4 if family == 4 else one.ip6, timeout=5)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
def test_an_error_that_quotes_a_live_flow_passes(box: Box, family: int) -> None:
    one, two, _ = box.pods
    box.select(one, ingress=1)
    box.apply()
    with one.open_socket(family, socket.SOCK_DGRAM) as client:
        client.connect((two.ip4 if family == socket.AF_INET else two.ip6, 5999))
        client.send(b"x")
        with pytest.raises(ConnectionRefusedError):
            client.recv(1)


def test_nobody_outside_speaks_for_a_pod_or_the_node(box: Box) -> None:
    one, two, _ = box.pods

    def send_as(source: str) -> None:
        ends = [socket.inet_pton(socket.AF_INET6, address) for address in (source, one.ip6)]
        pseudo = struct.pack("!16s16sIHBB", *ends, 10, 0, 0, UDP)
        datagram = struct.pack("!HHHH", 4000, 5000, 10, 0) + b"xx"
        checksum = ~internet_sum(pseudo + datagram) & 0xFFFF
        datagram = datagram[:6] + checksum.to_bytes(2, "big") + datagram[8:]
        with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            raw.sendto(struct.pack("!IHBB16s16s", 6 << 28, 10, UDP, 64, *ends) + datagram, (one.ip6, 0))

    with one.open_socket(socket.AF_INET6, socket.SOCK_DGRAM) as server:
        server.bind(("", 5000))
        for source in (two.ip6, "fd51:ce00:0:1::1", "::6", "fd51:ce:1::1"):
            run_in_netns(box.world.netns, lambda source=source: send_as(source))  # type: ignore[misc]
        assert not arrives(server, 0.3)
        run_in_netns(box.world.netns, lambda: send_as("2001:db8::99"))
        assert arrives(server)
