from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from mesh.dialects import rate_limit, read, subject
from mesh.dialects.reading import OBJECT, Fields
from mesh.dialects.string_match import STRING_MATCH
from mesh.model import (
    BucketKey,
    Limit,
    RateLimit,
    RateLimitService,
    Requirement,
    Selector,
    ServiceName,
    TextMatch,
    ValueMatch,
)
from tests.mesh.dialects.objects import WEB, obj

CRD = Path(__file__).parents[3] / "charts/sluice/crds/ratelimits.yaml"
ONE = {"requests": 10, "per": "second"}
GLOBAL = {"service": "ratelimit.shop.svc.cluster.local", "port": 8081, "domain": "shop"}


def written(spec: Any) -> Any:
    return obj("sluice.io/v1alpha1", "RateLimit", spec)


def noun(**spec: Any) -> RateLimit:
    fragment = read(written({"limits": [ONE], **spec}))
    assert fragment.problems == ()
    (found,) = fragment.nouns
    assert isinstance(found, RateLimit)
    return found


def limit(**fields: Any) -> Limit:
    return noun(limits=[{**ONE, **fields}]).limits[0]


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, {}),
        ({"per": "minute"}, {"unit": "minute"}),
        ({"burst": 3}, {"burst": 3}),
        ({"burst": 30}, {"burst": 30}),
        ({"status": 503}, {"status": 503}),
        ({"match": {"methods": ["GET", "PURGE"]}}, {"methods": ("GET", "PURGE")}),
        (
            {"match": {"paths": ["/a", "/b*", "*.c", "*"]}},
            {
                "paths": (
                    TextMatch("exact", "/a"),
                    TextMatch("prefix", "/b"),
                    TextMatch("suffix", ".c"),
                    TextMatch("present"),
                )
            },
        ),
        (
            {"match": {"headers": {"X-A": {"exact": "a"}, "b": {"regex": "b+"}}}},
            {"headers": (ValueMatch("x-a", "exact", "a"), ValueMatch("b", "regex", "b+"))},
        ),
        (
            {"by": [{"header": "X-User"}, {"path": {}}, {"caller": {}}]},
            {"by": (BucketKey("header", "x-user"), BucketKey("path"), BucketKey("caller"))},
        ),
    ],
)
def test_what_a_limit_says(fields: Any, wanted: Any) -> None:
    assert limit(**fields) == replace(Limit("limits[0]", 10, "second", 10), **wanted)


def test_whom_it_is_for() -> None:
    app = Selector((Requirement("app", "In", ("web",)),))
    assert (noun(selector=WEB).subject, noun(selector=WEB).services) == (app, None)
    service = noun(targetRefs=[{"kind": "Service", "name": "web"}])
    assert (service.subject, service.services) == (Selector(), (ServiceName("shop", "web"),))
    assert (noun().subject, noun().services) == (Selector(), None)


