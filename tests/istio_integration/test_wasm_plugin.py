from __future__ import annotations

from typing import Any

import pytest

from mesh.model import (
    EnvoyPatch,
    ListenerMatch,
    ModuleSource,
    ObjectRef,
    Requirement,
    Selector,
    ServiceName,
    WasmPlugin,
)
from tests.mesh.dialects.objects import obj
from xds.dialects import read

DIGEST = "ab" * 32
URL = {"url": "https://example.com/auth.wasm", "sha256": DIGEST}
REF = ObjectRef("WasmPlugin", "shop", "one")
WEB = {"selector": {"matchLabels": {"app": "web"}}}
FILE = {"url": "file:///modules/auth.wasm"}


def wasm_plugin(spec: Any, **annotations: str) -> Any:
    found = obj("extensions.istio.io/v1alpha1", "WasmPlugin", spec)
    return found | {"metadata": found["metadata"] | {"annotations": annotations}}


def noun(spec: Any, *problems: str, **annotations: str) -> WasmPlugin:
    fragment = read(wasm_plugin(spec, **annotations))
    assert [f"{problem.field}: {problem.message}" for problem in fragment.problems] == list(problems)
    (found,) = fragment.nouns
    assert isinstance(found, WasmPlugin)
    return found


def test_what_an_object_says() -> None:
    assert noun(
        {
            **WEB,
            **URL,
            "phase": "AUTHN",
            "priority": -1,
            "failStrategy": "FAIL_OPEN",
            "pluginName": "auth",
            "pluginConfig": {"realm": "shop", "deep": [1, {"a": True}]},
            "vmConfig": {"env": [{"name": "LEVEL", "valueFrom": "INLINE", "value": "debug"}]},
            "match": [{"mode": "SERVER", "ports": [{"number": 8080}, {"number": 8080}, {"number": 9090}]}],
            "imagePullPolicy": "IfNotPresent",
            "type": "HTTP",
        }
    ) == WasmPlugin(
        REF,
        tuple(
            EnvoyPatch("match[0]", "HTTP_FILTER", "SIDECAR_INBOUND", "ADD", where=ListenerMatch(port))
            for port in (8080, 9090)
        ),
        Selector((Requirement("app", "In", ("web",)),)),
        (("app", "web"),),
        -1,
        steers=True,
        source=ModuleSource("https://example.com/auth.wasm", DIGEST),
        phase="AUTHN",
        on_failure="FAIL_OPEN",
        name="auth",
        config='{"deep":[1,{"a":true}],"realm":"shop"}',
        environment=(("LEVEL", "debug"),),
    )


@pytest.mark.parametrize(
    ("mode", "contexts"),
    [
        (None, ["ANY"]),
        ("CLIENT_AND_SERVER", ["ANY"]),
        ("CLIENT", ["SIDECAR_OUTBOUND", "GATEWAY"]),
        ("SERVER", ["SIDECAR_INBOUND"]),
    ],
)
def test_a_mode_says_at_which_side_it_stands(mode: str | None, contexts: list[str]) -> None:
    found = noun({**WEB, **URL, "match": [{"mode": mode}]})
    assert [(patch.context, patch.where) for patch in found.patches] == [(one, None) for one in contexts]


def test_one_for_a_service_stands_before_its_pods() -> None:
    found = noun({**URL, "targetRefs": [{"kind": "Service", "name": "web"}]})
    assert (found.services, found.labels, found.steers) == ((ServiceName("shop", "web"),), (), True)
    assert [(patch.field, patch.context) for patch in found.patches] == [("url", "SIDECAR_INBOUND")]


@pytest.mark.parametrize(
    ("spec", "annotation", "steers", "undecided"),
    [
        (WEB, "", True, False),
        (WEB, "false", False, False),
        ({}, "", False, True),
        ({}, "true", True, False),
        ({}, "false", False, False),
    ],
)
def test_it_steers_whom_it_names_or_if_it_says_so(
    spec: Any, annotation: str, steers: bool, undecided: bool
) -> None:
    found = noun({**spec, **URL}, **({"sluice.io/steer": annotation} if annotation else {}))
    assert (found.steers, found.undecided) == (steers, undecided)


