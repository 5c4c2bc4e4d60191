"""The mesh's authority: what it issues, what it keeps on disk, and what it refuses to serve with."""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.xds.authorities import (
    DAY,
    FILES,
    NOW,
    WEB,
    YEAR,
    Key,
    certificates,
    contents,
    openssl,
    openssl_verifies,
    put,
    signer,
)
from xds import atomic
from xds.authority import Authority, Svid
from xds.authority_files import BadAuthority


def issued(folder: Path, identity: str = WEB, lifetime: timedelta = DAY) -> Svid:
    return Authority(folder).issue(identity, lifetime, NOW)


def pem_of(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


# --- a root of its own ---------------------------------------------------------------------------


def test_nothing_is_made_before_the_first_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "state" / "authority")
    with pytest.raises(ValueError):
        authority.issue("web", DAY, NOW)
    assert not list(tmp_path.iterdir())
    authority.issue(WEB, DAY, NOW)
    assert sorted(os.listdir(tmp_path / "state" / "authority")) == sorted(FILES)


def test_the_root_is_as_istios_and_its_key_for_nobody_else(tmp_path: Path) -> None:
    folder = tmp_path / "authority"
    issued(folder)
    text = openssl("x509", "-in", folder / "root-cert.pem", "-noout", "-text")
    assert "Issuer: O = cluster.local\n" in text and "Subject: O = cluster.local\n" in text
    assert "X509v3 Basic Constraints: critical\n                CA:TRUE\n" in text
    assert "X509v3 Key Usage: critical\n                Certificate Sign, CRL Sign\n" in text
    assert "X509v3 Subject Key Identifier" in text and "prime256v1" in text
    root = x509.load_pem_x509_certificate((folder / "root-cert.pem").read_bytes())
    assert root.not_valid_after_utc == NOW + timedelta(days=3650)
    assert root.not_valid_before_utc == NOW - timedelta(minutes=2)
    assert (folder / "ca-cert.pem").read_bytes() == (folder / "root-cert.pem").read_bytes()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "ca-key.pem").stat().st_mode & 0o777 == 0o600


def test_an_empty_folder_is_as_good_as_none(tmp_path: Path) -> None:
    folder = tmp_path / "authority"
    folder.mkdir(mode=0o755)
    issued(folder)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_control_plane_that_starts_again_has_the_same_root(tmp_path: Path) -> None:
    first, second = issued(tmp_path / "authority"), issued(tmp_path / "authority")
    assert first.bundle == second.bundle and first.key != second.key
    assert openssl_verifies(second, tmp_path, at=NOW, bundle=first.bundle)


class Killed(BaseException):
    """The process, at this moment."""


@pytest.mark.parametrize("after", range(5))
def test_one_killed_while_it_makes_its_root_leaves_nothing_to_trip_over(
    after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "authority"
    left = [after]

    def until_killed(real: Callable[..., None]) -> Callable[..., None]:
        def step(*arguments: object) -> None:
            if not left[0]:
                raise Killed
            left[0] -= 1
            real(*arguments)

        return step

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "write", until_killed(atomic.write))
        patch.setattr(os, "rename", until_killed(os.rename))
        with pytest.raises(Killed):
            issued(folder)
    assert not folder.exists()
    assert openssl_verifies(issued(folder), tmp_path, at=NOW)
    assert not list(tmp_path.glob("*.partial"))


def test_a_folder_of_other_things_is_refused_and_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "authority"
    folder.mkdir()
    (folder / "notes").write_text("mine")
    with pytest.raises(BadAuthority, match=r"cannot be made .* must be absent or empty"):
        issued(folder)
    assert contents(folder) == {"notes": b"mine"}
    with pytest.raises(BadAuthority, match="cannot be read"):
        issued(folder / "notes")


# --- a workload's certificate --------------------------------------------------------------------


