"""Workloads' certificates as Envoy is given them, and when they are exchanged."""

from __future__ import annotations

import base64
import logging
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mesh.discovery.envoy import SECRET
from tests.xds.authorities import DAY, NOW, WEB, put, signer
from xds.authority import Authority
from xds.certificates import Certificates
from xds.render.encoding import decode
from xds.render.resource import EnvoyResource

HOUR = timedelta(hours=1)
MANY = [f"spiffe://cluster.local/ns/shop/sa/web-{number}" for number in range(60)]


class Clock:
    """Stands until a test moves it."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "authority"


@pytest.fixture
def kept(folder: Path, clock: Clock) -> Certificates:
    return Certificates(Authority(folder), clock=clock)


def own(resources: tuple[EnvoyResource, ...]) -> x509.Certificate:
    return x509.load_pem_x509_certificate(
        _bytes(decode(resources[0].any)["tls_certificate"]["certificate_chain"])
    )


def _bytes(source: dict[str, Any]) -> bytes:
    return base64.b64decode(source["inline_bytes"])


def test_a_workload_gets_two_secrets_under_istios_names(kept: Certificates, folder: Path) -> None:
    certificate, roots = kept.resources(WEB)
    assert [(found.type_url, found.name) for found in (certificate, roots)] == [
        (SECRET, "default"),
        (SECRET, "ROOTCA"),
    ]
    body = decode(certificate.any)
    assert set(body) == {"@type", "name", "tls_certificate"} and body["name"] == "default"
    assert set(body["tls_certificate"]) == {"certificate_chain", "private_key"}
    leaf = own((certificate, roots))
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.UniformResourceIdentifier(WEB)]
    assert leaf.not_valid_after_utc == NOW + DAY
    key = load_pem_private_key(_bytes(body["tls_certificate"]["private_key"]), None)
    assert key.public_key() == leaf.public_key()
    body = decode(roots.any)
    assert body["name"] == "ROOTCA" and set(body["validation_context"]) == {"trusted_ca"}
    assert _bytes(body["validation_context"]["trusted_ca"]) == (folder / "root-cert.pem").read_bytes()


def test_resources_are_the_same_objects_until_the_certificate_changes(
    kept: Certificates, clock: Clock
) -> None:
    first, other = kept.resources(WEB), kept.resources(MANY[0])
    assert kept.resources(WEB)[0] is first[0] and kept.resources(WEB)[1] is first[1] is other[1]
    assert kept.renew() == frozenset() and kept.resources(WEB)[0] is first[0]
    clock.now += 15 * HOUR
    assert kept.renew() == {WEB, MANY[0]}
    again = kept.resources(WEB)
    assert again[0] is not first[0] and own(again).public_key() != own(first).public_key()
    assert again[1] is first[1]  # the roots have not changed
    assert kept.resources(WEB)[0] is again[0]
    assert kept.renew() == frozenset()


def test_certificates_are_exchanged_from_half_of_their_life_on_and_not_all_at_once(
    kept: Certificates, clock: Clock
) -> None:
    for identity in MANY:
        kept.resources(identity)
    renewed: dict[str, timedelta] = {}
    for minute in range(0, 16 * 60, 12):
        clock.now = NOW + timedelta(minutes=minute)
        for identity in kept.renew():
            assert identity not in renewed
            renewed[identity] = clock.now - NOW
    assert set(renewed) == set(MANY)
    assert min(renewed.values()) >= 12 * HOUR and max(renewed.values()) <= 14.4 * HOUR
    assert len(set(renewed.values())) > 6


def test_when_an_identity_renews_does_not_depend_on_chance(tmp_path: Path, clock: Clock) -> None:
    both = [Certificates(Authority(tmp_path / name), clock=clock) for name in "ab"]
    for one in both:
        for identity in MANY:
            one.resources(identity)
    clock.now += 13 * HOUR
    first, second = (one.renew() for one in both)
    assert first == second and 0 < len(first) < len(MANY)


def test_what_cannot_be_renewed_stays_is_told_and_is_tried_again(
    folder: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    first = signer("first", ends=NOW + 10 * HOUR)
    put(folder, first, roots=(first,))
    kept = Certificates(Authority(folder), HOUR, clock)
    before = kept.resources(WEB), kept.resources(MANY[0])
    clock.now = NOW + 11 * HOUR
    for _ in range(2):
        caplog.clear()
        assert kept.renew() == frozenset()
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert (
            "2 certificates cannot be renewed, the first ends at 2031-05-01T13:00:00+00:00" in record.message
        )
        assert "ca-cert.pem has ended" in record.message and "it must be" in record.message
    assert (kept.resources(WEB), kept.resources(MANY[0])) == before
    caplog.clear()
    assert kept.resources(MANY[1]) == () == kept.resources(MANY[1])
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert f"no certificate for {MANY[1]}" in record.message and "ca-cert.pem has ended" in record.message
    second = signer("second")
    put(folder, second, roots=(second,))
    caplog.clear()
    assert kept.renew() == {WEB, MANY[0], MANY[1]}
    assert kept.renew() == frozenset()
    assert not caplog.records
    # The new bundle is one object for all.
    assert kept.resources(WEB)[1] is kept.resources(MANY[0])[1] is not before[0][1]


def test_a_certificate_that_would_last_no_longer_is_not_exchanged(
    folder: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Else each renewal halves what is left, and Envoy gets ever more certificates as the end comes near."""
    root = signer("root", ends=NOW + 8 * HOUR)
    put(folder, root, roots=(root,))
    kept = Certificates(Authority(folder), clock=clock)
    before = kept.resources(WEB)
    assert own(before).not_valid_after_utc == NOW + 8 * HOUR
    clock.now = NOW + 5 * HOUR
    assert kept.renew() == frozenset() and kept.resources(WEB)[0] is before[0]
    assert "give it a new certificate" in caplog.text
    caplog.clear()
    assert kept.renew() == frozenset() and not caplog.records  # not due again before half of the rest
    clock.now = NOW + 7 * HOUR
    assert kept.renew() == frozenset() and "give it a new certificate" in caplog.text


def test_identities_that_nobody_has_are_forgotten(kept: Certificates, clock: Clock) -> None:
    first, other = kept.resources(WEB), kept.resources(MANY[0])
    kept.forget([WEB])
    assert kept.resources(WEB)[0] is first[0]
    clock.now += 15 * HOUR
    assert kept.renew() == {WEB}
    assert own(kept.resources(MANY[0])) != own(other)


def test_what_is_no_identity_gets_nothing(kept: Certificates, clock: Clock) -> None:
    assert kept.resources("web") == ()
    clock.now += 15 * HOUR
    assert kept.renew() == frozenset()


def test_a_resource_does_not_print_its_key(kept: Certificates) -> None:
    resources = kept.resources(WEB)
    assert b"PRIVATE KEY" in resources[0].any
    for text in (repr(resources), repr(vars(kept))):
        assert "PRIVATE KEY" not in text
