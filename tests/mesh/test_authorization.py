"""AuthorizationPolicy for one request: tables by rule of the API, and the field's old mistakes by id."""

from __future__ import annotations

import pytest

from mesh.model import (
    Authorization,
    AuthorizationRule,
    CidrPeer,
    MeshConfig,
    ObjectRef,
    Term,
    TextMatch,
)
from mesh.policies.authorization import Caller, Forbidden, Granted, decide, host_matches, text_matches
from mesh.request import Request

CONFIG = MeshConfig()
ANN = Caller("10.64.0.10", True, "shop", "ann")
STRANGER = Caller("203.0.113.9")


def exact(value: str) -> TextMatch:
    return TextMatch("exact", value)


def rule(*terms: Term, field: str = "rules[0]") -> AuthorizationRule:
    return AuthorizationRule(field, conditions=terms)


def policy(action: str, *rules: AuthorizationRule, name: str = "p", **rest: object) -> Authorization:
    return Authorization(ObjectRef("AuthorizationPolicy", "shop", name), action, rules, **rest)  # type: ignore[arg-type]


def allowed(*policies: Authorization, caller: Caller = ANN, port: int = 80, **request: object) -> bool:
    found = decide(policies, caller, port, Request(**request), CONFIG)  # type: ignore[arg-type]
    return isinstance(found, Granted)


GET = rule(Term("method", (exact("GET"),)))


# --- how policies add up ---------------------------------------------------------------------------------


def test_without_policies_everything_is_allowed() -> None:
    assert allowed()


def test_an_allow_without_rules_denies_everything_and_one_empty_rule_allows_everything() -> None:
    assert not allowed(policy("allow"))
    assert allowed(policy("allow", AuthorizationRule("rules[0]")))


def test_a_deny_without_rules_denies_nothing() -> None:
    assert allowed(policy("deny"))


def test_a_deny_that_fits_beats_every_allow() -> None:
    everything = policy("allow", AuthorizationRule("rules[0]"), name="all")
    found = decide([everything, policy("deny", GET)], ANN, 80, Request("GET"), CONFIG)
    assert found == Forbidden(("AuthorizationPolicy shop/p rules[0]",))


def test_any_allow_suffices_and_none_names_them_all() -> None:
    one, two = policy("allow", GET, name="a"), policy("allow", name="b")
    assert allowed(one, two, method="GET")
    found = decide([one, two], ANN, 80, Request("POST"), CONFIG)
    assert found == Forbidden(("AuthorizationPolicy shop/a", "AuthorizationPolicy shop/b"))


def test_a_provider_is_asked_only_for_what_fits_and_what_nothing_else_refuses() -> None:
    custom = policy("custom", GET, name="ask", provider="opa")
    assert decide([custom], ANN, 80, Request("GET"), CONFIG) == Granted((), ("opa",))
    assert decide([custom], ANN, 80, Request("POST"), CONFIG) == Granted()
    assert isinstance(decide([custom, policy("deny", GET)], ANN, 80, Request("GET"), CONFIG), Forbidden)


def test_audit_and_dry_run_change_nothing() -> None:
    assert allowed(policy("audit", GET), policy("deny", GET, name="dry", audit=True), method="GET")
    assert allowed(policy("allow", name="dry", audit=True))


def test_a_rule_needs_some_source_some_operation_and_every_condition() -> None:
    whole = AuthorizationRule(
        "rules[0]",
        sources=((Term("namespace", (exact("far"),)),), (Term("namespace", (exact("shop"),)),)),
        operations=((Term("method", (exact("GET"),)), Term("path", (exact("/a"),))),),
        conditions=(Term("header", (exact("1"),), key="x"),),
    )
    good: dict[str, object] = {"method": "GET", "path": "/a?q", "headers": (("x", "1"),)}
    assert allowed(policy("allow", whole), **good)
    for change in ({"method": "POST"}, {"path": "/b"}, {"headers": ()}):
        assert not allowed(policy("allow", whole), **(good | change))
    assert not allowed(policy("allow", whole), caller=STRANGER, **good)


# --- matches ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("match", "yes", "no"),
    [
        (TextMatch("exact", "/a"), ["/a"], ["/a/", "/A", ""]),
        (TextMatch("prefix", "/a"), ["/a", "/ab"], ["/", "b/a"]),
        (TextMatch("suffix", ".b"), ["a.b", ".b"], ["ab", ".bc"]),
        (TextMatch("present"), ["x"], [""]),
        (TextMatch("template", "/a/{*}/c"), ["/a/b/c"], ["/a//c", "/a/c", "/a/b/b/c", "/a/b/c/"]),
        (TextMatch("template", "/a/{**}"), ["/a/", "/a/b", "/a/b/c"], ["/a", "/ab"]),
        (TextMatch("template", "/v{*}/{**}/end"), ["/v1/a/b/end"], ["/v/a/end", "/v1/a/b"]),
        (TextMatch("template", "/{*}.png"), ["/a.png"], ["/.png", "/a/b.png"]),
    ],
)
def test_values_are_exact_prefix_suffix_presence_or_template(
    match: TextMatch, yes: list[str], no: list[str]
) -> None:
    assert all(text_matches(match, value) for value in yes)
    assert not any(text_matches(match, value) for value in no)


