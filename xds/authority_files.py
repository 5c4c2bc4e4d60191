"""The files of the mesh's certificate authority: made where there are none, else read and judged (RFC 5280).

Files that cannot serve are an error and never replaced by a new root, for who trusts the old one would trust
nobody any more.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from mesh.model import PrivateKey
from xds import atomic

#: As in Istio's Secret `cacerts`: who signs; its key; whom the mesh trusts; who stands between.
CERTIFICATE, KEY, ROOTS, CHAIN = "ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem"

#: So far back a certificate begins, for peers whose clocks are late (Istio, ClockSkewGracePeriod).
SKEW = timedelta(minutes=2)
#: Of a root that is made here (Istio, CITADEL_SELF_SIGNED_CA_CERT_TTL).
ROOT_LIFETIME = timedelta(days=3650)

_Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

#: What cryptography raises for certificates that cannot be read, at once or when a part is asked for.
_UNREADABLE = (
    ValueError,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    UnsupportedAlgorithm,
)


class BadAuthority(Exception):
    """The authority cannot serve. Says which file is to blame, what it is, and what would be right."""

    def __init__(self, path: Path, what: str, hint: str) -> None:
        super().__init__(f"{path} {what}; {hint}")
        self.path = path


@dataclass(frozen=True, slots=True)
class Issuer:
    """What the files hold, and from when until when all of it is valid."""

    certificate: x509.Certificate
    key: _Key
    chain: bytes
    bundle: bytes
    begins: datetime
    ends: datetime


def opened(folder: Path, domain: str, now: datetime) -> Issuer:
    """What is in `folder`. If none of the files is, a root of the trust domain `domain` is made there first.
    `now` is aware.

    Raises BadAuthority."""
    try:
        present = set(os.listdir(folder))
    except FileNotFoundError:
        present = set()
    except OSError as error:
        raise BadAuthority(
            folder,
            f"cannot be read ({error.strerror})",
            "it must be a folder of the control plane's",
        ) from error
    if present.isdisjoint((CERTIFICATE, KEY, ROOTS, CHAIN)):
        try:
            _make(folder.resolve(), domain, now)
        except OSError as error:
            raise BadAuthority(
                folder,
                f"cannot be made ({error.strerror})",
                "it must be absent or empty, and where it is to be must be writable",
            ) from error
    return _read(folder, now)


# --- a root of our own ---------------------------------------------------------------------------


def _make(folder: Path, domain: str, now: datetime) -> None:
    """The folder appears whole: a key without a certificate would look like an operator's mistake. Other than
    state that is made again from sources, a root must also survive the machine, so it is synced."""
    key = ec.generate_private_key(ec.SECP256R1())
    # Istio names its self-signed root by the trust domain, and gives it no common name.
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, domain)])
    root = (
        x509.CertificateBuilder(name, name, key.public_key(), serial())
        .not_valid_before(second(now - SKEW))
        .not_valid_after(second(now + ROOT_LIFETIME))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    partial = folder.with_name(folder.name + atomic.PARTIAL)
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(mode=0o700, parents=True)
    certificate = pem([root])
    for file, content in (
        (KEY, bytes(pem_of_key(key))),
        (CERTIFICATE, certificate),
        (ROOTS, certificate),
        (CHAIN, b""),
    ):
        atomic.write(partial / file, content)
        _sync(partial / file)
    _sync(partial)
    os.rename(partial, folder)
    _sync(folder.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- whoever's is there --------------------------------------------------------------------------


def _read(folder: Path, now: datetime) -> Issuer:
    own = folder / CERTIFICATE
    certificate, *between = _certificates(own)
    key = _private_key(folder / KEY)
    roots = _certificates(folder / ROOTS)
    if (folder / CHAIN).exists():
        between += _certificates(folder / CHAIN, or_none=True)
    if certificate.public_key() != key.public_key():
        raise BadAuthority(folder / KEY, f"is not the key of {CERTIFICATE}", "both must be of one authority")
    fault = _fault(certificate, 0, now)
    if fault:
        raise BadAuthority(own, fault, "it must be the certificate of an authority that may sign now")
    path = _path(folder, certificate, between, roots, now)
    return Issuer(
        certificate,
        key,
        pem(path[:-1]),
        pem(roots),
        max(found.not_valid_before_utc for found in path),
        min(found.not_valid_after_utc for found in path),
    )


def _path(
    folder: Path,
    first: x509.Certificate,
    between: Iterable[x509.Certificate],
    roots: Collection[x509.Certificate],
    now: datetime,
) -> Sequence[x509.Certificate]:
    """From `first` to a root, both included (RFC 5280, 6.1)."""
    path = [first]
    while path[-1] not in roots:
        signers = [found for found in (*roots, *between) if found not in path and _signed(path[-1], found)]
        faults = [_fault(signer, len(path), now) for signer in signers]
        if "" not in faults:
            why = f"; {_name(signers[0])} could, but {faults[0]}" if signers else ""
            nobody = f"nobody there or in {CHAIN} may sign {_name(path[-1])}"
            raise BadAuthority(
                folder / ROOTS,
                f"is not where {CERTIFICATE} leads: {nobody}{why}",
                f"put its root there, and who stands between into {CHAIN}",
            )
        path.append(signers[faults.index("")])
    return path


def _fault(certificate: x509.Certificate, below: int, now: datetime) -> str:
    """Why it may not sign a certificate with `below` authorities between them; empty: it may."""
    extensions = certificate.extensions
    try:
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return "is not of an authority (no basicConstraints)"
    if not constraints.ca:
        return "is not of an authority (CA:FALSE)"
    if constraints.path_length is not None and constraints.path_length < below:
        return f"allows {constraints.path_length} authorities below it (pathlen), not {below}"
    try:
        signs = extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        signs = True  # RFC 5280, 4.2.1.3: where it is absent, nothing is ruled out
    if not signs:
        return "may not sign certificates (keyUsage)"
    if now < certificate.not_valid_before_utc:
        return f"begins only at {certificate.not_valid_before_utc.isoformat()}"
    if now >= certificate.not_valid_after_utc:
        return f"has ended at {certificate.not_valid_after_utc.isoformat()}"
    return ""


def _signed(certificate: x509.Certificate, signer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(signer)
    except (*_UNREADABLE, TypeError, InvalidSignature):
        return False
    return True


def _certificates(path: Path, *, or_none: bool = False) -> list[x509.Certificate]:
    content = _content(path)
    if or_none and not content.strip():
        return []
    try:
        found = x509.load_pem_x509_certificates(content)
        for certificate in found:  # parts are read when they are asked for, and may be damaged
            _ = certificate.extensions, certificate.public_key(), certificate.subject, certificate.issuer
            _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except _UNREADABLE:
        raise BadAuthority(path, "is damaged", "it must be PEM of certificates") from None
    return found


def _private_key(path: Path) -> _Key:
    content = _content(path)
    try:
        key = load_pem_private_key(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    # Out of the handler: what the library says of a key shall not follow the error around.
    if not isinstance(key, _Key):
        raise BadAuthority(
            path, "is not an EC, RSA or Ed25519 key", "it must be PEM of one private key without a passphrase"
        )
    return key


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise BadAuthority(
            path,
            "is missing",
            "put it back; or remove the other files too, and a new root is made that nobody trusts yet",
        ) from None
    except OSError as error:
        raise BadAuthority(
            path, f"cannot be read ({error.strerror})", "it must be a file that the control plane may read"
        ) from error


# --- what certificates are made of ---------------------------------------------------------------


def usage(*, signs: bool) -> x509.KeyUsage:
    """What a key is for (SPIFFE, X509-SVID 4.3): to sign certificates, or to be a workload's."""
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def serial() -> int:
    """128 random bits, not zero (RFC 5280, 4.1.2.2)."""
    return 1 + secrets.randbelow(2**128 - 1)


def second(moment: datetime) -> datetime:
    """Certificates know no fractions of one."""
    return moment.astimezone(UTC).replace(microsecond=0)


def pem(certificates: Iterable[x509.Certificate]) -> bytes:
    """One after the other."""
    return b"".join(found.public_bytes(Encoding.PEM) for found in certificates)


def pem_of_key(key: ec.EllipticCurvePrivateKey) -> PrivateKey:
    """PKCS #8, without a passphrase."""
    return PrivateKey(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string() or "a certificate without a name"
