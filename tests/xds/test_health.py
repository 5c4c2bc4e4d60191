"""What probes said of WorkloadEntries, beside the store."""

from __future__ import annotations

import json
from pathlib import Path

from mesh.model import ObjectRef, WorkloadEntry, WorkloadName
from tests.mesh.dialects.objects import obj
from xds.admission import Admission
from xds.documents import ApiObject, canonical
from xds.health import Checkup, Health, checked, checkups
from xds.store import Store

ENTRY = obj("networking.istio.io/v1", "WorkloadEntry", {"address": "192.0.2.1"})
SICK, WELL = Health(False, "2026-01-01T00:00:00Z"), Health(True, "2026-01-02T00:00:00Z")


def test_an_entry_keeps_its_other_conditions() -> None:
    other = {"type": "Connected", "status": "True"}
    written = ENTRY | {"status": {"conditions": [other, {"type": "Healthy", "status": "True"}], "a": 1}}
    condition = {"type": "Healthy", "status": "False", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    assert checked(written, SICK)["status"] == {"conditions": [other, condition], "a": 1}
    assert checked(written, None) == written
    assert checked(ENTRY | {"status": "nonsense"}, WELL)["status"]["conditions"][0]["status"] == "True"


def test_what_was_said_counts_whenever_the_entry_comes(tmp_path: Path) -> None:
    item = ApiObject(ObjectRef("WorkloadEntry", "shop", "one"), ENTRY, canonical(ENTRY))
    admission = Admission(Store(tmp_path), "local")
    name = WorkloadName("shop", "one")
    assert admission.check(Checkup(name, SICK)) is None, "there is none yet"
    fragment = admission.admit(item)
    assert fragment is not None
    healths = [fragment]
    for health in (WELL, SICK, None):
        again = admission.check(Checkup(name, health))
        assert again is not None
        healths.append(again[1])
    nouns = [noun for found in healths for noun in found.nouns]
    assert [noun.healthy for noun in nouns if isinstance(noun, WorkloadEntry)] == [False, True, False, True]


def test_files_tell_of_it(tmp_path: Path) -> None:
    source = checkups(tmp_path)
    file = tmp_path / "shop_one.json"
    said = {"namespace": "shop", "name": "one", "healthy": True, "since": WELL.since}
    file.write_text(json.dumps(said))
    (tmp_path / "broken.json").write_text("[]")
    assert source.initial() == [Checkup(WorkloadName("shop", "one"), WELL)]
