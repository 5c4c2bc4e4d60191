"""How a Pod object is read for running it."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.model import Exec, HttpGet, Probe, TcpSocket
from sluice.environment import environment, expand
from sluice.pod_spec import read_pod


def pod(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "shop", "name": "web"},
        "spec": {"containers": list(containers), **spec},
    }


def app(**more: Any) -> dict[str, Any]:
    return {"name": "app", "command": ["serve"], **more}


def test_command_and_args_are_one_command() -> None:
    spec = read_pod(pod(app(args=["-v", "8080"]))).spec
    assert spec
    assert spec.containers[0].command == ("serve", "-v", "8080")


def test_args_alone_are_enough() -> None:
    assert read_pod(pod({"name": "app", "args": ["serve"]})).spec


@pytest.mark.parametrize(
    ("container", "field", "message"),
    [
        ({"name": "app", "image": "nginx"}, "command", "images are not pulled; give command"),
        ({"command": ["x"]}, "name", "a container needs a name"),
        ({"name": "../x", "command": ["x"]}, "name", "a container needs a name"),
        (app(args=[1]), "args[0]", "put 1 in quotes"),
        (app(args="x"), "args", "a list is needed"),
        (app(env=[{"name": "A", "value": 1}]), "env[0].value", "put 1 in quotes"),
        (app(env=[{"name": "A=B"}]), "env[0].name", "not the name"),
        (
            app(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}}]),
            "env[0].valueFrom.fieldRef.fieldPath",
            "status.podIP",
        ),
        (app(readinessProbe={"grpc": {}}), "readinessProbe", "exec, httpGet, tcpSocket"),
        (app(readinessProbe={"tcpSocket": {"port": "web"}}), "readinessProbe.tcpSocket.port", "'web'"),
        (app(readinessProbe={"tcpSocket": {"port": 0}}), "readinessProbe.tcpSocket.port", "0"),
        (
            app(readinessProbe={"exec": {"command": ["x"]}, "periodSeconds": "1"}),
            "readinessProbe.periodSeconds",
            "not a number",
        ),
    ],
)
def test_what_cannot_be_read_is_a_problem_at_its_field(
    container: dict[str, Any], field: str, message: str
) -> None:
    reading = read_pod(pod(container))
    assert reading.spec is None
    (problem,) = reading.problems
    assert str(problem.object) == "Pod shop/web"
    assert problem.field == f"spec.containers[0].{field}"
    assert message in problem.message


def test_all_containers_are_looked_at() -> None:
    reading = read_pod(pod({"name": "a"}, {"name": "b"}))
    assert [problem.field for problem in reading.problems] == [
        "spec.containers[0].command",
        "spec.containers[1].command",
    ]


@pytest.mark.parametrize("spec", [None, [], {}, {"containers": []}, {"containers": "x"}])
def test_a_pod_without_containers_is_a_problem(spec: Any) -> None:
    assert read_pod({"metadata": {"name": "web"}, "spec": spec}).problems


def test_probes_of_each_kind_are_read_with_fractions_and_named_ports() -> None:
    ports = [{"name": "http", "containerPort": 8080}]

    def probe(**given: Any) -> Probe | None:
        spec = read_pod(pod(app(ports=ports, readinessProbe=given))).spec
        return spec.containers[0].readiness if spec else None

    assert probe(exec={"command": ["true"]}, periodSeconds=0.5) == Probe(Exec(("true",)), period=0.5)
    headers = [{"name": "X-Probe", "value": "1"}]
    assert probe(
        httpGet={"port": "http", "path": "ready", "httpHeaders": headers}, failureThreshold=1
    ) == Probe(HttpGet(8080, "/ready", headers=(("X-Probe", "1"),)), failure_threshold=1)
    assert probe(tcpSocket={"port": 9090}, initialDelaySeconds=2) == Probe(TcpSocket(9090), initial_delay=2)


def test_the_grace_period_has_a_default_and_a_limit() -> None:
    given = [read_pod(pod(app(), **more)).spec for more in ({}, {"terminationGracePeriodSeconds": 60})]
    assert [spec and spec.grace_seconds for spec in given] == [2.0, 5.0]


def test_an_unknown_restart_policy_is_a_problem() -> None:
    (problem,) = read_pod(pod(app(), restartPolicy="Sometimes")).problems
    assert problem.field == "spec.restartPolicy"


def test_the_digest_names_the_meaning_and_not_the_spelling() -> None:
    digests = [
        spec.digest
        for spec in (
            read_pod(pod(app())).spec,
            read_pod(pod({"command": ["serve"], "name": "app", "env": []})).spec,
            read_pod(pod(app(args=["x"]))).spec,
        )
        if spec
    ]
    assert digests[0] == digests[1] != digests[2]


def test_references_expand_as_in_kubernetes() -> None:
    assert expand("$(A) $$(A) $(B) $A ${A}", {"A": "1"}) == "1 $(A) $(B) $A ${A}"


def test_variables_refer_to_earlier_ones_and_to_fields_and_little_is_inherited() -> None:
    env = [
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "URL", "value": "http://$(IP)/$(LATER)"},
        {"name": "LATER", "value": "x"},
        {"name": "EMPTY"},
    ]
    spec = read_pod(pod(app(env=env))).spec
    assert spec
    found = environment(
        spec, spec.containers[0], ("10.64.0.2", "fd51::2"), "local", {"PATH": "/bin", "SECRET": "s"}
    )
    assert found == {
        "PATH": "/bin",
        "HOME": "/root",
        "HOSTNAME": "web",
        "IP": "10.64.0.2",
        "URL": "http://10.64.0.2/$(LATER)",
        "LATER": "x",
        "EMPTY": "",
    }
