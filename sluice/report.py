"""The state of a mesh, joined from what control plane, agent and supervisor say. The keys are for
scripts and do not change: generation, applied, pods[] {name, ip, proxy {running, pid, reasons[]}},
problems[] {object, field, message}."""

from __future__ import annotations

from typing import Any

from sluice.admin import Admin
from sluice.failure import Failure
from sluice.mesh_directory import NODE, MeshDirectory
from sluice.stored_pod import supervisor_report
from sluice.supervisor_lock import supervisor_pid

_NO_PROXY: dict[str, Any] = {"running": False, "pid": None, "ready": False, "reasons": [], "error": ""}


def mesh_report(mesh: MeshDirectory) -> dict[str, Any]:
    """The whole report; Failure when the control plane is not there. Without an agent its parts are empty."""
    control_plane = Admin.of_control_plane(mesh).get("/status")
    try:
        agent: dict[str, Any] = Admin.of_agent(mesh).get("/status")
        agent_error = ""
    except Failure as failure:
        agent, agent_error = {}, str(failure)
    supervisor = supervisor_report(mesh)
    return join_reports(control_plane, agent, supervisor) | {
        "mesh": mesh.name,
        "supervisor": supervisor_pid(mesh),
        "gateways": supervisor.get("gateways", []),
        "agent": {"running": not agent_error, "error": agent_error, "counters": agent.get("counters", {})},
    }


def join_reports(
    control_plane: dict[str, Any], agent: dict[str, Any], supervisor: dict[str, Any]
) -> dict[str, Any]:
    """One list of pods and one of problems. Pure."""
    proxies = {pod["name"]: pod for pod in agent.get("pods", ())}
    runs = {pod["name"]: pod for pod in supervisor["pods"]}
    pods = []
    for pod in control_plane["pods"]:
        name = pod["name"]
        local = pod["node"] == NODE
        own: dict[str, Any] = {
            **pod,
            "enforced": proxies.get(name, {}).get("enforced", False),
            "proxy": {**_NO_PROXY, **(proxies.get(name, {}).get("proxy") or {})},
        }
        if local:
            run = runs.get(name, {})
            own["phase"] = run.get("phase", "Pending")
            own["message"] = run.get("message", "")
            own["containers"] = run.get("containers", [])
        pods.append(own)
    problems = [*control_plane["problems"], *supervisor["problems"]]
    for refusal in agent.get("problems", ()):
        # The control plane blames the same refusal on the objects behind it.
        if not any(refusal["error"] in problem["message"] for problem in problems):
            kind = refusal["type"].rpartition(".")[2]
            message = f"Envoy refuses {kind} {refusal['name']}: {refusal['error']}"
            problems.append({"object": f"Pod {refusal['pod']}", "field": "", "message": message})
    return {
        "generation": control_plane["generation"],
        "applied": control_plane["applied"].get(NODE, 0),
        "pods": pods,
        "services": control_plane["services"],
        "problems": problems,
    }


def unready(report: dict[str, Any]) -> list[str]:
    """What still keeps a mesh from being as its objects say, in words. Pods that cannot run because of
    a problem of their own do not keep it."""
    if not report["agent"]["running"]:
        return ["the agent does not answer"]
    reasons = []
    if report["applied"] < report["generation"]:
        reasons.append(f"generation {report['generation']} is wanted, {report['applied']} applied")
    broken = {problem["object"] for problem in report["problems"]}
    for pod in report["pods"]:
        if pod["node"] != NODE or f"Pod {pod['name']}" in broken or pod["phase"] == "Succeeded":
            continue
        if not pod["ready"]:
            why = pod["message"] or "its containers are not ready"
            reasons.append(f"pod {pod['name']} is {pod['phase']}: {why}")
        elif pod["proxy"]["reasons"] and not pod["proxy"]["ready"]:
            reasons.append(f"the Envoy of pod {pod['name']} is not ready")
    return reasons
