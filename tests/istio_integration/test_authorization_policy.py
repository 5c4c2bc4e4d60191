from __future__ import annotations

from typing import Any

import pytest

from mesh.model import (
    Authorization,
    AuthorizationRule,
    CidrPeer,
    Fragment,
    MeshConfig,
    Requirement,
    Selector,
    ServiceName,
    Term,
    TextMatch,
)
from tests.mesh.dialects.objects import obj
from xds.dialects import read

GATE = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "g"}


def policy(spec: Any, **metadata: Any) -> Any:
    found = obj("security.istio.io/v1", "AuthorizationPolicy", spec)
    found["metadata"] |= metadata
    return found


def nouns(spec: Any, **metadata: Any) -> tuple[Authorization, ...]:
    return read(policy(spec, **metadata)).nouns  # type: ignore[return-value]


def rule(terms: Any, part: str = "to") -> Any:
    return {part: [{{"to": "operation", "from": "source"}[part]: terms}]}


def first(spec_rule: Any, action: str = "DENY") -> AuthorizationRule:
    (found,) = nouns({"action": action, "rules": [spec_rule]})
    return found.rules[0]


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("methods", "GET", TextMatch("exact", "GET")),
        ("paths", "/a*", TextMatch("prefix", "/a")),
        ("paths", "*/a", TextMatch("suffix", "/a")),
        ("paths", "*", TextMatch("present")),
        ("paths", "/a/{*}/b/{**}", TextMatch("template", "/a/{*}/b/{**}")),
        ("hosts", "Web.Example.com", TextMatch("exact", "web.example.com")),
        ("ports", "80", 80),
    ],
)
def test_each_value_of_an_operation_is_a_match(field: str, value: str, match: Any) -> None:
    (operation,) = first(rule({field: [value]})).operations or ()
    assert operation[0].values == (match,)
    (negated,) = first(rule({f"not{field[0].upper()}{field[1:]}": [value]})).operations or ()
    assert negated[0].negated and negated[0].values == (match,)


def test_accounts_are_of_the_policys_namespace_unless_they_say_another() -> None:
    (source,) = first(rule({"serviceAccounts": ["web", "far/cart"]}, "from")).sources or ()
    assert source == (
        Term("service_account", (TextMatch("exact", "shop/web"), TextMatch("exact", "far/cart"))),
    )


def test_addresses_are_blocks_that_match_pods_too() -> None:
    (source,) = (
        first(rule({"ipBlocks": ["10.0.0.0/8"], "remoteIpBlocks": ["192.0.2.1"]}, "from")).sources or ()
    )
    assert source == (
        Term("source_ip", (CidrPeer("10.0.0.0/8", (), "anyone"),)),
        Term("remote_ip", (CidrPeer("192.0.2.1/32", (), "anyone"),)),
    )


def test_n19_an_allow_that_excludes_by_identity_wants_one() -> None:
    excluded = {"notNamespaces": ["street"]}
    assert Term("known") in (first(rule(excluded, "from"), "ALLOW").sources or ())[0]
    assert Term("known") not in (first(rule(excluded, "from"), "DENY").sources or ())[0]


@pytest.mark.parametrize(
    ("key", "term"),
    [
        ("request.headers[X-Team]", Term("header", (TextMatch("exact", "a"),), key="x-team")),
        (
            "request.auth.claims[groups][name]",
            Term("claim", (TextMatch("exact", "a"),), path=("groups", "name")),
        ),
        (
            "request.auth.claims[https://acme.example/role]",
            Term("claim", (TextMatch("exact", "a"),), path=("https://acme.example/role",)),
        ),
        ("source.namespace", Term("namespace", (TextMatch("exact", "a"),))),
        ("connection.sni", Term("sni", (TextMatch("exact", "a"),))),
    ],
)
def test_keys_of_conditions(key: str, term: Term) -> None:
    assert first({"when": [{"key": key, "values": ["a"]}]}).conditions == (term,)


