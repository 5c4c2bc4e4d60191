from __future__ import annotations

from collections import Counter

from mesh.routes.maglev import size_for, table


def backends(count: int) -> list[tuple[str, int]]:
    return [(f"10.0.0.{i}", 80) for i in range(count)]


def test_shares_are_almost_equal() -> None:
    for count in (2, 3, 10, 40):
        shares = Counter(table(backends(count), size_for(count)))
        assert len(shares) == count
        assert max(shares.values()) - min(shares.values()) <= 2


def test_one_that_goes_moves_little_but_its_own() -> None:
    before = [backends(10)[i] for i in table(backends(10), 251)]
    rest = backends(10)[:3] + backends(10)[4:]
    after = [rest[i] for i in table(rest, 251)]
    moved = sum(1 for a, b in zip(before, after, strict=True) if a != b and a != backends(10)[3])
    assert moved < 251 * 0.15


def test_the_order_of_backends_does_not_matter() -> None:
    forth, back = backends(5), backends(5)[::-1]
    assert [forth[i] for i in table(forth, 127)] == [back[i] for i in table(back, 127)]


def test_none_and_one_are_no_special_case() -> None:
    assert table([], size_for(0)) == []
    assert table(backends(1), size_for(1)) == [0]