def test_who_counts() -> None:
    """Where nobody does, requests pass, as in Envoy: a limit is no door."""
    host = "ratelimit.shop.svc.cluster.local"
    assert noun().counted_by is None
    assert noun(**{"global": GLOBAL}).counted_by == RateLimitService(host, 8081, "shop", True, 100)
    more = {**GLOBAL, "failOpen": False, "timeout": "1s500ms"}
    assert noun(**{"global": more}).counted_by == RateLimitService(host, 8081, "shop", False, 1500)


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        ({"limits": []}, "spec.limits", "is required: write at least one limit"),
        ({"limits": [ONE] * 33}, "spec.limits", "has 33 entries; at most 32 are allowed"),
        ({"limits": [{"per": "second"}]}, "spec.limits[0].requests", "is required"),
        ({"limits": [{"requests": 1}]}, "spec.limits[0].per", "is required"),
        ({"limits": [{**ONE, "requests": 0}]}, "spec.limits[0].requests", "is 0; must be 1 to 1000000"),
        (
            {"limits": [{**ONE, "per": "day"}]},
            "spec.limits[0].per",
            "is 'day'; must be one of second, minute, hour",
        ),
        ({"limits": [{**ONE, "status": 200}]}, "spec.limits[0].status", "is 200; must be 400 to 599"),
        (
            {"limits": [{**ONE, "status": 418}]},
            "spec.limits[0].status",
            "is 418, which is no status that Envoy answers; 429 is usual",
        ),
        (
            {"limits": [{**ONE, "shadow": True}]},
            "spec.limits[0].shadow",
            "unknown field 'shadow'; the fields here are requests, per, burst, match, by, status",
        ),
        (
            {"limits": [{**ONE, "match": {"paths": ["/a?b"]}}]},
            "spec.limits[0].match.paths[0]",
            "'/a?b' is no path, prefix* or *suffix: leave out queries and templates",
        ),
        (
            {"limits": [{**ONE, "match": {"paths": ["/{*}/a"]}}]},
            "spec.limits[0].match.paths[0]",
            "'/{*}/a' is no path, prefix* or *suffix: leave out queries and templates",
        ),
        (
            {"limits": [{**ONE, "match": {"paths": ["api"]}}]},
            "spec.limits[0].match.paths[0]",
            "'api' matches no path; a path begins with /",
        ),
        (
            {"limits": [{**ONE, "match": {"headers": {"x-a": {}}}}]},
            "spec.limits[0].match.headers['x-a']",
            "is empty: write exact, prefix or regex",
        ),
        (
            {"limits": [{**ONE, "by": [{"header": "a", "path": {}}]}]},
            "spec.limits[0].by[0]",
            "names one of header, path and caller, such as header: x-user or path: {}",
        ),
        (
            {"limits": [{**ONE, "by": [{"ip": {}}]}]},
            "spec.limits[0].by[0].ip",
            "unknown field 'ip'; the fields here are header, path, caller",
        ),
        (
            {"limits": [{**ONE, "by": [{"path": {}}, {"path": {}}]}]},
            "spec.limits[0].by[1]",
            "stands twice",
        ),
        (
            {"limits": [{**ONE, "by": [{"header": f"h{index}"} for index in range(4)]}]},
            "spec.limits[0].by",
            "has 4 entries; at most 3 are allowed",
        ),
        ({"global": {"service": "a", "port": 1}}, "spec.global.domain", "is required"),
        (
            {"global": {**GLOBAL, "service": ""}},
            "spec.global.service",
            "is empty: write a name such as ratelimit.shop.svc.cluster.local",
        ),
        (
            {"global": {**GLOBAL, "timeout": "0s"}},
            "spec.global.timeout",
            "must be more than 0 and at most 60s",
        ),
        (
            {"global": GLOBAL, "limits": [{**ONE, "burst": 20}]},
            "spec.limits[0].burst",
            "goes with local limits only: the service of `global` counts whole units",
        ),
        (
            {"global": GLOBAL, "limits": [ONE, {**ONE, "status": 503}]},
            "spec.limits[1].status",
            "must be 429: with `global` all limits have one status",
        ),
        (
            {"selector": WEB, "targetRefs": [{"kind": "Service", "name": "web"}]},
            "spec.selector",
            "stands alone: there is a selector or there are targetRefs",
        ),
    ],
)
def test_what_is_refused_and_in_which_words(spec: Any, field: str, message: str) -> None:
    """What is not valid limits nothing: it is no security policy, and the last valid one stays."""
    fragment = read(written({"limits": [ONE], **spec}))
    assert [(problem.field, problem.message) for problem in fragment.problems] == [(field, message)]
    assert (fragment.valid, fragment.nouns) == (False, ())


def test_the_schema_for_kubernetes_has_exactly_the_fields_that_are_read() -> None:
    crd = yaml.safe_load(CRD.read_text())
    (version,) = crd["spec"]["versions"]
    assert (crd["spec"]["group"], version["name"]) == ("sluice.io", "v1alpha1")
    root = version["schema"]["openAPIV3Schema"]
    spec = root["properties"]["spec"]
    limits = spec["properties"]["limits"]
    one = limits["items"]["properties"]
    places: list[tuple[Any, Fields]] = [
        (root, OBJECT),
        (spec, rate_limit.SPEC),
        (spec["properties"]["selector"], subject.WORKLOADS),
        (spec["properties"]["targetRef"], subject.TARGET),
        (spec["properties"]["targetRefs"]["items"], subject.TARGET),
        (limits["items"], rate_limit.LIMIT),
        (one["match"], rate_limit.MATCH),
        (one["match"]["properties"]["headers"]["additionalProperties"], STRING_MATCH),
        (one["by"]["items"], rate_limit.BY),
        (spec["properties"]["global"], rate_limit.GLOBAL),
    ]
    for schema, fields in places:
        assert set(schema["properties"]) == set(fields.read)
    assert (limits["maxItems"], one["by"]["maxItems"]) == (rate_limit.MOST_LIMITS, rate_limit.MOST_KEYS)
    assert one["requests"]["maximum"] == one["burst"]["maximum"] == rate_limit.MOST_REQUESTS
    assert tuple(one["per"]["enum"]) == rate_limit.UNITS
