"""Rules 1 and 2 at the socket: service addresses become backends, refusals come at once."""

from __future__ import annotations

import errno
import socket

import pytest

from tests.kernel.box import Box

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
