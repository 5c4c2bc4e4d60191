from __future__ import annotations

from typing import Any

import pytest

from mesh.model import ObjectRef
from tests.istio_integration.virtual_service import ROUTE, fragment, refused, refused_rule, rule


def test_a_delegate_is_named_and_of_the_own_namespace_unless_it_says_another() -> None:
    assert rule({"delegate": {"name": "part"}}).delegate == ObjectRef("VirtualService", "shop", "part")
    found = rule({"delegate": {"name": "part", "namespace": "far"}, "timeout": "1s"})
    assert found.delegate == ObjectRef("VirtualService", "far", "part")
    assert found.timeout_ms == 1000


def test_a_delegate_cannot_delegate() -> None:
    assert (
        "is a delegate itself"
        in refused({"hosts": [], "http": [{"delegate": {"name": "a"}}]})["http[0].delegate"]
    )


def test_what_has_no_effect_beside_an_answer_is_pointed_out() -> None:
    found = fragment({"http": [{"redirect": {"uri": "/x"}, "timeout": "1s", "mirror": {"host": "web"}}]})
    assert found.valid
    assert {p.field for p in found.problems} == {"spec.http[0].timeout", "spec.http[0].mirror"}


@pytest.mark.parametrize(
    ("http", "field", "says"),
    [
        ({}, "", "answers nothing"),
        ({"route": []}, "", "answers nothing"),
        (ROUTE | {"redirect": {"uri": "/"}}, "redirect", "cannot stand beside route"),
        (ROUTE | {"directResponse": {"status": 200}}, "directResponse", "cannot stand beside route"),
        (ROUTE | {"delegate": {"name": "a"}}, "delegate", "cannot stand beside route"),
        ({"redirect": {"uri": "/"}, "directResponse": {"status": 200}}, "directResponse", "beside redirect"),
        ({"redirect": {"uri": "/"}, "rewrite": {"uri": "/"}}, "rewrite", "answers at once"),
        (
            {"directResponse": {"status": 200}, "fault": {"delay": {"fixedDelay": "1s"}}},
            "fault",
            "answers at once",
        ),
        ({"delegate": {}}, "delegate.name", "is required"),
    ],
)
def test_what_is_wrong_in_a_rule_is_named(http: Any, field: str, says: str) -> None:
    assert says in refused_rule(http)[field]
