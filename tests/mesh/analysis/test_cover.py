from __future__ import annotations

import pytest

from mesh.analysis import View
from mesh.analysis.cover import Audience, audience_of
from mesh.model import CidrPeer, EntityPeer, NamePattern, NamePeer, Peer, Rule
from tests.mesh.analysis.traps import mesh_with

VIEW = View.of(mesh_with())


def audience(*peers: Peer) -> Audience:
    return audience_of(VIEW, Rule("", peers))


def block(cidr: str, *exceptions: str) -> Audience:
    return audience(CidrPeer(cidr, exceptions, "world"))


@pytest.mark.parametrize(
    ("a", "b", "meet"),
    [
        (block("192.0.2.0/24"), block("192.0.2.128/25"), True),
        (block("192.0.2.0/24"), block("198.51.100.0/24"), False),
        (block("192.0.2.0/24", "192.0.2.128/25"), block("192.0.2.128/26"), False),
        (block("192.0.2.0/24", "192.0.2.128/26"), block("192.0.2.128/25"), True),
        (block("0.0.0.0/0"), block("::/0"), False),
        (audience(EntityPeer("world")), block("2001:db8::/32"), True),
        (audience(EntityPeer("cluster")), block("0.0.0.0/0"), False),
        (audience(EntityPeer("cluster")), audience(CidrPeer("10.64.0.10/32", (), "anyone")), True),
        (audience(NamePeer(NamePattern("a.b"))), audience(NamePeer(NamePattern("a.b"))), True),
        (audience(NamePeer(NamePattern("a.b"))), audience(NamePeer(NamePattern("*"))), False),
    ],
)
def test_two_audiences_meet_if_anyone_is_in_both(a: Audience, b: Audience, meet: bool) -> None:
    assert a.meets(b) is b.meets(a) is meet


def test_everyone_covers_whoever_is_known_and_nobody_is_covered_by_none() -> None:
    everyone = audience_of(VIEW, Rule(""))
    for whom in (block("192.0.2.0/24"), audience(EntityPeer("cluster")), audience(EntityPeer("host"))):
        assert everyone.covers(whom)
        assert not whom.covers(everyone)
    assert not everyone.covers(audience())
