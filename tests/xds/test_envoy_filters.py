"""EnvoyFilters on their way to proxies: tried first, and what Envoy refuses is never served."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from mesh.discovery.envoy import CLUSTER, LISTENER
from mesh.model import ObjectRef, Problem
from tests.xds.manifests import PLACEMENTS, SHOP, objects, policy
from tests.xds.test_pipeline import RANGES, file
from xds.pipeline import Outcome, Pipeline
from xds.render import EnvoyResource
from xds.source import Edit
from xds.trial import CannotTry, Trial, Trying

REF = ObjectRef("EnvoyFilter", "shop", "lua")
TYPE = "type.googleapis.com/envoy.extensions.filters"
ROUTER = {
    "filterChain": {
        "filter": {
            "name": "envoy.filters.network.http_connection_manager",
            "subFilter": {"name": "envoy.filters.http.router"},
        }
    }
}


def lua(code: str = "function envoy_on_request(handle) end") -> dict[str, Any]:
    config = {"@type": f"{TYPE}.http.lua.v3.Lua", "default_source_code": {"inline_string": code}}
    return {"name": "lua", "typed_config": config}


def http_filter(value: dict[str, Any], context: str = "SIDECAR_INBOUND") -> dict[str, Any]:
    return {
        "applyTo": "HTTP_FILTER",
        "match": {"context": context, "listener": ROUTER},
        "patch": {"operation": "INSERT_BEFORE", "value": value},
    }


def envoy_filter(*patches: dict[str, Any], name: str = "lua", app: str = "cart") -> str:
    spec = {"workloadSelector": {"labels": {"app": app}}, "configPatches": list(patches)}
    return yaml.safe_dump(
        {
            "apiVersion": "networking.istio.io/v1alpha3",
            "kind": "EnvoyFilter",
            "metadata": {"name": name, "namespace": "shop"},
            "spec": spec,
        }
    )


GOOD = envoy_filter(http_filter(lua()))
#: What the dialect and the API's types take, and Envoy does not.
BROKEN = {
    "a script that does not parse": http_filter(lua("function (")),
    "a bad expression": http_filter(
        {
            "name": "rbac",
            "typed_config": {
                "@type": f"{TYPE}.http.rbac.v3.RBAC",
                "rules": {
                    "policies": {
                        "x": {
                            "permissions": [{"url_path": {"path": {"safe_regex": {"regex": "("}}}}],
                            "principals": [{"any": True}],
                        }
                    }
                },
            },
        }
    ),
    "a required field that is missing": http_filter(
        {"name": "ratelimit", "typed_config": {"@type": f"{TYPE}.http.local_ratelimit.v3.LocalRateLimit"}}
    ),
    "a second end": http_filter({"name": "end", "typed_config": {"@type": f"{TYPE}.http.router.v3.Router"}}),
    "an invalid cluster": {
        "applyTo": "CLUSTER",
        "match": {"context": "SIDECAR_INBOUND"},
        "patch": {"operation": "ADD", "value": {"name": "other", "type": "EDS", "connect_timeout": "-1s"}},
    },
}


def begun(state: Path, trial: Trial | None = None, publish: Any = lambda node: None) -> Pipeline:
    pipeline = Pipeline(state, "local", RANGES, (), publish, trial=trial)
    pipeline.start([*PLACEMENTS, file(SHOP)])
    return pipeline


def apply(pipeline: Pipeline, *texts: str) -> Outcome:
    (outcome,) = pipeline.apply([[Edit(set=tuple(o for text in texts for o in objects(text)))]])
    assert isinstance(outcome, Outcome)
    return outcome


def served(pipeline: Pipeline, pod: str = "shop/cart") -> tuple[EnvoyResource, ...]:
    return pipeline.nodes["local"].rendered.get(pod, ())


def has_script(pipeline: Pipeline) -> bool:
    return any(b"http.lua.v3.Lua" in r.any for r in served(pipeline) if r.type_url == LISTENER)


def problems(pipeline: Pipeline, ref: ObjectRef = REF) -> list[Problem]:
    return [problem for problem in pipeline.problems if problem.object == ref]


def test_a_filter_is_served_once_envoy_has_taken_it(tmp_path: Path) -> None:
    pipeline = begun(tmp_path)
    assert apply(pipeline, GOOD).generation == 2
    assert has_script(pipeline) and not problems(pipeline)
    (listener,) = (r for r in served(pipeline) if r.type_url == LISTENER)
    assert REF in listener.origins
    assert begun(tmp_path).generations.number == 2, "the same after a restart"


@pytest.mark.parametrize("what", BROKEN)
def test_what_envoy_refuses_is_never_served_and_the_version_before_stays(tmp_path: Path, what: str) -> None:
    published: list[str] = []
    pipeline = begun(tmp_path, publish=published.append)
    apply(pipeline, GOOD)
    before, digest = served(pipeline), pipeline.nodes["local"].digest
    assert apply(pipeline, envoy_filter(BROKEN[what])).generation == 2
    assert served(pipeline) == before and has_script(pipeline)
    assert published == ["local"], "nothing was sent"
    (problem,) = problems(pipeline)
    assert problem.field.startswith("spec.configPatches") and len(problem.message) > 30
    again = begun(tmp_path)
    assert again.nodes["local"].digest == digest and again.generations.number == 2
    assert problems(again) == [problem], "it is remembered, and so is the version before"
    apply(again, envoy_filter(http_filter(lua("function envoy_on_response(handle) end"))))
    assert not problems(again) and again.generations.number == 3


def test_envoys_words_are_quoted(tmp_path: Path) -> None:
    pipeline = begun(tmp_path)
    apply(pipeline, envoy_filter(BROKEN["a bad expression"]))
    (problem,) = problems(pipeline)
    assert "missing )" in problem.message
    assert not served(pipeline), "without a version before it steers nothing"


def test_of_several_the_guilty_alone_is_refused(tmp_path: Path) -> None:
    pipeline = begun(tmp_path)
    broken = envoy_filter(BROKEN["a bad expression"], name="broken")
    good = envoy_filter(http_filter(lua()), name="good")
    apply(pipeline, broken, good, policy("p"))
    assert has_script(pipeline)
    assert [p.object.name for p in pipeline.problems] == ["broken"]
    assert pipeline.mesh.fragment(ObjectRef("NetworkPolicy", "shop", "p"))


def test_a_filter_that_is_deleted_leaves_what_was_before(tmp_path: Path) -> None:
    pipeline = begun(tmp_path)
    before = pipeline.nodes["local"].digest
    apply(pipeline, GOOD)
    apply(pipeline, envoy_filter(BROKEN["a second end"]))
    pipeline.apply([[Edit(delete=(REF,))]])
    assert pipeline.nodes["local"].digest == before
    assert not problems(pipeline) and not problems(begun(tmp_path))


# --- with a judge of our own ------------------------------------------------------------------------------


class Judge:
    """Takes everything but what holds one of `refused`."""

    def __init__(self, *refused: bytes) -> None:
        self.refused = set(refused)
        self.asked: list[list[str]] = []

    def __call__(self, tried: Sequence[Trying]) -> str:
        self.asked.append([one.resource.name for one in tried])
        bad = any(word in one.resource.any for one in tried for word in self.refused)
        return "it is not to my taste" if bad else ""


def test_several_are_tried_in_one_run_and_none_twice(tmp_path: Path) -> None:
    judge = Judge()
    pipeline = begun(tmp_path, Trial(judge))
    cluster = {
        "applyTo": "CLUSTER",
        "patch": {"operation": "ADD", "value": {"name": "other", "connect_timeout": "1s"}},
    }
    apply(pipeline, GOOD, envoy_filter(cluster, http_filter(lua()), name="other", app="web"))
    assert len(judge.asked) == 1 and len(judge.asked[0]) == 3
    apply(pipeline, policy("p"))
    assert len(judge.asked) == 1, "who touches no patched resource asks nobody"


def test_a_filter_that_another_change_spoils_leaves_the_resource_as_it_was(tmp_path: Path) -> None:
    judge = Judge()
    pipeline = begun(tmp_path, Trial(judge))
    merge = {
        "applyTo": "CLUSTER",
        "match": {"context": "SIDECAR_OUTBOUND", "cluster": {"service": "web.shop.svc.cluster.local"}},
        "patch": {"operation": "MERGE", "value": {"alt_stat_name": "patched"}},
    }
    apply(pipeline, envoy_filter(merge))
    (before,) = (r for r in served(pipeline) if r.type_url == CLUSTER)
    judge.refused.add(b"patched")
    rule = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"host": "web", "trafficPolicy": {"connectionPool": {"tcp": {"connectTimeout": "3s"}}}},
    }
    apply(pipeline, yaml.safe_dump(rule), policy("p"))
    (after,) = (r for r in served(pipeline) if r.type_url == CLUSTER)
    assert after == before, "the change is not served, and the filter stays in it"
    (problem,) = problems(pipeline)
    assert "it is not to my taste" in problem.message and before.name in problem.message
    assert pipeline.mesh.fragment(ObjectRef("NetworkPolicy", "shop", "p")), "the rest of the batch goes on"
    pipeline.apply([[Edit(delete=(ObjectRef("DestinationRule", "shop", "web"),))]])
    assert not problems(pipeline)


def test_without_an_envoy_nothing_is_served_untried_and_nothing_is_held_against_it(tmp_path: Path) -> None:
    def nobody(tried: Sequence[Trying]) -> str:
        raise CannotTry("there is nobody to ask")

    pipeline = begun(tmp_path, Trial(nobody))
    apply(pipeline, GOOD)
    assert not served(pipeline)
    assert [p.message for p in problems(pipeline)] == ["there is nobody to ask"]
    assert has_script(begun(tmp_path, Trial(Judge()))), "it is tried again by whoever comes next"


async def test_an_envoy_that_could_not_be_asked_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Late(Judge):
        """Not there for the first two trials."""

        def __call__(self, tried: Sequence[Trying]) -> str:
            words = super().__call__(tried)
            if len(self.asked) <= 2:
                raise CannotTry("there is nobody to ask")
            return words

    pipeline = begun(tmp_path, Trial(Late()))
    apply(pipeline, GOOD)
    assert problems(pipeline) and not has_script(pipeline)
    monkeypatch.setattr("xds.pipeline._REST", 0.01)
    loop = asyncio.create_task(pipeline.run())
    async with asyncio.timeout(10):
        while not has_script(pipeline):
            await asyncio.sleep(0.01)
    loop.cancel()
    assert not problems(pipeline)


async def test_a_burst_of_broken_filters_holds_no_other_change_back_by_more_than_one_trial(
    tmp_path: Path,
) -> None:
    loop = asyncio.get_running_loop()
    others: list[asyncio.Task[Outcome]] = []
    asked_before: list[int] = []

    class Interrupted(Judge):
        """During its first trial another change comes."""

        def __call__(self, tried: Sequence[Trying]) -> str:
            if not self.asked:
                come = threading.Event()

                def submit() -> None:
                    others.append(loop.create_task(pipeline.submit(Edit(set=tuple(objects(policy("p")))))))
                    loop.call_soon(come.set)

                loop.call_soon_threadsafe(submit)
                assert come.wait(10), "the loop does not turn while Envoy is asked"
            return super().__call__(tried)

    judge = Interrupted(b"http.lua.v3.Lua")
    pipeline = begun(tmp_path, Trial(judge), publish=lambda node: asked_before.append(len(judge.asked)))
    running = asyncio.create_task(pipeline.run())
    burst = [o for n in range(100) for o in objects(envoy_filter(http_filter(lua(f"-- {n}")), name=f"f{n}"))]
    outcome = await asyncio.wait_for(pipeline.submit(Edit(set=tuple(burst))), 60)
    assert (await others[0]).actions[ObjectRef("NetworkPolicy", "shop", "p")] == "created"
    assert asked_before == [1], "the other change was published after the first trial, and nothing else was"
    assert len(judge.asked) == 101 and len(outcome.actions) == 100
    assert len(problems(pipeline, ObjectRef("EnvoyFilter", "shop", "f7"))) == 1
    running.cancel()


# --- without asking anybody -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "field", "words"),
    [
        ({"name": "x", "typed_konfig": {}}, ".typed_konfig", "no field of HttpFilter"),
        ({"name": 5}, ".name", "a string"),
        ({"typed_config": {"@type": f"{TYPE}.http.nope.v3.Nope"}}, ".typed_config.@type", "no type of Envoy"),
        ({"typed_config": {"name": "x"}}, ".typed_config", "@type"),
    ],
)
def test_a_value_that_is_no_message_of_envoys_is_a_problem_where_it_stands(
    tmp_path: Path, value: Any, field: str, words: str
) -> None:
    judge = Judge()
    pipeline = begun(tmp_path, Trial(judge))
    apply(pipeline, envoy_filter(http_filter(value)))
    (problem,) = problems(pipeline)
    assert problem.field == f"spec.configPatches[0].patch.value{field}"
    assert words in problem.message
    assert not judge.asked
