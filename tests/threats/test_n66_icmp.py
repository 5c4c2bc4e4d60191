"""N66: ICMP as a way round, by type, by identifier, and by errors that quote what is allowed."""

from __future__ import annotations

import socket
import struct

import pytest

from bpf.layout import DropReason, EventType, Verdict
from tests.kernel.box import Box
from tests.kernel.host import ICMP, ICMP6, TCP, UDP, Host
from tests.kernel.wire import internet_sum, outsider, udp4, with_checksum
from tests.threats.capture import Capture, captured
from tests.threats.ways import Attempt

FAMILIES = pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])


def send_types(a: Attempt, *, id: int = 7) -> None:
    """One message of each type, the quoted packet of errors being zeros."""
    messages = (struct.pack("!BBHHH", type, 0, 0, id, 1) + bytes(28) for type in range(256))
    a.send_frames(*(a.packet(protocol(a), with_icmp_checksum(a, message)) for message in messages))


def with_icmp_checksum(a: Attempt, message: bytes) -> bytes:
    if a.family == socket.AF_INET:
        return with_checksum(message)
    pseudo = a.packet(ICMP6, b"")[8:40] + struct.pack("!IHBB", len(message), 0, 0, ICMP6)
    return message[:2] + (~internet_sum(pseudo + message) & 0xFFFF).to_bytes(2, "big") + message[4:]


def protocol(a: Attempt) -> int:
    return ICMP if a.family == socket.AF_INET else ICMP6


def types(capture: Capture, sender: Host) -> set[int]:
    return {p.payload[0] for p in capture.from_(sender) if p.protocol in (ICMP, ICMP6)}


@FAMILIES
def test_no_type_passes_where_all_is_denied(box: Box, family: int) -> None:
    one, two, _ = box.pods
    attempt = Attempt(one, two, family, False)
    with captured(two) as capture:
        send_types(attempt)
        assert len(types(capture, one)) > 100, "without a policy most do"
        for side in ({"egress": 1}, {"ingress": 1}):
            box.reset()
            box.select(one if "egress" in side else two, **side)
            box.apply(forget_flows=True)
            send_types(attempt)
            assert types(capture, one) == set()


@FAMILIES
def test_a_type_that_is_allowed_opens_no_other(box: Box, family: int) -> None:
    one, two, _ = box.pods
    attempt = Attempt(one, two, family, False)
    allowed = 13 if family == socket.AF_INET else 200
    box.select(two, ingress=1)
    box.peers(1, {(0, 0): 100})
    box.rule(100, Verdict.ALLOW, protocol=protocol(attempt), port=allowed)
    box.apply()
    with captured(two) as capture:
        send_types(attempt)
        assert types(capture, one) == {allowed}


@FAMILIES
def test_an_echo_that_is_allowed_is_so_whatever_its_identifier_and_its_answers_open_nothing(
    box: Box, family: int
) -> None:
    one, two, _ = box.pods
    request, reply = (8, 0) if family == socket.AF_INET else (128, 129)
    there, back = Attempt(one, two, family, False), Attempt(two, one, family, False)
    box.select(two, ingress=1, egress=2)
    box.peers(1, {(0, 0): 100})
    box.rule(100, Verdict.ALLOW, protocol=protocol(there), port=request)
    box.apply()
    with captured(two) as capture, captured(one) as answers:
        for id in (0, 1, 0x7FFF, 0xFFFF):
            send_types(there, id=id)
            assert types(capture, one) == {request}
        assert types(answers, two) == {reply}, "two's own kernel answers"
        send_types(back, id=0x1234)
        assert types(answers, two) == set(), "an answer to what nobody asked"


