"""Rule 25: what is counted of TCP connections that stay in the kernel, and of which nothing is."""

from __future__ import annotations

import socket
import time

import pytest

from bpf.layout import (
    NO_ADDRESS,
    Config,
    Event,
    EventFlags,
    EventType,
    FlowFlags,
    FlowKey,
    FlowValue,
    TrafficKey,
    TrafficValue,
    packed_address,
)
from tests.kernel.box import Box
from tests.kernel.test_inbound import envoy_at, judge_callers

VIP4, VIP6 = "10.128.0.10", "fd51:ce00:0:2::a"


def counted(box: Box) -> dict[TrafficKey, TrafficValue]:
    return {
        TrafficKey.unpack(key): TrafficValue.unpack(value)
        for key, value in box.kernel.table("sl_traffic").items()
    }


def row(pod: str, peer: str, port: int, *, opener: int, vip: str = "") -> TrafficKey:
    at = packed_address(peer) if peer else NO_ADDRESS
    return TrafficKey(packed_address(pod), at, packed_address(vip) if vip else NO_ADDRESS, port, opener)


def settled(box: Box, key: TrafficKey, closed: int = 1) -> TrafficValue:
    """The row once so many have been closed."""
    deadline = time.monotonic() + 5
    while (found := counted(box).get(key, TrafficValue())).closed < closed:
        assert time.monotonic() < deadline, f"not closed: {counted(box)}"
        time.sleep(0.01)
    return found


def talk(server: socket.socket, client: socket.socket, asked: int, answered: int) -> None:
    """Whole conversation, both ends closed, the client's first."""
    with server.accept()[0] as accepted:
        client.sendall(b"q" * asked)
        client.shutdown(socket.SHUT_WR)
        while len(got := accepted.recv(1 << 16)):
            asked -= len(got)
        assert not asked
        accepted.sendall(b"a" * answered)
    while len(got := client.recv(1 << 16)):
        answered -= len(got)
    assert not answered
    client.close()


@pytest.mark.parametrize("vip", [VIP4, VIP6])
def test_both_ends_count_a_connection_and_its_bytes_to_the_last(box: Box, vip: str) -> None:
    one, two, _ = box.pods
    own, backend = (one.ip6, two.ip6) if ":" in vip else (one.ip4, two.ip4)
    box.service(vip, 80, [(backend, 8080)])
    box.apply()
    family = socket.AF_INET6 if ":" in vip else socket.AF_INET
    source = row(own, backend, 8080, opener=1, vip=vip)
    destination = row(backend, own, 8080, opener=0)
    with two.listen(8080, family) as server:
        with one.connect(vip, 80) as client:
            assert counted(box)[source] == TrafficValue(opened=1)
            talk(server, client, 1_000, 300_000)
        with one.connect(vip, 80) as client:
            talk(server, client, 0, 1)
    assert settled(box, source, 2) == TrafficValue(2, 2, 1_000, 300_001)
    assert settled(box, destination, 2) == TrafficValue(2, 2, 300_001, 1_000)
    assert set(counted(box)) == {source, destination}


def test_the_world_is_one_peer(box: Box) -> None:
    one, _, _ = box.pods
    with one.listen(8080) as server:
        for _ in range(2):
            with box.world.connect(one.ip4, 8080) as client:
                talk(server, client, 5, 7)
    assert settled(box, row(one.ip4, "", 8080, opener=0), 2) == TrafficValue(2, 2, 14, 10)
    assert len(counted(box)) == 1


def test_a_connection_that_is_reset_has_ended(box: Box) -> None:
    one, two, _ = box.pods
    with two.listen(8080) as server, one.connect(two.ip4, 8080) as client, server.accept()[0] as accepted:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        client.sendall(b"four")
        assert accepted.recv(4) == b"four"
        client.close()
        with pytest.raises(ConnectionResetError):
            accepted.recv(1)
    assert settled(box, row(one.ip4, two.ip4, 8080, opener=1)) == TrafficValue(1, 1, 4, 0)
    assert settled(box, row(two.ip4, one.ip4, 8080, opener=0)) == TrafficValue(1, 1, 0, 4)


