from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from mesh.discovery.session import Acked, Nacked, Subscribed
from mesh.model import ObjectRef
from mesh.resources import BODY_TYPE, GENERATION_TYPE, MANIFEST_TYPE
from tests.xds.manifests import PLACEMENTS, SHOP, http_policy, objects, policy
from xds.pipeline import Pipeline
from xds.source import Edit
from xds.status import Status

AGENT = "node~local"


class Agent:
    """What a discovery server would tell of one node's client."""

    def __init__(self, state: Path) -> None:
        self.held: dict[str, dict[str, str]] = {}
        self.pipeline = Pipeline(state, "local", ["10.128.0.0/16"], (), lambda node: None)
        self.pipeline.start([*PLACEMENTS, Edit(set=objects(SHOP + "---\n" + http_policy()))])
        self.status = Status(self.pipeline, lambda node, type_url: self.held.get(type_url, {}))

    def accept(self, type_url: str, **versions: str) -> None:
        self.held.setdefault(type_url, {}).update(versions)
        self.status.observe(AGENT, Acked(type_url, "1", versions))

    def refuse(self, type_url: str, message: str, *names: str) -> None:
        self.status.observe(AGENT, Nacked(type_url, "1", message, names))

    def edit(self, text: str) -> int:
        (outcome,) = self.pipeline.apply([[Edit(set=objects(text))]])
        return outcome.generation  # type: ignore[union-attr]


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    return Agent(tmp_path)


def test_a_node_is_behind_until_it_accepts_the_generation(agent: Agent) -> None:
    assert agent.status.applied() == {"local": 0}
    agent.accept(GENERATION_TYPE, generation="1")
    assert agent.status.applied() == {"local": 1}
    agent.edit(policy("p"))
    assert agent.status.applied() == {"local": 1}


def test_a_node_that_a_generation_does_not_concern_has_applied_it(agent: Agent) -> None:
    agent.accept(GENERATION_TYPE, generation="1")
    agent.pipeline.snapshot_for("elsewhere")
    assert agent.pipeline.generations.number == 2
    assert agent.status.applied() == {"local": 2, "elsewhere": 0}


def test_an_agent_that_comes_back_says_what_it_holds(agent: Agent) -> None:
    agent.held[GENERATION_TYPE] = {"generation": "1"}
    agent.status.observe(AGENT, Subscribed(GENERATION_TYPE))
    assert agent.status.applied() == {"local": 1}


async def test_waiting_ends_with_the_last_node_or_with_patience(agent: Agent) -> None:
    agent.accept(GENERATION_TYPE, generation="1")
    wanted = agent.edit(policy("p"))
    assert await agent.status.wait(1, 0)
    assert not await agent.status.wait(wanted, 0)
    waiting = asyncio.create_task(agent.status.wait(wanted, 60))
    await asyncio.sleep(0)
    assert not waiting.done()
    agent.accept(GENERATION_TYPE, generation=str(wanted))
    assert await waiting


def rejection(agent: Agent, **changed: str) -> str:
    resource = next(
        r
        for r in agent.pipeline.nodes["local"].rendered["shop/cart"]
        if ObjectRef("CiliumNetworkPolicy", "shop", "items") in r.origins
    )
    entry: dict[str, Any] = {
        "pod": "shop/cart",
        "type": resource.type_url,
        "name": resource.name,
        "hash": "00",
        "error": "no such regex",
    }
    return json.dumps([entry | changed])


def test_what_envoy_refuses_is_a_problem_of_the_object_behind_it(agent: Agent) -> None:
    agent.refuse(MANIFEST_TYPE, rejection(agent), "shop/cart")
    (problem,) = agent.status.problems
    assert problem.object == ObjectRef("CiliumNetworkPolicy", "shop", "items")
    assert problem.field == ""
    assert "no such regex" in problem.message
    assert "shop/cart" in problem.message


def test_it_is_gone_when_the_pod_accepts_a_manifest(agent: Agent) -> None:
    agent.refuse(MANIFEST_TYPE, rejection(agent), "shop/cart")
    agent.accept(MANIFEST_TYPE, **{"shop/web": "1"})
    assert len(agent.status.problems) == 1
    agent.accept(MANIFEST_TYPE, **{"shop/cart": "2"})
    assert agent.status.problems == []


def test_it_is_gone_with_the_pods_envoy(agent: Agent) -> None:
    agent.refuse(MANIFEST_TYPE, rejection(agent), "shop/cart")
    agent.pipeline.apply([[Edit(delete=(ObjectRef("CiliumNetworkPolicy", "shop", "items"),))]])
    assert (agent.status.problems, agent.status.refused) == ([], {})


def test_a_resource_without_origin_is_a_problem_of_its_pod(agent: Agent) -> None:
    agent.refuse(MANIFEST_TYPE, rejection(agent, name="nobody's"), "shop/cart")
    assert [p.object for p in agent.status.problems] == [ObjectRef("Pod", "shop", "cart")]


@pytest.mark.parametrize("message", ["[", "{}", '[{"pod": 1}]', ""])
def test_a_refusal_in_other_words_is_a_problem_of_the_node(agent: Agent, message: str) -> None:
    for type_url in (MANIFEST_TYPE, BODY_TYPE):
        agent.refuse(type_url, message, "shop/cart")
        assert ObjectRef("Node", "", "local") in {p.object for p in agent.status.problems}


def test_clients_that_are_no_nodes_are_none_of_its_business(agent: Agent) -> None:
    agent.status.observe("sidecar~1", Acked(GENERATION_TYPE, "1", {"generation": "9"}))
    assert agent.status.applied() == {"local": 0}


def test_the_report_tells_pods_services_and_problems(agent: Agent) -> None:
    generation = agent.edit(policy("bad", podSelector="all"))
    report = json.loads(json.dumps(agent.status.report()))
    assert report["generation"] == generation
    assert {pod["name"]: (pod["ip"], pod["node"], pod["ready"]) for pod in report["pods"]} == {
        "shop/cart": ("10.64.0.6", "local", True),
        "shop/far": ("10.99.0.1", "elsewhere", True),
        "shop/web": ("10.64.0.5", "local", True),
    }
    assert [service["name"] for service in report["services"]] == ["shop/cart", "shop/web"]
    assert {problem["object"] for problem in report["problems"]} == {"NetworkPolicy shop/bad"}
