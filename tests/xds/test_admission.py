"""Rule 18: what is in force when the newest version of an object cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh.dialects import read
from mesh.model import Fragment, Workload
from tests.xds.manifests import SANDBOXES, SHOP, WEB, objects, one, policy
from xds.admission import Admission
from xds.sandbox import Placement
from xds.store import Store

VALID, NEWER = one(policy("p", 80)), one(policy("p", 81))
UNREADABLE = one(policy("p", podSelector={"matchExpressions": [{"key": "a", "operator": "Inn"}]}))


def begun(state: Path) -> Admission:
    admission = Admission(Store(state), "local")
    admission.load()
    return admission


def fresh(state: Path) -> Fragment:
    """What a process that starts now has in force for the policy."""
    return Admission(Store(state), "local").load()[VALID.ref]


def test_an_unreadable_version_leaves_the_valid_one_in_force_and_is_a_problem(tmp_path: Path) -> None:
    admission = begun(tmp_path)
    admission.admit(VALID)
    fragment = admission.admit(UNREADABLE)
    assert fragment == read(VALID.content)
    assert fragment == fresh(tmp_path)
    assert {problem.object for problem in admission.problems[VALID.ref]} == {VALID.ref}


def test_a_second_unreadable_version_does_not_replace_the_last_valid_one(tmp_path: Path) -> None:
    admission = begun(tmp_path)
    admission.admit(VALID)
    admission.admit(UNREADABLE)
    worse = one(policy("p", podSelector="all"))
    assert admission.admit(worse) == read(VALID.content) == fresh(tmp_path)
    assert begun(tmp_path).admit(UNREADABLE) == read(VALID.content)


def test_without_an_earlier_version_the_dialects_answer_stands(tmp_path: Path) -> None:
    fragment = begun(tmp_path).admit(UNREADABLE)
    assert fragment == read(UNREADABLE.content) == fresh(tmp_path)
    assert fragment is not None
    assert not fragment.valid


def test_a_valid_version_ends_it(tmp_path: Path) -> None:
    admission = begun(tmp_path)
    for item in (VALID, UNREADABLE, NEWER):
        admission.admit(item)
    assert admission.problems == {}
    assert fresh(tmp_path) == read(NEWER.content)
    assert Store(tmp_path).kept() == set()


def test_a_deleted_object_has_no_past(tmp_path: Path) -> None:
    admission = begun(tmp_path)
    admission.admit(VALID)
    admission.admit(UNREADABLE)
    assert admission.remove(VALID.ref)
    assert not admission.remove(VALID.ref)
    assert admission.admit(UNREADABLE) == read(UNREADABLE.content)


@pytest.mark.parametrize("stored", [VALID, None])
def test_a_last_valid_version_that_outlived_a_kill_is_not_used_and_goes(
    tmp_path: Path, stored: object
) -> None:
    store = Store(tmp_path)
    store.keep_valid(NEWER)
    if stored is not None:
        store.put(VALID)
    admission = begun(tmp_path)
    assert Store(tmp_path).kept() == set()
    assert admission.admit(UNREADABLE) == read((VALID if stored is not None else UNREADABLE).content)


def test_the_same_text_again_changes_nothing(tmp_path: Path) -> None:
    admission = begun(tmp_path)
    admission.admit(VALID)
    assert admission.admit(VALID) is None
    assert begun(tmp_path).admit(VALID) is None


def workload(fragment: Fragment) -> Workload:
    (noun,) = fragment.nouns
    assert isinstance(noun, Workload)
    return noun


def test_a_pod_of_this_machine_has_addresses_while_it_has_a_sandbox_and_no_status_of_its_own(
    tmp_path: Path,
) -> None:
    admission = begun(tmp_path)
    pods = {item.ref.name: item for item in objects(SHOP) if item.ref.kind == "Pod"}
    claimed = dict(pods["web"].content) | {"status": {"podIPs": [{"ip": "10.0.0.1"}]}}
    assert workload(read(claimed)).addresses == ("10.0.0.1",)
    fragment = admission.admit(type(pods["web"]).of(claimed))
    assert fragment is not None
    assert workload(fragment).addresses == ()
    for sandbox in (SANDBOXES[WEB], None):
        placed = admission.place(Placement(WEB, sandbox))
        assert placed is not None
        found = workload(placed[1])
        assert found.node == "local"
        assert found.addresses == (sandbox.addresses if sandbox else ())
        assert found.ready == (sandbox is not None)


def test_a_sandbox_may_be_known_before_its_pod(tmp_path: Path) -> None:
    admission = begun(tmp_path)
    assert admission.place(Placement(WEB, SANDBOXES[WEB])) is None
    web = next(item for item in objects(SHOP) if item.ref.name == "web" and item.ref.kind == "Pod")
    fragment = admission.admit(web)
    assert fragment is not None
    assert workload(fragment).ready


def test_a_recorded_pod_counts_as_written(tmp_path: Path) -> None:
    far = next(item for item in objects(SHOP) if item.ref.name == "far")
    fragment = begun(tmp_path).admit(far)
    assert fragment is not None
    assert (workload(fragment).node, workload(fragment).addresses) == ("elsewhere", ("10.99.0.1",))
