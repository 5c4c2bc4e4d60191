from __future__ import annotations

from typing import Any

import pytest

from mesh.dialects import read
from mesh.model import GrantFrom, GrantTo, ObjectRef, ReferenceGrant
from tests.mesh.dialects.objects import obj, refused, valid

GROUP = "gateway.networking.k8s.io"
ROUTES = {"group": GROUP, "kind": "HTTPRoute", "namespace": "shop"}
SERVICES = {"group": "", "kind": "Service"}


def grant(froms: Any, tos: Any, version: str = "v1") -> Any:
    return obj(f"{GROUP}/{version}", "ReferenceGrant", {"from": froms, "to": tos}, namespace="far")


def one(object: Any) -> ReferenceGrant:
    (noun,) = valid(object).nouns
    assert isinstance(noun, ReferenceGrant)
    return noun


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_a_grant_names_who_may_refer_and_to_what(version: str) -> None:
    found = one(grant([ROUTES, ROUTES], [SERVICES | {"name": "cart"}, SERVICES], version))
    assert found == ReferenceGrant(
        ObjectRef("ReferenceGrant", "far", "one"),
        (GrantFrom(GROUP, "HTTPRoute", "shop"),),
        (GrantTo("", "Service"), GrantTo("", "Service", "cart")),
    )
    assert found.namespace == "far"


@pytest.mark.parametrize(
    ("source", "target", "granted"),
    [
        (GrantFrom(GROUP, "HTTPRoute", "shop"), GrantTo("", "Service", "cart"), True),
        (GrantFrom(GROUP, "HTTPRoute", "street"), GrantTo("", "Service", "cart"), False),
        (GrantFrom(GROUP, "GRPCRoute", "shop"), GrantTo("", "Service", "cart"), False),
        (GrantFrom("", "HTTPRoute", "shop"), GrantTo("", "Service", "cart"), False),
        (GrantFrom(GROUP, "HTTPRoute", "shop"), GrantTo("", "Service", "other"), False),
        (GrantFrom(GROUP, "HTTPRoute", "shop"), GrantTo("", "Secret", "cart"), False),
        (GrantFrom(GROUP, "HTTPRoute", "shop"), GrantTo("", "ConfigMap", "any"), True),
    ],
)
def test_n51_a_grant_for_another_kind_name_or_namespace_is_none(
    source: GrantFrom, target: GrantTo, granted: bool
) -> None:
    found = one(grant([ROUTES], [SERVICES | {"name": "cart"}, {"group": "", "kind": "ConfigMap"}]))
    assert found.permits(source, target) is granted


@pytest.mark.parametrize(
    ("froms", "tos", "field", "says"),
    [
        (None, [SERVICES], "from", "is required"),
        ([], [SERVICES], "from", "is required"),
        ([ROUTES], [], "to", "is required"),
        ([ROUTES | {"namespace": None}], [SERVICES], "from[0].namespace", "is required"),
        ([ROUTES | {"namespace": ""}], [SERVICES], "from[0].namespace", "is empty"),
        ([ROUTES | {"namespace": "*"}], [SERVICES], "from[0].namespace", "is not a name"),
        ([ROUTES | {"group": None}], [SERVICES], "from[0].group", "is required"),
        ([ROUTES | {"group": "*"}], [SERVICES], "from[0].group", "is not a group"),
        ([ROUTES | {"kind": ""}], [SERVICES], "from[0].kind", "is not a kind"),
        ([ROUTES], [SERVICES | {"kind": "*"}], "to[0].kind", "is not a kind"),
        ([ROUTES], [SERVICES | {"name": "*"}], "to[0].name", "is not a name"),
        ([ROUTES], [SERVICES | {"namespace": "shop"}], "to[0].namespace", "unknown field"),
        ([ROUTES | {"name": "a"}], [SERVICES], "from[0].name", "unknown field"),
        ([ROUTES] * 17, [SERVICES], "from", "at most 16"),
    ],
)
def test_a_grant_that_cannot_be_read_grants_nothing(froms: Any, tos: Any, field: str, says: str) -> None:
    bad = grant(froms, tos)
    assert says in refused(bad)[f"spec.{field}"]
    assert read(bad).nouns == ()
