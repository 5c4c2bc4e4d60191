"""Which labels make an identity."""

from __future__ import annotations

import pytest

from mesh.label_filter import LabelFilter
from mesh.model import NAMESPACE_KEY, NAMESPACE_LABEL_PREFIX, Requirement, Selector


@pytest.mark.parametrize(
    "key", ["app", "app.kubernetes.io/name", "topology.kubernetes.io/zone", "version", "job-name-of-mine"]
)
def test_what_people_name_in_policies_counts(key: str) -> None:
    assert LabelFilter().keeps(key)


@pytest.mark.parametrize(
    "key",
    [
        "pod-template-hash",
        "pod-template-generation",
        "controller-revision-hash",
        "controller-uid",
        "job-name",
        "batch.kubernetes.io/job-name",
        "batch.kubernetes.io/controller-uid",
        "batch.kubernetes.io/job-completion-index",
        "statefulset.kubernetes.io/pod-name",
        "apps.kubernetes.io/pod-index",
        "kubernetes.io/hostname",
        "failure-domain.beta.kubernetes.io/zone",
    ],
)
def test_what_kubernetes_derives_per_pod_or_rollout_does_not(key: str) -> None:
    assert not LabelFilter().keeps(key)


def test_an_expression_with_a_mark_leaves_out_and_the_rest_still_counts() -> None:
    chosen = LabelFilter(("!build", "k8s:!commit"))
    assert [chosen.keeps(key) for key in ("build", "build-id", "commit", "app")] == [
        False,
        False,
        False,
        True,
    ]


def test_once_something_is_included_only_that_counts() -> None:
    chosen = LabelFilter(("k8s:team",))
    keys = ("team", "team/owner", "app", "app.kubernetes.io/name")
    assert [chosen.keeps(key) for key in keys] == [True, True, False, True]


def test_the_longer_match_has_its_way() -> None:
    chosen = LabelFilter((r"!kubernetes\.io/meta", r"kubernetes\.io/meta-team", "app"))
    assert chosen.keeps("kubernetes.io/meta-team")
    assert not chosen.keeps("kubernetes.io/metadata")


def test_a_malformed_expression_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"identity label !team\(: .* is not an RE2 expression"):
        LabelFilter(("!team(",))


def test_a_selector_that_names_a_label_without_meaning_is_recognised() -> None:
    wanted = Selector(
        (
            Requirement("app", "Exists"),
            Requirement("pod-template-hash", "In", ("x",)),
            Requirement("controller-uid", "DoesNotExist"),
            Requirement(NAMESPACE_KEY, "In", ("shop",)),
            Requirement(NAMESPACE_LABEL_PREFIX + "kubernetes.io/metadata.name", "In", ("shop",)),
        )
    )
    assert LabelFilter().forgotten(wanted) == ("controller-uid", "pod-template-hash")
