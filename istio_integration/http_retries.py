"""HTTPRetry: when a request is tried again, and how often."""

from __future__ import annotations

import re

from istio_integration.duration import duration_ms
from mesh.dialects.reading import Fields, Reader, shown
from mesh.model import Retries

RETRY = Fields(
    ("attempts", "perTryTimeout", "retryOn", "retryRemoteLocalities", "retryIgnorePreviousHosts", "backoff")
)

#: Istio's default.
_DEFAULT_ON = ("connect-failure", "refused-stream", "unavailable", "cancelled")

#: What Envoy knows, of x-envoy-retry-on and x-envoy-retry-grpc-on.
_CONDITIONS = (
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "envoy-ratelimited",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
)
_STATUS = re.compile(r"[1-5][0-9]{2}")


def retries(reader: Reader) -> Retries | None:
    """Without attempts there are none, and nothing else may be said."""
    if not reader.fields(RETRY).present:
        return None
    attempts = reader.at("attempts").integer(0, 2**31 - 1)
    for field in ("perTryTimeout", "retryOn", "retryRemoteLocalities"):
        if not attempts and reader.at(field).present and reader.at("attempts").sound:
            reader.at(field).refuse("needs attempts of at least 1")
    if not attempts:
        return Retries(0)
    conditions, statuses = _retry_on(reader.at("retryOn"))
    return Retries(
        attempts,
        conditions,
        statuses,
        duration_ms(reader.at("perTryTimeout")),
        duration_ms(reader.at("backoff")),
        reader.at("retryRemoteLocalities").boolean(),
        not reader.at("retryIgnorePreviousHosts").boolean(True),
    )


def _retry_on(reader: Reader) -> tuple[tuple[str, ...], tuple[int, ...]]:
    words = [word.strip() for word in reader.text().split(",") if word.strip()]
    for word in words:
        if word not in _CONDITIONS and not _STATUS.fullmatch(word):
            known = ", ".join(_CONDITIONS)
            reader.refuse(f"{shown(word)} is no condition; they are {known}, and status codes")
    statuses = sorted({int(word) for word in words if _STATUS.fullmatch(word)})
    conditions = tuple(dict.fromkeys(word for word in words if word in _CONDITIONS))
    return conditions if words else _DEFAULT_ON, tuple(statuses)
