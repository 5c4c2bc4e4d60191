"""The mesh's certificate authority: it gives workloads their certificates (SPIFFE, X509-SVID).

Who asks it does not know: whether a workload is who it says was settled before.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID

from mesh.model import PrivateKey
from xds.authority_files import SKEW, Issuer, opened, pem, pem_of_key, second, serial, usage

#: SPIFFE-ID 2: no segment is empty, `.` or `..`, and nothing is percent-encoded.
_SEGMENT = r"(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._-]+"
_IDENTITY = re.compile(rf"spiffe://([a-z0-9._-]{{1,255}})/ns/{_SEGMENT}/sa/{_SEGMENT}")
_LONGEST = 2048


@dataclass(frozen=True, slots=True)
class Svid:
    """A workload's certificate (SPIFFE, X509-SVID). All but `identity` and `expires` is PEM: the certificate
    and who stands between it and a root, its key, and the roots that judge those of others."""

    identity: str
    certificate_chain: bytes
    key: PrivateKey
    bundle: bytes
    expires: datetime


class Authority:
    """The key and the certificates in `folder`, which has nothing else in it and one writer
    (`xds.allocations.lock`). It is opened for the first certificate: without any of the files, a root is made
    then. An operator may put an intermediate there instead (Istio, "Plug in CA Certificates").

    What was read is kept until it ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._issuer: Issuer | None = None

    def issue(self, identity: str, lifetime: timedelta, now: datetime) -> Svid:
        """A new key and certificate of `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`. It ends
        with whoever signed it if that is sooner than `lifetime`; `now` is aware.

        Raises ValueError for what is no such identity and for a lifetime under a second, and BadAuthority."""
        domain = _trust_domain(identity)
        if lifetime < timedelta(seconds=1):
            raise ValueError(f"a certificate cannot last {lifetime}; a second is the least")
        issuer = self._issuer
        if issuer is None or not issuer.begins <= now < issuer.ends:
            issuer = self._issuer = opened(self._folder, domain, now)
        key = ec.generate_private_key(ec.SECP256R1())
        ends = second(now + min(lifetime, issuer.ends - now))
        certificate = _leaf(identity, key.public_key(), issuer, second(now - SKEW), ends)
        return Svid(identity, pem([certificate]) + issuer.chain, pem_of_key(key), issuer.bundle, ends)


def _trust_domain(identity: str) -> str:
    found = _IDENTITY.fullmatch(identity) if len(identity) <= _LONGEST else None
    if found is None:
        raise ValueError(
            f"{identity[:200]!r} is not spiffe://<trust domain>/ns/<namespace>/sa/<service account> "
            f"of at most {_LONGEST} bytes (SPIFFE-ID 2)"
        )
    return found[1]


def _leaf(
    identity: str, key: ec.EllipticCurvePublicKey, issuer: Issuer, begins: datetime, ends: datetime
) -> x509.Certificate:
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)])
    builder = (
        x509.CertificateBuilder(issuer.certificate.subject, x509.Name([]), key, serial(), begins, ends)
        # X509-SVID 3.1: critical where there is no subject.
        .add_extension(names, critical=True)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(both), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(_authority_key(issuer.certificate), critical=False)
    )
    # RFC 8032: Ed25519 brings its own hash.
    digest = None if isinstance(issuer.key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(issuer.key, digest)


def _authority_key(certificate: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        found = x509.SubjectKeyIdentifier.from_public_key(certificate.public_key())
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(found)
