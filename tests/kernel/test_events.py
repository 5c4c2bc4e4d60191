"""What is said: one event for each new flow with everything a flow record needs, and every drop."""

from __future__ import annotations

import select
import socket
from pathlib import Path

from agent.kernel.namespace import run_in_netns
from bpf.layout import EventFlags, EventType, Verdict, address_text
from tests.kernel.box import Box
from tests.kernel.host import TCP, UDP

VIP = "10.128.0.10"


def test_a_flow_is_told_once_with_both_identities_and_the_service_address(box: Box) -> None:
    one, two, _ = box.pods
    box.service(VIP, 80, [(two.ip4, 8080)])
    box.select(two, ingress=1)
    box.peers(1, {(one.id, 0): 100})
    box.rule(100, Verdict.ALLOW, protocol=TCP, port=8080, cookie=99)
    generation = box.apply()
    with two.listen(8080) as server, one.connect(VIP, 80) as client, server.accept()[0] as accepted:
        client.sendall(b"x")
        assert accepted.recv(1) == b"x"
        source = client.getsockname()[1]
    (event,) = box.events(EventType.FLOW, dst_port=8080)
    assert (address_text(event.src), event.src_port, event.src_id) == (one.ip4, source, one.id)
    assert (address_text(event.dst), event.dst_port, event.dst_id) == (two.ip4, 8080, two.id)
    assert (address_text(event.vip), event.vip_port) == (VIP, 80)
    assert (event.protocol, event.verdict, event.reason, event.cookie) == (TCP, Verdict.ALLOW, 0, 99)
    assert (event.generation, event.flags) == (generation, EventFlags.EGRESS)


def test_an_unconnected_datagram_names_its_service_too(box: Box) -> None:
    one, two, _ = box.pods
    box.service(VIP, 53, [(two.ip4, 5353)], protocol=UDP)
    box.apply()
    with two.open_socket(type=socket.SOCK_DGRAM) as server, one.open_socket(type=socket.SOCK_DGRAM) as client:
        server.bind(("", 5353))
        client.sendto(b"x", (VIP, 53))
        server.recv(1)
    (event,) = box.events(EventType.FLOW, dst_port=5353)
    assert (address_text(event.vip), event.vip_port) == (VIP, 53)


def test_a_flow_from_outside_is_told_at_the_destination(box: Box) -> None:
    one, _, _ = box.pods
    with one.listen(8080) as server, box.world.connect(one.ip4, 8080):
        server.accept()[0].close()
    (event,) = box.events(EventType.FLOW, dst_port=8080)
    assert (address_text(event.src), event.src_id, event.flags) == (box.world.ip4, 2, 0)


def test_no_event_is_lost_in_a_burst(box: Box) -> None:
    one, two, _ = box.pods
    lost = box.kernel.counters()["events_lost"]
    with two.open_socket(type=socket.SOCK_DGRAM) as server, one.open_socket(type=socket.SOCK_DGRAM) as client:
        server.bind(("", 5000))
        for port in range(10000, 12000):
            client.sendto(b"x", (two.ip4, port))
    assert len({e.dst_port for e in box.events(EventType.FLOW)}) == 2000
    assert box.kernel.counters()["events_lost"] == lost


def test_the_ring_wakes_its_reader_when_much_is_pending(box: Box) -> None:
    one, two, _ = box.pods
    ring = box.kernel.events()
    with one.open_socket(type=socket.SOCK_DGRAM) as client, select.epoll() as poll:
        poll.register(ring.fileno(), select.EPOLLIN)
        ring.drain()
        for port in range(20000, 21000):
            client.sendto(b"x", (two.ip4, port))
        assert poll.poll(5)
    assert len(ring.drain()) >= 1000


def test_local_pods_are_joined_past_the_hosts_stack(box: Box) -> None:
    one, two, _ = box.pods

    def sent_by_stack() -> int:
        return run_in_netns(box.node, lambda: _sent(two.interface))

    before = sent_by_stack()
    with two.listen(8080) as server, one.connect(two.ip4, 8080) as client, server.accept()[0] as accepted:
        client.sendall(b"x")
        assert accepted.recv(1) == b"x"
    assert sent_by_stack() == before


def _sent(interface: str) -> int:
    """Packets that left through a device of this thread's namespace."""
    lines = Path("/proc/thread-self/net/dev").read_text().splitlines()
    (line,) = (ln for ln in lines if ln.strip().startswith(f"{interface}:"))
    return int(line.split(":")[1].split()[9])