@FAMILIES
def test_two_that_ask_each_other_by_one_identifier_both_get_their_answers(box: Box, family: int) -> None:
    one, two, _ = box.pods
    request, reply = (8, 0) if family == socket.AF_INET else (128, 129)
    with captured(one) as at_one, captured(two) as at_two:
        for _ in range(2):
            for a in (Attempt(one, two, family, False), Attempt(two, one, family, False)):
                message = struct.pack("!BBHHH", request, 0, 0, 7, 1)
                a.send_frames(a.packet(protocol(a), with_icmp_checksum(a, message)))
        assert [types(at_one, two), types(at_two, one)] == [{request, reply}] * 2
        late = Attempt(one, two, family, False)
        late.send_frames(late.packet(protocol(late), struct.pack("!BBHHH", reply, 0, 0, 7, 1)))
        assert types(at_two, one) == {reply}


def error(a: Attempt, quoted: bytes) -> bytes:
    """Port unreachable."""
    if a.family == socket.AF_INET:
        return a.packet(
            ICMP, with_checksum(struct.pack("!BBHI", 3, 3, 0, 0) + quoted + bytes(len(quoted) % 2))
        )
    return a.packet(ICMP6, struct.pack("!BBHI", 1, 4, 0, 0) + quoted)


@FAMILIES
def test_an_error_that_quotes_an_allowed_flow_comes_from_its_ends_only(box: Box, family: int) -> None:
    one, two, three = box.pods
    flow = Attempt(one, two, family, True)
    for number, pod in enumerate((one, two, three), 1):
        box.select(pod, ingress=number)
    box.peers(2, {(one.id, 0): 200})
    box.rule(200, Verdict.ALLOW, protocol=UDP, port=8080)
    box.apply()
    with (
        captured(one) as at_one,
        captured(two) as at_two,
        one.open_socket(family, socket.SOCK_DGRAM) as client,
    ):
        client.connect((flow.target, 8080))
        client.send(b"x")
        port = client.getsockname()[1]
        (datagram,) = at_two.from_(one, expected=True)
        quoted = flow.packet(UDP, datagram.payload)
        assert at_one.from_(two, expected=True), "the kernel of two says that nobody listens"
        box.kernel.events().drain()
        for target, capture in ((one, at_one), (two, at_two)):
            forged = Attempt(three, target, family, False)
            forged.send_frames(error(forged, quoted))
            assert not capture.from_(three), "three is no end of it"
        elsewhere = Attempt(two, one, family, False)
        other = struct.pack("!HHHH", port, 8081, 9, 0) + b"x"
        elsewhere.send_frames(error(elsewhere, flow.packet(UDP, other)))
        elsewhere.send_frames(error(elsewhere, flow.packet(TCP, datagram.payload + bytes(12))))
        assert not at_one.from_(two), "no flow is what it quotes"
        elsewhere.send_frames(error(elsewhere, quoted))
        assert at_one.from_(two, expected=True)
    assert {e.reason for e in box.events(EventType.DROP)} == {DropReason.UNRELATED_ICMP}


@FAMILIES
def test_an_error_about_a_flow_that_is_forbidden_since_does_not_pass(box: Box, family: int) -> None:
    one, two, _ = box.pods
    flow, back = Attempt(one, two, family, True), Attempt(two, one, family, False)
    with (
        captured(one) as at_one,
        captured(two) as at_two,
        one.open_socket(family, socket.SOCK_DGRAM) as client,
    ):
        client.connect((flow.target, 8080))
        client.send(b"x")
        (datagram,) = at_two.from_(one, expected=True)
        at_one.from_(two, expected=True)
        box.select(two, ingress=1)
        box.apply()
        back.send_frames(error(back, flow.packet(UDP, datagram.payload)))
        assert not at_one.from_(two)


def test_an_error_that_quotes_no_flow_is_dropped(box: Box) -> None:
    one, two, _ = box.pods
    with outsider(one, type=socket.SOCK_RAW, proto=ICMP) as raw:
        quote = udp4(two.ip4, one.ip4, 5000, 4000)
        raw.sendto(
            with_checksum(struct.pack("!BBHI", 3, 3, 0, 0) + quote + bytes(len(quote) % 2)), (two.ip4, 0)
        )
    assert [e.reason for e in box.events(EventType.DROP)] == [DropReason.UNRELATED_ICMP]
