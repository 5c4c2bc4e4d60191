"""PEM (RFC 7468): what text holds certificates, what text a private key or lists of revoked certificates.

The form is judged, not what the certificates say. No message shows any of it.
"""

from __future__ import annotations

import binascii
import re

from mesh.dialects.reading import Reader

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----[ \t]*\r?\n([A-Za-z0-9+/=\s]+)-----END \1-----")
_BEGIN = b"-----BEGIN "
#: How DER begins: a sequence, or in EC PARAMETERS the name of a curve.
_DER = (b"\x30", b"\x06")

_KEYS = (b"PRIVATE KEY", b"RSA PRIVATE KEY", b"EC PRIVATE KEY")


def certificates(reader: Reader, content: bytes) -> bytes:
    """One certificate or more; nothing is none."""
    labels = _labels(content)
    if content and (not labels or set(labels) != {b"CERTIFICATE"}):
        reader.refuse("is not PEM of certificates")
    return content


def private_key(reader: Reader, content: bytes) -> bytes:
    """One key; nothing is none."""
    labels = [label for label in _labels(content) if label != b"EC PARAMETERS"]
    if content and (len(labels) != 1 or labels[0] not in _KEYS):
        reader.refuse("is not PEM of one private key without a passphrase")
    return content


def revocations(reader: Reader, content: bytes) -> bytes:
    """One list of revoked certificates or more; nothing is none."""
    labels = _labels(content)
    if content and (not labels or set(labels) != {b"X509 CRL"}):
        reader.refuse("is not PEM of certificate revocation lists")
    return content


def _labels(content: bytes) -> list[bytes]:
    """What the blocks are; none if any of them is malformed."""
    found = _BLOCK.findall(content)
    whole = len(found) == content.count(_BEGIN) and all(_is_der(body) for _, body in found)
    return [label for label, _ in found] if whole else []


def _is_der(body: bytes) -> bool:
    try:
        return binascii.a2b_base64(b"".join(body.split()), strict_mode=True).startswith(_DER)
    except binascii.Error:
        return False
