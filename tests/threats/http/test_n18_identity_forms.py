"""N18 (CVE-2020-16844): whatever form an identity is written in, a rule means the same callers, on ports that
speak HTTP and on others. Who calls is the kernel's to judge, so it is asked; the request is Envoy's.
"""

from __future__ import annotations

from itertools import product

import pytest

from tests.threats.http.application import Application
from tests.threats.http.served import HTTP, TCP, Caller, Compiled, Object, Served, policy
from tests.threats.http.speaking import ask, get
from tests.xds.render.conftest import Serve
from xds.dialects import read

FOO: Caller = ("alpha-one", "foo", "foo", "10.64.0.20")
BAR: Caller = ("beta-two", "bar", "bar", "10.64.0.21")
#: No pod has this address: nobody has an identity there.
STRANGER: Caller = ("", "", "", "198.51.100.7")
CALLERS = (FOO, BAR, STRANGER)

#: Values of each field that mean foo.
FORMS = {
    ("principals", "exact"): "cluster.local/ns/alpha-one/sa/foo",
    ("principals", "prefix"): "cluster.local/ns/alpha-*",
    ("principals", "suffix"): "*/ns/alpha-one/sa/foo",
    ("principals", "presence"): "*",
    ("namespaces", "exact"): "alpha-one",
    ("namespaces", "prefix"): "alpha*",
    ("namespaces", "suffix"): "*-one",
    ("namespaces", "presence"): "*",
    ("serviceAccounts", "exact"): "alpha-one/foo",
}
WILD_ACCOUNTS = ("alpha-one/f*", "*/foo", "*oo", "*", "alpha-one/*")
ACTIONS, PORTS = ("ALLOW", "DENY"), (HTTP, TCP)


def rule(field: str, value: str, *methods: str) -> Object:
    found: Object = {"from": [{"source": {field: [value]}}]}
    return found | ({"to": [{"operation": {"methods": list(methods)}}]} if methods else {})


def opposite(field: str) -> str:
    return f"not{field[0].upper()}{field[1:]}"


def meant(form: str, caller: Caller) -> bool:
    """Presence means everyone who has an identity."""
    return caller == FOO or (form == "presence" and caller == BAR)


def verdicts(object: Object, port: int) -> dict[Caller, str]:
    """Those of the tables, which the reference must share."""
    compiled = Compiled(object, callers=(FOO, BAR))
    found: dict[Caller, str] = {caller: compiled.verdict(caller, port).verdict for caller in CALLERS}
    assert found == {caller: compiled.reference(caller, port) for caller in CALLERS}
    return found


@pytest.mark.parametrize(("field", "form"), FORMS)
@pytest.mark.parametrize(("action", "port"), [*product(ACTIONS, PORTS)])
def test_a_rule_means_its_callers(field: str, form: str, action: str, port: int) -> None:
    found = verdicts(policy(action, rule(field, FORMS[field, form])), port)
    assert found == {c: "allow" if meant(form, c) == (action == "ALLOW") else "deny" for c in CALLERS}


@pytest.mark.parametrize(("field", "form"), FORMS)
@pytest.mark.parametrize(("action", "port"), [*product(ACTIONS, PORTS)])
def test_a_rule_about_all_others_means_nobody_unknown(field: str, form: str, action: str, port: int) -> None:
    """Threat N19: an ALLOW does not let in who has no identity, a DENY refuses them."""
    found = verdicts(policy(action, rule(opposite(field), FORMS[field, form])), port)
    if action == "ALLOW":
        assert found == {c: "deny" if meant(form, c) or c == STRANGER else "allow" for c in CALLERS}
    else:
        assert found == {c: "allow" if meant(form, c) else "deny" for c in CALLERS}


@pytest.mark.parametrize(("field", "form"), FORMS)
@pytest.mark.parametrize("action", ACTIONS)
def test_with_something_about_the_request_envoy_is_asked_of_those_callers_only(
    field: str, form: str, action: str, serve: Serve, application: Application
) -> None:
    """On a port that is not HTTP an ALLOW about methods never fits, a DENY loses them (rule 21)."""
    object = policy(action, rule(field, FORMS[field, form], "GET"))
    served = Served(serve, application.port, object, callers=(FOO, BAR))
    allows = action == "ALLOW"
    for caller in CALLERS:
        others = "deny" if allows else "allow"
        fits = meant(form, caller)
        assert served.verdict(caller, HTTP).verdict == ("steer" if fits else others)
        assert served.verdict(caller, TCP).verdict == ("deny" if fits or allows else "allow")
        if fits:
            statuses = [ask(served.port(caller), get("/", method=method)) for method in ("GET", "POST")]
            assert statuses == ([200, 403] if allows else [403, 200])


@pytest.mark.parametrize("value", WILD_ACCOUNTS)
@pytest.mark.parametrize("action", ACTIONS)
def test_an_account_with_a_wildcard_is_refused_and_lets_nobody_in(action: str, value: str) -> None:
    """As Istio documents: there is no prefix, suffix or presence of service accounts."""
    fragment = read(policy(action, rule("serviceAccounts", value)))
    assert [problem.field for problem in fragment.problems] == [
        "spec.rules[0].from[0].source.serviceAccounts[0]"
    ]
    for port in PORTS:
        compiled = Compiled(
            policy(action, rule("serviceAccounts", value)), callers=(FOO, BAR), unreadable=True
        )
        assert [compiled.verdict(caller, port).verdict for caller in CALLERS] == ["deny"] * 3
