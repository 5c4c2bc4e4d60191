"""What is left for Envoy decides a request just as the whole policies do."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.model import Authorization, AuthorizationRule, MeshConfig, ObjectRef, Term, TextMatch
from mesh.policies.authorization import Caller, Forbidden, Granted, connection_term_fits, decide
from mesh.policies.authorization_parts import Ask, Refused, combine
from mesh.policies.consent import Asked, Consent, Refusal, consent
from mesh.protocols import PortKind
from mesh.request import Request

CONFIG = MeshConfig()
CALLERS = (Caller("10.0.0.1", True, "a", "x"), Caller("10.0.0.2", True, "b", "x"), Caller("203.0.113.1"))


def texts(*values: str) -> st.SearchStrategy[tuple[TextMatch, ...]]:
    one = st.sampled_from([TextMatch("exact", v) for v in values] + [TextMatch("present")])
    return st.lists(one, min_size=1, max_size=2, unique=True).map(tuple)


TERMS = st.one_of(
    st.builds(Term, st.just("namespace"), texts("a", "b"), st.booleans()),
    st.builds(Term, st.just("service_account"), texts("a/x", "b/x"), st.booleans()),
    st.just(Term("known")),
    st.builds(Term, st.just("destination_port"), st.just((80,)), st.booleans()),
    st.builds(Term, st.just("method"), texts("GET", "PUT"), st.booleans()),
    st.builds(Term, st.just("path"), texts("/a", "/b"), st.booleans()),
    st.builds(Term, st.just("header"), texts("1", "2"), st.booleans(), st.just("x")),
    st.builds(Term, st.just("sni"), texts("a.com"), st.booleans()),
)
GROUP = st.lists(TERMS, max_size=2).map(tuple)
GROUPS = st.one_of(st.none(), st.lists(GROUP, min_size=1, max_size=2).map(tuple))
RULES = st.lists(st.tuples(GROUPS, GROUPS, GROUP), max_size=2).map(
    lambda found: tuple(AuthorizationRule(f"rules[{i}]", *parts) for i, parts in enumerate(found))
)
POLICIES = st.lists(
    st.tuples(st.sampled_from(("allow", "deny", "custom", "audit")), RULES, st.booleans()), max_size=3
).map(
    lambda found: [
        Authorization(
            ObjectRef("AuthorizationPolicy", "a", f"p{i}"), action, rules, audit=audit, provider=f"v{i}"
        )  # type: ignore[arg-type]
        for i, (action, rules, audit) in enumerate(found)
    ]
)
REQUESTS = st.builds(
    Request,
    st.sampled_from(("GET", "PUT", "X")),
    st.sampled_from(("/a", "/b?q", "/c")),
    headers=st.sampled_from(((), (("x", "1"),), (("x", "1"), ("x", "2")))),
    sni=st.sampled_from(("", "a.com")),
)
KINDS: st.SearchStrategy[PortKind | None] = st.sampled_from(("http", None))


@settings(max_examples=500, deadline=None)
@given(POLICIES, st.sampled_from(CALLERS), st.sampled_from((80, 81)), REQUESTS, KINDS)
def test_the_parts_decide_a_request_as_the_policies_do(
    policies: list[Authorization], caller: Caller, port: int, request: Request, kind: PortKind | None
) -> None:
    whole = decide(policies, caller, port, request, CONFIG)
    answer = combine(policies, lambda t: connection_term_fits(t, caller, port, CONFIG), port, kind, CONFIG)
    if isinstance(answer, Ask):
        providers = {policy.ref: policy.provider for policy in policies}
        left = [
            Authorization(p.origin, p.action, p.rules, provider=providers[p.origin], audit=p.audit)
            for p in answer.parts
        ]
        asked = decide(left, caller, port, request, CONFIG)
        assert type(asked) is type(whole)
        if isinstance(whole, Granted) and isinstance(asked, Granted):
            assert asked.providers == whole.providers
    elif isinstance(answer, Refused):
        assert isinstance(whole, Forbidden)  # for a request, another rule may be what refuses it
    else:
        assert isinstance(whole, Granted) and set(answer.keys) <= set(whole.keys)


@settings(max_examples=500, deadline=None)
@given(
    POLICIES, st.sampled_from(CALLERS), st.sampled_from((80, 81)), st.sampled_from(("http", "plain", None))
)
def test_the_compiler_and_the_reference_ask_of_the_same_connections(
    policies: list[Authorization], caller: Caller, port: int, kind: PortKind | None
) -> None:
    said = consent(policies, caller, port, kind, CONFIG)
    answer = combine(policies, lambda t: connection_term_fits(t, caller, port, CONFIG), port, kind, CONFIG)
    match said:
        case Asked(keys):
            assert isinstance(answer, Ask) and answer.keys == keys
        case Refusal(keys):
            assert answer == Refused(keys)
        case Consent(keys):
            assert not isinstance(answer, Ask | Refused) and answer.keys == keys


@settings(max_examples=500, deadline=None)
@given(POLICIES, st.sampled_from(CALLERS), REQUESTS)
def test_policies_in_dry_run_decide_nothing(
    policies: list[Authorization], caller: Caller, request: Request
) -> None:
    dry = [replace(policy, audit=True) for policy in policies]
    assert decide(dry, caller, 80, request, CONFIG) == Granted()