def test_a_certificate_is_an_svid(tmp_path: Path) -> None:
    svid = issued(tmp_path / "authority")
    assert svid.identity == WEB
    (leaf,) = certificates(svid)
    (root,) = x509.load_pem_x509_certificates(svid.bundle)
    assert leaf.subject == x509.Name([]) and leaf.issuer == root.subject
    assert leaf.not_valid_before_utc == NOW - timedelta(minutes=2)
    assert leaf.not_valid_after_utc == svid.expires == NOW + DAY
    assert isinstance(leaf.public_key(), ec.EllipticCurvePublicKey)
    assert load_pem_private_key(svid.key, None).public_key() == leaf.public_key()
    found = {type(extension.value): extension for extension in leaf.extensions}
    names = found[x509.SubjectAlternativeName]
    assert names.critical and list(names.value) == [x509.UniformResourceIdentifier(WEB)]
    constraints = found[x509.BasicConstraints]
    assert constraints.critical and not constraints.value.ca
    usage = found[x509.KeyUsage]
    assert usage.critical and usage.value.digital_signature
    assert not (usage.value.key_cert_sign or usage.value.crl_sign or usage.value.key_encipherment)
    both = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert set(found[x509.ExtendedKeyUsage].value) == both
    own = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert found[x509.AuthorityKeyIdentifier].value.key_identifier == own.digest
    assert x509.SubjectKeyIdentifier in found and len(found) == 6


def test_openssl_takes_it_for_a_client_and_a_server_while_it_lasts(tmp_path: Path) -> None:
    svid = issued(tmp_path / "authority", lifetime=timedelta(hours=1))
    minute = timedelta(minutes=1)
    assert openssl_verifies(svid, tmp_path, at=NOW - minute)
    assert openssl_verifies(svid, tmp_path, at=svid.expires - minute)
    assert not openssl_verifies(svid, tmp_path, at=svid.expires + minute)
    assert not openssl_verifies(svid, tmp_path, at=NOW, bundle=signer("another").pem)


def test_no_two_certificates_share_a_key_or_a_serial(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    made = [certificates(authority.issue(WEB, DAY, NOW))[0] for _ in range(50)]
    assert len({found.serial_number for found in made}) == 50
    assert len({pem_of(found) for found in made}) == 50
    assert 2**100 < max(found.serial_number for found in made) < 2**128


@pytest.mark.parametrize(
    "identity",
    [
        WEB,
        "spiffe://my_td.example-1.com/ns/a/sa/b.c-d_E9",
        f"spiffe://{'d' * 255}/ns/shop/sa/web",
        f"spiffe://cluster.local/ns/{'n' * (2048 - len('spiffe://cluster.local/ns//sa/web'))}/sa/web",
        "spiffe://cluster.local/ns/.../sa/..a",
    ],
)
def test_what_spiffe_allows_is_issued(identity: str, tmp_path: Path) -> None:
    svid = issued(tmp_path / "authority", identity)
    assert openssl_verifies(svid, tmp_path, at=NOW)


@pytest.mark.parametrize(
    "identity",
    [
        "",
        "web",
        "cluster.local/ns/shop/sa/web",
        "https://cluster.local/ns/shop/sa/web",
        "SPIFFE://cluster.local/ns/shop/sa/web",
        "spiffe://Cluster.local/ns/shop/sa/web",
        "spiffe:///ns/shop/sa/web",
        "spiffe://cluster.local",
        "spiffe://cluster.local/ns/shop",
        "spiffe://cluster.local/ns//sa/web",
        "spiffe://cluster.local/ns/shop/sa/",
        "spiffe://cluster.local/ns/shop/sa/web/",
        "spiffe://cluster.local/ns/shop/sa/web/extra",
        "spiffe://cluster.local/ns/./sa/web",
        "spiffe://cluster.local/ns/shop/sa/..",
        "spiffe://cluster.local/sa/web/ns/shop",
        "spiffe://cluster.local:80/ns/shop/sa/web",
        "spiffe://user@cluster.local/ns/shop/sa/web",
        "spiffe://cluster.local/ns/shop/sa/web?x=1",
        "spiffe://cluster.local/ns/shop/sa/web#x",
        "spiffe://cluster.local/ns/shop/sa/w%65b",
        "spiffe://cluster.local/ns/shop/sa/web\n",
        "spiffe://cluster.local/ns/shop/sa/web\0",
        "spiffe://cluster.local/ns/shop/sa/web,URI:spiffe://cluster.local/ns/shop/sa/admin",
        "spiffe://cluster.local/ns/shop/sa/w\u0435b",
        "spiffe://cluster.local/ns/shop/sa/\udc80",
        f"spiffe://{'d' * 256}/ns/shop/sa/web",
        f"spiffe://cluster.local/ns/{'n' * (2049 - len('spiffe://cluster.local/ns//sa/web'))}/sa/web",
    ],
)
def test_what_is_no_identity_is_refused(identity: str, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"is not spiffe://<trust domain>/ns/<namespace>/sa/<service account>"
    ):
        issued(tmp_path / "authority", identity)
    assert not (tmp_path / "authority").exists()


def test_a_lifetime_of_nothing_is_refused(tmp_path: Path) -> None:
    for lifetime in (timedelta(), timedelta(seconds=-1), timedelta(milliseconds=900)):
        with pytest.raises(ValueError, match="a second is the least"):
            issued(tmp_path / "authority", lifetime=lifetime)


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("standing") / "authority")


