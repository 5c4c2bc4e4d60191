"""Tables that know in what they differ: what they say is what a comparison finds, for whoever saw which."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mesh.discovery.resource import Resource, Table, differing

#: Each step: name -> content, None: gone.
STEPS = st.lists(
    st.dictionaries(st.sampled_from("abcde"), st.sampled_from([b"1", b"2", None]), max_size=3), max_size=5
)


@given(STEPS)
def test_whoever_saw_any_earlier_one_is_told_what_differs(steps: list[dict[str, bytes | None]]) -> None:
    tables = [Table()]
    for step in steps:
        known = tables[-1]
        news = {name: Resource.packed(name, content) for name, content in step.items() if content}
        tables.append(known.after(news, [name for name in known if step.get(name, b"") is None]))
    for index, new in enumerate(tables):
        for old in tables[:index]:
            found = {name for name in old.keys() | new.keys() if old.get(name) is not new.get(name)}
            told = list(differing(old, new))
            assert found <= set(told) and len(told) == len(set(told))
            assert set(differing(dict(old), new)) == found, "a mapping without memory is compared"


def test_the_one_before_need_not_be_kept() -> None:
    first = Table({"a": Resource.packed("a", b"1")})
    second = first.after({}, ["a"])
    assert list(differing(first, second)) == ["a"]
    assert second.before is not None
    del first
    assert second.before() is None
