"""N17 (CVE-2026-39350): a value in a policy is a literal, whatever its characters mean in an expression.

An account `a.b` is not `axb`; of every field that becomes an expression somewhere, random values of
metacharacters are tried against themselves and against all that differs by one character.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Literal

import pytest
import re2
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.model import NamePattern, PathChange, PathMatch, TextMatch
from mesh.policies.authorization import host_matches, text_matches
from tests.threats.http.application import Application
from tests.threats.http.served import Caller, Compiled, Object, Served, network_policy, policy, to
from tests.threats.http.speaking import ask, get
from tests.xds.render.conftest import Serve
from xds.render import paths, server_names, texts

DOTTED: Caller = ("shop", "dotted", "a.b", "10.64.0.20")
OTHER: Caller = ("shop", "other", "axb", "10.64.0.21")

ACCOUNTS = (
    {"serviceAccounts": ["a.b"]},
    {"serviceAccounts": ["shop/a.b"]},
    {"principals": ["cluster.local/ns/shop/sa/a.b"]},
    {"principals": ["*/sa/a.b"]},
    {"principals": ["cluster.local/ns/shop/sa/a.*"]},
)


@pytest.mark.parametrize("source", ACCOUNTS, ids=str)
@pytest.mark.parametrize(("action", "verdicts"), [("ALLOW", ["allow", "deny"]), ("DENY", ["deny", "allow"])])
def test_the_dot_of_an_account_is_a_dot(action: str, verdicts: list[str], source: Object) -> None:
    compiled = Compiled(policy(action, {"from": [{"source": source}]}), callers=(DOTTED, OTHER))
    assert [compiled.verdict(caller).verdict for caller in (DOTTED, OTHER)] == verdicts


# --- at a real Envoy --------------------------------------------------------------------------------------

#: Metacharacters of RE2 that such a value may hold on its way to an application.
IN_PATHS, IN_HOSTS = ".+()[]$*&~!'-", ".+()$*&~!'-"
IN_HEADERS = ".+*?()[]{}|^$\\/&~#!'-\"<>:;=@%"
CLASSES = ("b+", "[a-z]", "(b)?", ".*", "b{1,2}", "\\d", "\\Q", "\\b", "(?i)b", "[^a]")
VALUES = 40


def odd_values(name: str, alphabet: str) -> dict[str, str]:
    """Values with something of an expression, and with nothing at their ends that a policy reads. Each has
    a path of its own, so that one policy and one Envoy suffice."""
    rng = random.Random(name)
    found = {}
    for index in range(VALUES):
        parts = [*rng.choices(alphabet, k=rng.randint(1, 4)), rng.choice(CLASSES)]
        rng.shuffle(parts)
        text = "".join(char for char in "".join(parts) if char in alphabet or char.isalnum())
        found[f"/{index}"] = f"a{text}z"
    return found


def near(value: str) -> set[str]:
    """What the value might fit were it an expression, but for the value itself."""
    found = {value[:-1], f"{value}z", f"a{value}", "az", "abz", "abbz", "aB1z"}
    for index in range(1, len(value) - 1):
        head, char, tail = value[:index], value[index], value[index + 1 :]
        found |= {f"{head}{tail}", f"{head}b{tail}", f"{head}{char}{char}{tail}"}
    return found - {value}


def check(port: int, values: dict[str, str], say: Callable[[str, str], bytes], fits: int, rest: int) -> None:
    """`say` makes a request of a path and a value. Some values near another are nothing that can be sent."""
    for path, value in values.items():
        found = {other: ask(port, say(path, other)) for other in (value, *near(value))}
        assert found.pop(value) == fits, value
        assert {other: status for other, status in found.items() if status not in (rest, 400)} == {}, value
        assert rest in found.values()


def with_header(path: str, value: str) -> bytes:
    return get(path, ("x-odd", value))


def test_a_path_is_about_its_value_and_no_other(serve: Serve, application: Application) -> None:
    values = odd_values("path", IN_PATHS.replace("*", ""))
    deny = policy("DENY", *(to(paths=[f"{path}/{{*}}/{value}"]) for path, value in values.items()))
    port = Served(serve, application.port, deny).port()
    check(port, values, lambda path, value: get(f"{path}/x/{value}"), 403, 200)


@pytest.mark.parametrize("before", ["", "*"])
def test_a_host_is_about_its_value_and_no_other(before: str, serve: Serve, application: Application) -> None:
    values = odd_values("host", IN_HOSTS)
    deny = policy("DENY", *(to(paths=[path], hosts=[f"{before}{value}"]) for path, value in values.items()))
    port = Served(serve, application.port, deny).port()
    # Behind a star `aaz` is another way to end in `az`.
    values = {path: value for path, value in values.items() if not before or f"a{value}" not in near(value)}
    check(port, values, lambda path, value: get(path, host=value), 403, 200)


@pytest.mark.parametrize(("action", "fits", "rest"), [("DENY", 403, 200), ("ALLOW", 200, 403)])
def test_a_header_is_about_its_value_and_no_other(
    action: str, fits: int, rest: int, serve: Serve, application: Application
) -> None:
    """Of a DENY it is also an element of a list (threat N07), which is an expression."""
    values = odd_values("header", IN_HEADERS)
    rules = [
        to(paths=[path]) | {"when": [{"key": "request.headers[x-odd]", "values": [value]}]}
        for path, value in values.items()
    ]
    port = Served(serve, application.port, policy(action, *rules)).port()
    check(port, values, with_header, fits, rest)
    check(port, values, lambda path, value: get(path, ("x-odd", "first"), ("x-odd", value)), 403, rest)


def test_a_header_of_a_network_policy_is_about_its_value_and_no_other(
    serve: Serve, application: Application
) -> None:
    """Its host, path and method are expressions of the user's own."""
    values = odd_values("network policy", IN_HEADERS)
    rules = [
        {"path": path, "headerMatches": [{"name": "x-odd", "value": value}]} for path, value in values.items()
    ]
    check(Served(serve, application.port, network_policy(*rules)).port(), values, with_header, 200, 403)


