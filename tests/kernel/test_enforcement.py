"""Decision 3 and rules 10 to 14: what the socket hooks did not see is judged packet by packet."""

from __future__ import annotations

import os
import socket
import struct

import pytest

from agent.kernel.namespace import run_in_netns
from bpf.layout import DropReason, EventType, PodFlags, Verdict
from tests.kernel.box import ICMP, ICMP6, TCP, UDP, Box, Host, Pod, arrives, child

#: Connects of a socket that was made outside the mesh's cgroup see no hook of ours.


def outsider(pod: Pod, family: int = socket.AF_INET, type: int = socket.SOCK_STREAM, proto: int = 0) -> socket.socket:
    """A socket in the pod's namespace that no cgroup hook sees, as if it had been passed in."""
    (fd,) = child(pod.netns, None, lambda: [socket.socket(family, type, proto).detach()])
    made = socket.socket(family, type, proto, fileno=fd)
    made.settimeout(0.3)
    return made


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
        DropReason.POLICY_INGRESS, one.id, two.id, 8080)


def test_only_an_envoys_socket_may_open_what_must_be_steered(box: Box) -> None:
    one, two, _ = box.pods
    box.select(one, egress=1, flags=PodFlags.PROXY)
    box.peers(1, {(0, 0): 100})
    box.rule(100, Verdict.STEER, listener=0x100)
    box.apply()
    with two.listen(8080), outsider(one) as client, pytest.raises(TimeoutError):
        client.connect((two.ip4, 8080))
    assert box.events(EventType.DROP)[0].reason == DropReason.NOT_PROXY


def test_a_raw_socket_is_judged_like_any_other(box: Box) -> None:
    one, two, _ = box.pods
    deny_ingress(box, two)
    box.apply()
    datagram = struct.pack("!HHHH", 4000, 5000, 9, 0) + b"x"
    with two.open_socket(type=socket.SOCK_DGRAM) as server, outsider(one, type=socket.SOCK_RAW, proto=UDP) as raw:
        server.bind(("", 5000))
        raw.sendto(datagram, (two.ip4, 0))
        assert not arrives(server, 0.2)
        box.reset()
        box.apply()
        raw.sendto(datagram, (two.ip4, 0))
        assert arrives(server)


@pytest.mark.parametrize("protocol", [47, 50, 132, 136], ids=["gre", "esp", "sctp", "udplite"])
def test_every_protocol_is_judged(box: Box, protocol: int) -> None:
    one, two, _ = box.pods
    deny_ingress(box, two)
    box.apply()
    with (
        outsider(two, type=socket.SOCK_RAW, proto=protocol) as receiver,
        outsider(one, type=socket.SOCK_RAW, proto=protocol) as raw,
    ):
        raw.sendto(bytes(32), (two.ip4, 0))
        assert not arrives(receiver, 0.2)
        box.reset()
        box.apply()
        raw.sendto(bytes(32), (two.ip4, 0))
        assert arrives(receiver)


def packet_socket(pod: Pod) -> socket.socket:
    def make() -> list[int]:
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        made.bind(("eth0", 0))
        return [made.detach()]

    return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, fileno=child(pod.netns, pod.cgroup, make)[0])


def udp4(source: str, target: str, sport: int, dport: int, payload: bytes = b"x") -> bytes:
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28 + len(payload), 1, 0, 64, UDP, 0,
                       socket.inet_aton(source), socket.inet_aton(target))
    head = head[:10] + (~_sum(head) & 0xFFFF).to_bytes(2, "big") + head[12:]
    return head + struct.pack("!HHHH", sport, dport, 8 + len(payload), 0) + payload


def frame(pod: Pod, ethertype: int, payload: bytes) -> bytes:
    return bytes.fromhex(pod.mac.replace(":", "")) + bytes(6) + ethertype.to_bytes(2, "big") + payload


@pytest.mark.parametrize("source", ["10.64.0.6", "10.64.0.77", "10.64.0.1", "192.0.2.2", "127.0.0.6", "0.0.0.0"])
def test_a_packet_socket_cannot_speak_for_others(box: Box, source: str) -> None:
    one, two, three = box.pods
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
    ip6 = struct.pack("!IHBB16s16s", 6 << 28, 9, UDP, 64, *mapped) + struct.pack("!HHHH", 4000, 5000, 9, 0) + b"x"
    with packet_socket(one) as raw:
        raw.send(frame(one, 0x88B5, bytes(60)))
        raw.send(frame(one, 0x86DD, ip6))
    assert [e.reason for e in box.events(EventType.DROP)] == [DropReason.UNPARSABLE, DropReason.SPOOFED_SOURCE]


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
    with two.open_socket(socket.AF_INET6, socket.SOCK_DGRAM) as server, outsider(
        one, socket.AF_INET6, socket.SOCK_DGRAM
    ) as client:
        server.bind(("", 5001))
        client.setsockopt(socket.IPPROTO_IPV6, 59, b"\x00" + bytes([0, 1, 4]) + bytes(4))  # IPV6_DSTOPTS
        client.sendto(b"x", (two.ip6, 5000))
        client.sendto(b"x", (two.ip6, 5001))
        assert arrives(server)
    assert [(e.reason, e.dst_port) for e in box.events(EventType.DROP)] == [(DropReason.POLICY_INGRESS, 5000)]


