"""WasmPlugins on their way to proxies: a module is tried first, and what Envoy refuses is never served. Where
there is none what stands in for it is served at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from mesh.discovery.envoy import EXTENSION, LISTENER
from mesh.model import Module, ModuleSource, ObjectRef
from tests.wasm_module import adds, answers, refuses_its_configuration
from tests.xds.manifests import PLACEMENTS, SHOP
from tests.xds.test_envoy_filters import Judge, apply, begun, served
from tests.xds.test_pipeline import file
from xds.modules import FetchedModule
from xds.pipeline import Pipeline
from xds.trial import Trial

REF = ObjectRef("WasmPlugin", "shop", "touch")
NAME = "extensions.istio.io/wasmplugin/shop.touch"
DIGEST = "ab" * 32
GOOD, OTHER, BROKEN = adds("x-one", "1"), answers(202), refuses_its_configuration()


def plugin(name: str = "a", **spec: Any) -> str:
    url = {"url": f"https://example.com/{name}.wasm", "sha256": DIGEST}
    return yaml.safe_dump(
        {
            "apiVersion": "extensions.istio.io/v1alpha1",
            "kind": "WasmPlugin",
            "metadata": {"name": "touch", "namespace": "shop"},
            "spec": {"selector": {"matchLabels": {"app": "cart"}}, **url, **spec},
        }
    )


def come(code: bytes, name: str = "a") -> FetchedModule:
    source = ModuleSource(f"https://example.com/{name}.wasm", DIGEST)
    return FetchedModule(source, Module(source, code))


def runs(pipeline: Pipeline) -> bytes:
    """What the proxy of `cart` is served in the plugin's place."""
    (found,) = (r.any for r in served(pipeline) if r.type_url == EXTENSION and r.name == NAME)
    for known in (GOOD, OTHER, BROKEN):
        if known in found:
            return known
    return b"refuses" if b"503" in found else b"passes"


def problems(pipeline: Pipeline) -> list[str]:
    return [f"{p.field}: {p.message}" for p in pipeline.problems if p.object == REF]


def test_a_module_is_served_once_it_is_there_and_envoy_has_taken_it(tmp_path: Path) -> None:
    judge = Judge()
    pipeline = begun(tmp_path, Trial(judge))
    apply(pipeline, plugin())
    assert (runs(pipeline), judge.asked) == (b"refuses", [])
    listeners = [r.any for r in served(pipeline) if r.type_url == LISTENER]
    assert len(listeners) == 2 and all(NAME.encode() in listener for listener in listeners)
    pipeline.apply([[come(GOOD)]])
    assert (runs(pipeline), judge.asked, problems(pipeline)) == (GOOD, [[NAME]], [])
    assert [r.any for r in served(pipeline) if r.type_url == LISTENER] == listeners, "as they were (rule 6)"


def test_one_for_all_brings_no_envoy_and_says_so(tmp_path: Path) -> None:
    """Rule 20."""
    pipeline = begun(tmp_path)
    pipeline.apply([[come(GOOD)]])
    apply(pipeline, plugin(selector=None))
    assert served(pipeline) == ()
    (problem,) = problems(pipeline)
    assert problem.startswith("spec.selector: is not there, so it steers nothing")
    apply(pipeline, plugin(selector=None, targetRefs=[{"kind": "Service", "name": "cart"}]))
    assert (runs(pipeline), problems(pipeline)) == (GOOD, [])
    assert not served(pipeline, "shop/web"), "it is for those behind the Service"


def test_it_may_fail_open_and_that_can_be_taken_back(tmp_path: Path) -> None:
    pipeline = begun(tmp_path)
    apply(pipeline, plugin(failStrategy="FAIL_OPEN"))
    assert runs(pipeline) == b"passes"
    apply(pipeline, plugin())
    assert runs(pipeline) == b"refuses", "what stood in for it is no version before"


@pytest.mark.parametrize("strategy", ["FAIL_CLOSE", "FAIL_OPEN", "FAIL_RELOAD"])
def test_a_module_that_envoy_refuses_is_never_served(tmp_path: Path, strategy: str) -> None:
    pipeline = begun(tmp_path)
    apply(pipeline, plugin(failStrategy=strategy))
    pipeline.apply([[come(BROKEN)]])
    assert runs(pipeline) == (b"passes" if strategy == "FAIL_OPEN" else b"refuses")
    (problem,) = problems(pipeline)
    assert problem.startswith("spec.url: Envoy refuses it;") and "Unable to create Wasm plugin" in problem
    pipeline.apply([[come(OTHER)]])
    assert (runs(pipeline), problems(pipeline)) == (OTHER, [])
    pipeline.apply([[come(BROKEN)]])
    assert runs(pipeline) == OTHER, "the one before stays"


def test_until_another_module_is_there_the_one_before_stays(tmp_path: Path) -> None:
    pipeline = begun(tmp_path)
    pipeline.apply([[come(GOOD)]])
    apply(pipeline, plugin())
    apply(pipeline, plugin("b"))
    assert runs(pipeline) == GOOD
    assert "no module from https://example.com/b.wasm: it has not come yet" in problems(pipeline)[0]
    pipeline.apply([[come(OTHER, "b")]])
    assert (runs(pipeline), problems(pipeline)) == (OTHER, [])


def test_a_version_that_envoy_refuses_is_remembered_and_so_is_the_one_before(tmp_path: Path) -> None:
    judge = Judge(b"poison")

    def again() -> Pipeline:
        pipeline = Pipeline(tmp_path, "local", ["10.128.0.0/16"], (), lambda node: None, trial=Trial(judge))
        pipeline.start([*PLACEMENTS, file(SHOP), come(GOOD)])
        return pipeline

    pipeline = again()
    apply(pipeline, plugin(pluginConfig={"taste": "good"}))
    before = pipeline.nodes["local"].digest
    apply(pipeline, plugin(pluginConfig={"taste": "poison"}))
    assert problems(pipeline) == ["spec.url: Envoy refuses what it makes: it is not to my taste"]
    assert (pipeline.nodes["local"].digest, again().nodes["local"].digest) == (before, before)
    assert problems(again()) == problems(pipeline)


def test_without_a_version_before_a_refused_or_unreadable_one_lets_nothing_pass(tmp_path: Path) -> None:
    """Rule 18."""
    pipeline = begun(tmp_path, Trial(Judge(b"poison")))
    pipeline.apply([[come(GOOD)]])
    apply(pipeline, plugin(pluginConfig={"taste": "poison"}))
    assert runs(pipeline) == b"refuses"
    again = begun(tmp_path)
    assert (runs(again), problems(again)) == (b"refuses", problems(pipeline))
    for spec in ({"url": "oci://example.com/a"}, {"match": [{"mode": "NOBODY"}]}):
        apply(again, plugin(**spec))
        assert runs(again) == b"refuses"
    apply(again, plugin())
    again.apply([[come(GOOD)]])
    assert (runs(again), problems(again)) == (GOOD, [])
