"""ProxyConfig, MeshConfig's defaultConfig and the annotation of Pods: what is read, what is refused and in
which words."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.model import (
    NO_SETTINGS,
    MeshConfig,
    ProxyConfig,
    ProxySettings,
    Requirement,
    Selector,
    Workload,
)
from tests.istio_integration.test_authorization_policy import config
from tests.mesh.dialects.objects import obj
from xds.dialects import read


def proxy_config(**spec: Any) -> Any:
    return obj("networking.istio.io/v1beta1", "ProxyConfig", spec)


def annotated(text: object) -> Any:
    pod = obj("v1", "Pod", {})
    pod["metadata"]["annotations"] = {"proxy.istio.io/config": text}
    return pod


def settings(pod: Any) -> ProxySettings:
    fragment = read(pod)
    assert fragment.valid, fragment.problems
    (noun,) = fragment.nouns
    assert isinstance(noun, Workload)
    return noun.proxy


def test_every_field_of_a_proxy_config_is_read() -> None:
    fragment = read(
        proxy_config(
            selector={"matchLabels": {"app": "web"}}, concurrency=0, environmentVariables={"B": "", "A": "1"}
        )
    )
    subject = Selector((Requirement("app", "In", ("web",)),))
    said = ProxySettings(0, (("A", "1"), ("B", "")))
    assert fragment.valid and fragment.nouns == (ProxyConfig(fragment.ref, subject, said),)


def test_a_proxy_config_that_says_nothing_is_of_a_whole_namespace_and_changes_nothing() -> None:
    fragment = read(proxy_config())
    assert fragment.nouns == (ProxyConfig(fragment.ref),)


def test_an_image_is_of_no_account_and_the_rest_counts() -> None:
    fragment = read(proxy_config(concurrency=2, image={"imageType": "distroless"}))
    assert fragment.nouns == (ProxyConfig(fragment.ref, settings=ProxySettings(2)),)
    (said,) = fragment.problems
    assert (said.field, fragment.valid) == ("spec.image", True)
    assert said.message.startswith("has no effect: an Envoy is a process of the node")


@pytest.mark.parametrize(
    ("spec", "field", "text"),
    [
        ({"image": {"name": "proxyv2"}}, "spec.image.name", "unknown field 'name'"),
        ({"concurrency": -1}, "spec.concurrency", "is -1; must be 0 to 1024"),
        ({"concurrency": 2000}, "spec.concurrency", "is 2000; must be 0 to 1024"),
        ({"concurrency": "2"}, "spec.concurrency", "must be an integer, not '2'"),
        ({"environmentVariables": {"A": 1}}, "spec.environmentVariables.A", 'must be a string: write "1"'),
        ({"environmentVariables": {"a b": ""}}, "spec.environmentVariables['a b']", "is not the name of an"),
        ({"environmentVariables": {"A": "b\0"}}, "spec.environmentVariables.A", "has a control character"),
        ({"selector": {"app": "web"}}, "spec.selector.app", "unknown field 'app'"),
        ({"drainDuration": "5s"}, "spec.drainDuration", "unknown field 'drainDuration'"),
    ],
)
def test_what_cannot_be_is_refused_by_name(spec: dict[str, Any], field: str, text: str) -> None:
    fragment = read(proxy_config(**spec))
    assert not fragment.valid and not fragment.nouns
    (problem,) = fragment.problems
    assert problem.field == field and text in problem.message


@pytest.mark.parametrize(
    "name", ["LD_PRELOAD", "LD_LIBRARY_PATH", "GLIBC_TUNABLES", "HEAPPROFILE", "CPUPROFILE", "PATH", "TMPDIR"]
)
def test_a_variable_by_which_envoy_would_load_or_write_files_is_refused(name: str) -> None:
    """The process is root's, in the node's file system."""
    assert not read(proxy_config(environmentVariables={name: "/tmp/mine.so"})).valid
    (problem,) = config(f"defaultConfig: {{proxyMetadata: {{{name}: /tmp/mine.so}}}}").problems
    assert problem.field == f"data.mesh.defaultConfig.proxyMetadata.{name}"
    assert settings(annotated(f"proxyMetadata: {{{name}: /tmp/mine.so}}")) == NO_SETTINGS


def test_mesh_config_says_how_envoys_are_run_by_default() -> None:
    text = "defaultConfig: {concurrency: 4, proxyMetadata: {TIER: gold}, terminationDrainDuration: 1.5s}"
    (noun,) = config(text).nouns
    assert isinstance(noun, MeshConfig)
    assert noun.proxy == ProxySettings(4, (("TIER", "gold"),), 1500)


def test_a_pod_says_it_by_its_annotation() -> None:
    pod = annotated("concurrency: 2\nproxyMetadata: {TIER: gold}\nterminationDrainDuration: 0s\n")
    assert settings(pod) == ProxySettings(2, (("TIER", "gold"),), 0)
    assert not read(pod).problems
    assert settings(annotated("")) == NO_SETTINGS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not YAML: "),
        (7, "is not YAML: "),
        ("concurrency: !!bool maybe", "is not YAML: "),
        ("concurrency: !!int ''", "is not YAML: "),
        ("concurrency: !!timestamp x", "is not YAML: "),
        ("[a]", "must be a mapping, not a list"),
        ("concurrency: many", "concurrency must be an integer"),
        ("terminationDrainDuration: 5", "terminationDrainDuration must be a string"),
    ],
)
def test_an_annotation_that_cannot_be_read_has_no_effect_and_its_pod_is_a_pod(
    text: object, message: str
) -> None:
    pod = annotated(text)
    assert settings(pod) == NO_SETTINGS
    (problem,) = read(pod).problems
    assert problem.field == "metadata.annotations['proxy.istio.io/config']" and message in problem.message


def test_what_has_no_effect_in_an_annotation_is_named_and_the_rest_counts() -> None:
    pod = annotated("{concurrency: 2, holdApplicationUntilProxyStarts: true}")
    assert settings(pod) == ProxySettings(2)
    (problem,) = read(pod).problems
    assert problem.message == (
        "holdApplicationUntilProxyStarts has no effect; what is read here is concurrency, proxyMetadata, "
        "terminationDrainDuration"
    )
