"""What the embedded mesh reads of a Pod object: how to run it. Pure.

Labels, ports for policies and all else that the mesh decides by are the Kubernetes dialect's. Times
are seconds and may be fractions, which Kubernetes does not allow: a mesh on one machine is fast.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from mesh.model import Exec, HttpGet, ObjectRef, Probe, Problem, TcpSocket, WorkloadName

RestartPolicy = Literal["Always", "OnFailure", "Never"]
#: Whom a pod asks for names: the mesh's resolver, or those that the machine asks.
DnsPolicy = Literal["ClusterFirst", "Default"]

#: fieldRef paths that can be known before a pod starts.
FIELDS = (
    "metadata.name",
    "metadata.namespace",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.podIP",
    "status.podIPs",
)

MAX_GRACE_SECONDS, DEFAULT_GRACE_SECONDS = 5.0, 2.0
#: Letters of a host name, as in DNS; the rest of a pod's name is left out, as the kubelet does.
LONGEST_HOSTNAME = 63


@dataclass(frozen=True, slots=True)
class FieldRef:
    path: str


@dataclass(frozen=True, slots=True)
class Container:
    name: str
    command: tuple[str, ...]
    env: tuple[tuple[str, str | FieldRef], ...] = ()
    working_directory: str = "/"
    readiness: Probe | None = None
    image: str = ""


@dataclass(frozen=True, slots=True)
class PodSpec:
    name: WorkloadName
    containers: tuple[Container, ...]
    node: str = ""
    service_account: str = "default"
    restart_policy: RestartPolicy = "Always"
    grace_seconds: float = DEFAULT_GRACE_SECONDS
    dns_policy: DnsPolicy = "ClusterFirst"
    hostname: str = ""

    @property
    def digest(self) -> str:
        """Names this meaning; a pod whose digest changes is made anew."""
        return hashlib.blake2b(repr(self).encode(), digest_size=8).hexdigest()


class PodReading(NamedTuple):
    """A spec, or the problems that keep the pod from running."""

    spec: PodSpec | None
    problems: tuple[Problem, ...]


class _Unreadable(Exception):
    def __init__(self, field: str, message: str) -> None:
        self.field, self.message = field, message


def read_pod(pod: Mapping[str, Any]) -> PodReading:
    """Read how to run a Pod. Every container is looked at, so that all problems are told at once."""
    metadata = pod.get("metadata") or {}
    name = WorkloadName(str(metadata.get("namespace") or "default"), str(metadata.get("name") or ""))
    ref = ObjectRef("Pod", *name)
    problems: list[Problem] = []
    containers: list[Container] = []
    try:
        spec = _mapping(pod.get("spec"), "spec")
        policy = _one_of(spec, "restartPolicy", ("Always", "OnFailure", "Never"), "spec")
        dns = _one_of(spec, "dnsPolicy", ("ClusterFirst", "ClusterFirstWithHostNet", "Default"), "spec")
        grace = _number(spec, "terminationGracePeriodSeconds", "spec", DEFAULT_GRACE_SECONDS)
        found = _list(spec, "containers", "spec")
        if not found:
            raise _Unreadable("spec.containers", "a pod needs at least one container")
    except _Unreadable as error:
        return PodReading(None, (Problem(ref, error.field, error.message),))
    for i, item in enumerate(found):
        try:
            containers.append(_container(item, f"spec.containers[{i}]"))
        except _Unreadable as error:
            problems.append(Problem(ref, error.field, error.message))
    names = [c.name for c in containers]
    if len(set(names)) < len(names):
        problems.append(Problem(ref, "spec.containers", "two containers have one name"))
    if problems:
        return PodReading(None, tuple(problems))
    return PodReading(
        PodSpec(
            name=name,
            containers=tuple(containers),
            node=str(spec.get("nodeName") or ""),
            service_account=str(spec.get("serviceAccountName") or "default"),
            restart_policy=policy,
            grace_seconds=min(max(grace, 0.0), MAX_GRACE_SECONDS),
            dns_policy="Default" if dns == "Default" else "ClusterFirst",
            hostname=str(spec.get("hostname") or name.name)[:LONGEST_HOSTNAME].rstrip("-."),
        ),
        (),
    )


def _container(item: Any, field: str) -> Container:
    item = _mapping(item, field)
    name = str(item.get("name") or "")
    if not name or "/" in name or name.startswith("."):
        raise _Unreadable(f"{field}.name", "a container needs a name that can be a file's")
    command = (*_texts(item, "command", field), *_texts(item, "args", field))
    if not command:
        raise _Unreadable(f"{field}.command", "images are not pulled; give command")
    env: list[tuple[str, str | FieldRef]] = []
    for i, entry in enumerate(_list(item, "env", field)):
        env.append(_variable(entry, f"{field}.env[{i}]"))
    probe = item.get("readinessProbe")
    return Container(
        name=name,
        command=command,
        env=tuple(env),
        working_directory=str(item.get("workingDir") or "/"),
        readiness=_probe(probe, _port_names(item, field), f"{field}.readinessProbe") if probe else None,
        image=str(item.get("image") or ""),
    )


def _variable(entry: Any, field: str) -> tuple[str, str | FieldRef]:
    entry = _mapping(entry, field)
    name = str(entry.get("name") or "")
    if not name or "=" in name or "\0" in name:
        raise _Unreadable(f"{field}.name", "not the name of an environment variable")
    if entry.get("valueFrom") is None:
        return name, _text(entry.get("value"), f"{field}.value") if entry.get("value") is not None else ""
    source = _mapping(entry["valueFrom"], f"{field}.valueFrom")
    path = _mapping(source.get("fieldRef"), f"{field}.valueFrom.fieldRef").get("fieldPath")
    if path not in FIELDS:
        raise _Unreadable(f"{field}.valueFrom.fieldRef.fieldPath", f"use one of {', '.join(FIELDS)}")
    return name, FieldRef(path)


def _port_names(container: Mapping[str, Any], field: str) -> dict[str, int]:
    names: dict[str, int] = {}
    for i, entry in enumerate(_list(container, "ports", field)):
        entry = _mapping(entry, f"{field}.ports[{i}]")
        if entry.get("name"):
            where = f"{field}.ports[{i}].containerPort"
            names[str(entry["name"])] = _port(entry.get("containerPort"), {}, where)
    return names


def _probe(probe: Any, names: Mapping[str, int], field: str) -> Probe:
    probe = _mapping(probe, field)
    action: Exec | HttpGet | TcpSocket
    if (given := probe.get("exec")) is not None:
        command = _texts(_mapping(given, f"{field}.exec"), "command", f"{field}.exec")
        if not command:
            raise _Unreadable(f"{field}.exec.command", "give a command")
        action = Exec(command)
    elif (given := probe.get("httpGet")) is not None:
        action = _http_get(_mapping(given, f"{field}.httpGet"), names, f"{field}.httpGet")
    elif (given := probe.get("tcpSocket")) is not None:
        given = _mapping(given, f"{field}.tcpSocket")
        port = _port(given.get("port"), names, f"{field}.tcpSocket.port")
        action = TcpSocket(port, str(given.get("host") or ""))
    else:
        raise _Unreadable(field, "give one of exec, httpGet, tcpSocket")
    return Probe(
        action=action,
        initial_delay=max(0.0, _number(probe, "initialDelaySeconds", field, 0.0)),
        period=max(0.05, _number(probe, "periodSeconds", field, 10.0)),
        timeout=max(0.05, _number(probe, "timeoutSeconds", field, 1.0)),
        failure_threshold=max(1, int(_number(probe, "failureThreshold", field, 3))),
        success_threshold=max(1, int(_number(probe, "successThreshold", field, 1))),
    )


def _http_get(get: Mapping[str, Any], names: Mapping[str, int], field: str) -> HttpGet:
    headers = [_mapping(h, f"{field}.httpHeaders") for h in _list(get, "httpHeaders", field)]
    return HttpGet(
        port=_port(get.get("port"), names, f"{field}.port"),
        path="/" + str(get.get("path") or "").removeprefix("/"),
        host=str(get.get("host") or ""),
        scheme=_one_of(get, "scheme", ("HTTP", "HTTPS"), field),
        headers=tuple((str(h.get("name")), str(h.get("value") or "")) for h in headers),
    )


def _port(value: Any, names: Mapping[str, int], field: str) -> int:
    if isinstance(value, str) and value in names:
        return names[value]
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 65536:
        return value
    raise _Unreadable(field, f"{value!r} is neither a port number nor a named port of this container")


def _mapping(value: Any, field: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _Unreadable(field, "an object is needed here")
    return value


def _list(owner: Mapping[str, Any], key: str, field: str) -> list[Any]:
    value = owner.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise _Unreadable(f"{field}.{key}", "a list is needed here")
    return value


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise _Unreadable(field, f"a string is needed here; put {value!r} in quotes")
    return value


def _texts(owner: Mapping[str, Any], key: str, field: str) -> tuple[str, ...]:
    return tuple(_text(v, f"{field}.{key}[{i}]") for i, v in enumerate(_list(owner, key, field)))


def _number(owner: Mapping[str, Any], key: str, field: str, default: float) -> float:
    value = owner.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _Unreadable(f"{field}.{key}", f"{value!r} is not a number")
    return float(value)


def _one_of(owner: Mapping[str, Any], key: str, choices: tuple[Any, ...], field: str) -> Any:
    """The value of `key`; the first choice when it is absent."""
    value = owner.get(key)
    if value is None:
        return choices[0]
    if value not in choices:
        raise _Unreadable(f"{field}.{key}", f"{value!r} is not one of {', '.join(choices)}")
    return value
