"""Numbers of identities: given once, kept while somebody has them, rested, given again."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from mesh.assemble import Mesh
from mesh.dialects import read
from mesh.identity import Allocations, Exhausted, SecurityIds
from mesh.model import Identity, Workload, WorkloadName
from tests.mesh.shop import documents

RANGES = ("10.128.0.0/16",)


def identity(label: object) -> Identity:
    return Identity((("app", str(label)),))


def test_an_identity_that_comes_back_has_its_number_back() -> None:
    ids = SecurityIds(256, 300, quarantine=60)
    ids.advance(0)
    number = ids.claim(identity("a"))
    ids.retire(identity("a"))
    ids.advance(59)
    assert ids.claim(identity("a")) == number
    ids.advance(1000)
    assert ids.claim(identity("b")) != number


def test_a_number_rests_from_the_first_look_at_the_clock_after_it_was_given_back() -> None:
    ids = SecurityIds(256, 256, quarantine=60)
    ids.claim(identity("a"))
    ids.retire(identity("a"))
    ids.advance(1000)
    ids.advance(1059)
    with pytest.raises(Exhausted, match="all 1 security ids are taken, 1 of them by identities that nobody"):
        ids.claim(identity("b"))
    ids.advance(1060)
    assert ids.claim(identity("b")) == 256


def test_a_number_that_was_claimed_and_given_back_again_rests_anew() -> None:
    ids = SecurityIds(256, 256, quarantine=60)
    for now in (0, 50, 100, 150):
        ids.advance(now)
        ids.claim(identity("a"))
        ids.retire(identity("a"))
    ids.advance(151)
    ids.advance(210)
    assert not ids.has_room()
    ids.advance(211)
    assert ids.has_room()


def test_a_number_that_was_never_used_is_given_before_one_that_was() -> None:
    ids = SecurityIds(256, 258, quarantine=0)
    ids.claim(identity("a"))
    ids.retire(identity("a"))
    ids.advance(1)
    assert [ids.claim(identity(n)) for n in "bcd"] == [257, 258, 256]


def test_what_is_stored_is_taken_up_and_rests_on() -> None:
    ids = SecurityIds(256, 258, quarantine=60)
    ids.advance(0)
    kept, gone = ids.claim(identity("kept")), ids.claim(identity("gone"))
    ids.retire(identity("gone"))
    ids.advance(10)
    again = SecurityIds(256, 258, quarantine=60)
    again.restore(json.loads(json.dumps(ids.to_json())))
    again.advance(20)
    assert again.claim(identity("kept")) == kept
    again.advance(70)
    assert [again.claim(identity(n)) for n in ("new", "newer")] == [258, gone]


def test_one_number_for_two_identities_is_damage() -> None:
    with pytest.raises(ValueError, match="two identities have one number"):
        SecurityIds(256, 258, 60).restore([[[["app", "a"]], 256, None], [[["app", "b"]], 256, None]])


def pod(name: str, address: str, **labels: str) -> str:
    written = ", ".join(f"{key}: {value!r}" for key, value in labels.items())
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: shop, labels: {{{written}}}}}
spec: {{nodeName: here, containers: [{{name: main, image: none}}]}}
status: {{podIP: {address}, podIPs: [{{ip: {address}}}], conditions: [{{type: Ready, status: 'True'}}]}}
"""


def applied(mesh: Mesh, *texts: str) -> None:
    mesh.apply({f.ref: f for f in map(read, documents(*texts))})


def test_a_pod_without_a_number_is_cut_off_with_a_problem_until_there_is_one() -> None:
    mesh = Mesh(Allocations(RANGES, ids=(256, 257), quarantine=60))
    ids = mesh.allocations.security_ids
    ids.advance(0)
    applied(mesh, *(pod(f"p{n}", f"10.0.0.{n}", app=str(n)) for n in range(3)))
    last = WorkloadName("shop", "p2")
    assert last not in mesh.identities.of
    assert [p.message for p in mesh.problems] == ["no security id is left; the pod stays cut off"]
    applied(mesh, pod("p0", "10.0.0.0", app="1"))
    assert last not in mesh.identities.of, "the number of app=0 rests"
    ids.advance(0)
    ids.advance(60)
    change = mesh.apply({})
    assert mesh.identities.of[last] == 256
    assert change.peers and last in change.workloads
    assert not mesh.problems


def test_pods_that_differ_in_a_template_hash_are_alike() -> None:
    mesh = Mesh(Allocations(RANGES))
    applied(
        mesh,
        pod("a", "10.0.0.1", **{"app": "web", "pod-template-hash": "1"}),
        pod("b", "10.0.0.2", **{"app": "web", "pod-template-hash": "2"}),
    )
    assert len(set(mesh.identities.of.values())) == 1


def test_a_hundred_thousand_values_of_a_label_do_not_exhaust_the_numbers() -> None:
    mesh = Mesh(Allocations(RANGES))
    ids = mesh.allocations.security_ids
    (fragment,) = map(read, documents(pod("churn", "10.0.0.1", app="web")))
    (workload,) = fragment.nouns
    assert isinstance(workload, Workload)
    numbers: set[int] = set()
    for change in range(100_000):
        ids.advance(change / 50)
        relabelled = replace(workload, labels=(*workload.labels, ("release", str(change))))
        mesh.apply({fragment.ref: replace(fragment, nouns=(relabelled,))})
        numbers.add(mesh.identities.of[WorkloadName("shop", "churn")])
    assert min(numbers) == ids.first == 256 and max(numbers) == ids.last == 65535
    assert len(mesh.identities.all) == 1 and len(ids.to_json()) <= 50 * ids.quarantine + 2
    assert not mesh.problems
