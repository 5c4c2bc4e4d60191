"""How far the nodes are, and what they refused: NACKs told as Problems of the objects behind them.

Envoy's words are shown and never parsed (rule 27). Knows no HTTP.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mesh.backends import standing
from mesh.discovery.session import Acked, Event, Nacked, Subscribed
from mesh.model import ObjectRef, Problem, WorkloadName
from mesh.resources import GENERATION_TYPE, MANIFEST_TYPE
from xds.manifests import pod_of
from xds.pipeline import Pipeline

_LOG = logging.getLogger(__name__)

#: Begins the discovery node id of an agent: `node~<name>`.
NODE_PREFIX = "node~"


def node_of(node_id: str) -> str | None:
    """The node whose agent has this id; None for any other client."""
    return node_id.removeprefix(NODE_PREFIX) if node_id.startswith(NODE_PREFIX) else None


class Status:
    """`accepted(node id, type)` gives name -> version of what a client holds by its own account;
    `on_applied` hears which generation a node says is in force."""

    def __init__(
        self,
        pipeline: Pipeline,
        accepted: Callable[[str, str], Mapping[str, str]],
        on_applied: Callable[[str, int], None] = lambda node, generation: None,
    ) -> None:
        self._pipeline = pipeline
        self._accepted = accepted
        self._on_applied = on_applied
        self._acked: dict[str, int] = {}
        self._refused: dict[tuple[str, str], tuple[Problem, ...]] = {}
        self._waiting: set[asyncio.Future[None]] = set()

    def observe(self, node_id: str, event: Event) -> None:
        """Take in what a client said."""
        node = node_of(node_id)
        if node is None:
            return
        match event:
            case Subscribed(type_url=type_url) if type_url == GENERATION_TYPE:
                # An agent that comes back holds a generation of an earlier stream.
                self._take_generation(node, self._accepted(node_id, GENERATION_TYPE))
            case Acked(type_url=type_url, versions=versions):
                for name in versions:
                    self._refused.pop((node, f"{type_url}/{_subject(type_url, name)}"), None)
                if type_url == GENERATION_TYPE:
                    self._take_generation(node, versions)
            case Nacked():
                self._take_refusal(node, event)

    def applied(self) -> dict[str, int]:
        """Node -> the generation up to which it has applied everything that concerns it."""
        generations = self._pipeline.generations
        found = {}
        for node in self._pipeline.nodes:
            acked = self._acked.get(node, 0)
            stamp = generations.nodes.get(node)
            found[node] = generations.number if stamp is not None and acked == stamp.number else acked
        return found

    async def wait(self, generation: int, timeout: float) -> bool:
        """Wait until every node has applied `generation`; False if that takes over `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                while not self._has_applied(generation):
                    news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    self._waiting.add(news)
                    try:
                        await news
                    finally:
                        self._waiting.discard(news)
        except TimeoutError:
            return False
        return True

    @property
    def problems(self) -> list[Problem]:
        """Everything that is wrong, wherever it was found, sorted."""
        return sorted({*self._pipeline.problems, *self._refusals()})

    @property
    def refused(self) -> dict[ObjectRef, str]:
        """What some node's Envoys say against an object."""
        return {problem.object: problem.message for problem in self._refusals()}

    def _refusals(self) -> Iterator[Problem]:
        """Of nodes that are there, and of pods that have an Envoy still."""
        for (node, subject), problems in self._refused.items():
            known, pod = self._pipeline.nodes.get(node), subject.removeprefix(f"{MANIFEST_TYPE}/")
            if known is not None and (pod == subject or pod in known.node.proxies):
                yield from problems

    def report(self) -> dict[str, Any]:
        """The whole of it, ready for JSON."""
        mesh = self._pipeline.mesh
        return {
            "generation": self._pipeline.generations.number,
            "applied": self.applied(),
            "pods": [
                {
                    "name": str(name),
                    "ip": workload.addresses[0] if workload.addresses else None,
                    "addresses": list(workload.addresses),
                    "security_id": mesh.identities.of.get(name),
                    "ready": workload.ready,
                    "node": workload.node,
                }
                for name, workload in sorted(mesh.workloads.items())
            ],
            "services": self.services(),
            "problems": [plain(problem) for problem in self.problems],
        }

    def services(self) -> list[dict[str, Any]]:
        """The Services with their addresses and ports, ready for JSON."""
        mesh = self._pipeline.mesh
        return [
            {
                "name": str(name),
                "addresses": list(mesh.vips.get(name, ())),
                "ports": [
                    {
                        "name": port.name,
                        "port": port.port,
                        "protocol": port.protocol,
                        "backends": standing(mesh.backends.get(name, {}).get((port.port, port.protocol), ())),
                    }
                    for port in service.ports
                ],
            }
            for name, service in sorted(mesh.services.items())
        ]

    def names(self) -> dict[str, Any]:
        """What addresses are called, and whose backends stand at `address:port`; ready for JSON."""
        mesh = self._pipeline.mesh
        addresses = dict.fromkeys(mesh.nodes.addresses, "node")
        addresses |= {vip: f"Service {name}" for name, vips in mesh.vips.items() for vip in vips}
        addresses |= {address: str(name) for address, name in mesh.owners.items()}
        services: defaultdict[str, list[str]] = defaultdict(list)
        for name, ports in sorted(mesh.backends.items()):
            for (port, _), backends in ports.items():
                for backend in backends:
                    known = services[f"{backend.address}:{backend.port}"]
                    if f"{name}:{port}" not in known:
                        known.append(f"{name}:{port}")
        return {"addresses": addresses, "services": services}

    def _has_applied(self, generation: int) -> bool:
        return all(applied >= generation for applied in self.applied().values())

    def _take_generation(self, node: str, versions: Mapping[str, str]) -> None:
        numbers = [int(version) for version in versions.values() if version.isdigit()]
        if numbers:
            self._acked[node] = numbers[0]
            self._on_applied(node, numbers[0])
            for waiting in self._waiting:
                if not waiting.done():
                    waiting.set_result(None)

    def _take_refusal(self, node: str, event: Nacked) -> None:
        _LOG.warning("%s", f"node {node} refuses {event.type_url} {', '.join(event.names)}: {event.message}")
        blamed: dict[str, list[Problem]] = {_subject(event.type_url, name): [] for name in event.names}
        entries = _entries(event.message) if event.type_url == MANIFEST_TYPE else []
        for entry in entries:
            blamed.setdefault(entry["pod"], []).extend(self._blame(node, entry))
        for name, problems in blamed.items():
            key = (node, f"{event.type_url}/{name}")
            if problems:
                self._refused[key] = tuple(problems)
            elif not entries:
                kind = event.type_url.rpartition(".")[2]
                problem = Problem(ObjectRef("Node", "", node), "", f"refuses {kind} {name}: {event.message}")
                self._refused[key] = (problem,)

    def _blame(self, node: str, entry: Mapping[str, str]) -> list[Problem]:
        """The Problems of the objects that made a resource."""
        snapshot = self._pipeline.nodes.get(node)
        refs = snapshot.origins(entry["pod"], entry["type"], entry["name"]) if snapshot else ()
        kind = entry["type"].rpartition(".")[2]
        message = f"the Envoy of pod {entry['pod']} refuses {kind} {entry['name']}: {entry['error']}"
        pod = ObjectRef("Pod", *WorkloadName(*entry["pod"].partition("/")[::2]))
        return [Problem(ref, "", message) for ref in refs or (pod,)]


def plain(problem: Problem) -> dict[str, str]:
    """A Problem as JSON shows it."""
    return {"object": str(problem.object), "field": problem.field, "message": problem.message}


def _subject(type_url: str, name: str) -> str:
    """What a refusal is about: of manifests the pod."""
    return pod_of(name) if type_url == MANIFEST_TYPE else name


def _entries(message: str) -> list[dict[str, str]]:
    """The agent's report: a JSON list of {"pod", "type", "name", "hash", "error"}."""
    try:
        entries = json.loads(message)
        return [{key: str(entry[key]) for key in ("pod", "type", "name", "error")} for entry in entries]
    except (ValueError, KeyError, TypeError):
        return []
