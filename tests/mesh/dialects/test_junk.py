"""Whatever a user writes: reading never raises, and what is not valid never opens anything."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mesh import dialects
from mesh.dialects import DIALECTS, read
from mesh.dialects.reading import Fields
from mesh.model import NAMESPACE_KEY, NAMESPACE_LABEL_PREFIX, Policy
from tests.mesh.dialects.judge import PODS, granted

VALID = Path(__file__).with_name("valid.yaml")
ALL = {object["metadata"]["name"]: object for object in yaml.safe_load_all(VALID.read_text())}
POLICIES = {name: object for name, object in ALL.items() if object["kind"].endswith("NetworkPolicy")}

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["", "10.0.0.5/8", "::/0", "0", "65536", "(", "reserved:host", "a" * 2000, 10**400])
)


def words(value: Any) -> Iterator[str]:
    """Every string that a dialect knows, so that junk gets past the first look."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from words(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from words(inner)
    elif isinstance(value, str):
        yield value


WORDS = sorted({word for object in ALL.values() for word in words(object)})
keys = st.sampled_from(WORDS) | st.text(max_size=5) | st.integers()
junk = st.recursive(
    scalars | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=20,
)
#: Junk of which no part can be read, so that the whole of what it replaces is unreadable.
unreadable = scalars.filter(lambda v: v is not None).flatmap(
    lambda v: st.sampled_from([v, [v], [None], {"bogus": 1}, [{"bogus": 1}]])
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in inner:
        yield from places(child, (*path, key))


def put(object: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    found = copy.deepcopy(object)
    holder = found
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    return found


@st.composite
def damaged(draw: st.DrawFn, objects: dict[str, Any], damage: st.SearchStrategy[Any]) -> tuple[str, Any]:
    """An object with one place replaced, or with one field more."""
    kind = draw(st.sampled_from(sorted(objects)))
    found = objects[kind]
    where = draw(st.sampled_from([p for p in places(found) if p and p[0] not in ("apiVersion", "kind")]))
    if "Policy" in found["kind"]:
        assume(where[0] != "metadata")
    target = found
    for key in where:
        target = target[key]
    if isinstance(target, dict) and draw(st.booleans()):
        return kind, put(found, (*where, draw(st.sampled_from(["bogus", *WORDS]))), draw(damage))
    return kind, put(found, where, draw(damage))


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(junk | damaged(ALL, junk).map(lambda pair: pair[1]))
def test_reading_never_raises_and_says_what_is_wrong_in_printable_text(object: Any) -> None:
    fragment = read(object)
    assert fragment.valid or fragment.problems
    assert all((p.field + p.message).isprintable() and p.object == fragment.ref for p in fragment.problems)
    assert fragment == read(object) or object != object  # NaN is not equal to itself


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(sorted(DIALECTS)), st.dictionaries(st.sampled_from(["spec", "status", "ports"]), junk))
def test_junk_under_a_known_kind_never_raises(api: tuple[str, str], fields: dict[str, Any]) -> None:
    read({"apiVersion": api[0], "kind": api[1], "metadata": {"name": "a"}} | fields)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(damaged(POLICIES, unreadable))
def test_a_policy_that_is_not_valid_never_grants_more_than_the_valid_one(case: tuple[str, Any]) -> None:
    kind, object = case
    fragment = read(object)
    assume(not fragment.valid)
    assert fragment.nouns, "an unreadable policy still denies"
    assert granted(policies(fragment.nouns)) <= granted(policies(read(POLICIES[kind]).nouns))


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(damaged({k: v for k, v in POLICIES.items() if k != "clusterwide"}, junk))
def test_a_namespaced_policy_selects_only_pods_of_its_namespace(case: tuple[str, Any]) -> None:
    labels = [dict(p.labels) for p in PODS] + [{}, {NAMESPACE_LABEL_PREFIX + "team": "shop"}]
    for policy in policies(read(case[1]).nouns):
        assert all(own.get(NAMESPACE_KEY) == "shop" for own in labels if policy.subject.matches(own))


@pytest.mark.parametrize("kind", sorted(ALL))
def test_the_objects_that_are_damaged_here_are_valid_before(kind: str) -> None:
    fragment = read(ALL[kind])
    assert (fragment.valid, fragment.problems) == (True, ())
    assert fragment.nouns


def test_no_field_is_both_read_and_refused() -> None:
    modules = [import_module(f"mesh.dialects.{one.name}") for one in iter_modules(dialects.__path__)]
    tables = [value for module in modules for value in vars(module).values() if isinstance(value, Fields)]
    assert tables
    for table in tables:
        assert not set(table.read) & set(table.refused)


def policies(nouns: Any) -> list[Policy]:
    return [noun for noun in nouns if isinstance(noun, Policy)]
