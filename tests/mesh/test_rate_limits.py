"""RateLimit before any request: whose connections Envoy must see, and what is said of it."""

from __future__ import annotations

from itertools import product

import pytest

from mesh.analysis import analyze
from mesh.analysis.view import View
from mesh.answers.describe import describe_pod
from mesh.answers.explain import explain
from mesh.answers.reach import Access, Reachability
from mesh.model import WorkloadName
from mesh.request import Request
from tests.mesh.test_authentication import AUTHORIZATIONS, NETWORKS, STRANGER, TOKENS, UNDECLARED
from tests.threats.http.limits import hourly, rate_limit
from tests.threats.http.served import ANN, HTTP, TCP, Compiled, Object, policy, to

LIMITS = rate_limit(hourly(10), hourly(5, match={"paths": ["/a*"], "methods": ["GET"]}))
KEYS = tuple(f"RateLimit shop/api limits[{index}]" for index in (0, 1))
TLS = NETWORKS["names"]


@pytest.mark.parametrize(("authorized", "network"), [*product(AUTHORIZATIONS, NETWORKS)])
def test_the_tables_say_what_the_reference_says(authorized: str, network: str) -> None:
    others = [*AUTHORIZATIONS[authorized], *NETWORKS[network]]
    limited, without = Compiled(LIMITS, *others), Compiled(*others)
    for caller, port in product((ANN, STRANGER), (HTTP, TCP, UNDECLARED)):
        found, before = limited.verdict(caller, port), without.verdict(caller, port)
        assert found.verdict == limited.reference(caller, port)
        asked = before.verdict != "deny" and port != TCP
        assert found.verdict == ("steer" if asked else before.verdict)
        assert (set(KEYS) <= set(found.rules)) == asked


def test_behind_a_limit_only_http_passes_unless_tls_is_what_network_policy_asks_for() -> None:
    """Rule 21; a TLS hello with a name that is allowed holds no requests to count."""
    for others, port, tls in (([], UNDECLARED, False), (TLS, UNDECLARED, True), ([TOKENS], HTTP, False)):
        found = Compiled(LIMITS, *others)
        listener = found.verdict(port=port).listener
        (l7,) = (l7 for l7 in found.view.ingress if l7.number == listener)
        assert (l7.plain, bool(l7.server_names)) == (None, tls)


def test_an_edit_keeps_the_listener_and_another_limit_does_not() -> None:
    """Rule 6: a limit that is edited binds what lives. One more is another class, and ends it (rule 9)."""
    compiled = Compiled(LIMITS)
    before = compiled.listener()
    compiled.edit(rate_limit(hourly(1, by=[{"header": "x-user"}]), hourly(2)))
    assert compiled.listener() == before
    compiled.edit(rate_limit(hourly(1)))
    assert compiled.listener() != before


@pytest.mark.parametrize(
    ("spec", "verdict"),
    [
        ({"selector": None}, "steer"),
        ({"selector": {"matchLabels": {"app": "other"}}}, "allow"),
        ({"selector": None, "targetRefs": [{"kind": "Service", "name": "api"}]}, "steer"),
        ({"selector": None, "targetRefs": [{"kind": "Service", "name": "other"}]}, "allow"),
    ],
)
def test_whom_it_is_for(spec: Object, verdict: str) -> None:
    assert Compiled(rate_limit(hourly(1), **spec)).verdict().verdict == verdict


def test_one_of_the_root_namespace_is_for_all() -> None:
    everywhere = rate_limit(hourly(1), selector=None)
    everywhere["metadata"] = {"name": "all", "namespace": "istio-system"}
    assert Compiled(everywhere).verdict().verdict == "steer"
    everywhere["metadata"] = {"name": "all", "namespace": "bank"}
    assert Compiled(everywhere).verdict().verdict == "allow"


def test_the_service_that_counts_is_a_backend_of_the_proxy() -> None:
    counter: Object = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "ratelimit", "namespace": "shop"},
        "spec": {"clusterIP": "10.128.0.9", "selector": {"app": "ann"}, "ports": [{"port": 8081}]},
    }
    asked = {"service": "ratelimit.shop.svc.cluster.local", "port": 8081, "domain": "shop"}
    view = Compiled(counter, rate_limit(hourly(1), **{"global": asked})).view
    (destination,) = view.destinations
    assert str(destination.target.service) == "shop/ratelimit"
    assert [backend.address for part in destination.parts for backend in part.backends] == [ANN[3]]


@pytest.mark.parametrize(
    ("request_", "keys"),
    [
        (None, KEYS),
        (Request("GET", "/ab?c"), KEYS),
        (Request("POST", "/ab"), KEYS[:1]),
        (Request("GET", "/b"), KEYS[:1]),
    ],
)
def test_explain_names_the_limits_that_a_request_uses_up_and_allows_it(
    request_: Request | None, keys: tuple[str, ...]
) -> None:
    answer = explain(Compiled(LIMITS).mesh, "shop/ann", f"shop/api:{HTTP}", "TCP", request_)
    assert (answer["verdict"], answer["path"]) == ("allow", "envoy")
    told = {"effect": "limits requests", "enforced_by": "destination's Envoy", "object": "RateLimit shop/api"}
    assert answer["reasons"] == [{**told, "rule": key.rpartition(" ")[2]} for key in keys]


def test_what_is_limited_can_be_reached_and_what_is_refused_is_not_counted() -> None:
    found = Reachability(Compiled(LIMITS).mesh)
    caller, callee = WorkloadName("shop", "ann"), WorkloadName("shop", "api")
    assert found.reach(caller, callee, "TCP", HTTP) == Access("allow", "envoy")
    mesh = Compiled(LIMITS, policy("DENY", to(paths=["/a"]))).mesh
    assert explain(mesh, "shop/ann", f"shop/api:{HTTP}", "TCP", Request("GET", "/a"))["verdict"] == "deny"


def test_describe_and_analyze_know_it() -> None:
    compiled = Compiled(LIMITS)
    rules = describe_pod(compiled.mesh, "shop/api", {"shop/api": compiled.view})["rules"]
    assert [(rule["object"], rule["rule"], rule["effect"]) for rule in rules] == [
        ("RateLimit shop/api", "limits[0]", "at most 10 requests per hour"),
        ("RateLimit shop/api", "limits[1]", "at most 5 requests per hour"),
    ]
    nobody = Compiled(rate_limit(hourly(1), selector={"matchLabels": {"app": "nobody"}}))
    assert "RateLimit shop/api" in {str(found.trap.object) for found in analyze(View.of(nobody.mesh))}
