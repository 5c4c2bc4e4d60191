"""The admin API over its Unix socket."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from mesh.answers.flow import Flow, Peer
from mesh.discovery.session import Acked
from mesh.resources import GENERATION_TYPE
from tests.xds.manifests import PLACEMENTS, SHOP, http_policy, objects, one, policy
from xds.admin import Admin
from xds.pipeline import Pipeline
from xds.source import Edit
from xds.status import Status

UNREADABLE = policy("bad", podSelector={"matchExpressions": [{"key": "a", "operator": "Inn"}]})


class Client:
    def __init__(self, socket: Path, pipeline: Pipeline, status: Status) -> None:
        self.socket, self.pipeline, self.status = socket, pipeline, status
        self.session = aiohttp.ClientSession("http://xds", connector=aiohttp.UnixConnector(str(socket)))

    async def get(self, path: str) -> tuple[int, Any]:
        async with self.session.get(path) as response:
            text = await response.text()
            return response.status, json.loads(text) if "json" in response.content_type else text

    async def post(self, path: str, body: str) -> tuple[int, Any]:
        async with self.session.post(path, data=body) as response:
            return response.status, await response.json()


@pytest.fixture
async def admin(tmp_path: Path) -> AsyncIterator[Client]:
    pipeline = Pipeline(tmp_path / "state", "local", ["10.128.0.0/16"], (), lambda node: None)
    pipeline.start([*PLACEMENTS, Edit(set=objects(SHOP + "---\n" + http_policy()))])
    status = Status(pipeline, lambda node, type_url: {})
    server = Admin(pipeline, status)
    await server.start(tmp_path / "admin.sock")
    loop = asyncio.create_task(pipeline.run())
    client = Client(tmp_path / "admin.sock", pipeline, status)
    yield client
    await client.session.close()
    await server.stop()
    loop.cancel()


def actions(answer: dict[str, Any]) -> dict[str, str]:
    return {entry["object"]: entry["action"] for entry in answer["objects"]}


async def test_only_its_owner_may_speak_to_it(admin: Client) -> None:
    assert stat.S_IMODE(admin.socket.stat().st_mode) == 0o600


async def test_what_cannot_be_read_is_refused_with_its_reason_and_not_stored(admin: Client) -> None:
    status, answer = await admin.post("/apply", UNREADABLE + "---\n" + policy("good"))
    assert status == 200
    assert actions(answer) == {"NetworkPolicy shop/bad": "refused", "NetworkPolicy shop/good": "created"}
    assert {problem["object"] for problem in answer["problems"]} == {"NetworkPolicy shop/bad"}
    assert all("operator" in p["field"] or "values" in p["field"] for p in answer["problems"])
    assert answer["generation"] == admin.pipeline.generations.number == 2
    assert {ref.name for ref in admin.pipeline.store.refs() if ref.kind == "NetworkPolicy"} == {"good"}
    assert admin.pipeline.problems == []


async def test_a_refused_edit_leaves_the_object_as_it_was(admin: Client) -> None:
    await admin.post("/apply", policy("bad", 81))
    _, answer = await admin.post("/apply", UNREADABLE)
    assert actions(answer) == {"NetworkPolicy shop/bad": "refused"}
    assert admin.pipeline.store.holds(one(policy("bad", 81)))


async def test_applying_says_what_it_did_and_what_is_wrong_between_objects(admin: Client) -> None:
    route = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, namespace: shop}
spec:
  parentRefs: [{kind: Service, group: "", name: web}]
  rules: [{backendRefs: [{name: nowhere, port: 80}]}]
"""
    for expected in ("created", "unchanged"):
        _, answer = await admin.post("/apply", route)
        assert actions(answer) == {"HTTPRoute shop/r": expected}
        assert ["nowhere" in problem["message"] for problem in answer["problems"]] == [True]
    _, answer = await admin.post("/apply", route.replace("nowhere", "web"))
    assert (actions(answer), answer["problems"]) == ({"HTTPRoute shop/r": "configured"}, [])


async def test_a_dry_run_foresees_and_changes_nothing(admin: Client) -> None:
    _, answer = await admin.post(
        "/apply?dry_run=1", UNREADABLE + "---\n" + policy("new") + "---\n" + http_policy()
    )
    assert list(actions(answer).values()) == ["refused", "created", "unchanged"]
    _, answer = await admin.post("/delete?dry_run", http_policy("/else") + "---\n" + policy("none"))
    assert list(actions(answer).values()) == ["deleted", "not found"]
    assert admin.pipeline.generations.number == 1


async def test_deleting_needs_only_the_name(admin: Client) -> None:
    name = "{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: items, namespace: shop}}"
    for expected in ("deleted", "not found"):
        status, answer = await admin.post("/delete", name)
        assert (status, list(actions(answer).values())) == (200, [expected])
    assert admin.pipeline.generations.number == 2