def test_what_an_envoy_opens_or_takes_is_counted_at_neither_end(box: Box) -> None:
    one, two, _ = box.pods
    with two.listen(8080) as server, one.connect(two.ip4, 8080, proxy=True) as client:
        talk(server, client, 1, 1)
    judge_callers(box, two)
    box.apply()
    try:
        with envoy_at(box, two, socket.AF_INET) as envoy, one.connect(two.ip4, 8080) as client:
            talk(envoy, client, 1, 1)
    finally:
        box.kernel.detach_inbound(two.name)
    assert counted(box) == {}


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
def test_what_an_envoy_answers_at_a_port_of_its_own_is_counted_at_neither_end(
    box: Box, family: socket.AddressFamily
) -> None:
    one, two, _ = box.pods
    to, client_ip = (two.ip4, one.ip4) if family == socket.AF_INET else (two.ip6, one.ip6)
    box.kernel.tell_closes(True)
    try:
        with two.listen(8080, family, proxy=True) as gateway, one.connect(to, 8080) as client:
            key = FlowKey.of(packed_address(client_ip), client.getsockname()[1], packed_address(to), 8080, 6)
            flow = FlowValue.unpack(box.kernel.table("sl_flow").lookup(key.pack()) or b"")
            assert flow.flags & (FlowFlags.TO_PROXY | FlowFlags.BY_PROXY) == FlowFlags.TO_PROXY
            talk(gateway, client, 1, 1)
        with two.listen(8080, family, proxy=True) as gateway, box.world.connect(to, 8080) as client:
            talk(gateway, client, 1, 1)
    finally:
        box.kernel.tell_closes(False)
    assert counted(box) == {} and list(box.events(EventType.CLOSE)) == []


def test_what_the_node_opens_is_not_counted_and_what_it_answers_is(box: Box) -> None:
    one, _, _ = box.pods
    box.kernel.tell_closes(True)
    try:
        with one.listen(8080) as server, box.host.connect(one.ip4, 8080) as client:
            talk(server, client, 1, 1)
        with box.host.listen(8080) as server, one.connect(box.host.ip4, 8080) as client:
            talk(server, client, 1, 1)
        assert settled(box, row(one.ip4, "", 8080, opener=1)) == TrafficValue(1, 1, 1, 1)
    finally:
        box.kernel.tell_closes(False)
    assert len(counted(box)) == 1
    assert [event.dst for event in box.events(EventType.CLOSE)] == [packed_address(box.host.ip4)]


def test_nothing_is_counted_of_the_pods_of_another_node(box: Box) -> None:
    one, _, _ = box.pods
    box.block(f"{box.world.ip4}/32", 300)
    box.apply()
    with one.listen(8080) as server, box.world.connect(one.ip4, 8080) as client:
        talk(server, client, 1, 1)
    assert counted(box) == {}


def test_it_can_be_switched_off(box: Box) -> None:
    one, two, _ = box.pods
    box.kernel.set_config(Config.TRAFFIC, 0)
    try:
        with two.listen(8080) as server, one.connect(two.ip4, 8080) as client:
            talk(server, client, 1, 1)
    finally:
        box.kernel.set_config(Config.TRAFFIC, 1)
    assert counted(box) == {}


@pytest.mark.parametrize("vip", [VIP4, VIP6])
def test_each_end_tells_when_it_is_closed_if_that_is_wanted(box: Box, vip: str) -> None:
    one, two, _ = box.pods
    own, backend = (one.ip6, two.ip6) if ":" in vip else (one.ip4, two.ip4)
    box.service(vip, 80, [(backend, 8080)])
    box.apply()
    family = socket.AF_INET6 if ":" in vip else socket.AF_INET
    with two.listen(8080, family) as server:
        with one.connect(vip, 80) as client:
            talk(server, client, 7, 300_000)
        settled(box, row(backend, own, 8080, opener=0))
        box.kernel.tell_closes(True)
        try:
            with one.connect(vip, 80) as client:
                port = client.getsockname()[1]
                talk(server, client, 1_000, 300_000)
            settled(box, row(own, backend, 8080, opener=1, vip=vip), 2)
            settled(box, row(backend, own, 8080, opener=0), 2)
        finally:
            box.kernel.tell_closes(False)
    opener, other = sorted(box.events(EventType.CLOSE), key=lambda event: -event.flags)
    assert all(Event.is_close(event.pack()) for event in (opener, other))
    assert (opener.src, opener.dst, opener.vip) == tuple(map(packed_address, (own, backend, vip)))
    assert (opener.src_port, opener.dst_port) == (port, 8080)
    assert (opener.flags, opener.sent, opener.received) == (EventFlags.EGRESS, 1_000, 300_000)
    assert (other.src, other.dst, other.vip) == (packed_address(backend), packed_address(own), NO_ADDRESS)
    assert (other.src_port, other.dst_port) == (8080, port)
    assert (other.flags, other.sent, other.received) == (0, 300_000, 1_000)
