"""Blocks of the look-up array: never written while they may be read."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.entries import Backends, Block
from agent.maglev_store import MaglevStore, StoreFullError
from bpf.layout import Backend, packed_address
from tests.agent.tables import ArrayInMemory

SIZE = Backend.sizeof()


def backends(*numbers: int) -> Backends:
    return tuple(sorted(Backend(packed_address(f"10.0.0.{n}"), 80).pack() for n in numbers))


def content(array: ArrayInMemory, block: Block) -> set[bytes]:
    data = array.read(block.offset, block.size)
    return {data[at : at + SIZE] for at in range(0, len(data), SIZE)}


def test_a_changed_service_gets_another_block_and_the_old_one_stays_until_it_is_reclaimed() -> None:
    array = ArrayInMemory(300)
    store = MaglevStore(array)
    old = store.place(b"web", backends(1, 2))
    new = store.place(b"web", backends(1, 3))
    assert new.offset >= old.offset + old.size
    assert content(array, old) == set(backends(1, 2))
    free = store.free_entries()
    store.reclaim()
    assert store.free_entries() == free + old.size


def test_an_unchanged_service_keeps_its_block() -> None:
    store = MaglevStore(ArrayInMemory(300))
    assert store.place(b"web", backends(1, 2)) == store.place(b"web", backends(1, 2))


def test_a_service_without_backends_has_an_empty_block() -> None:
    assert MaglevStore(ArrayInMemory(1)).place(b"web", ()) == Block(0, 0)


def test_blocks_of_an_earlier_life_are_kept_if_they_hold_the_same_backends() -> None:
    array = ArrayInMemory(600)
    first = MaglevStore(array)
    kept, changed = first.place(b"web", backends(1, 2)), first.place(b"cart", backends(3, 4))
    second = MaglevStore(array)
    second.adopt({b"web": kept, b"cart": changed})
    assert second.place(b"web", backends(1, 2)) == kept
    assert second.place(b"cart", backends(3, 5)) not in (kept, changed)
    assert content(array, changed) == set(backends(3, 4))


def test_an_array_without_room_says_how_much_is_left() -> None:
    with pytest.raises(StoreFullError, match="10 are free"):
        MaglevStore(ArrayInMemory(10)).place(b"web", backends(1, 2))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sets(st.integers(1, 9), max_size=5), st.booleans())))
def test_blocks_never_overlap_and_all_room_comes_back(steps: list[tuple[str, set[int], bool]]) -> None:
    store = MaglevStore(ArrayInMemory(2000))
    held: dict[bytes, Block] = {}
    for name, members, reclaim in steps:
        held[name.encode()] = store.place(name.encode(), backends(*members))
        spans = sorted((b.offset, b.offset + b.size) for b in held.values() if b.size)
        assert all(end <= start for (_, end), (start, _) in pairwise(spans))
        if reclaim:
            store.reclaim()
    for key in held:
        store.drop(key)
    store.reclaim()
    assert store.free_entries() == 2000
