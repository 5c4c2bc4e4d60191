"""Rules 1 and 2 at the socket: service addresses become backends, refusals come at once."""

from __future__ import annotations

import errno
import socket
from dataclasses import replace

import pytest

from tests.kernel.box import Box
from tests.kernel.host import UDP, arrives

VIP4, VIP6 = "10.128.0.10", "fd51:ce00:0:2::a"


def test_a_service_address_becomes_a_backend_and_keeps_its_name(box: Box) -> None:
    one, two, _ = box.pods
    box.service(VIP4, 80, [(two.ip4, 8080)])
    box.apply()
    with two.listen(8080) as server, one.connect(VIP4, 80) as client:
        accepted, peer = server.accept()
        with accepted:
            assert peer[0] == one.ip4
            assert client.getpeername() == (VIP4, 80)
            client.sendall(b"hello")
            assert accepted.recv(5) == b"hello"


def test_ipv6_services_are_translated_too(box: Box) -> None:
    one, two, _ = box.pods
    box.service(VIP6, 80, [(two.ip6, 8080)])
    box.apply()
    with two.listen(8080, socket.AF_INET6) as server, one.connect(VIP6, 80) as client:
        accepted, peer = server.accept()
        accepted.close()
        assert peer[0] == one.ip6
        assert client.getpeername()[:2] == (VIP6, 80)


def test_an_ipv4_mapped_socket_is_translated_like_ipv4(box: Box) -> None:
    one, two, _ = box.pods
    box.service(VIP4, 80, [(two.ip4, 8080)])
    box.apply()
    with two.listen(8080) as server, one.connect(f"::ffff:{VIP4}", 80) as client:
        accepted, peer = server.accept()
        accepted.close()
        assert peer[0] == one.ip4
        assert client.getpeername()[:2] == (f"::ffff:{VIP4}", 80)


def test_a_service_without_backends_refuses_at_once(box: Box) -> None:
    one, _, _ = box.pods
    box.service(VIP4, 80, [])
    box.apply()
    with pytest.raises(OSError) as refused:
        one.connect(VIP4, 80)
    assert refused.value.errno == errno.ECONNREFUSED


def test_a_port_that_a_service_does_not_have_is_refused_at_once(box: Box) -> None:
    one, two, _ = box.pods
    box.service(VIP4, 80, [(two.ip4, 8080)])
    box.apply()
    with pytest.raises(OSError) as refused:
        one.connect(VIP4, 81)
    assert refused.value.errno == errno.ECONNREFUSED


def test_a_connected_datagram_socket_reaches_a_backend(box: Box) -> None:
    one, two, _ = box.pods
    box.service(VIP4, 53, [(two.ip4, 5353)], protocol=UDP)
    box.apply()
    with two.open_socket(type=socket.SOCK_DGRAM) as server, one.open_socket(type=socket.SOCK_DGRAM) as client:
        server.bind(("", 5353))
        client.connect((VIP4, 53))
        client.send(b"question")
        question, sender = server.recvfrom(64)
        server.sendto(b"answer", sender)
        assert (question, client.recvfrom(64)) == (b"question", (b"answer", (VIP4, 53)))


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
def test_answers_to_an_unconnected_datagram_socket_come_from_the_service_address(
    box: Box, family: socket.AddressFamily
) -> None:
    one, two, three = box.pods
    vip = VIP4 if family == socket.AF_INET else VIP6
    backends = [(pod.ip4 if family == socket.AF_INET else pod.ip6, 5353) for pod in (two, three)]
    box.service(vip, 53, backends, protocol=UDP)
    box.apply()
    with (
        two.open_socket(family, socket.SOCK_DGRAM) as first,
        three.open_socket(family, socket.SOCK_DGRAM) as second,
        one.open_socket(family, socket.SOCK_DGRAM) as client,
    ):
        for server in (first, second):
            server.bind(("", 5353))
        client.sendto(b"question", (vip, 53))
        server = first if arrives(first, 0.5) else second
        question, sender = server.recvfrom(64)
        server.sendto(b"answer", sender)
        answer, named = client.recvfrom(64)
        assert (question, answer, named[:2]) == (b"question", b"answer", (vip, 53))


def test_an_ipv4_mapped_datagram_is_translated_both_ways(box: Box) -> None:
    one, two, _ = box.pods
    box.service(VIP4, 53, [(two.ip4, 5353)], protocol=UDP)
    box.apply()
    with (
        two.open_socket(type=socket.SOCK_DGRAM) as server,
        one.open_socket(socket.AF_INET6, socket.SOCK_DGRAM) as client,
    ):
        server.bind(("", 5353))
        client.sendto(b"question", (f"::ffff:{VIP4}", 53))
        _, sender = server.recvfrom(64)
        server.sendto(b"answer", sender)
        assert client.recvfrom(64)[1][:2] == (f"::ffff:{VIP4}", 53)


def test_loopback_is_nobodys_business(box: Box) -> None:
    one, _, _ = box.pods
    box.select(one, egress=1, ingress=1)
    box.apply()
    with one.listen(8080) as server, one.connect("127.0.0.1", 8080):
        server.accept()[0].close()


def test_a_pod_reaches_itself_through_its_own_service_whatever_the_policy(box: Box) -> None:
    one, _, _ = box.pods
    box.select(one, egress=1, ingress=1)
    box.service(VIP4, 80, [(one.ip4, 8080)])
    box.apply()
    with one.listen(8080) as server, one.connect(VIP4, 80):
        server.accept()[0].close()
    with one.listen(8081) as server, one.connect(one.ip4, 8081):
        server.accept()[0].close()


def test_affinity_keeps_a_client_on_its_backend_when_others_come_and_go(box: Box) -> None:
    one, two, three = box.pods
    box.service(VIP4, 80, [(two.ip4, 8080), (three.ip4, 8080)], affinity=600)
    box.apply()
    with two.listen(8080) as second, three.listen(8080) as third:

        def backend() -> str:
            with one.connect(VIP4, 80):
                server = second if arrives(second, 0.3) else third
                accepted, _ = server.accept()
                address: str = accepted.getsockname()[0]
                accepted.close()
                return address

        chosen = backend()
        assert {backend() for _ in range(6)} == {chosen}
        box.service(VIP4, 80, [("10.64.0.99", 8080), (chosen, 8080), ("10.64.0.98", 8080)], affinity=600)
        box.apply()
        assert {backend() for _ in range(6)} == {chosen}
        other = three.ip4 if chosen == two.ip4 else two.ip4
        box.service(VIP4, 80, [(other, 8080)], affinity=600)
        box.apply()
        assert backend() == other


def test_a_socket_of_a_namespace_that_nobody_knows_is_denied(box: Box) -> None:
    one, two, _ = box.pods
    stranger = replace(one, netns=box.world.netns)
    box.apply()
    with pytest.raises(PermissionError):
        stranger.connect(two.ip4, 8080)


def test_a_pod_that_is_not_known_yet_is_denied(box: Box) -> None:
    one, two, _ = box.pods
    box.forget(one)
    with pytest.raises(PermissionError):
        one.connect(two.ip4, 8080)
    box.apply()
    with two.listen(8080) as server, one.connect(two.ip4, 8080):
        server.accept()[0].close()
