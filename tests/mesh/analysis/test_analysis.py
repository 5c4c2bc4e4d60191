from __future__ import annotations

import re

from mesh.analysis import CHECKS, View, analyze, suppressions
from mesh.model import ObjectRef
from tests.mesh.analysis.traps import codes, findings, mesh_with, network_policy, only

TRAP = network_policy("{podSelector: {matchLabels: {app: apy}}}")
REF = ObjectRef("NetworkPolicy", "shop", "p")


def annotated(key: str, value: object) -> dict[str, object]:
    return {"metadata": {"annotations": {key: value}}}


def test_codes_are_unique_and_in_order_and_every_check_says_what_it_is() -> None:
    found = [check.code for check in CHECKS]
    assert found == sorted(set(found))
    for check in CHECKS:
        assert re.fullmatch(r"(SL|IST)\d{4}", check.code)
        assert check.title and check.find.__doc__


def test_what_cannot_be_read_is_an_error() -> None:
    found = only("SL0001", findings(network_policy("{podSelector: {}, policyTypes: [Sideways]}")))
    assert (found.severity, found.trap.field) == ("Error", "spec.policyTypes[0]")


def test_what_does_not_fit_the_other_objects_is_a_warning() -> None:
    route = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, namespace: shop}
spec: {parentRefs: [{kind: Service, group: "", name: gone}], rules: [{backendRefs: [{name: api, port: 80}]}]}
"""
    assert codes(route) == {"SL0002"}


def test_an_annotation_silences_a_check_on_its_object() -> None:
    view = View.of(mesh_with(TRAP))
    assert [finding.code for finding in analyze(view)] == ["SL0101"]
    for key in ("sluice.io/analyze-suppress", "galley.istio.io/analyze-suppress"):
        for value in ("SL0101", "SL0205, SL0101", "*"):
            assert not analyze(view, suppressions([(REF, annotated(key, value))])), value
        assert analyze(view, suppressions([(REF, annotated(key, "SL0205"))]))
    other = ObjectRef("NetworkPolicy", "shop", "q")
    assert analyze(view, suppressions([(other, annotated("sluice.io/analyze-suppress", "*"))]))


def test_odd_annotations_silence_nothing() -> None:
    odd: list[dict[str, object]] = [
        {},
        {"metadata": None},
        {"metadata": {"annotations": "x"}},
        annotated("sluice.io/analyze-suppress", 7),
        annotated("sluice.io/analyze-suppress", " , "),
    ]
    assert suppressions((REF, content) for content in odd) == {}


def test_the_worst_comes_first() -> None:
    text = TRAP + network_policy("{podSelector: {}, policyTypes: [Sideways]}", "bad")
    assert [finding.severity for finding in findings(text)][:2] == ["Error", "Warning"]