def test_whom_it_selects() -> None:
    assert nouns({})[0].subject == Selector()
    assert nouns({"selector": {"matchLabels": {"app": "web"}}})[0].subject == Selector(
        (Requirement("app", "In", ("web",)),)
    )
    target = {"group": "", "kind": "Service", "name": "web"}
    assert nouns({"targetRefs": [target]})[0].services == (ServiceName("shop", "web"),)


def test_no_spec_is_an_allow_without_rules() -> None:
    (found,) = nouns({})
    assert (found.action, found.rules) == ("allow", ())


def test_dry_run_is_asked_for_by_istios_annotation() -> None:
    assert nouns({"action": "DENY"}, annotations={"istio.io/dry-run": "true"})[0].audit
    assert not nouns({"action": "DENY"}, annotations={"istio.io/dry-run": "maybe"})[0].audit


@pytest.mark.parametrize(
    ("spec", "field", "says"),
    [
        ({"action": "LOG"}, "action", "must be one of ALLOW"),
        ({"action": "CUSTOM"}, "provider.name", "is required"),
        ({"provider": {"name": "x"}}, "provider", "CUSTOM only"),
        ({"rules": [{"from": []}]}, "rules[0].from", "is empty"),
        ({"rules": [{"to": [{"operation": {}}]}]}, "rules[0].to[0].operation", "is empty"),
        ({"rules": [rule({"paths": []})]}, "rules[0].to[0].operation.paths", "is empty"),
        ({"rules": [rule({"paths": ["/a{x}"]})]}, "rules[0].to[0].operation.paths[0]", "is no template"),
        ({"rules": [rule({"paths": ["/{**}/{*}"]})]}, "rules[0].to[0].operation.paths[0]", "last operator"),
        ({"rules": [rule({"ports": ["0"]})]}, "rules[0].to[0].operation.ports[0]", "not a port"),
        ({"rules": [rule({"path": ["/"]})]}, "rules[0].to[0].operation.path", "unknown field"),
        (
            {"rules": [rule({"principals": ["spiffe://a"]}, "from")]},
            "rules[0].from[0].source.principals[0]",
            "without spiffe://",
        ),
        (
            {"rules": [rule({"serviceAccounts": ["a"], "namespaces": ["b"]}, "from")]},
            "rules[0].from[0].source.namespaces",
            "cannot stand beside serviceAccounts",
        ),
        (
            {"rules": [{"when": [{"key": "source.port", "values": ["1"]}]}]},
            "rules[0].when[0].key",
            "is no key",
        ),
        ({"rules": [{"when": [{"key": "source.ip"}]}]}, "rules[0].when[0]", "needs values or notValues"),
        ({"targetRefs": [{"kind": "Gateway", "name": "g"}]}, "targetRefs[0].group", "gateway.networking"),
        ({"targetRefs": [GATE, {"kind": "Service", "name": "a"}]}, "targetRefs[1]", "stands alone"),
        ({"targetRefs": [{"kind": "ServiceEntry", "name": "g"}]}, "targetRefs[0].kind", "not supported yet"),
        ({"selector": {}, "targetRef": {"kind": "Service", "name": "a"}}, "selector", "stands alone"),
    ],
)
def test_what_is_wrong_is_named(spec: Any, field: str, says: str) -> None:
    fragment = read(policy(spec))
    assert not fragment.valid
    assert says in {p.field: p.message for p in fragment.problems}[f"spec.{field}"]


def test_a_gateway_is_the_pods_that_serve_it_in_its_namespace() -> None:
    (found,) = nouns({"targetRefs": [GATE]})
    assert found.services is None
    named = {"io.kubernetes.pod.namespace": "shop", "gateway.networking.k8s.io/gateway-name": "g"}
    assert found.subject.matches(named)
    for key in named:
        assert not found.subject.matches(named | {key: "other"})


