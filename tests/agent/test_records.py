"""Only complete generations count, and the last one survives on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent import last_good
from agent.last_good import LastGood
from agent.records import Records
from mesh.discovery.envoy import CLUSTER, SECRET
from mesh.discovery.resource import Resource
from mesh.discovery.subscriber import Update
from mesh.discovery.wire import pack_any
from mesh.model import WorkloadName
from mesh.node import Generation, Manifest, Record, WorkloadRecord
from mesh.resources import BODY_TYPE, GENERATION_TYPE, MANIFEST_TYPE, TABLE_TYPES, encode

WORKLOAD = TABLE_TYPES["workloads"]
WEB = WorkloadName("shop", "web")


def workload(security_id: int) -> WorkloadRecord:
    return WorkloadRecord(WEB, security_id, (("10.0.0.1", 0),), "node1")


def update(type_url: str, removed: tuple[str, ...] = (), **records: Record) -> Update:
    changed = {name: Resource.of(type_url, name, encode(record)) for name, record in records.items()}
    return Update(type_url, "1", changed, removed)


def generation(number: int) -> Update:
    return update(GENERATION_TYPE, generation=Generation(number))


def test_records_are_nothing_until_their_generation_is_complete() -> None:
    records = Records()
    assert records.receive(update(WORKLOAD, web=workload(300))) is None
    assert records.begin() is None
    assert records.receive(generation(4)) == Generation(4)
    begun = records.begin()
    assert begun is not None
    assert begun[0].number == 4
    changes = [change for change in records.begun() if change.type_url == WORKLOAD]
    assert [(change.old, change.new) for change in changes] == [(None, workload(300))]


def test_generations_that_come_while_one_is_under_way_are_begun_as_one() -> None:
    records = Records()
    records.receive(generation(1))
    assert records.begin() is not None
    records.receive(update(WORKLOAD, web=workload(300)))
    records.receive(generation(2))
    records.receive(update(WORKLOAD, web=workload(301)))
    records.receive(generation(3))
    assert records.begin() is None
    records.finish()
    begun = records.begin()
    assert begun is not None
    assert begun[0].number == 3
    assert [c.new for c in records.begun() if c.type_url == WORKLOAD] == [workload(301)]


def test_what_a_push_does_not_mention_stays_and_what_it_removes_goes() -> None:
    records = Records()
    records.receive(update(WORKLOAD, web=workload(300), cart=workload(301)))
    records.receive(generation(1))
    records.begin()
    records.finish()
    records.receive(update(WORKLOAD, removed=("cart",)))
    records.receive(generation(2))
    records.begin()
    assert [(c.name, c.old, c.new) for c in records.begun() if c.type_url == WORKLOAD] == [
        ("cart", workload(301), None)
    ]
    records.finish()
    assert set(records.versions()[WORKLOAD]) == {"web"}


def test_no_generation_counts_until_all_of_it_could_be_read() -> None:
    records = Records()
    bad = Update(WORKLOAD, "1", {
        "web": Resource.of(WORKLOAD, "web", encode(workload(300))),
        "bad": Resource.of(WORKLOAD, "bad", b"[1]"),
    })  # fmt: skip
    with pytest.raises(ValueError, match="malformed"):
        records.receive(bad)
    for number in (1, 2):
        with pytest.raises(ValueError, match="cannot be read, such as: malformed"):
            records.receive(generation(number))
    assert records.begin() is None
    # Gone, or sent again in a form that is known: what came with it then counts.
    records.receive(update(WORKLOAD, removed=("bad",)))
    assert records.receive(generation(3)) == Generation(3)
    assert records.begin() is not None
    assert [c.name for c in records.begun() if c.new and c.type_url == WORKLOAD] == ["web"]


def test_the_last_good_state_is_read_back_as_it_was(tmp_path: Path) -> None:
    records = Records()
    body = Resource.of(BODY_TYPE, "hash1", pack_any(CLUSTER, b"envoy's"))
    key = Resource.of(BODY_TYPE, "hash2", pack_any(SECRET, b"a key"))
    records.receive(Update(BODY_TYPE, "1", {"hash1": body, "hash2": key}))
    records.receive(update(WORKLOAD, web=workload(300)))
    records.receive(update(MANIFEST_TYPE, web=Manifest(WEB, {"lds": {"a": "hash1"}})))
    records.receive(generation(7))
    records.begin()
    records.finish()
    path = tmp_path / "agent" / "last-good"
    last_good.save(path, LastGood(12, records.applied()))
    saved = last_good.load(path)
    assert saved is not None
    assert saved.kernel_generation == 12
    later = Records()
    later.restore(saved.records)
    assert later.versions()[WORKLOAD] == records.versions()[WORKLOAD]
    begun = later.begin()
    assert begun is not None
    assert begun[0].number == 7
    assert begun[1] == [Manifest(WEB, {"lds": {"a": "hash1"}})]
    assert b"a key" not in path.read_bytes(), "keys are never written to a disk"
    kept = later.body("hash1")
    assert kept is not None
    assert kept.any == pack_any(CLUSTER, b"envoy's")


def test_a_file_that_is_cut_off_is_an_error_and_a_missing_one_is_none(tmp_path: Path) -> None:
    path = tmp_path / "last-good"
    assert last_good.load(path) is None
    path.write_bytes(b"\x08\x01\x12\x7f")
    with pytest.raises(ValueError, match="has 0 of 127 bytes"):
        last_good.load(path)


def test_a_body_goes_when_neither_the_control_plane_nor_a_proxy_has_a_use_for_it() -> None:
    records = Records()
    records.receive(Update(BODY_TYPE, "1", {"h": Resource.of(BODY_TYPE, "h", b"any")}))
    records.receive(generation(1))
    records.begin()
    records.finish()
    records.receive(Update(BODY_TYPE, "2", {}, ("h",)))
    records.receive(generation(2))
    records.begin()
    records.finish()
    records.forget_bodies({"h"})
    assert records.body("h") is not None
    records.forget_bodies(set())
    assert records.body("h") is None
