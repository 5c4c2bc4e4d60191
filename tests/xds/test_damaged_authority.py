"""An authority's files that cannot serve: each fault is named, and they are left till mended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.xds.authorities import (
    DAY,
    FILES,
    NOW,
    WEB,
    Signer,
    certificates,
    contents,
    openssl,
    openssl_verifies,
    put,
    signer,
)
from xds.authority import Authority
from xds.authority_files import BadAuthority


def _encrypted(folder: Path) -> None:
    key = folder / "ca-key.pem"
    key.write_text(openssl("ec", "-in", key, "-aes128", "-passout", "pass:secret"))


def _without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _damaged(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:100] + b"AAAA" + content[104:])

    return damage


def _cut(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(b"")


def _own(**how: Any) -> Callable[[Path], None]:
    def replace(folder: Path) -> None:
        root = signer("root")
        put(folder, signer("own", root, **how), roots=(root,))

    return replace


def _over(**how: Any) -> Callable[[Path], None]:
    """An intermediate between that cannot stand there."""

    def replace(folder: Path) -> None:
        root = signer("root")
        upper = signer("upper", root, **how)
        put(folder, signer("own", upper), upper, roots=(root,))

    return replace


def _root(**how: Any) -> Callable[[Path], None]:
    def replace(folder: Path) -> None:
        root = signer("root", **how)
        put(folder, signer("own", root), roots=(root,))

    return replace


def _strangers_key(folder: Path) -> None:
    (folder / "ca-key.pem").write_bytes(signer("own").key_pem)


def _namesake(folder: Path) -> None:
    """The root that signed has the name of the one that is trusted, and another key."""
    put(folder, signer("own", signer("root")), roots=(signer("root"),))


def _untrusted(folder: Path) -> None:
    root = signer("root")
    put(folder, root, root, roots=(signer("another"),))


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "no certificate": (_without("ca-cert.pem"), "ca-cert.pem is missing; put it back"),
    "no key": (_without("ca-key.pem"), "ca-key.pem is missing; put it back"),
    "no root": (_without("root-cert.pem"), "root-cert.pem is missing; put it back"),
    "no chain": (_without("cert-chain.pem"), "nobody there or in cert-chain.pem may sign CN=own"),
    "damaged certificate": (_damaged("ca-cert.pem"), "ca-cert.pem is damaged; it must be PEM"),
    "damaged key": (_damaged("ca-key.pem"), "ca-key.pem is not an EC, RSA or Ed25519 key; it must"),
    "damaged root": (_damaged("root-cert.pem"), "root-cert.pem is damaged; it must be PEM"),
    "damaged chain": (_damaged("cert-chain.pem"), "cert-chain.pem is damaged; it must be PEM"),
    "empty certificate": (_cut("ca-cert.pem"), "ca-cert.pem is damaged; it must be PEM"),
    "empty key": (_cut("ca-key.pem"), "ca-key.pem is not an EC, RSA or Ed25519 key; it must"),
    "empty root": (_cut("root-cert.pem"), "root-cert.pem is damaged; it must be PEM"),
    "passphrase": (_encrypted, "ca-key.pem is not .* without a passphrase"),
    "another's key": (_strangers_key, "ca-key.pem is not the key of ca-cert.pem; both must be"),
    "no authority": (_own(ca=False), r"ca-cert.pem is not of an authority \(CA:FALSE\); it must"),
    "nothing said": (_own(ca=None), r"ca-cert.pem is not of an authority \(no basicConstraints\)"),
    "signs nothing": (_own(signs=False), r"ca-cert.pem may not sign certificates \(keyUsage\)"),
    "ended": (_own(ends=NOW), "ca-cert.pem has ended at 2031-05-01T12:00:00"),
    "not begun": (_own(begins=NOW + DAY), "ca-cert.pem begins only at 2031-05-02T12:00:00"),
    "root ended": (_root(ends=NOW), "CN=root could, but has ended at 2031-05-01T12:00:00"),
    "root is none": (_root(ca=False), "CN=root could, but is not of an authority"),
    "root too near": (_root(below=0), r"CN=root could, but allows 0 authorities below it \(pathlen\), not 1"),
    "upper ended": (_over(ends=NOW), "CN=upper could, but has ended"),
    "upper is none": (_over(ca=False), "CN=upper could, but is not of an authority"),
    "upper too near": (_over(below=0), "CN=upper could, but allows 0 authorities"),
    "namesake": (
        _namesake,
        "root-cert.pem is not where ca-cert.pem leads: nobody .* may sign CN=own; put its",
    ),
    "untrusted": (
        _untrusted,
        "root-cert.pem is not where ca-cert.pem leads: nobody .* may sign CN=root; put",
    ),
}


@pytest.fixture(scope="module")
def whole() -> tuple[Signer, Signer, Signer]:
    root = signer("root")
    upper = signer("upper", root)
    return signer("own", upper), upper, root


@pytest.mark.parametrize("fault", FAULTS)
def test_files_that_cannot_serve_are_named_and_left_until_they_are_mended(
    fault: str, whole: tuple[Signer, Signer, Signer], tmp_path: Path
) -> None:
    folder = tmp_path / "authority"
    own, upper, root = whole
    put(folder, own, upper, roots=(root,))
    spoil, message = FAULTS[fault]
    spoil(folder)
    before = contents(folder)
    authority = Authority(folder)
    for _ in range(2):
        with pytest.raises(BadAuthority, match=message) as caught:
            authority.issue(WEB, DAY, NOW)
        assert caught.value.path.parent == folder
    assert contents(folder) == before
    put(folder, own, upper, roots=(root,))
    assert openssl_verifies(authority.issue(WEB, DAY, NOW), tmp_path, at=NOW)


@given(st.sampled_from(FILES), st.integers(0), st.binary(max_size=8), st.integers(0, 400))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_files_are_refused_or_make_no_difference(
    whole: tuple[Signer, Signer, Signer], tmp_path: Path, name: str, at: int, added: bytes, gone: int
) -> None:
    folder = tmp_path / "authority"
    own, upper, root = whole
    put(folder, own, upper, roots=(root,))
    content = (folder / name).read_bytes()
    at %= len(content)
    damaged = content[:at] + added + content[at + gone :]
    assume(damaged != content)
    (folder / name).write_bytes(damaged)
    try:
        svid = Authority(folder).issue(WEB, DAY, NOW)
    except BadAuthority:
        pass
    else:
        leaf, *chain = certificates(svid)
        assert chain == [own.certificate, upper.certificate] and svid.bundle == root.pem
        leaf.verify_directly_issued_by(own.certificate)
    assert (folder / name).read_bytes() == damaged
