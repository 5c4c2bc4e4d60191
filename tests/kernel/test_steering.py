"""Rules 1, 4 and 14: who is sent to the Envoy beside it, what that Envoy learns, and who may not."""

from __future__ import annotations

import errno
import socket

import pytest

from bpf.layout import EventFlags, EventType, PodFlags, Verdict
from tests.kernel.box import Box
from tests.kernel.host import TCP, Pod, original_dst

VIP4, VIP6 = "10.128.0.10", "fd51:ce00:0:2::a"
LISTENER = 0x010203
AT4, AT6 = "127.1.2.3", "fd51:ce:1::1:203"


def steer_egress(box: Box, pod: Pod, port: int = 8080) -> None:
    box.select(pod, egress=1, flags=PodFlags.PROXY)
    box.peers(1, {(0, 0): 100})
    box.rule(100, Verdict.STEER, protocol=TCP, port=port, listener=LISTENER)
    box.rule(100, Verdict.ALLOW)


def test_an_egress_rule_sends_the_socket_to_its_listener_which_learns_the_backend(box: Box) -> None:
    one, two, _ = box.pods
    steer_egress(box, one)
    box.service(VIP4, 80, [(two.ip4, 8080)])
    box.apply()
    with one.listen(15001, address=AT4, proxy=True) as envoy, one.connect(VIP4, 80) as client:
        with envoy.accept()[0] as accepted:
            assert original_dst(accepted) == (two.ip4, 8080)
            assert client.getpeername() == (VIP4, 80)
    (event,) = box.events(EventType.CONNECT)
    assert event.verdict == Verdict.STEER
    assert event.flags == EventFlags.EGRESS | EventFlags.REDIRECTED


def test_ipv6_and_ipv4_mapped_sockets_are_steered_too(box: Box) -> None:
    one, two, _ = box.pods
    steer_egress(box, one)
    box.apply()
    with (
        one.listen(15001, socket.AF_INET6, address=AT6, proxy=True) as envoy,
        one.connect(two.ip6, 8080) as client,
    ):
        with envoy.accept()[0] as accepted:
            assert original_dst(accepted) == (two.ip6, 8080)
            assert client.getpeername()[:2] == (two.ip6, 8080)
    with (
        one.listen(15001, address=AT4, proxy=True) as envoy,
        one.connect(f"::ffff:{two.ip4}", 8080) as client,
    ):
        with envoy.accept()[0] as accepted:
            assert original_dst(accepted) == (two.ip4, 8080)
            assert client.getpeername()[:2] == (f"::ffff:{two.ip4}", 8080)


def test_the_envoy_sees_whose_connection_it_is(box: Box) -> None:
    """Rule 22: the application has its own address, as without an Envoy; a port that it chose stays its."""
    one, two, _ = box.pods
    steer_egress(box, one)
    box.apply()
    v4, v6 = (one.ip4, two.ip4, AT4, socket.AF_INET), (one.ip6, two.ip6, AT6, socket.AF_INET6)
    for own, other, listener, family in (v4, v6):
        with one.listen(15001, family, address=listener, proxy=True) as envoy:
            with one.connect(other, 8080) as client, envoy.accept()[0] as accepted:
                assert (client.getsockname()[0], accepted.getpeername()[0]) == (own, own)
    mapped = f"::ffff:{one.ip4}"
    with one.listen(15001, address=AT4, proxy=True) as envoy:
        with one.connect(f"::ffff:{two.ip4}", 8080) as client, envoy.accept()[0] as accepted:
            assert (client.getsockname()[0], accepted.getpeername()[0]) == (mapped, one.ip4)
        with one.connect(two.ip4, 8080, source=("", 47001)), envoy.accept()[0] as accepted:
            assert (original_dst(accepted), accepted.getpeername()[1]) == ((two.ip4, 8080), 47001)


