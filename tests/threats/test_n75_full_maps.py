"""N75: full maps. A flood evicts flow entries, and no verdict changes; a generation for which there is no
room does not come into force, not even in part."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator, Mapping

import pytest

from agent import entries
from agent.desired import Desired
from agent.kernel import Kernel, KernelError
from agent.kernel.table import Table
from agent.maglev_array import MaglevArray
from agent.maglev_store import MaglevStore
from agent.reconcile import Reconciler
from bpf import layout
from bpf.layout import FlowKey, Verdict, packed_address
from mesh.node import BlockRecord, PolicyClass, PolicySet, PortVerdict
from tests.agreement.bulk import Bulk, Interval
from tests.kernel.box import Box
from tests.kernel.host import TCP, UDP, Pod
from tests.kernel.wire import frame, outsider, packet_socket
from tests.threats.capture import captured
from tests.threats.ways import Attempt, datagram

#: Eight times what sl_flow holds, to sixteen ports.
FLOOD = 1 << 20
FLOODED = 0x2400


def flood(sender: Pod, receiver: Pod) -> None:
    """SYNs of so many tuples."""
    whole = Attempt(sender, receiver, socket.AF_INET, False).packet(TCP, bytes(20))
    start = frame(sender, 0x0800, whole[:20])
    rest = struct.pack("!IIBBHHH", 1, 0, 5 << 4, 2, 1000, 0, 0)
    with packet_socket(sender) as raw:
        for number in range(FLOOD):
            raw.send(start + struct.pack("!HH", number & 0xFFFF, FLOODED + (number >> 16)) + rest)


def talks(near: socket.socket, far: socket.socket) -> bool:
    near.sendall(b"x")
    far.sendall(b"y")
    return far.recv(1) == b"x" and near.recv(1) == b"y"


def test_a_flood_of_allowed_tuples_ends_no_flow_and_opens_none(box: Box) -> None:
    one, two, three = box.pods
    box.select(one, ingress=1)
    box.select(two, ingress=2)
    box.peers(2, {(0, 0): 200})
    box.rule(200, Verdict.ALLOW, protocol=TCP, port=8080)
    box.rule(200, Verdict.ALLOW, protocol=TCP, port=FLOODED, bits=12)
    box.rule(200, Verdict.ALLOW, protocol=UDP, port=53)
    box.apply()
    flows = box.kernel.table("sl_flow")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(two.listen(8080))
        near = stack.enter_context(one.connect(two.ip4, 8080))
        far = stack.enter_context(server.accept()[0])
        far.settimeout(5)
        resolver = stack.enter_context(two.open_socket(type=socket.SOCK_DGRAM))
        asker = stack.enter_context(one.open_socket(type=socket.SOCK_DGRAM))
        resolver.bind(("", 53))
        asker.connect((two.ip4, 53))
        asker.send(b"q")
        _, asked_from = resolver.recvfrom(1)
        keys = [
            FlowKey.of(
                packed_address(one.ip4), client.getsockname()[1], packed_address(two.ip4), port, protocol
            )
            for client, port, protocol in ((near, 8080, TCP), (asker, 53, UDP))
        ]
        assert all(flows.lookup(key.pack()) for key in keys)
        flood(three, two)
        assert sum(1 for _ in flows.items()) > 0.95 * flows.max_entries
        assert talks(near, far)
        # What was used before the flood tends to survive it; here nothing does.
        flows.delete([key.pack() for key in keys])
        with pytest.raises(PermissionError):
            resolver.sendto(b"a", asked_from)  # an answer to what nobody is known to have asked
        asker.send(b"q")
        assert resolver.recv(1) == b"q"
        resolver.sendto(b"a", asked_from)
        assert asker.recv(1) == b"a", "its opener makes it anew"
        assert talks(near, far), "a connection is judged both ways"
        assert box.sweep() == 0
        for source in (one, three):
            with outsider(source) as client, pytest.raises(TimeoutError):
                client.connect((two.ip4, 9999))
        with pytest.raises(PermissionError):
            two.connect(one.ip4, 8080)


def test_a_flood_of_denied_tuples_leaves_no_trace_in_the_flows(box: Box) -> None:
    one, two, three = box.pods
    box.select(two, ingress=2)
    box.peers(2, {(one.id, 0): 200, (0, 0): 201})
    box.rule(200, Verdict.ALLOW, protocol=TCP, port=8080)
    box.apply()
    with two.listen(8080) as server, one.connect(two.ip4, 8080) as near, server.accept()[0] as far:
        far.settimeout(5)
        before = sum(1 for _ in box.kernel.table("sl_flow").items())
        flood(three, two)
        assert sum(1 for _ in box.kernel.table("sl_flow").items()) == before
        assert talks(near, far)


def test_a_flood_of_fragments_lets_none_through_that_is_denied(box: Box) -> None:
    one, two, _ = box.pods
    box.select(two, ingress=2)
    box.peers(2, {(0, 0): 200})
    box.rule(200, Verdict.ALLOW, protocol=UDP, port=53)
    box.apply()
    attempt = Attempt(one, two, socket.AF_INET, False)
    allowed, denied = datagram(bytes(24), 53), datagram(bytes(24), 54)
    with captured(two) as capture:
        firsts = [attempt.packet(UDP, allowed[:16], id=number, fragment=0x2000) for number in range(1 << 14)]
        attempt.send_frames(*firsts)
        capture.from_(one)
        later = [attempt.packet(UDP, denied[16:], id=0xFFFF, fragment=2)]
        attempt.send_frames(attempt.packet(UDP, denied[:16], id=0xFFFF, fragment=0x2000), *later)
        assert not capture.from_(one)


# --- writes that fail ------------------------------------------------------------------------------

SET = 7
PEERS = (300, 301, 302)


def policy(*peers: tuple[int, str]) -> list[tuple[tuple[str, str], entries.Entries]]:
    """A set in which these peers have these verdicts and everybody else is denied, of classes of its own."""
    found = []
    numbers = {verdict: 1000 + hash((peers, verdict)) % 100_000 for _, verdict in peers}
    for verdict, number in numbers.items():
        record = PolicyClass(number, (PortVerdict("TCP", 80, 80, verdict),))  # type: ignore[arg-type]
        found.append((("class", str(number)), entries.class_entries(record)))
    rest = PolicyClass(999, ())
    found.append((("class", "999"), entries.class_entries(rest)))
    record_ = PolicySet(
        SET, "ingress", ("NetworkPolicy a/b",), 999, tuple((p, 0, numbers[v]) for p, v in peers)
    )
    found.append((("set", "7"), entries.set_entries(record_)))
    return found


def junk(name: str) -> Callable[[int], tuple[bytes, bytes]]:
    """Entries that nobody asks for."""
    slot = layout.PeerValue.of(layout.PeerSlot(1, 1)).pack()
    owner = layout.AddrValue.of(layout.AddrSlot(1, 256)).pack()
    page = layout.RulePage(((0, layout.RuleValue(Verdict.ALLOW)),)).pack()
    prefix = packed_address("fd99::")[:12]
    makers: Mapping[str, Callable[[int], tuple[bytes, bytes]]] = {
        "sl_peer": lambda n: (layout.PeerKey(1, 0, n).pack(), slot),
        "sl_addr": lambda n: (layout.AddrKey(128, prefix + n.to_bytes(4, "big")).pack(), owner),
        "sl_rule": lambda n: (layout.RuleKey(1 << 40 | n).pack(), page),
    }
    return makers[name]


@contextlib.contextmanager
def full(table: Table) -> Iterator[None]:
    make = junk(table.name)
    present = sum(1 for _ in table.items())
    rows = dict(make(number) for number in range(table.max_entries - present))
    table.update(rows)
    with pytest.raises(KernelError, match="the map is full"):
        table.update(dict([make(table.max_entries)]))
    yield
    table.delete(rows)


@pytest.mark.parametrize("name", ["sl_peer", "sl_rule", "sl_addr"])
def test_a_generation_for_which_there_is_no_room_does_not_come_into_force(kernel: Kernel, name: str) -> None:
    table = kernel.table("sl_maglev")
    reconciler = Reconciler(kernel, MaglevStore(MaglevArray(table.fd, table.max_entries)))
    reconciler.adopt()
    desired, bulk = Desired(), Bulk(kernel, {"verdict": 1})

    def wants(*policies: tuple[int, str], block: str) -> None:
        for owner, found in policy(*policies):
            desired.replace(owner, found)
        desired.replace(("block", ""), entries.block_entries(BlockRecord(block, 2, 5)))

    def only(allowed: int) -> bool:
        """Whether port 80 is open to this peer, and nothing else is to anybody."""
        return all(
            bulk.ask(
                SET,
                (peer, 0),
                TCP,
                [
                    Interval(0, 79, (Verdict.DENY,)),
                    Interval(80, 80, (Verdict.ALLOW if peer == allowed else Verdict.DENY,)),
                    Interval(81, 65535, (Verdict.DENY,)),
                ],
            )
            is None
            for peer in PEERS
        )

    wants((300, "allow"), (301, "deny"), block="198.51.100.0/24")
    generation = reconciler.apply(desired, lambda: 0).generation
    assert only(300)
    with full(kernel.table(name)):
        # 300 loses what 302 gets: a new class, a new peer and a new block of addresses.
        wants((300, "deny"), (301, "deny"), (302, "allow"), block="203.0.113.0/24")
        for _ in range(2):
            with pytest.raises(KernelError, match=f"{name} failed: .*the map is full"):
                reconciler.apply(desired, lambda: 0)
            assert kernel.generation == generation
            assert only(300)
    reconciler.apply(desired, lambda: 0)
    assert kernel.generation == generation + 1
    assert only(302)