@pytest.mark.parametrize("body", ["a: [", "", "just text", "{kind: Pod}"])
async def test_a_body_without_objects_is_an_error_in_one_line(admin: Client, body: str) -> None:
    for path in ("/apply", "/delete"):
        status, answer = await admin.post(path, body)
        assert status == 400
        assert answer["error"]
        assert "\n" not in answer["error"]


async def test_waiting_answers_when_applied_and_says_who_is_late(admin: Client) -> None:
    status, answer = await admin.get("/wait?generation=1&timeout=0.01")
    assert status == 504
    assert "node local is at 0" in answer["error"]
    admin.status.observe("node~local", Acked(GENERATION_TYPE, "1", {"generation": "1"}))
    assert await admin.get("/wait?generation=1") == (200, {"generation": 1, "applied": {"local": 1}})


async def test_objects_come_as_yaml_that_can_be_applied_again(admin: Client) -> None:
    status, text = await admin.get("/objects")
    assert status == 200
    assert {item.ref for item in objects(text)} == admin.pipeline.store.refs()
    _, answer = await admin.post("/apply", text)
    assert set(actions(answer).values()) == {"unchanged"}
    _, text = await admin.get("/objects?kind=Pod&name=far")
    assert yaml.safe_load(text)["spec"]["nodeName"] == "elsewhere"


async def test_explaining_asks_the_reference_semantics(admin: Client) -> None:
    question = "/explain?from=shop/web&to=10.64.0.6:8080&path=/items/1"
    for method, verdict in (("GET", "allow"), ("POST", "deny")):
        status, answer = await admin.get(f"{question}&method={method}&header=X-A=b=c")
        assert (status, answer["verdict"], answer["path"]) == (200, verdict, "envoy")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("from=shop/web", "to is missing"),
        ("from=shop/nobody&to=shop/cart:80", "shop/nobody"),
        ("from=shop/web&to=shop/cart:81", "no TCP port 81"),
        ("from=shop/web&to=shop/cart:80&protocol=QUIC", "QUIC"),
        ("from=shop/web&to=shop/cart:80&header=x", "NAME=VALUE"),
    ],
)
async def test_a_question_that_cannot_be_answered_says_why(admin: Client, query: str, message: str) -> None:
    status, answer = await admin.get(f"/explain?{query}")
    assert status == 400
    assert message in answer["error"]


async def test_rendering_shows_envoys_resources_and_the_nodes_tables(admin: Client) -> None:
    status, answer = await admin.get("/render?pod=shop/cart")
    assert status == 200
    assert "virtualInbound" in json.dumps(answer)
    assert await admin.get("/render?pod=shop/web") == (200, {})
    assert (await admin.get("/render?pod=shop/nobody"))[0] == 404
    status, answer = await admin.get("/render")
    assert answer.keys() == admin.pipeline.nodes["local"].state.tables().keys()
    assert answer["pods"]["shop/cart"]["reasons"]


async def test_an_unknown_path_is_an_error_in_json(admin: Client) -> None:
    status, answer = await admin.get("/nowhere")
    assert status == 404
    assert answer["error"]


# --- questions about the whole mesh ------------------------------------------------------------


async def compare(admin: Client, manifests: str, *flows: Flow) -> tuple[int, Any]:
    body = {"manifests": [("new.yaml", manifests)], "samples": [(flow.to_json(), 1) for flow in flows]}
    return await admin.post("/diff", json.dumps(body))


async def test_the_matrix_of_the_running_mesh_knows_its_sandboxes(admin: Client) -> None:
    status, answer = await admin.get("/matrix")
    assert status == 200
    by_name = {(column["to"]["name"], column["port"]): column for column in answer["columns"]}
    pods = {pod for column in by_name.values() for pod in column["to"]["pods"]}
    assert {"shop/cart", "shop/far"} <= pods
    assert "partly" in {access["verdict"] for column in by_name.values() for access in column["access"]}
    _, narrowed = await admin.get("/matrix?namespace=nowhere")
    assert narrowed == {"callers": answer["callers"], "columns": []}


async def test_who_can_reach_answers_for_the_running_mesh(admin: Client) -> None:
    status, answer = await admin.get("/who-can-reach?to=shop/cart:80")
    assert status == 200
    assert {column["port"] for column in answer["columns"]} == {8080}
    assert await admin.get("/who-can-reach?to=shop/nothing:80") == (
        400,
        {"error": "there is neither a Service nor a Pod with an address shop/nothing"},
    )
    status, _ = await admin.get("/who-can-reach?to=shop/cart:80&protocol=TPC")
    assert status == 400


async def test_analyze_reads_annotations_and_every_problem(admin: Client) -> None:
    typo = policy("typo", podSelector={"matchLabels": {"app": "crat"}})
    await admin.post("/apply", typo)
    _, answer = await admin.get("/analyze")
    assert ("SL0101", "NetworkPolicy shop/typo") in {(f["code"], f["object"]) for f in answer["findings"]}
    content = yaml.safe_load(typo)
    content["metadata"]["annotations"] = {"sluice.io/analyze-suppress": "SL0101"}
    await admin.post("/apply", yaml.safe_dump(content))
    _, answer = await admin.get("/analyze")
    assert "NetworkPolicy shop/typo" not in {finding["object"] for finding in answer["findings"]}


