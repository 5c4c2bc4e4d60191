"""Rules 7 to 9: live connections obey the newest policy, and only those it forbids are ended."""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bpf.layout import (
    DropReason,
    EventType,
    FlowKey,
    PodKey,
    PodSlot,
    PodValue,
    Verdict,
    packed_address,
)
from tests.kernel.box import Box
from tests.kernel.host import TCP, UDP, Host, arrives
from tests.kernel.wire import outsider

SO_ATTACH_FILTER = 26


@contextmanager
def connection(
    client: Host, server: Host, port: int = 8080, family: int = socket.AF_INET
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends."""
    address = server.ip4 if family == socket.AF_INET else server.ip6
    with server.listen(port, family) as listener, client.connect(address, port) as near:
        with listener.accept()[0] as far:
            far.settimeout(5)
            yield near, far


def talks(near: socket.socket, far: socket.socket) -> bool:
    near.sendall(b"x")
    far.sendall(b"y")
    return far.recv(1) == b"x" and near.recv(1) == b"y"


def flow_key(near: socket.socket, client: Host, server: Host) -> bytes:
    """Of an IPv4 connection to port 8080."""
    source = packed_address(client.ip4), near.getsockname()[1]
    return FlowKey.of(*source, packed_address(server.ip4), 8080, TCP).pack()


def allow(box: Box, set: int, port: int) -> None:
    box.peers(set, {(0, 0): set * 100})
    box.rule(set * 100, Verdict.ALLOW, protocol=TCP, port=port)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
def test_a_sweep_ends_what_policy_forbids_and_nothing_else(box: Box, family: int) -> None:
    one, two, _ = box.pods
    with connection(one, two, 8080, family) as kept, connection(one, two, 8081, family) as ended:
        box.select(two, ingress=1)
        allow(box, 1, 8080)
        box.apply()
        assert box.sweep() >= 1
        assert talks(*kept)
        for end in ended:
            with pytest.raises(ConnectionError):
                end.recv(1)
        assert box.sweep() == 0
    assert {e.reason for e in box.events(EventType.END)} == {DropReason.POLICY_INGRESS}


def test_a_forbidden_flow_carries_nothing_even_before_the_sweep(box: Box) -> None:
    one, two, _ = box.pods
    with connection(one, two) as (near, far):
        box.select(one, egress=1)
        box.apply()
        near.sendall(b"x")
        far.settimeout(0.2)
        with pytest.raises(TimeoutError):
            far.recv(1)


def test_answers_belong_to_the_flow_that_was_opened(box: Box) -> None:
    one, two, _ = box.pods
    box.select(two, egress=1)
    box.select(one, ingress=2)
    box.apply()
    with connection(one, two) as ends:
        assert talks(*ends)
        box.apply()
        assert talks(*ends)
        assert box.sweep() == 0


@pytest.mark.parametrize("side", ["asker", "answerer"])
@pytest.mark.parametrize("connected", [False, True], ids=["sendto", "connected"])
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
def test_a_datagram_is_answered_though_the_answerer_may_open_nothing(
    box: Box, side: str, connected: bool, family: int
) -> None:
    """The socket hooks know no direction: without the flow they would take an answer for a question."""
    one, two, _ = box.pods
    box.select(one, ingress=1 if side == "asker" else 0)
    box.select(two, egress=2 if side == "answerer" else 0)
    box.apply()
    address = two.ip4 if family == socket.AF_INET else two.ip6
    with (
        two.open_socket(family, socket.SOCK_DGRAM) as server,
        one.open_socket(family, socket.SOCK_DGRAM) as client,
    ):
        server.bind(("", 53))
        client.bind(("", 0))
        back = ((one.ip4 if family == socket.AF_INET else one.ip6), client.getsockname()[1])
        with pytest.raises(PermissionError):
            server.sendto(b"unasked", back)
        client.sendto(b"q", (address, 53))
        assert server.recvfrom(1)[1][:2] == back
        with pytest.raises(PermissionError):
            server.sendto(b"to another port", (back[0], back[1] ^ 1))
        with two.open_socket(family, socket.SOCK_DGRAM) as other, pytest.raises(PermissionError):
            other.sendto(b"from another port", back)
        if connected:
            server.connect(back)
            server.send(b"a")
        else:
            server.sendto(b"a", back)
        assert client.recv(9) == b"a"
        box.select(two, ingress=3)
        box.apply()
        server.send(b"late") if connected else server.sendto(b"late", back)
        assert not arrives(client, 0.1), "nobody may ask any more"


def test_a_connection_being_made_is_swept_too(box: Box) -> None:
    one, two, _ = box.pods
    box.apply()
    with two.listen(8080) as listener, one.open_socket() as client:
        # A filter of one instruction, "return 0", drops every SYN: the client stays in SYN_SENT.
        instruction = ctypes.create_string_buffer(struct.pack("=HBBI", 6, 0, 0, 0))
        program = struct.pack("=H6xQ", 1, ctypes.addressof(instruction))
        listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.connect((two.ip4, 8080))
        box.select(one, egress=1)
        box.apply()
        assert box.sweep() == 1
        assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNABORTED


def test_an_unaccepted_connection_is_swept_too(box: Box) -> None:
    one, two, _ = box.pods
    box.apply()
    with two.listen(8080) as listener, one.connect(two.ip4, 8080) as client:
        box.select(two, ingress=1)
        box.apply()
        assert box.sweep() >= 1
        with pytest.raises(ConnectionError):
            client.recv(1)
        assert arrives(listener)


@pytest.mark.parametrize("entry", ["present", "lost"])
def test_the_reset_of_an_ended_connection_reaches_a_peer_outside(box: Box, entry: str) -> None:
    one, _, _ = box.pods
    box.select(one, ingress=2)
    box.apply()
    with connection(one, box.world, 9090) as (near, far):
        if entry == "lost":
            flows = box.kernel.table("sl_flow")
            flows.delete([key for key, _ in list(flows.items())])
        box.select(one, ingress=2, egress=1)
        box.apply()
        assert box.sweep() == 1
        with pytest.raises(ConnectionError):
            near.recv(1)
        with pytest.raises(ConnectionError):
            far.recv(1)


@pytest.mark.parametrize("evicted", ["while allowed", "then forbidden"])
def test_a_flow_survives_the_loss_of_its_entry_while_it_is_allowed(box: Box, evicted: str) -> None:
    one, two, _ = box.pods
    box.select(two, ingress=1)
    allow(box, 1, 8080)
    box.select(one, ingress=2)
    box.apply()
    with connection(one, two) as (near, far):
        key = flow_key(near, one, two)
        assert box.kernel.table("sl_flow").lookup(key)
        box.kernel.table("sl_flow").delete([key])
        far.sendall(b"y")
        assert near.recv(1) == b"y"
        assert talks(near, far)
        box.kernel.table("sl_flow").delete([key])
        if evicted == "then forbidden":
            box.rule(100, Verdict.DENY, protocol=TCP, port=8080)
            box.apply()
            assert box.sweep() >= 1
            for end in (near, far):
                with pytest.raises(ConnectionError):
                    end.recv(1)
        else:
            assert box.sweep() == 0
            assert talks(near, far)


def test_loopback_connections_are_left_alone(box: Box) -> None:
    one, _, _ = box.pods
    with one.listen(8080) as listener, one.connect("127.0.0.1", 8080) as near, listener.accept()[0] as far:
        with one.connect(one.ip4, 8080) as own, listener.accept()[0] as own_far:
            box.select(one, ingress=1, egress=2)
            box.apply()
            assert box.sweep() == 0
            assert talks(near, far)
            assert talks(own, own_far)


def test_an_envoys_connection_goes_on_where_an_applications_must_be_steered(box: Box) -> None:
    one, two, _ = box.pods
    with two.listen(8080) as listener, one.connect(two.ip4, 8080, proxy=True) as upstream:
        with listener.accept()[0] as far, connection(one, two, 8081) as direct:
            box.select(one, egress=1, flags=1)
            box.peers(1, {(0, 0): 100})
            box.rule(100, Verdict.STEER, listener=0x100)
            box.apply()
            key = flow_key(upstream, one, two)
            assert box.sweep() >= 1
            assert talks(upstream, far)
            with pytest.raises(ConnectionError):
                direct[0].recv(1)
            box.kernel.table("sl_flow").delete([key])
            assert box.sweep() == 0
            assert talks(upstream, far)


def test_an_application_cannot_make_itself_an_entry_where_it_must_be_steered(box: Box) -> None:
    one, two, _ = box.pods
    box.select(one, ingress=2, egress=1, flags=1)
    box.peers(1, {(0, 0): 100})
    box.rule(100, Verdict.STEER, listener=0x100)
    box.apply()
    ack = struct.pack("!HHIIBBHHH", 8080, 4000, 1, 1, 5 << 4, 0x10, 1000, 0, 0)
    with outsider(two, type=socket.SOCK_RAW, proto=TCP) as raw:
        raw.sendto(ack, (one.ip4, 0))
    key = FlowKey.of(packed_address(one.ip4), 4000, packed_address(two.ip4), 8080, TCP).pack()
    assert box.kernel.table("sl_flow").lookup(key) is None


def test_a_datagram_flow_is_judged_again_after_a_change(box: Box) -> None:
    one, two, _ = box.pods
    with two.open_socket(type=socket.SOCK_DGRAM) as server, one.open_socket(type=socket.SOCK_DGRAM) as client:
        server.bind(("", 5000))
        client.connect((two.ip4, 5000))
        client.send(b"x")
        assert arrives(server)
        server.recv(1)
        box.select(two, ingress=1)
        box.peers(1, {(0, 0): 100})
        box.rule(100, Verdict.ALLOW, protocol=UDP, port=5001)
        box.apply()
        client.send(b"x")
        assert not arrives(server, 0.2)


def test_a_flow_whose_entry_was_lost_is_allowed_whoever_opened_it(box: Box) -> None:
    one, two, _ = box.pods
    box.apply()
    with connection(one, two) as (near, far):
        key = flow_key(near, one, two)
        box.kernel.table("sl_flow").delete([key])
        far.sendall(b"y")
        assert near.recv(1) == b"y"
        box.select(two, egress=1)
        box.apply()
        assert box.sweep() == 0
        assert talks(near, far)


def test_what_is_written_beside_the_generation_in_force_changes_nothing_until_the_flip(box: Box) -> None:
    one, two, _ = box.pods
    box.select(two, ingress=1)
    allow(box, 1, 8080)
    now = box.apply()
    key, pods = PodKey(packed_address(two.ip4)).pack(), box.kernel.table("sl_pod")
    value = pods.lookup(key)
    assert value is not None
    (current,) = (slot for slot in PodValue.unpack(value).slots if slot.generation == now)
    pods.update({key: PodValue((current, PodSlot(generation=now + 1))).pack()})
    with connection(one, two) as ends:
        assert talks(*ends)
        box.kernel.flip(now + 1)
        with pytest.raises(PermissionError):
            two.connect(one.ip4, 8080)