def test_a_route_steers_on_the_service_address_for_the_views_it_binds(box: Box) -> None:
    one, two, three = box.pods
    for pod, view in ((one, 77), (three, 78)):
        box.select(pod, flags=PodFlags.PROXY | PodFlags.ROUTES, view=view)
    box.service(VIP4, 80, [(two.ip4, 8080)], routed=True)
    box.route(VIP4, 80, view=77)
    box.apply()
    with one.listen(15001, address="127.0.0.1", proxy=True) as envoy, one.connect(VIP4, 80):
        with envoy.accept()[0] as accepted:
            assert original_dst(accepted) == (VIP4, 80)
    with two.listen(8080) as server, three.connect(VIP4, 80):
        server.accept()[0].close()


def test_a_route_for_everyone_binds_every_view(box: Box) -> None:
    one, two, _ = box.pods
    box.select(one, flags=PodFlags.PROXY | PodFlags.ROUTES, view=77)
    box.service(VIP6, 80, [(two.ip6, 8080)], routed=True)
    box.route(VIP6, 80)
    box.apply()
    with (
        one.listen(15001, socket.AF_INET6, address="fd51:ce:1::1", proxy=True) as envoy,
        one.connect(VIP6, 80),
    ):
        with envoy.accept()[0] as accepted:
            assert original_dst(accepted) == (VIP6, 80)


def test_a_route_steers_nobody_whose_envoy_does_not_serve_routes_yet(box: Box) -> None:
    one, two, _ = box.pods
    box.select(one, flags=PodFlags.PROXY)
    box.service(VIP4, 80, [(two.ip4, 8080)], routed=True)
    box.route(VIP4, 80)
    box.apply()
    with two.listen(8080) as server, one.connect(VIP4, 80):
        server.accept()[0].close()


def test_envoys_own_sockets_are_translated_and_judged_but_never_steered(box: Box) -> None:
    one, two, _ = box.pods
    steer_egress(box, one)
    box.service(VIP4, 80, [(two.ip4, 8080)])
    box.apply()
    with two.listen(8080) as server, one.connect(VIP4, 80, proxy=True) as upstream:
        with server.accept()[0] as accepted:
            upstream.sendall(b"x")
            assert accepted.recv(1) == b"x"
    assert [e.flags & EventFlags.BY_PROXY for e in box.events(EventType.FLOW, dst_port=8080)] == [1]
    box.rule(100, Verdict.DENY)
    box.rule(100, Verdict.DENY, protocol=TCP, port=8080)
    box.apply()
    with pytest.raises(PermissionError):
        one.connect(VIP4, 80, proxy=True)


def test_a_listener_that_is_gone_refuses(box: Box) -> None:
    one, two, _ = box.pods
    steer_egress(box, one)
    box.apply()
    with two.listen(8080), pytest.raises(OSError) as refused:
        one.connect(two.ip4, 8080)
    assert refused.value.errno == errno.ECONNREFUSED


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "127.1.2.3", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1", AT6]
)
def test_an_application_must_not_dial_its_proxy(box: Box, address: str) -> None:
    one, _, _ = box.pods
    steer_egress(box, one)
    box.apply()
    with pytest.raises(PermissionError):
        one.connect(address, 15001)


def test_nobody_inherits_what_an_earlier_user_of_the_port_dialled(box: Box) -> None:
    one, two, _ = box.pods
    steer_egress(box, one)
    box.apply()
    with pytest.raises(ConnectionRefusedError):
        one.connect(two.ip4, 8080, source=("127.0.0.1", 40000))
    box.reset()
    box.apply()
    with (
        one.listen(15001, address=AT4, proxy=True) as envoy,
        one.connect(AT4, 15001, source=("127.0.0.1", 40000)),
        envoy.accept()[0] as accepted,
        pytest.raises(OSError),
    ):
        original_dst(accepted)


def test_a_socket_bound_to_a_device_is_refused_where_it_would_be_steered(box: Box) -> None:
    one, two, _ = box.pods
    steer_egress(box, one)
    box.apply()
    with one.open_socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
        with pytest.raises(PermissionError):
            client.connect((two.ip4, 8080))
    (event,) = box.events(EventType.CONNECT)
    assert event.reason == 9
