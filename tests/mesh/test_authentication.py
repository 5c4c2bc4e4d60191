"""RequestAuthentication before any request: whose connections Envoy must see, and what is said of it."""

from __future__ import annotations

from itertools import product

import pytest

from mesh.answers.asked_request import asked_request, claim, pair
from mesh.answers.explain import explain
from mesh.request import Request
from tests.threats.http.served import ANN, HTTP, TCP, Caller, Compiled, Object, network_policy, policy, to
from tests.threats.http.tokens import ISSUER, authentication, required

TOKENS = authentication({"issuer": ISSUER, "jwksUri": "https://issuer.example/keys"})
KEY = "RequestAuthentication shop/tokens jwtRules[0]"
STRANGER: Caller = ("", "", "", "198.51.100.7")
#: No Service declares this port.
UNDECLARED = 7000

AUTHORIZATIONS: dict[str, list[Object]] = {
    "nothing": [],
    "allows callers": [policy("ALLOW", {"from": [{"source": {"namespaces": ["shop"]}}]})],
    "allows requests": [policy("ALLOW", to(methods=["GET"]))],
    "allows tokens": [policy("ALLOW", required())],
    "denies all": [policy("DENY", {})],
    "denies requests": [policy("DENY", to(paths=["/secret"]))],
    "tries to deny": [
        {
            **policy("DENY", {}),
            "metadata": {"name": "dry", "namespace": "shop", "annotations": {"istio.io/dry-run": "true"}},
        }
    ],
}


def tls_policy(port: int) -> Object:
    found = network_policy(port=port)
    (rule,) = found["spec"]["ingress"]
    rule["toPorts"][0] = {"ports": [{"port": str(port), "protocol": "TCP"}], "serverNames": ["a.example"]}
    return found


NETWORKS: dict[str, list[Object]] = {
    "nothing": [],
    "requests": [network_policy({"method": "GET"}, port=port) for port in (HTTP, UNDECLARED)],
    "nobody": [network_policy({"method": "GET"}, port=1)],
    "names": [tls_policy(port) for port in (HTTP, TCP, UNDECLARED)],
}


@pytest.mark.parametrize(("authorized", "network"), [*product(AUTHORIZATIONS, NETWORKS)])
def test_the_tables_say_what_the_reference_says(authorized: str, network: str) -> None:
    others = [*AUTHORIZATIONS[authorized], *NETWORKS[network]]
    with_tokens, without = Compiled(TOKENS, *others), Compiled(*others)
    for caller, port in product((ANN, STRANGER), (HTTP, TCP, UNDECLARED)):
        found, before = with_tokens.verdict(caller, port), without.verdict(caller, port)
        assert found.verdict == with_tokens.reference(caller, port)
        asked = before.verdict != "deny" and port != TCP
        assert found.verdict == ("steer" if asked else before.verdict)
        assert (KEY in found.rules) == asked
        assert set(found.rules) >= set(before.rules) if before.verdict == "steer" else True


@pytest.mark.parametrize(("authorized", "network"), [*product(AUTHORIZATIONS, NETWORKS)])
def test_behind_a_token_nothing_passes_that_is_not_http(authorized: str, network: str) -> None:
    """Rule 21. A TLS hello cannot show a token either."""
    found = Compiled(TOKENS, *AUTHORIZATIONS[authorized], *NETWORKS[network])
    for port in (HTTP, UNDECLARED):
        if found.verdict(port=port).verdict == "steer":
            listener = found.verdict(port=port).listener
            (l7,) = (l7 for l7 in found.view.ingress if l7.number == listener)
            assert (l7.plain, l7.server_names) == (None, None)
            assert l7.authentication and (l7.http or network == "names")


def test_a_policy_without_rules_asks_for_nothing() -> None:
    compiled = Compiled(authentication())
    assert (compiled.verdict().verdict, compiled.reference()) == ("allow", "allow")


def test_one_of_the_root_namespace_is_for_all() -> None:
    everywhere = {**TOKENS, "metadata": {"name": "tokens", "namespace": "istio-system"}}
    everywhere["spec"] = {"jwtRules": TOKENS["spec"]["jwtRules"]}
    assert Compiled(everywhere).verdict().verdict == "steer"
    elsewhere = {**everywhere, "metadata": {"name": "tokens", "namespace": "bank"}}
    assert Compiled(elsewhere).verdict().verdict == "allow"


def test_one_of_a_service_is_for_what_stands_behind_it() -> None:
    target = {"group": "", "kind": "Service", "name": "api"}
    spec = {"targetRefs": [target], "jwtRules": TOKENS["spec"]["jwtRules"]}
    assert Compiled({**TOKENS, "spec": spec}).verdict().verdict == "steer"
    other = {"targetRefs": [{**target, "name": "other"}], "jwtRules": TOKENS["spec"]["jwtRules"]}
    assert Compiled({**TOKENS, "spec": other}).verdict().verdict == "allow"


@pytest.mark.parametrize("request_", [None, Request("GET", "/")])
def test_explain_says_what_steers_and_why(request_: Request | None) -> None:
    answer = explain(Compiled(TOKENS).mesh, "shop/ann", f"shop/api:{HTTP}", "TCP", request_)
    assert (answer["verdict"], answer["path"]) == ("allow", "envoy")
    assert answer["reasons"] == [
        {
            "object": "RequestAuthentication shop/tokens",
            "rule": "jwtRules[0]",
            "effect": "steer" if request_ is None else "401 to a bad token; none passes",
            "enforced_by": "destination's Envoy",
        }
    ]


def test_explain_tells_a_token_apart_from_none() -> None:
    mesh = Compiled(TOKENS, policy("ALLOW", required())).mesh
    claims = ((("iss",), (ISSUER,)), (("sub",), ("ann",)))
    for request, verdict in ((Request(), "deny"), (Request(claims=claims), "allow")):
        assert explain(mesh, "shop/ann", f"shop/api:{HTTP}", "TCP", request)["verdict"] == verdict


@pytest.mark.parametrize(
    ("claims", "verdict"),
    [
        ([], "deny"),
        ([f"iss={ISSUER}", "sub=ann"], "allow"),
        ([f"iss={ISSUER}"], "deny"),
    ],
)
def test_explain_takes_claims_as_they_are_written(claims: list[str], verdict: str) -> None:
    mesh = Compiled(TOKENS, policy("ALLOW", required())).mesh
    request = asked_request("", "/x", "", (), map(claim, claims))
    assert explain(mesh, "shop/ann", f"shop/api:{HTTP}", "TCP", request)["verdict"] == verdict


def test_claims_are_named_as_in_a_policy() -> None:
    assert asked_request("", "", "", (), ()) is None
    texts = ["team[name]=a=b", "https://a.example/role=x", "groups=a", "groups=b"]
    found = asked_request("", "", "", [pair("X-A=1")], map(claim, texts))
    assert found and dict(found.claims) == {
        ("team", "name"): ("a=b",),
        ("https://a.example/role",): ("x",),
        ("groups",): ("a", "b"),
    }
    assert (found.method, found.path, found.headers) == ("GET", "/", (("x-a", "1"),))
    for text in ("sub", "=ann", "team[=a", "team[a]b=c", "[a]=b"):
        with pytest.raises(ValueError, match="is not"):
            claim(text)
