"""Audit mode: what a policy that is only tried would do is told and counted, and nothing is done."""

from __future__ import annotations

import socket
from collections.abc import Mapping

import pytest

from bpf.layout import Audit, DropReason, Event, EventType, PodFlags, Verdict
from tests.kernel.box import Box
from tests.kernel.host import TCP
from tests.kernel.wire import outsider

#: Cookies: of the rules in force, and of those that are tried.
RULES, TRIED = 71, 72
EGRESS, INGRESS = 1, 2


def tried(box: Box, side: int, verdict: Verdict, audit: Audit, **more: int) -> None:
    """A class for every peer of the sets of one side, with an audit verdict of its own cookie."""
    box.peers(side, {(0, 0): side * 100})
    box.rule(
        side * 100, verdict, cookie=RULES + 10 * side, audit=audit, audit_cookie=TRIED + 10 * side, **more
    )


def counted(box: Box) -> Mapping[str, int]:
    return {name: count for name, count in box.kernel.counters().items() if name.startswith("audit_")}


def grown(box: Box, before: Mapping[str, int]) -> dict[str, int]:
    return {name: count - before[name] for name, count in counted(box).items() if count != before[name]}


def said(event: Event) -> tuple[int, int, int, int]:
    return event.verdict, event.reason, event.audit, event.audit_cookie


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("side", [EGRESS, INGRESS])
def test_a_connection_that_would_be_denied_is_made_and_told(box: Box, side: int, family: int) -> None:
    one, two, _ = box.pods
    box.select(one, egress=EGRESS if side == EGRESS else 0)
    box.select(two, ingress=INGRESS if side == INGRESS else 0)
    tried(box, side, Verdict.ALLOW, Audit.DENY)
    box.apply()
    before = counted(box)
    with two.listen(8080, family) as server, one.connect(two.ip4 if family == 2 else two.ip6, 8080) as client:
        with server.accept()[0] as accepted:
            client.sendall(b"x")
            assert accepted.recv(1) == b"x"
    (event,) = box.events(EventType.FLOW, dst_port=8080)
    assert said(event) == (Verdict.ALLOW, 0, Audit.DENY, TRIED + 10 * side)
    assert event.cookie == RULES + 10 * side
    assert grown(box, before) == {"audit_denied": 1}


@pytest.mark.parametrize("side", [EGRESS, INGRESS])
def test_a_connection_that_would_be_allowed_is_refused_and_told(box: Box, side: int) -> None:
    one, two, _ = box.pods
    box.select(one, egress=EGRESS if side == EGRESS else 0)
    box.select(two, ingress=INGRESS if side == INGRESS else 0)
    tried(box, side, Verdict.DENY, Audit.ALLOW)
    box.apply()
    reason = DropReason.POLICY_EGRESS if side == EGRESS else DropReason.POLICY_INGRESS
    before = counted(box)
    with pytest.raises(PermissionError):
        one.connect(two.ip4, 8080)
    (event,) = box.events(EventType.CONNECT)
    assert said(event) == (Verdict.DENY, reason, Audit.ALLOW, TRIED + 10 * side)
    assert grown(box, before) == {"audit_allowed": 1}
    with outsider(one, type=socket.SOCK_DGRAM) as client:
        client.sendto(b"x", (two.ip4, 8080))
    (event,) = box.events(EventType.DROP)
    assert said(event) == (Verdict.DENY, reason, Audit.ALLOW, TRIED + 10 * side)
    assert grown(box, before) == {"audit_allowed": 2}


