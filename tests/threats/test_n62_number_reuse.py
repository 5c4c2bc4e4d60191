"""N62: a number that is given to another identity while somebody still holds an older meaning of it."""

from __future__ import annotations

import json
import random

import pytest

from mesh.identity import Exhausted, SecurityIds
from mesh.model import Identity

QUARANTINE = 60.0
OPERATIONS = 100_000


@pytest.mark.parametrize("seed", range(3))
def test_a_number_never_means_two_things_within_the_quarantine(seed: int) -> None:
    """So however far behind an agent is, up to the quarantine, it mistakes no identity for another."""
    rng = random.Random(seed)
    ids = SecurityIds(256, 456, QUARANTINE)
    now, last_used = 0.0, dict[int, tuple[float, Identity]]()
    held: dict[Identity, int] = {}
    reused = refused = 0
    for _ in range(OPERATIONS):
        now += rng.expovariate(4)
        if rng.random() < 0.7:
            ids.advance(now)  # it may be late, never early
        if rng.random() < 0.001:  # killed and started again, from what it had stored
            stored = json.loads(json.dumps(ids.to_json()))
            ids = SecurityIds(256, 456, QUARANTINE)
            ids.restore(stored)
            for identity, number in held.items():
                assert ids.claim(identity) == number
        if held and rng.random() < 0.5:
            identity = rng.choice(list(held))
            last_used[held.pop(identity)] = (now, identity)
            ids.retire(identity)
            continue
        identity = Identity((("app", str(rng.randrange(100_000))),))
        if identity in held:
            continue
        try:
            number = ids.claim(identity)
        except Exhausted:
            refused += 1
            continue
        assert number not in held.values()
        since, was = last_used.get(number, (-QUARANTINE, identity))
        if was != identity:
            reused += 1
            assert now - since >= QUARANTINE, (number, was, identity)
        held[identity] = number
    assert reused > OPERATIONS / 20 and refused, (reused, refused)
