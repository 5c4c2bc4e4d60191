"""Operators' authorities for tests, and what openssl says of certificates."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from xds.authority import Svid

NOW = datetime(2031, 5, 1, 12, 0, 0, tzinfo=UTC)
DAY = timedelta(days=1)
YEAR = timedelta(days=365)
WEB = "spiffe://cluster.local/ns/shop/sa/web"

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
FILES = ("ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem")


@dataclass
class Signer:
    """A certificate that `by` (None: itself) has signed, and its key."""

    certificate: x509.Certificate
    key: Key

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def signer(
    name: str,
    by: Signer | None = None,
    *,
    begins: datetime = NOW - DAY,
    ends: datetime = NOW + YEAR,
    ca: bool | None = True,
    below: int | None = None,
    signs: bool | None = True,
    key: Key | None = None,
) -> Signer:
    """None for `ca` or `signs`: the extension is absent."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer, issuing = (by.certificate.subject, by.key) if by else (subject, key)
    serial = x509.random_serial_number()
    builder = x509.CertificateBuilder(issuer, subject, key.public_key(), serial, begins, ends)
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, below), critical=True)
    if signs is not None:
        usage = x509.KeyUsage(not signs, False, False, False, False, signs, signs, False, False)
        builder = builder.add_extension(usage, critical=True)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = builder.add_extension(identifier, critical=False)
    if by:
        who = x509.AuthorityKeyIdentifier.from_issuer_public_key(by.key.public_key())
        builder = builder.add_extension(who, critical=False)
    digest = None if isinstance(issuing, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return Signer(builder.sign(issuing, digest), key)


def put(folder: Path, own: Signer, *chain: Signer, roots: tuple[Signer, ...]) -> None:
    """As an operator does."""
    folder.mkdir(exist_ok=True)
    (folder / "ca-cert.pem").write_bytes(own.pem)
    (folder / "ca-key.pem").write_bytes(own.key_pem)
    (folder / "cert-chain.pem").write_bytes(b"".join(found.pem for found in chain))
    (folder / "root-cert.pem").write_bytes(b"".join(found.pem for found in roots))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def certificates(svid: Svid) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(svid.certificate_chain)


def openssl(*arguments: str | Path) -> str:
    """What it prints. Raises CalledProcessError."""
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, check=True)
    return done.stdout.decode()


def openssl_verifies(svid: Svid, folder: Path, *, at: datetime, bundle: bytes | None = None) -> bool:
    """A peer's opinion, as client and as server, who has the bundle and is sent the chain."""
    roots, leaf, chain = folder / "roots", folder / "leaf", folder / "chain"
    roots.write_bytes(svid.bundle if bundle is None else bundle)
    leaf.write_bytes(svid.certificate_chain)  # openssl verify judges the first of a file
    chain.write_bytes(svid.certificate_chain)
    trusting = ["-no-CAfile", "-no-CApath", "-CAfile", roots, "-attime", str(int(at.timestamp()))]
    for purpose in ("sslclient", "sslserver"):
        try:
            openssl("verify", "-x509_strict", "-purpose", purpose, *trusting, "-untrusted", chain, leaf)
        except subprocess.CalledProcessError:
            return False
    return True
