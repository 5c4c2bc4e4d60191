"""RateLimit of sluice.io/v1alpha1, a kind of our own: Istio has limits by EnvoyFilter only (istio#43295).

Its parts are those that users know: a subject, paths and methods as in AuthorizationPolicy, headers as in
VirtualService. It is no security policy: one that is not valid limits nothing. Its schema for Kubernetes is
charts/sluice/crds/ratelimits.yaml, which a test holds against the fields here.
"""

from __future__ import annotations

from typing import cast

from mesh.dialects.duration import duration_ms
from mesh.dialects.reading import OBJECT, Fields, Reader, shown
from mesh.dialects.string_match import text_match, value_match
from mesh.dialects.subject import SUBJECT, read_subject
from mesh.dialects.syntax import name, port, printable, token
from mesh.model import BucketKey, Limit, ObjectRef, RateLimit, RateLimitService, TextMatch
from mesh.model.rate_limit import Unit

SPEC = Fields((*SUBJECT, "limits", "global"))
LIMIT = Fields(("requests", "per", "burst", "match", "by", "status"))
MATCH = Fields(("paths", "methods", "headers"))
BY = Fields(("header", "path", "caller"))
GLOBAL = Fields(("service", "port", "domain", "failOpen", "timeout"))

UNITS = ("second", "minute", "hour")
MOST_LIMITS, MOST_KEYS, MOST_REQUESTS = 32, 3, 1_000_000
LONGEST_TIMEOUT_MS = 60_000
#: What Envoy can answer (envoy.type.v3.StatusCode).
STATUSES = frozenset({*range(400, 418), *range(421, 425), 426, 428, 429, 431, *range(500, 509), 510, 511})


def read_rate_limit(root: Reader, ref: ObjectRef) -> tuple[RateLimit, ...]:
    spec = root.fields(OBJECT).at("spec")
    spec.require()
    subject, services = read_subject(spec.fields(SPEC), ref)
    counted_by = _service(spec.at("global"))
    items = spec.at("limits").items(MOST_LIMITS)
    if spec.at("limits").sound and not items:
        spec.at("limits").refuse("is required: write at least one limit")
    limits = tuple(_limit(item) for item in items)
    if counted_by is not None:
        _fit_for_one_answer(items, limits)
    return (RateLimit(ref, limits, counted_by, subject, services),)


def _limit(item: Reader) -> Limit:
    item.fields(LIMIT)
    requests, per = item.at("requests"), item.at("per")
    requests.require()
    per.require()
    number = requests.integer(1, MOST_REQUESTS, 1)
    match = item.at("match").fields(MATCH)
    status = item.at("status")
    code = status.integer(400, 599, 429)
    if status.sound and code not in STATUSES:
        status.refuse(f"is {code}, which is no status that Envoy answers; 429 is usual")
    return Limit(
        item.rule_field,
        number,
        cast(Unit, per.choice(UNITS, "second")),
        item.at("burst").integer(1, MOST_REQUESTS, number),
        tuple(found for entry in match.at("paths").items() if (found := _path(entry)) is not None),
        tuple(token(entry, entry.text()) for entry in match.at("methods").items()),
        tuple(
            value_match(value, token(value, key).lower(), present=False)
            for key, value in match.at("headers").entries()
        ),
        _keys(item.at("by")),
        code,
    )


def _path(entry: Reader) -> TextMatch | None:
    found = text_match(entry)
    if found is None:
        return None
    if any(char in found.value for char in "?#{}"):
        entry.refuse(f"{shown(entry.value)} is no path, prefix* or *suffix: leave out queries and templates")
    elif found.kind in ("exact", "prefix") and not found.value.startswith("/"):
        entry.refuse(f"{shown(entry.value)} matches no path; a path begins with /")
    return found


def _keys(by: Reader) -> tuple[BucketKey, ...]:
    found: list[BucketKey] = []
    for entry in by.items(MOST_KEYS):
        key = _key(entry.fields(BY))
        if key in found:
            entry.refuse("stands twice")
        found.append(key)
    return tuple(found)


def _key(entry: Reader) -> BucketKey:
    said = [kind for kind in BY.read if entry.at(kind).present]
    if len(said) != 1:
        if entry.sound:
            entry.refuse("names one of header, path and caller, such as header: x-user or path: {}")
        return BucketKey("path")
    if said == ["header"]:
        header = entry.at("header")
        return BucketKey("header", token(header, header.text()).lower())
    entry.at(said[0]).fields(Fields(()))
    return BucketKey("path" if said == ["path"] else "caller")


def _service(reader: Reader) -> RateLimitService | None:
    if not reader.present:
        return None
    reader.fields(GLOBAL)
    for key in ("service", "port", "domain"):
        reader.at(key).require()
    host, domain, timeout = reader.at("service"), reader.at("domain"), reader.at("timeout")
    if host.value == "":
        host.refuse("is empty: write a name such as ratelimit.shop.svc.cluster.local")
    if domain.value == "":
        domain.refuse("is empty: it is what the service calls these limits")
    wait = duration_ms(timeout, "100ms")
    if timeout.sound and not 0 < wait <= LONGEST_TIMEOUT_MS:
        timeout.refuse(f"must be more than 0 and at most {LONGEST_TIMEOUT_MS // 1000}s")
    return RateLimitService(
        name(host), port(reader.at("port")), printable(domain, 253), reader.at("failOpen").boolean(True), wait
    )


def _fit_for_one_answer(items: list[Reader], limits: tuple[Limit, ...]) -> None:
    """The service counts in whole units, and answers once for all limits."""
    for item, limit in zip(items, limits, strict=True):
        if item.at("burst").present:
            item.at("burst").refuse("goes with local limits only: the service of `global` counts whole units")
        if limit.status != limits[0].status:
            item.at("status").refuse(f"must be {limits[0].status}: with `global` all limits have one status")