async def test_a_difference_is_told_and_nothing_is_changed(admin: Client) -> None:
    before = admin.pipeline.generations.number, admin.pipeline.mesh.fragments()
    seen = Flow(
        "now",
        Peer("10.64.0.6", 40000, "shop", "cart"),
        Peer("10.99.0.1", 8080, "shop", "far"),
        "FORWARDED",
        "kernel",
        "egress",
        "TCP",
    )
    closed = policy("closed", podSelector={}, ingress=[], policyTypes=["Ingress", "Egress"])
    status, answer = await compare(admin, closed, seen)
    assert status == 200
    assert answer["objects"] == [{"object": "NetworkPolicy shop/closed", "action": "created"}]
    assert {pair["after"]["verdict"] for pair in answer["pairs"]} == {"deny"}
    assert before == (admin.pipeline.generations.number, admin.pipeline.mesh.fragments())
    assert all(ref.name != "closed" for ref in admin.pipeline.store.refs())


async def test_what_apply_would_refuse_makes_no_difference(admin: Client) -> None:
    status, answer = await compare(admin, UNREADABLE)
    assert (status, answer["objects"], answer["pairs"]) == (200, [], [])
    assert {problem["object"] for problem in answer["problems"]} == {"NetworkPolicy shop/bad"}
    assert answer["refused"] == ["NetworkPolicy shop/bad"]
    _, answer = await compare(admin, "a: [")
    assert answer["problems"][0]["object"] == "File new.yaml"
    assert answer["refused"] == ["File new.yaml"]


async def test_a_body_that_is_no_question_about_a_difference_is_refused(admin: Client) -> None:
    for body in ("", "[]", '{"manifests": 1, "samples": []}', '{"manifests": [], "samples": [[{}, 1]]}'):
        status, answer = await admin.post("/diff", body)
        assert status == 400, body
        assert "no question about a difference" in answer["error"]


GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: public, namespace: shop, generation: 2}
spec: {gatewayClassName: sluice, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
apiVersion: v1
kind: Secret
metadata: {name: key, namespace: shop}
stringData: {password: swordfish}
"""


async def test_objects_are_shown_with_the_status_that_the_mesh_gives_them(admin: Client) -> None:
    await admin.post("/apply", GATEWAY)
    _, answer = await admin.get("/get?kind=Gateway&namespace=shop&name=public")
    (item,) = answer["items"]
    assert item["spec"]["gatewayClassName"] == "sluice"
    found = {
        c["type"]: (c["status"], c["reason"], c["observedGeneration"]) for c in item["status"]["conditions"]
    }
    assert found == {"Accepted": ("True", "Accepted", 2), "Programmed": ("False", "Pending", 2)}
    _, answer = await admin.get("/get?kind=Gateway&namespace=other")
    assert answer == {"items": []}


async def test_classes_of_ours_are_shown_though_nobody_wrote_them(admin: Client) -> None:
    _, answer = await admin.get("/get?kind=GatewayClass")
    assert [item["metadata"]["name"] for item in answer["items"]] == ["istio", "sluice"]
    for item in answer["items"]:
        assert {c["type"]: c["status"] for c in item["status"]["conditions"]}["Accepted"] == "True"
        assert item["status"]["supportedFeatures"]
    del answer["items"][0]["status"]
    others = answer["items"][0] | {"spec": {"controllerName": "istio.io/gateway-controller"}}
    await admin.post("/apply", yaml.safe_dump(others))
    _, answer = await admin.get("/get?kind=GatewayClass&name=istio")
    assert [item["spec"] for item in answer["items"]] == [others["spec"]]


async def test_what_secrets_hold_is_not_shown(admin: Client) -> None:
    await admin.post("/apply", GATEWAY)
    _, answer = await admin.get("/get?kind=Secret")
    (item,) = answer["items"]
    assert item["stringData"] == {"password": "[redacted]"}


async def test_an_unreadable_version_is_shown_with_what_is_in_force(admin: Client) -> None:
    def route(generation: int, **rule: Any) -> str:
        metadata = {"name": "r", "namespace": "shop", "generation": generation}
        parent = {"group": "", "kind": "Service", "name": "gone"}
        spec = {"parentRefs": [parent], "rules": [rule]}
        return yaml.safe_dump(
            {
                "apiVersion": "gateway.networking.k8s.io/v1",
                "kind": "HTTPRoute",
                "metadata": metadata,
                "spec": spec,
            }
        )

    for text in (route(1), route(2, sessionPersistence={})):
        await admin.pipeline.submit(Edit(set=objects(text)))
    _, answer = await admin.get("/get?kind=HTTPRoute")
    (parent,) = answer["items"][0]["status"]["parents"]
    found = {c["type"]: (c["status"], c["observedGeneration"]) for c in parent["conditions"]}
    assert found == {"Accepted": ("False", 1), "ResolvedRefs": ("True", 1), "PartiallyInvalid": ("True", 2)}