def test_what_has_no_effect_is_told() -> None:
    found = noun(
        {**WEB, **FILE, "imagePullPolicy": "Always", "imagePullSecret": "registry"},
        "spec.imagePullPolicy: has no effect: what sha256 pins is fetched once",
        "spec.imagePullSecret: has no effect: it is for OCI images, which are not fetched",
    )
    assert found.source == ModuleSource("file:///modules/auth.wasm")


REFUSED: list[tuple[Any, str]] = [
    ({"url": "oci://example.com/auth:1"}, "spec.url: OCI images are not fetched; give an http"),
    ({"url": "example.com/auth:1"}, "spec.url: OCI images are not fetched"),
    ({"url": "https://example.com/auth.wasm"}, "spec.sha256: is required beside a URL of http or https"),
    ({"url": "ftp://example.com/a", "sha256": DIGEST}, "spec.url: 'ftp' is not supported"),
    ({"url": "http://me:word@example.com/a", "sha256": DIGEST}, "spec.url: 'http://me:"),
    ({"url": "http://[::1/a", "sha256": DIGEST}, "spec.url: 'http://[::1/a' is no URL"),
    ({"url": "file://host/auth.wasm"}, "spec.url: 'file://host/auth.wasm' names no file"),
    ({**URL, "sha256": "AB" * 32}, "spec.sha256: "),
    ({**URL, "url": None}, "spec.url: is required"),
    ({**URL, "type": "NETWORK"}, "spec.type: NETWORK is not supported yet; use one of"),
    ({**URL, "verificationKey": "k"}, "spec.verificationKey: field verificationKey is not supported"),
    ({**URL, "phase": "LAST"}, "spec.phase: is 'LAST'; must be one of UNSPECIFIED_PHASE, AUTHN"),
    ({**URL, "failStrategy": "OPEN"}, "spec.failStrategy: is 'OPEN'; must be one of FAIL_CLOSE"),
    ({**URL, "pluginConfig": []}, "spec.pluginConfig: must be a mapping"),
    ({**URL, "pluginConfig": {"a": float("nan")}}, "spec.pluginConfig: holds what JSON cannot hold"),
    ({**URL, "vmConfig": {"env": [{"name": "A", "valueFrom": "HOST"}]}}, "spec.vmConfig.env[0].valueFrom:"),
    ({**URL, "vmConfig": {"env": [{"name": "A"}, {"name": "A"}]}}, "spec.vmConfig.env[1].name: A stands"),
    ({**URL, "match": [{"ports": [{"number": 0}]}]}, "spec.match[0].ports[0].number: is 0; must be 1"),
    ({**URL, "match": [{"ports": [{}]}]}, "spec.match[0].ports[0].number: is required"),
    ({**URL, "targetRefs": [{"kind": "Gateway", "name": "g"}]}, "spec.targetRefs[0].group: of a Gateway is"),
    (
        {**URL, "targetRefs": [{"kind": "Service", "name": "web"}], "match": [{"mode": "CLIENT"}]},
        "spec.match[0].mode: CLIENT does not go with targetRefs",
    ),
]


@pytest.mark.parametrize(("spec", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_cannot_be_read_is_named_and_leaves_no_module(spec: Any, message: str) -> None:
    """Rule 18: nothing passes where it would stand."""
    fragment = read(wasm_plugin({"selector": WEB["selector"], **spec} if "targetRefs" not in spec else spec))
    told = [f"{problem.field}: {problem.message}" for problem in fragment.problems]
    assert any(one.startswith(message) for one in told), told
    (found,) = fragment.nouns
    assert isinstance(found, WasmPlugin)
    assert (fragment.valid, found.source, found.on_failure, found.steers) == (False, None, "FAIL_CLOSE", True)


def test_where_a_match_cannot_be_read_all_is_meant() -> None:
    fragment = read(wasm_plugin({**WEB, **URL, "match": [{"mode": "SERVER", "ports": [{"number": "x"}]}]}))
    (found,) = fragment.nouns
    assert isinstance(found, WasmPlugin)
    assert [(patch.context, patch.where) for patch in found.patches] == [("ANY", None)]
