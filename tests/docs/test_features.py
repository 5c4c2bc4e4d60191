"""The features that a GatewayClass promises are those whose fields are read."""

from __future__ import annotations

from mesh.status.features import FEATURES
from tests.docs.fields import read_fields
from tests.docs.test_fields import samples
from xds.dialects import DIALECTS

#: What the conformance suite has beside, and the fields by which it would be there.
ABSENT = {
    "GatewayBackendClientCertificate": "Gateway spec.tls.backend",
    "HTTPRouteExternalAuth": "HTTPRoute spec.rules[].filters[].externalAuth",
}
#: One for whose absence no field tells: a Gateway is at no address of the user's choice.
BARE = {"GatewayStaticAddresses"}


def fields() -> tuple[set[str], set[str]]:
    """Those that are read and those that are refused, such as `HTTPRoute spec.rules[].name`."""
    read: set[str] = set()
    refused: set[str] = set()
    for kind, path, found in read_fields(samples(), DIALECTS):
        read |= {f"{kind} {path}.{name}" for name in found.read}
        refused |= {f"{kind} {path}.{name}" for name in found.refused}
    return read, refused


def test_what_is_promised_is_read() -> None:
    read, refused = fields()
    for feature, needed in FEATURES.items():
        for field in needed:
            assert field in read - refused, (feature, field)


def test_what_is_refused_is_not_promised() -> None:
    _, refused = fields()
    for feature, field in ABSENT.items():
        assert field in refused, f"{field} is read now: is {feature} to be promised?"
    assert not FEATURES.keys() & (ABSENT.keys() | BARE)


def test_the_list_is_sorted() -> None:
    assert list(FEATURES) == sorted(FEATURES)