BAD, GOOD = rule({"methods": [""]}), rule({"methods": ["GET"]})


def test_an_allow_keeps_what_could_be_read_and_grants_nothing_else() -> None:
    (found,) = nouns({"rules": [BAD, GOOD]})
    assert found.action == "allow" and [r.field for r in found.rules] == ["rules[1]"]
    (strange,) = nouns({"rules": [GOOD], "selectr": {}})
    assert (strange.action, strange.rules) == ("allow", ())


@pytest.mark.parametrize("spec", [{"action": "DENY"}, {"action": "CUSTOM", "provider": {"name": "opa"}}])
def test_of_a_deny_or_custom_the_unreadable_part_denies_everything(spec: Any) -> None:
    whole, rest = nouns(spec | {"rules": [BAD, GOOD]})
    assert [r.field for r in whole.rules] == ["rules[1]"]
    assert rest.action == "deny" and rest.rules == (AuthorizationRule("rules"),)


def test_an_unreadable_selector_is_the_whole_namespace() -> None:
    found = nouns({"selector": {"matchLabels": {"app": 1}}, "action": "DENY", "rules": [GOOD]})
    assert all(noun.subject == Selector() for noun in found)


# --- MeshConfig ----------------------------------------------------------------------------


def config(text: str, name: str = "istio", namespace: str = "istio-system") -> Fragment:
    return read(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": namespace},
            "data": {"mesh": text},
        }
    )


def test_mesh_config_is_a_text_of_yaml() -> None:
    fragment = config(
        "rootNamespace: root\ntrustDomain: td\npathNormalization: {normalization: BASE}\nfoo: 1"
    )
    assert fragment.nouns == (MeshConfig("root", "td", (), "BASE"),)
    assert fragment.valid


def test_a_port_of_a_provider_may_be_text_as_in_istios_documentation() -> None:
    text = "extensionProviders: [{{name: ask, envoyExtAuthzHttp: {{service: ask.foo, port: {port}}}}}]"
    (found,) = config(text.format(port='"8000"')).nouns
    assert isinstance(found, MeshConfig) and found.providers[0].port == 8000
    for wrong in ('"http"', '"80000"', '""', '"²"'):
        assert not config(text.format(port=wrong)).valid


def test_the_default_of_path_normalization_is_ours() -> None:
    (found,) = config("pathNormalization: {normalization: DEFAULT}").nouns
    assert isinstance(found, MeshConfig) and found.path_normalization == "MERGE_SLASHES"


def test_any_other_config_map_says_nothing() -> None:
    assert config("trustDomain: td", name="game").nouns == ()
    assert config("trustDomain: td", name="game").valid


def test_that_of_another_namespace_configures_nothing_and_says_so() -> None:
    """Or a tenant could turn REGISTRY_ONLY off, or name a provider that everyone's requests are told to."""
    fragment = config("trustDomain: td", namespace="a-tenant")
    assert fragment.nouns == ()
    assert [str(p.field) for p in fragment.problems] == ["data.mesh"]
    assert "istio-system" in fragment.problems[0].message


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("a: [", "data.mesh"),
        (
            "extensionProviders: [{name: a, envoyExtAuthzGrpc: {port: 1}}]",
            "data.mesh.extensionProviders[0].envoyExtAuthzGrpc.service",
        ),
        (
            "extensionProviders: [{name: a, envoyExtAuthzHttp: {service: s, port: 1, timeout: fast}}]",
            "data.mesh.extensionProviders[0].envoyExtAuthzHttp.timeout",
        ),
        ("pathNormalization: {normalization: SOME}", "data.mesh.pathNormalization.normalization"),
    ],
)
def test_what_is_wrong_in_it_is_named_inside_the_text(text: str, field: str) -> None:
    fragment = config(text)
    assert not fragment.valid
    assert field in {problem.field for problem in fragment.problems}