PIECES = st.one_of(
    st.sampled_from(["spiffe:", "spiffe://", "//", "/", "ns", "sa", "/ns/", "/sa/", "shop", "cluster.local"]),
    st.sampled_from(
        [".", "..", ",", "URI:", "DNS:x", "%00", "?", "#", "@", ":80", "*", "\0", "\n", "\udc80"]
    ),
)
HOSTILE = st.one_of(
    st.text(),
    st.lists(PIECES, max_size=12).map("".join),
    st.tuples(*(st.text(max_size=9) | st.lists(PIECES, max_size=2).map("".join) for _ in range(3))).map(
        lambda parts: f"spiffe://{parts[0]}/ns/{parts[1]}/sa/{parts[2]}"
    ),
    st.from_regex(
        r"spiffe://[a-z0-9._-]{1,9}/ns/[A-Za-z0-9._-]{1,9}/sa/[A-Za-z0-9._-]{1,9}\n?", fullmatch=True
    ),
)


@given(HOSTILE, st.timedeltas(min_value=timedelta(seconds=-5)))
@settings(max_examples=400, deadline=None)
def test_whoever_asks_for_whatever_gets_that_one_identity_and_no_authority_or_nothing(
    standing: Authority, identity: str, lifetime: timedelta
) -> None:
    """Threat N33."""
    try:
        svid = standing.issue(identity, lifetime, NOW)
    except ValueError:
        return
    (leaf,) = certificates(svid)
    get = leaf.extensions.get_extension_for_class
    names = list(get(x509.SubjectAlternativeName).value)
    assert names == [x509.UniformResourceIdentifier(identity)]
    assert re.fullmatch(r"spiffe://[^/\s]+/ns/[^/\s]+/sa/[^/\s]+", identity) and identity.isascii()
    assert not get(x509.BasicConstraints).value.ca and not get(x509.KeyUsage).value.key_cert_sign
    (root,) = x509.load_pem_x509_certificates(svid.bundle)
    assert NOW <= leaf.not_valid_after_utc <= min(root.not_valid_after_utc, NOW + min(lifetime, 20 * YEAR))


# --- an operator's authority ---------------------------------------------------------------------


def test_an_intermediate_made_with_openssl_is_sent_and_its_root_is_not(tmp_path: Path) -> None:
    """As in Istio's "Plug in CA Certificates": RSA, and the chain file also holds who signs and the root."""
    folder = tmp_path / "authority"
    folder.mkdir()
    root, key = tmp_path / "root.pem", tmp_path / "root.key"
    authority = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"]
    made = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650", *authority]
    openssl(*made, "-subj", "/O=Istio/CN=Root CA", "-keyout", key, "-out", root)
    own, own_key = folder / "ca-cert.pem", folder / "ca-key.pem"
    signed = [*made, "-subj", "/O=Istio/CN=Intermediate CA/L=cluster1", "-CA", root, "-CAkey", key]
    openssl(*signed, "-keyout", own_key, "-out", own)
    shutil.copy(root, folder / "root-cert.pem")
    (folder / "cert-chain.pem").write_bytes(own.read_bytes() + root.read_bytes())
    before = contents(folder)
    now = x509.load_pem_x509_certificate(own.read_bytes()).not_valid_before_utc + DAY
    svid = Authority(folder).issue(WEB, DAY, now)
    assert [found.subject.rfc4514_string() for found in certificates(svid)] == [
        "",
        "L=cluster1,CN=Intermediate CA,O=Istio",
    ]
    assert svid.bundle == root.read_bytes()
    assert openssl_verifies(svid, tmp_path, at=now)
    assert contents(folder) == before


