"""Rule 5: at the destination one transparent listener per policy class, chosen by who calls."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bpf.layout import DropReason, EventType, ListenerKey, PodFlags, Verdict, packed_address
from tests.kernel.box import Box
from tests.kernel.host import TCP, Pod

LISTENER = 0x000100


def judge_callers(box: Box, pod: Pod) -> None:
    """Pod one's calls meet Envoy, pod three's do not, others are denied."""
    one, _, three = box.pods
    box.select(pod, ingress=2, flags=PodFlags.PROXY)
    box.peers(2, {(one.id, 0): 200, (three.id, 0): 201})
    box.rule(200, Verdict.STEER, protocol=TCP, port=8080, listener=LISTENER)
    box.rule(201, Verdict.ALLOW)
    box.kernel.attach_inbound(pod.name, pod.netns)


@pytest.fixture(autouse=True)
def _detached(box: Box) -> Iterator[None]:
    yield
    for pod in box.pods:
        box.kernel.detach_inbound(pod.name)


@contextmanager
def envoy_at(box: Box, pod: Pod, family: socket.AddressFamily) -> Iterator[socket.socket]:
    ip4 = family == socket.AF_INET
    address = "240.0.1.0" if ip4 else "fd51:ce:2::100"
    with pod.listen(15006, family, address=address, proxy=True, transparent=True) as listener:
        key = ListenerKey(packed_address(pod.ip4 if ip4 else pod.ip6), LISTENER, family).pack()
        box.kernel.put_listener(key, listener.fileno())
        yield listener


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
def test_each_caller_meets_the_listener_of_its_class(box: Box, family: socket.AddressFamily) -> None:
    one, two, three = box.pods
    judge_callers(box, two)
    box.apply()
    target, caller = (two.ip4, one.ip4) if family == socket.AF_INET else (two.ip6, one.ip6)
    with two.listen(8080, family) as app, envoy_at(box, two, family) as envoy:
        with one.connect(target, 8080), envoy.accept()[0] as accepted:
            assert accepted.getsockname()[:2] == (target, 8080)
            assert accepted.getpeername()[0] == caller
        with three.connect(target, 8080):
            app.accept()[0].close()


def test_the_envoy_reaches_the_application_beside_it(box: Box) -> None:
    _, two, _ = box.pods
    judge_callers(box, two)
    box.apply()
    with two.listen(8080, address=two.ip4) as app, envoy_at(box, two, socket.AF_INET):
        with two.connect(two.ip4, 8080, proxy=True, source=("127.0.0.6", 0)):
            app.accept()[0].close()
    with two.listen(8080, socket.AF_INET6, address=two.ip6) as app, envoy_at(box, two, socket.AF_INET6):
        with two.connect(two.ip6, 8080, proxy=True, source=("::6", 0)):
            app.accept()[0].close()


def test_without_its_listener_a_connection_is_refused_and_never_reaches_the_application(box: Box) -> None:
    one, two, _ = box.pods
    judge_callers(box, two)
    box.apply()
    with two.listen(8080):
        with envoy_at(box, two, socket.AF_INET):
            pass
        with pytest.raises(ConnectionRefusedError):
            one.connect(two.ip4, 8080)
    assert [e.reason for e in box.events(EventType.DROP)] == [DropReason.NO_LISTENER]


def test_a_caller_that_changes_its_class_is_ended(box: Box) -> None:
    one, two, _ = box.pods
    judge_callers(box, two)
    box.apply()
    with two.listen(8080), envoy_at(box, two, socket.AF_INET) as envoy:
        with one.connect(two.ip4, 8080) as client, envoy.accept()[0] as accepted:
            box.apply()
            assert box.sweep() == 0
            client.sendall(b"x")
            assert accepted.recv(1) == b"x"
            box.rule(200, Verdict.STEER, protocol=TCP, port=8080, listener=LISTENER + 1)
            box.apply()
            assert box.sweep() >= 1
            with pytest.raises(ConnectionError):
                client.recv(1)


def test_a_new_l7_policy_ends_the_direct_flows_it_must_judge(box: Box) -> None:
    one, two, _ = box.pods
    box.apply()
    with two.listen(8080) as app, one.connect(two.ip4, 8080) as client, app.accept()[0]:
        judge_callers(box, two)
        box.apply()
        client.setblocking(False)
        assert box.sweep() >= 1
        assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 103
    assert {e.reason for e in box.events(EventType.END)} == {DropReason.NEEDS_PROXY}


def test_the_end_of_an_l7_policy_lets_its_connections_finish(box: Box) -> None:
    one, two, _ = box.pods
    judge_callers(box, two)
    box.apply()
    with two.listen(8080), envoy_at(box, two, socket.AF_INET) as envoy:
        with one.connect(two.ip4, 8080) as client, envoy.accept()[0] as accepted:
            box.reset()
            box.apply()
            assert box.sweep() == 0
            client.sendall(b"x")
            assert accepted.recv(1) == b"x"
