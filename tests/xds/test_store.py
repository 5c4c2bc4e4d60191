from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mesh.model import ObjectRef
from tests.xds.manifests import SHOP, objects, one, policy
from xds import atomic
from xds.store import Bundles, Store


def loaded(state: Path) -> Store:
    store = Store(state)
    for _ in store.load():
        pass
    return store


def named(kind: str, namespace: str, name: str) -> str:
    return f'{{apiVersion: v1, kind: "{kind}", metadata: {{namespace: "{namespace}", name: "{name}"}}}}'


def test_what_was_put_is_loaded_by_the_next_process(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for item in objects(SHOP):
        store.put(item)
    assert sorted(item.text for item in Store(tmp_path).load()) == sorted(item.text for item in objects(SHOP))
    assert (tmp_path / "objects/Service/shop_cart.yaml").is_file()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("Pod", "a", "b_c"), ("Pod", "a_b", "c")),
        (("Pod", "..", "a"), ("Pod", "%2E%2E", "a")),
        (("..", "a", "a"), ("%2E%2E", "a", "a")),
        (("Pod", "a", "../../x"), ("Pod", "a", "x")),
        (("Pod", "n" * 63, "x" * 252 + "a"), ("Pod", "n" * 63, "x" * 252 + "b")),
    ],
)
def test_no_name_leads_out_of_the_store_or_onto_another(
    tmp_path: Path, first: tuple[str, str, str], second: tuple[str, str, str]
) -> None:
    state = tmp_path / "state"
    store = Store(state)
    for names in (first, second):
        store.put(one(named(*names)))
    found = [path for path in tmp_path.rglob("*.yaml") if path.is_file()]
    assert len(found) == 2
    assert all(path.parent.parent == state / "objects" for path in found)


def test_a_writer_killed_between_write_and_rename_leaves_the_old_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = one(policy("p", 1)), one(policy("p", 2))
    Store(tmp_path).put(old)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            loaded(tmp_path).put(new)
    store = loaded(tmp_path)
    assert store.get(old.ref) == old
    store.put(new)
    assert store.get(old.ref) == new
    assert list(tmp_path.rglob(f"*{atomic.PARTIAL}")) == []


def test_a_file_of_the_store_that_somebody_wrote_as_yaml_is_read(tmp_path: Path) -> None:
    path = tmp_path / "objects/NetworkPolicy/shop_p.yaml"
    atomic.write(path, policy("p"))
    atomic.write(path.with_name("shop_q.yaml"), "a: [")
    path.with_name("shop_r.yaml").write_bytes(b"\xff")
    assert [item.ref.name for item in Store(tmp_path).load()] == ["p"]


def test_removing_an_object_removes_its_last_valid_version(tmp_path: Path) -> None:
    store, item = Store(tmp_path), one(policy("p"))
    store.keep_valid(item)
    store.put(item)
    assert store.kept() == {item.ref}
    store.remove(item.ref)
    assert store.kept() == set()
    assert store.get(item.ref) is None


REFS = [ObjectRef("Pod", "shop", name) for name in "abc"]


@pytest.fixture(params=["same process", "next process"])
def bundles(request: pytest.FixtureRequest, tmp_path: Path) -> Bundles:
    first = Bundles(tmp_path)
    first.record("/m/one.yaml", "d1", frozenset(REFS[:2]))
    first.record("/m/two.yaml", "d2", frozenset(REFS[1:]))
    return first if request.param == "same process" else Bundles(tmp_path)


def test_what_one_file_drops_and_another_still_brings_has_not_vanished(bundles: Bundles) -> None:
    assert bundles.vanished("/m/one.yaml", frozenset()) == {REFS[0]}
    assert bundles.vanished("/m/one.yaml", frozenset(REFS[:2])) == frozenset()
    assert bundles.vanished("/m/new.yaml", frozenset()) == frozenset()


def test_digests_are_remembered_until_a_file_brings_nothing(bundles: Bundles, tmp_path: Path) -> None:
    assert bundles.digests == {"/m/one.yaml": "d1", "/m/two.yaml": "d2"}
    bundles.record("/m/one.yaml", "", frozenset())
    assert Bundles(tmp_path).digests == {"/m/two.yaml": "d2"}


def test_a_damaged_record_means_that_its_file_is_read_afresh(bundles: Bundles, tmp_path: Path) -> None:
    for path in (tmp_path / "bundles").glob("*.json"):
        path.write_text("{")
    assert Bundles(tmp_path).digests == {}


def test_an_object_keeps_the_time_at_which_its_name_came_until_it_goes(tmp_path: Path) -> None:
    hours = iter(range(24))
    store = Store(tmp_path, lambda: datetime(2026, 1, 1, next(hours), tzinfo=UTC))

    def put(port: int) -> str:
        given = one(policy("p", port))
        store.put(store.dated(given), given)
        assert store.holds(given) and not store.holds(one(policy("p", port + 1)))
        (stored,) = Store(tmp_path).load()
        return str(stored.content["metadata"]["creationTimestamp"])

    assert put(1) == put(2) == "2026-01-01T00:00:00Z"
    again = loaded(tmp_path)
    assert again.holds(one(policy("p", 2))), "known by what is stored, too"
    store.remove(one(policy("p")).ref)
    assert put(1) == "2026-01-01T01:00:00Z"


def test_an_object_that_says_its_time_keeps_that(tmp_path: Path) -> None:
    store, own = Store(tmp_path), one(policy("p").replace("name: p", 'name: p\n  creationTimestamp: "2020"'))
    assert store.dated(own) == own
    store.put(own)
    assert store.dated(one(policy("p"))) == own