@pytest.mark.parametrize(
    "form", ["cluster.local/ns/shop/sa/ann", "*/ns/shop/sa/ann", "cluster.local/ns/shop/*", "*"]
)
def test_n18_every_form_of_a_principal_names_its_workload(form: str) -> None:
    kind = (
        "present" if form == "*" else "suffix" if form[0] == "*" else "prefix" if form[-1] == "*" else "exact"
    )
    term = Term("principal", (TextMatch(kind, form.strip("*")),))  # type: ignore[arg-type]
    for action, expected in (("allow", True), ("deny", False)):
        assert allowed(policy(action, rule(term))) is expected
        assert allowed(policy(action, rule(term)), caller=STRANGER) is not expected


def test_a_principal_of_a_former_trust_domain_is_the_same_one() -> None:
    config = MeshConfig(trust_domain="new.example", trust_domain_aliases=("old.example",))
    for domain in ("new.example", "old.example", "cluster.local"):
        term = Term("principal", (exact(f"{domain}/ns/shop/sa/ann"),))
        assert isinstance(decide([policy("deny", rule(term))], ANN, 80, Request(), config), Forbidden)


def test_n17_an_account_is_a_literal_and_no_expression() -> None:
    term = Term("service_account", (exact("shop/a.b"),))
    assert allowed(policy("deny", rule(term)), caller=Caller("10.64.0.1", True, "shop", "axb"))
    assert not allowed(policy("allow", rule(term)), caller=Caller("10.64.0.1", True, "shop", "axb"))


def test_n19_who_has_no_identity_is_not_let_in_for_not_having_one() -> None:
    not_foo = Term("namespace", (exact("foo"),), negated=True)
    assert not allowed(policy("allow", rule(Term("known"), not_foo)), caller=STRANGER)
    assert allowed(policy("allow", rule(Term("known"), not_foo)))
    assert not allowed(policy("deny", rule(not_foo)), caller=STRANGER)


def test_n04_the_query_is_no_part_of_the_path() -> None:
    secret = policy("deny", rule(Term("path", (exact("/secret"),))))
    for path in ("/secret", "/secret?", "/secret?x=1"):
        assert not allowed(secret, path=path)


@pytest.mark.parametrize(
    "authority",
    [
        "secret.com",
        "SECRET.com",
        "secret.com.",
        "secret.com:80",
        "Secret.Com:8080",
        "secret.com:",
        "secret.com:x",
    ],
)
def test_n05_n06_a_host_is_the_same_in_any_case_with_any_port_and_its_final_dot(authority: str) -> None:
    assert host_matches(exact("secret.com"), authority)
    assert host_matches(TextMatch("suffix", ".com"), authority)


def test_n06_a_host_with_a_port_is_that_port_only_and_others_do_not_match() -> None:
    assert host_matches(exact("a.com:80"), "A.com:80")
    assert not host_matches(exact("a.com:80"), "a.com")
    assert not host_matches(exact("a.com"), "a.com.evil") and not host_matches(exact("a.com"), "xa.com:80")
    assert not host_matches(TextMatch("suffix", ".com"), "evil:a.com")


def test_n06_the_colons_of_an_address_are_none_of_a_port() -> None:
    for authority in ("[::1]", "[::1]:80"):
        assert host_matches(exact("[::1]"), authority) and host_matches(TextMatch("suffix", ":1]"), authority)
    assert host_matches(exact("[::1]:80"), "[::1]:80") and not host_matches(exact("[::1]:80"), "[::1]")
    assert not host_matches(exact("[::1]"), "[::11]:80") and not host_matches(exact("[::1]"), "[::1]x")


@pytest.mark.parametrize(
    "lines",
    [("user", "admin"), ("admin,user",), ("user, admin",), ("admin",)],
    ids=lambda lines: " | ".join(lines),
)
def test_n07_a_deny_finds_its_value_among_several_lines(lines: tuple[str, ...]) -> None:
    admin = Term("header", (exact("admin"),), key="x-role")
    headers = tuple(("x-role", line) for line in lines)
    assert not allowed(policy("deny", rule(admin)), headers=headers)
    not_admin = Term("header", (exact("admin"),), negated=True, key="x-role")
    assert not allowed(policy("allow", rule(not_admin)), headers=headers)


def test_n07_an_allow_is_not_content_with_one_line_of_several() -> None:
    user = Term("header", (exact("user"),), key="x-role")
    assert not allowed(policy("allow", rule(user)), headers=(("x-role", "user"), ("x-role", "admin")))
    assert allowed(policy("allow", rule(user)), headers=(("x-role", "user"),))


def test_addresses_ports_and_tokens() -> None:
    block = CidrPeer("10.64.0.0/16", (), "anyone")
    assert not allowed(policy("deny", rule(Term("source_ip", (block,)))))
    assert not allowed(policy("deny", rule(Term("remote_ip", (block,)))), remote="10.64.9.9", caller=STRANGER)
    assert not allowed(policy("deny", rule(Term("destination_port", (80,)))))
    assert allowed(policy("deny", rule(Term("destination_port", (81,)))))
    claims = ((("iss",), ("i",)), (("sub",), ("s",)), (("groups",), ("a", "b")), (("a.example",), ("c",)))
    for term in (
        Term("request_principal", (exact("i/s"),)),
        Term("claim", (exact("b"),), path=("groups",)),
        Term("claim", (exact("c"),), path=("a.example",)),
    ):
        assert allowed(policy("allow", rule(term)), claims=claims)
        assert not allowed(policy("allow", rule(term)))