#: What each end says and would say; what both together would, and the end whose rules are named.
_BOTH: list[tuple[tuple[Verdict, Audit], tuple[Verdict, Audit], Audit, int]] = [
    # Laxer at one end changes nothing while the other refuses.
    ((Verdict.DENY, Audit.ALLOW), (Verdict.DENY, Audit.SAME), Audit.SAME, 0),
    ((Verdict.DENY, Audit.SAME), (Verdict.DENY, Audit.ALLOW), Audit.SAME, 0),
    ((Verdict.DENY, Audit.ALLOW), (Verdict.ALLOW, Audit.DENY), Audit.SAME, 0),
    ((Verdict.DENY, Audit.ALLOW), (Verdict.DENY, Audit.ALLOW), Audit.ALLOW, EGRESS),
    ((Verdict.DENY, Audit.ALLOW), (Verdict.ALLOW, Audit.SAME), Audit.ALLOW, EGRESS),
    ((Verdict.ALLOW, Audit.SAME), (Verdict.ALLOW, Audit.DENY), Audit.DENY, INGRESS),
    ((Verdict.ALLOW, Audit.STEER), (Verdict.ALLOW, Audit.DENY), Audit.DENY, INGRESS),
    ((Verdict.ALLOW, Audit.STEER), (Verdict.ALLOW, Audit.SAME), Audit.STEER, EGRESS),
    ((Verdict.ALLOW, Audit.DENY), (Verdict.ALLOW, Audit.DENY), Audit.DENY, EGRESS),
]


@pytest.mark.parametrize(("egress", "ingress", "audit", "by"), _BOTH)
@pytest.mark.parametrize("seen", [True, False], ids=["connect", "tc"])
def test_both_ends_count_together(
    box: Box,
    egress: tuple[Verdict, Audit],
    ingress: tuple[Verdict, Audit],
    audit: Audit,
    by: int,
    seen: bool,
) -> None:
    one, two, _ = box.pods
    box.select(one, egress=EGRESS)
    box.select(two, ingress=INGRESS)
    tried(box, EGRESS, *egress)
    tried(box, INGRESS, *ingress)
    box.apply()
    with two.listen(8080), one.open_socket() if seen else outsider(one) as client:
        client.settimeout(0.2)
        denied = Verdict.DENY in (egress[0], ingress[0])
        try:
            client.connect((two.ip4, 8080))
            assert not denied
        except OSError:
            assert denied
    events = [event for record in box.kernel.events().drain() for event in [Event.unpack(record)]]
    event = next(e for e in events if e.dst_port == 8080)
    assert (event.audit, event.audit_cookie) == (audit, TRIED + 10 * by if by else 0)


def test_a_steered_connection_that_would_be_denied_is_steered_and_told(box: Box) -> None:
    one, two, _ = box.pods
    box.select(one, egress=EGRESS, flags=PodFlags.PROXY)
    tried(box, EGRESS, Verdict.STEER, Audit.DENY, listener=0x010203)
    box.apply()
    with one.listen(15001, address="127.1.2.3", proxy=True) as envoy, one.connect(two.ip4, 8080):
        envoy.accept()[0].close()
    (event,) = box.events(EventType.CONNECT)
    assert said(event) == (Verdict.STEER, 0, Audit.DENY, TRIED + 10 * EGRESS)


def test_what_is_dropped_for_another_reason_would_be_dropped_anyway(box: Box) -> None:
    one, two, _ = box.pods
    box.select(one, egress=EGRESS)
    tried(box, EGRESS, Verdict.STEER, Audit.ALLOW, listener=0x010203)
    box.apply()
    before = counted(box)
    with two.listen(8080), outsider(one) as client, pytest.raises(TimeoutError):
        client.connect((two.ip4, 8080))
    events = box.events(EventType.DROP)
    assert {said(e) for e in events} == {(Verdict.DENY, DropReason.NOT_PROXY, Audit.SAME, 0)}
    assert grown(box, before) == {}


def test_other_peers_and_ports_are_not_told(box: Box) -> None:
    one, two, _ = box.pods
    box.select(two, ingress=INGRESS)
    box.peers(INGRESS, {(0, 0): 200})
    box.rule(200, Verdict.ALLOW)
    box.rule(200, Verdict.ALLOW, protocol=TCP, port=8081, audit=Audit.DENY, audit_cookie=TRIED)
    box.apply()
    for port, audit in ((8080, Audit.SAME), (8081, Audit.DENY)):
        with two.listen(port), one.connect(two.ip4, port):
            pass
        (event,) = box.events(EventType.FLOW, dst_port=port)
        assert event.audit == audit