def test_a_longer_chain_is_put_in_order_and_the_bundle_is_the_operators(tmp_path: Path) -> None:
    root, old = signer("root"), signer("old root", ends=NOW - timedelta(hours=1))
    upper = signer("upper", root, below=1)
    lower = signer("lower", upper, below=0)
    stranger = signer("stranger", old)
    put(tmp_path / "authority", lower, stranger, root, upper, roots=(old, root))
    svid = issued(tmp_path / "authority")
    assert [*certificates(svid)][1:] == [lower.certificate, upper.certificate]
    assert svid.bundle == old.pem + root.pem
    assert openssl_verifies(svid, tmp_path, at=NOW)


def test_a_root_with_one_key_and_two_certificates_is_used_by_the_valid_one(tmp_path: Path) -> None:
    old = signer("root", ends=NOW - DAY / 2)
    renewed = signer("root", key=old.key)
    put(tmp_path / "authority", signer("own", old), roots=(old, renewed))
    assert openssl_verifies(issued(tmp_path / "authority"), tmp_path, at=NOW)


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()),
        rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=lambda key: type(key).__name__,
)
def test_an_operators_key_may_be_of_another_kind(key: Key, tmp_path: Path) -> None:
    root = signer("root", key=key)
    put(tmp_path / "authority", root, roots=(root,))
    svid = issued(tmp_path / "authority")
    assert len(certificates(svid)) == 1
    assert openssl_verifies(svid, tmp_path, at=NOW)


def test_files_without_optional_parts_serve_too(tmp_path: Path) -> None:
    root = signer("root", signs=None)
    put(tmp_path / "authority", root, roots=(root,))
    (tmp_path / "authority" / "cert-chain.pem").unlink()
    issued(tmp_path / "authority")


def test_no_certificate_outlives_who_signed_it(tmp_path: Path) -> None:
    hour = timedelta(hours=1)
    root, short = signer("root"), signer("short root", ends=NOW + 5 * hour)
    put(tmp_path / "a", signer("own", root, ends=NOW + 3 * hour), roots=(root,))
    put(tmp_path / "b", signer("own", short), roots=(short,))
    for folder, ends in (("a", NOW + 3 * hour), ("b", NOW + 5 * hour)):
        svid = issued(tmp_path / folder)
        assert svid.expires == certificates(svid)[0].not_valid_after_utc == ends
        assert issued(tmp_path / folder, lifetime=hour).expires == NOW + hour


def test_an_authority_that_has_ended_is_read_anew_and_never_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / "authority"
    first = signer("first", ends=NOW + DAY)
    put(folder, first, roots=(first,))
    authority = Authority(folder)
    authority.issue(WEB, DAY, NOW)
    with pytest.raises(
        BadAuthority, match=r"ca-cert.pem has ended at 2031-05-02T12:00:00\+00:00; it must be"
    ):
        authority.issue(WEB, DAY, NOW + DAY)
    assert (folder / "ca-cert.pem").read_bytes() == first.pem
    second = signer("second")
    put(folder, second, roots=(second,))
    assert authority.issue(WEB, DAY, NOW + DAY).bundle == second.pem


def test_a_key_is_in_no_text(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    folder = tmp_path / "authority"
    authority = Authority(folder)
    svid = authority.issue(WEB, DAY, NOW)
    texts = [repr(svid), str(svid), repr(vars(authority))]
    key = (folder / "ca-key.pem").read_bytes()
    for name in ("ca-cert.pem", "cert-chain.pem", "root-cert.pem", "ca-key.pem"):
        kept = (folder / name).read_bytes()
        (folder / name).write_bytes(key[:-40])
        with pytest.raises(BadAuthority) as caught:
            issued(folder)
        texts.append(f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}")
        (folder / name).write_bytes(kept)
    for secret in (bytes(svid.key), key):
        for line in secret.splitlines()[1:-1]:
            assert all(line.decode() not in text for text in (*texts, caplog.text))
    assert "[redacted]" in texts[0]
