"""RateLimit: how many requests a workload takes, and what they are told apart by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mesh.model.authorization import TextMatch
from mesh.model.names import ObjectRef, ServiceName
from mesh.model.routing import ValueMatch
from mesh.model.selection import Selector

Unit = Literal["second", "minute", "hour"]


@dataclass(frozen=True, slots=True, order=True)
class BucketKey:
    """What buckets are told apart by: a header (`name`, lower case), the path without its query, or the
    address of the peer."""

    kind: Literal["header", "path", "caller"]
    name: str = ""


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `requests` in a `unit`, and `burst` at once. It counts requests that fit one of `paths` (their
    query left out), one of `methods` and all of `headers`; without any of them all do. With `by` each value,
    or each combination of values, has a bucket of its own; a header that is missing is a value, too.

    What is too much gets `status`.
    """

    field: str
    requests: int
    unit: Unit
    burst: int
    paths: tuple[TextMatch, ...] = ()
    methods: tuple[str, ...] = ()
    headers: tuple[ValueMatch, ...] = ()
    by: tuple[BucketKey, ...] = ()
    status: int = 429


@dataclass(frozen=True, slots=True)
class RateLimitService:
    """Who counts for all proxies together (envoy.service.ratelimit.v3, over gRPC at `host`, a DNS name).
    Where it does not answer within `timeout_ms`, requests pass if `fail_open`."""

    host: str
    port: int
    domain: str
    fail_open: bool
    timeout_ms: int


@dataclass(frozen=True, slots=True)
class RateLimit:
    """All that select a workload count, each on its own. `counted_by` (None: each proxy for itself) is asked
    once for all limits, which therefore have one status.

    `subject` and `services` select as those of `Authorization` do.
    """

    ref: ObjectRef
    limits: tuple[Limit, ...]
    counted_by: RateLimitService | None = None
    subject: Selector = Selector()
    services: tuple[ServiceName, ...] | None = None