# --- expression by expression -----------------------------------------------------------------------------

META = st.text(r".*+?()[]{}|^$\-ab1B/:,\d\Q\E é", max_size=8)
KINDS: st.SearchStrategy[Literal["exact", "prefix", "suffix"]] = st.sampled_from(
    ("exact", "prefix", "suffix")
)


@st.composite
def candidates(draw: st.DrawFn) -> tuple[str, str]:
    """A value, and a text that has much in common with it."""
    value = draw(META.filter(bool))
    index = draw(st.integers(0, len(value)))
    changed = value[:index] + draw(META) + value[index + draw(st.integers(0, 2)) :]
    return value, draw(st.sampled_from((value, changed, f"{value}{changed}", f"{changed}{value}")))


@settings(max_examples=500, deadline=None)
@given(candidates(), KINDS)
def test_the_expressions_of_texts_and_hosts_mean_what_the_reference_means(
    pair: tuple[str, str], kind: Literal["exact", "prefix", "suffix"]
) -> None:
    value, candidate = pair
    text = TextMatch(kind, value)
    assert bool(re2.fullmatch(texts.regex(text), candidate)) == text_matches(text, candidate)
    element = texts.element(text)
    if element is not None and "," not in candidate:
        stripped = candidate.strip(" \t")
        wanted = text_matches(text, stripped) or text_matches(text, candidate)
        assert bool(re2.fullmatch(element, candidate)) == wanted
    host = texts.host(text)
    if host.safe_regex is not None and "]" not in value and "[" not in candidate:
        lowered = TextMatch(kind, value.lower())
        assert bool(re2.fullmatch(host.safe_regex.regex, candidate.lower())) == host_matches(
            lowered, candidate
        )


@settings(max_examples=300, deadline=None)
@given(candidates())
def test_templates_rewrites_and_server_names_are_literal_but_for_their_own_signs(
    pair: tuple[str, str],
) -> None:
    value, candidate = (text.replace("{", "").replace("}", "") for text in pair)
    template = texts.template(f"/{{*}}/{value}")
    assert bool(re2.fullmatch(template, f"/x/{candidate}")) == (candidate == value)
    rewrite = paths.path_rewrite(PathMatch("prefix", f"/{value}x"), PathChange("prefix", "/"))
    pattern = rewrite["regex_rewrite"].pattern
    assert pattern is not None
    assert bool(re2.match(pattern.regex, f"/{candidate}x")) == f"/{candidate}x".startswith(f"/{value}x")
    plain = value.replace("*", "").lower()
    if plain:
        expression = server_names.expression(NamePattern(plain))
        assert bool(re2.fullmatch(expression, candidate.lower())) == (candidate.lower() == plain)
