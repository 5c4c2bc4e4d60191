"""What readers of the tables see while the reconciler works, and after it died at any point."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.desired import Desired
from agent.entries import Entries
from agent.maglev_store import MaglevStore
from agent.reconcile import Reconciler
from agent.slots import SLOT_TABLES
from bpf import layout
from tests.agent.tables import ArrayInMemory, Crash, KernelInMemory

#: Nested blocks and addresses within and without them.
BLOCKS = ("10.0.0.0/8", "10.1.0.0/16", "10.1.1.0/24", "10.1.1.1/32", "10.2.0.9/32", "0.0.0.0/0")
ADDRESSES = ("10.1.1.1", "10.1.1.2", "10.1.9.9", "10.2.0.9", "10.9.9.9", "192.0.2.1")
SETS = (7, 8)

Wanted = dict[tuple[str, object], int]

wanted = st.dictionaries(
    st.one_of(
        st.tuples(st.just("sl_addr"), st.sampled_from(BLOCKS)),
        st.tuples(st.just("sl_peer"), st.sampled_from(SETS)),
        st.tuples(st.just("sl_rule"), st.sampled_from(SETS)),
    ),
    st.integers(1, 3),
)


def entries(kind: str, name: object, number: int) -> Entries:
    if kind == "sl_addr":
        return ((kind, layout.AddrKey.of(str(name)).pack(), layout.AddrSlot(id=number).pack()),)
    assert isinstance(name, int)
    if kind == "sl_peer":
        return ((kind, layout.PeerKey(name, 0, 0).pack(), layout.PeerSlot(class_id=number).pack()),)
    return ((kind, layout.RuleKey(name * 10 + number).pack(), layout.RulePage(()).pack()),)


def steer(desired: Desired, before: Wanted, after: Wanted) -> None:
    for kind, name in before.keys() - after.keys():
        desired.replace((kind, str(name)), ())
    for (kind, name), number in after.items():
        desired.replace((kind, str(name)), entries(kind, name, number))


def expected(state: Wanted) -> dict[tuple[str, bytes], bytes]:
    """What a program sees of each address and set, by the plain meaning of the state."""
    fresh = KernelInMemory()
    fresh.generation = 1
    for (kind, name), number in state.items():
        for table, key, payload in entries(kind, name, number):
            if table in SLOT_TABLES:
                fresh.tables[table].rows[key] = SLOT_TABLES[table].inserted(None, 0, payload)
    return view(fresh, 1)


def view(kernel: KernelInMemory, generation: int) -> dict[tuple[str, bytes], bytes]:
    keys = [("sl_addr", layout.AddrKey.of(a + "/32").pack()) for a in ADDRESSES]
    keys += [("sl_peer", layout.PeerKey(s, 0, 0).pack()) for s in SETS]
    return {(table, key): kernel.look_up(table, key, generation) for table, key in keys}


def reconciler(kernel: KernelInMemory) -> Reconciler:
    made = Reconciler(kernel, MaglevStore(ArrayInMemory(64)))
    made.adopt()
    return made


@given(st.lists(wanted, min_size=1, max_size=5))
@settings(deadline=None)
def test_a_reader_of_any_generation_sees_that_generation_whole_at_every_step(states: list[Wanted]) -> None:
    kernel = KernelInMemory()
    desired = Desired()
    writer = reconciler(kernel)
    meaning = {0: expected({})}

    def check() -> None:
        for generation in range(kernel.oldest, kernel.generation + 1):
            assert view(kernel, generation) == meaning[generation]

    kernel.on_step = check
    before: Wanted = {}
    for state in states:
        steer(desired, before, state)
        meaning[kernel.generation + 1] = expected(state)
        if meaning[kernel.generation] == expected(state):
            meaning[kernel.generation + 1] = meaning[kernel.generation]
        writer.apply(desired, sweep=lambda: 0)
        before = state
        assert view(kernel, kernel.generation) == expected(state)


@given(st.lists(wanted, min_size=2, max_size=4), st.integers(0, 40), st.integers(0, 40), st.data())
@settings(deadline=None)
def test_an_agent_that_starts_after_a_crash_at_any_step_converges_and_never_shows_a_mix(
    states: list[Wanted], first_death: int, second_death: int, data: st.DataObject
) -> None:
    kernel = KernelInMemory()
    before: Wanted = {}
    seen = [expected({})]
    for death in (None, first_death, second_death, None):
        state = data.draw(st.sampled_from(states))
        desired = Desired()
        steer(desired, {}, state)
        kernel.quiesce()
        steps = iter(range(10**6))

        def check(death: int | None = death, steps: object = steps, state: Wanted = state) -> None:
            assert view(kernel, kernel.generation) in (*seen, expected(state))
            if next(steps) == death:  # type: ignore[call-overload]
                raise Crash

        kernel.on_step = check
        try:
            reconciler(kernel).apply(desired, sweep=lambda: 0)
            before = state
        except Crash:
            pass
        seen.append(view(kernel, kernel.generation))
    assert view(kernel, kernel.generation) == expected(before)
    owned = {(t, k) for (kind, name), n in before.items() for t, k, _ in entries(kind, name, n)}
    assert {(t, k) for t, table in kernel.tables.items() for k in table.rows} == owned


def test_what_a_dead_agent_wrote_ahead_does_not_come_into_force_with_the_next_generation() -> None:
    kernel = KernelInMemory()
    desired = Desired()
    first: Wanted = {("sl_peer", 7): 1, ("sl_peer", 8): 1}
    steer(desired, {}, first)
    reconciler(kernel).apply(desired, sweep=lambda: 0)
    steer(desired, first, {("sl_peer", 7): 2, ("sl_peer", 8): 1})

    def die() -> None:
        raise Crash

    kernel.on_step = die
    with pytest.raises(Crash):
        reconciler(kernel).apply(desired, sweep=lambda: 0)
    kernel.on_step = lambda: None
    kernel.quiesce()
    other: Wanted = {("sl_peer", 7): 1, ("sl_peer", 8): 3}
    desired = Desired()
    steer(desired, {}, other)
    reconciler(kernel).apply(desired, sweep=lambda: 0)
    assert view(kernel, kernel.generation) == expected(other)


def test_what_did_not_change_is_not_written_and_no_generation_passes() -> None:
    kernel = KernelInMemory()
    desired = Desired()
    steer(desired, {}, {("sl_addr", "10.0.0.0/8"): 1, ("sl_peer", 7): 2})
    reconciler(kernel).apply(desired, sweep=lambda: 0)
    assert kernel.generation == 1
    applied = reconciler(kernel).apply(desired, sweep=lambda: 0)
    assert (applied.written, applied.deleted, applied.generation) == (0, 0, 1)


def test_the_cost_of_a_change_is_its_own_size() -> None:
    kernel = KernelInMemory()
    desired = Desired()
    for number in range(1000):
        address = f"10.{number // 250}.0.{number % 250}/32"
        desired.replace(("workload", address), entries("sl_addr", address, 5))
    writer = reconciler(kernel)
    assert writer.apply(desired, sweep=lambda: 0).written == 1000
    desired.replace(("workload", "10.0.0.7/32"), entries("sl_addr", "10.0.0.7/32", 6))
    assert writer.apply(desired, sweep=lambda: 0).written == 1


def test_live_connections_are_judged_again_only_when_some_verdict_may_differ() -> None:
    kernel = KernelInMemory()
    desired = Desired()
    writer = reconciler(kernel)
    sweeps: list[int] = []

    def sweep() -> int:
        sweeps.append(kernel.generation)
        return 0

    writer.apply(desired, sweep)
    assert sweeps == [0], "a start always sweeps, for the one before may have died before it could"
    key = layout.PodKey(layout.packed_address("10.0.0.1")).pack()
    for slot in (layout.PodSlot(id=9), layout.PodSlot(id=9, flags=1), layout.PodSlot(id=9, ingress_set=4)):
        desired.replace(("pod", "a"), (("sl_pod", key, slot.pack()),))
        writer.apply(desired, sweep)
    assert sweeps == [0, 1, 3]


def test_a_round_that_failed_is_mended_by_the_next() -> None:
    kernel = KernelInMemory()
    desired = Desired()
    writer = reconciler(kernel)
    steer(desired, {}, {("sl_addr", "10.0.0.0/8"): 1, ("sl_peer", 7): 2})
    budget = iter([None, None])

    def fail() -> None:
        try:
            next(budget)
        except StopIteration:
            raise OSError("no space") from None

    kernel.on_step = fail
    with pytest.raises(OSError):
        writer.apply(desired, sweep=lambda: 0)
    kernel.on_step = lambda: None
    writer.apply(desired, sweep=lambda: 0)
    assert view(kernel, kernel.generation) == expected({("sl_addr", "10.0.0.0/8"): 1, ("sl_peer", 7): 2})


def test_an_address_that_two_workloads_claim_goes_to_the_other_when_one_lets_go() -> None:
    desired = Desired()
    key = layout.AddrKey.of("10.0.0.1/32").pack()
    desired.replace(("workload", "b"), entries("sl_addr", "10.0.0.1/32", 2))
    desired.replace(("workload", "a"), entries("sl_addr", "10.0.0.1/32", 1))
    assert desired.get("sl_addr", key) == layout.AddrSlot(id=1).pack()
    desired.replace(("workload", "a"), ())
    assert desired.get("sl_addr", key) == layout.AddrSlot(id=2).pack()
    desired.replace(("workload", "b"), ())
    assert desired.get("sl_addr", key) is None