def test_a_pod_answers_arp_for_its_own_address_only(box: Box) -> None:
    one, two, _ = box.pods

    def arp(sender: str) -> bytes:
        return frame(one, 0x0806, struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 2, bytes(6),
                                               socket.inet_aton(sender), bytes(6), socket.inet_aton("10.64.0.1")))

    before = box.dropped(DropReason.SPOOFED_SOURCE)
    with packet_socket(one) as raw:
        raw.send(arp(two.ip4))
        assert box.dropped(DropReason.SPOOFED_SOURCE) == before + 1
        raw.send(arp(one.ip4))
        assert box.dropped(DropReason.SPOOFED_SOURCE) == before + 1


def test_a_packet_to_a_service_address_that_was_not_translated_is_dropped(box: Box) -> None:
    one, two, _ = box.pods
    box.service("10.128.0.10", 80, [(two.ip4, 8080)])
    box.apply()
    with outsider(one) as client, pytest.raises(TimeoutError):
        client.connect(("10.128.0.10", 80))
    assert box.events(EventType.DROP)[0].reason == DropReason.UNTRANSLATED


@pytest.mark.parametrize("size", [100, 4000, 60000])
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
def test_fragments_follow_their_first(box: Box, size: int, family: int) -> None:
    one, two, _ = box.pods
    target = two.ip4 if family == socket.AF_INET else two.ip6
    box.select(two, ingress=1)
    box.peers(1, {(0, 0): 100})
    box.rule(100, Verdict.ALLOW, protocol=UDP, port=5000)
    box.apply()
    with two.open_socket(family, socket.SOCK_DGRAM) as server, outsider(one, family, socket.SOCK_DGRAM) as client:
        server.bind(("", 5000))
        client.sendto(bytes(size), (target, 5000))
        assert len(server.recv(65536)) == size
        client.sendto(bytes(size), (target, 5001))
        drops = [e.reason for e in box.events(EventType.DROP)]
        assert drops[0] == DropReason.POLICY_INGRESS
        assert set(drops[1:]) <= {DropReason.FRAGMENT}


def ping(pod: Host, target: str, *, timeout: float) -> bool:
    """Whether an echo request is answered; `timeout` is in seconds."""
    ip4 = ":" not in target
    with outsider(pod, socket.AF_INET if ip4 else socket.AF_INET6, socket.SOCK_RAW, ICMP if ip4 else ICMP6) as raw:  # type: ignore[arg-type]
        identifier = os.getpid() & 0xFFFF
        raw.sendto(_checked(struct.pack("!BBHHH", 8 if ip4 else 128, 0, 0, identifier, 1)), (target, 0))
        while arrives(raw, timeout):
            data = raw.recv(2048)
            if data[20 if ip4 else 0] == (0 if ip4 else 129):
                return True
        return False


def _sum(data: bytes) -> int:
    """The Internet checksum's sum of an even number of bytes, RFC 1071."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def _checked(message: bytes) -> bytes:
    return message[:2] + (~_sum(message) & 0xFFFF).to_bytes(2, "big") + message[4:]


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


def test_an_error_that_quotes_no_live_flow_is_dropped(box: Box) -> None:
    one, two, _ = box.pods
    with outsider(one, type=socket.SOCK_RAW, proto=ICMP) as raw:
        quote = udp4(two.ip4, one.ip4, 5000, 4000)
        raw.sendto(_checked(struct.pack("!BBHI", 3, 3, 0, 0) + quote + bytes(len(quote) % 2)), (two.ip4, 0))
    assert [e.reason for e in box.events(EventType.DROP)] == [DropReason.UNRELATED_ICMP]


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


def test_nobody_outside_speaks_for_a_pod_or_the_node(box: Box) -> None:
    one, two, _ = box.pods

    def send_as(source: str) -> None:
        ends = [socket.inet_pton(socket.AF_INET6, address) for address in (source, one.ip6)]
        pseudo = struct.pack("!16s16sIHBB", *ends, 10, 0, 0, UDP)
        datagram = struct.pack("!HHHH", 4000, 5000, 10, 0) + b"xx"
        checksum = ~_sum(pseudo + datagram) & 0xFFFF
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


def test_an_unsolicited_reset_or_ack_opens_nothing(box: Box) -> None:
    one, two, _ = box.pods
    for pod in (one, two):
        deny_ingress(box, pod)
    box.apply()
    segment = struct.pack("!HHIIBBHHH", 4000, 5000, 1, 1, 5 << 4, 0x10, 1000, 0, 0)
    with outsider(one, type=socket.SOCK_RAW, proto=TCP) as raw:
        raw.sendto(segment, (two.ip4, 0))
    assert [e.reason for e in box.events(EventType.DROP)] == [DropReason.NO_FLOW]
