from __future__ import annotations

from typing import Any

import pytest

from mesh.model import PeerAuthentication
from tests.mesh.dialects.objects import obj
from xds.dialects import read

WEB = {"matchLabels": {"app": "web"}}
OWN = (("app", "web"),)


def noun(spec: Any) -> PeerAuthentication:
    (found,) = read(obj("security.istio.io/v1", "PeerAuthentication", spec)).nouns
    assert isinstance(found, PeerAuthentication)
    return found


@pytest.mark.parametrize(
    ("spec", "mode", "labels", "ports"),
    [
        ({}, None, None, ()),
        ({"mtls": {}}, None, None, ()),
        ({"mtls": {"mode": "UNSET"}}, None, None, ()),
        ({"mtls": {"mode": "STRICT"}}, "STRICT", None, ()),
        ({"mtls": {"mode": "PERMISSIVE"}, "selector": {}}, "PERMISSIVE", None, ()),
        ({"mtls": {"mode": "DISABLE"}, "selector": WEB}, "DISABLE", OWN, ()),
        # In YAML the ports may be numbers, in JSON they are text.
        ({"selector": WEB, "portLevelMtls": {80: {"mode": "STRICT"}}}, None, OWN, ((80, "STRICT"),)),
        ({"selector": WEB, "portLevelMtls": {"80": {}}}, None, OWN, ((80, None),)),
    ],
)
def test_a_policy_is_read(spec: Any, mode: str | None, labels: Any, ports: Any) -> None:
    fragment = read(obj("security.istio.io/v1beta1", "PeerAuthentication", spec))
    assert fragment.problems == ()
    found = noun(spec)
    assert (found.mode, found.labels, found.ports) == (mode, labels, ports)


@pytest.mark.parametrize(
    ("spec", "field", "message", "mode", "labels"),
    [
        ({"mtls": {"mode": "strict"}}, "mtls.mode", "must be one of UNSET", "STRICT", None),
        ({"mtls": {"mode": "MUTUAL"}}, "mtls.mode", "must be one of UNSET", "STRICT", None),
        ({"mtls": {"node": "DISABLE"}}, "mtls.node", "unknown field", "STRICT", None),
        ({"mtls": "DISABLE"}, "mtls", "must be a mapping", "STRICT", None),
        (
            {"mtls": {"mode": "STRICT"}, "selector": {"matchLabels": {"app": "a b"}}},
            "selector.matchLabels.app",
            "is not a label value",
            "STRICT",
            None,
        ),
        (
            {"mtls": {"mode": "STRICT"}, "selector": {"labels": {"app": "web"}}},
            "selector.labels",
            "unknown field",
            "STRICT",
            None,
        ),
        ({"portLevelMtls": {"80": {}}}, "portLevelMtls", "there is none", "STRICT", None),
        (
            {"selector": WEB, "mtls": {"mode": "STRICT"}, "portLevelMtls": {"http": {"mode": "DISABLE"}}},
            "portLevelMtls.http",
            "number of a port",
            "STRICT",
            OWN,
        ),
        (
            {"selector": WEB, "portLevelMtls": {"65536": {}}},
            "portLevelMtls['65536']",
            "number of a port",
            "STRICT",
            OWN,
        ),
        (
            {"selector": WEB, "portLevelMtls": {80: {"mode": "ON"}}},
            "portLevelMtls[80].mode",
            "must be one of UNSET",
            "STRICT",
            OWN,
        ),
    ],
)
def test_what_cannot_be_read_is_told_and_asks_for_no_less(
    spec: Any, field: str, message: str, mode: str | None, labels: Any
) -> None:
    """Rule 18: an unreadable mode is STRICT, an unreadable selector the whole namespace."""
    fragment = read(obj("security.istio.io/v1", "PeerAuthentication", spec))
    assert not fragment.valid
    (problem,) = fragment.problems
    assert problem.field == f"spec.{field}" and message in problem.message
    found = noun(spec)
    assert (found.mode, found.labels, found.ports) == (mode, labels, ())
