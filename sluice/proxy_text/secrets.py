"""Secrets by name and kind, and the certificate in each: the columns of `istioctl proxy-config secret`. Envoy
itself prints `[redacted]` for what is private.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable
from datetime import UTC, datetime

from cryptography import x509

from sluice.proxy_text.dump import Data, part
from sluice.proxy_text.wanted import Wanted

HEAD = (
    "RESOURCE NAME",
    "TYPE",
    "STATUS",
    "VALID CERT",
    "SERIAL NUMBER",
    "NOT AFTER",
    "NOT BEFORE",
    "TRUST DOMAIN",
)

_STATUS = {
    "static_secrets": "STATIC",
    "dynamic_active_secrets": "ACTIVE",
    "dynamic_warming_secrets": "WARMING",
}
_TYPE = {
    "tls_certificate": "Cert Chain",
    "validation_context": "CA",
    "session_ticket_keys": "Ticket Keys",
    "generic_secret": "Generic",
}
#: Where a secret has its certificates.
_CERTIFICATES = (("tls_certificate", "certificate_chain"), ("validation_context", "trusted_ca"))
_UNKNOWN = ("-",) * 5


def select(dump: Data, _: Wanted) -> list[Data]:
    """The SecretsConfigDump, if it holds any."""
    found = part(dump, "SecretsConfigDump")
    return [found] if any(state in found for state in _STATUS) else []


def rows(selected: Iterable[Data]) -> list[tuple[str, ...]]:
    return sorted(
        (
            entry.get("name", ""),
            _type(entry.get("secret", {})),
            status,
            *_certificate(entry.get("secret", {})),
        )
        for found in selected
        for state, status in _STATUS.items()
        for entry in found.get(state, ())
    )


def _type(secret: Data) -> str:
    return next((_TYPE[kind] for kind in _TYPE if kind in secret), "-")


def _certificate(secret: Data) -> tuple[str, ...]:
    """Of the first: is it valid now, its serial number, until and since when it is, and for whom."""
    texts = (secret.get(kind, {}).get(field, {}).get("inline_bytes", "") for kind, field in _CERTIFICATES)
    try:
        found, *_ = x509.load_pem_x509_certificates(b64decode(next(filter(None, texts), "")))
    except ValueError:
        return _UNKNOWN
    since, until = found.not_valid_before_utc, found.not_valid_after_utc
    valid = str(since <= datetime.now(UTC) < until).lower()
    return valid, f"{found.serial_number:x}", _time(until), _time(since), _trust_domain(found)


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _trust_domain(certificate: x509.Certificate) -> str:
    """SPIFFE-ID, section 2.1; "-" if it is nobody's of a mesh."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return "-"
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    domains = (uri.removeprefix("spiffe://").partition("/")[0] for uri in uris if uri.startswith("spiffe://"))
    return next(domains, "-")
