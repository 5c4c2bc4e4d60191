"""Whatever a user writes into an Istio object: reading never raises, and says what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings

from tests.mesh.dialects.test_junk import damaged, junk
from xds.dialects import read

VALID = yaml.safe_load_all(Path(__file__).with_name("valid.yaml").read_text())
ALL = {f"{object['kind']} {object['metadata']['name']}": object for object in VALID}


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(damaged(ALL, junk))
def test_reading_never_raises_and_says_what_is_wrong_in_printable_text(case: tuple[str, Any]) -> None:
    fragment = read(case[1])
    assert fragment.valid or fragment.problems
    assert all((p.field + p.message).isprintable() and p.object == fragment.ref for p in fragment.problems)
