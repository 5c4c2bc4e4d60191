"""How the parts' reports become one."""

from __future__ import annotations

from typing import Any

from sluice.report import join_reports, unready
from sluice.text_table import few

CONTROL_PLANE: dict[str, Any] = {
    "generation": 7,
    "applied": {"local": 7, "far": 3},
    "pods": [
        {"name": "shop/web", "ip": "10.64.0.2", "security_id": 256, "ready": True, "node": "local"},
        {"name": "shop/far", "ip": "10.99.0.2", "security_id": 257, "ready": False, "node": "far"},
    ],
    "services": [],
    "problems": [{"object": "Service shop/x", "field": "spec", "message": "Envoy said: bad regex"}],
}
AGENT: dict[str, Any] = {
    "pods": [
        {
            "name": "shop/web",
            "enforced": True,
            "proxy": {"running": True, "pid": 9, "ready": True, "reasons": ["HTTPRoute shop/r"], "error": ""},
        }
    ],
    "problems": [{"pod": "shop/web", "type": "a.b/envoy.Listener", "name": "l", "error": "bad regex"}],
}
SUPERVISOR: dict[str, Any] = {
    "pods": [{"name": "shop/web", "phase": "Running", "message": "", "containers": []}],
    "problems": [{"object": "Pod shop/image", "field": "spec", "message": "images are not pulled"}],
}
UP = {"agent": {"running": True, "error": ""}}


def test_the_promised_keys_are_there_and_a_refusal_is_told_once() -> None:
    report = join_reports(CONTROL_PLANE, AGENT, SUPERVISOR)
    assert (report["generation"], report["applied"]) == (7, 7)
    web, far = report["pods"]
    assert {"name", "ip", "security_id", "ready", "phase", "proxy"} <= web.keys()
    assert (web["proxy"]["running"], web["proxy"]["pid"]) == (True, 9)
    assert (far["proxy"]["running"], far["proxy"]["pid"], far["proxy"]["reasons"]) == (False, None, [])
    assert [problem["object"] for problem in report["problems"]] == ["Service shop/x", "Pod shop/image"]


def test_a_refusal_that_nobody_else_tells_is_the_pods() -> None:
    silent = CONTROL_PLANE | {"problems": []}
    problems = join_reports(silent, AGENT, SUPERVISOR)["problems"]
    assert problems[1] == {
        "object": "Pod shop/web",
        "field": "",
        "message": "Envoy refuses Listener l: bad regex",
    }


def test_a_mesh_is_ready_when_all_is_applied_and_the_nodes_own_pods_are() -> None:
    assert unready(join_reports(CONTROL_PLANE, AGENT, SUPERVISOR) | UP) == []


def test_what_is_missing_is_said() -> None:
    behind = CONTROL_PLANE | {"applied": {"local": 6}}
    assert unready(join_reports(behind, AGENT, SUPERVISOR) | UP) == ["generation 7 is wanted, 6 applied"]
    waiting = CONTROL_PLANE | {"pods": [CONTROL_PLANE["pods"][0] | {"ready": False}]}
    assert unready(join_reports(waiting, {}, {"pods": [], "problems": []}) | UP) == [
        "pod shop/web is Pending: its containers are not ready"
    ]


def test_a_pod_that_cannot_run_is_not_waited_for() -> None:
    broken = CONTROL_PLANE | {
        "pods": [{"name": "shop/image", "ip": None, "security_id": None, "ready": False, "node": "local"}]
    }
    assert unready(join_reports(broken, {}, SUPERVISOR) | UP) == []


def test_of_many_reasons_the_first_are_told_and_how_many_more_there_are() -> None:
    assert few(["a"]) == "a"
    assert few(["a", "b", "c"]) == "a; b; c"
    assert few(["a", "b", "c", "d", "e"]) == "a; b; c; and 2 more"
