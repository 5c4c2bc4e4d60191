"""Questions about the whole mesh: who can reach whom, what a change would change, which traps it holds.

They can take seconds, so each is asked of a copy of the mesh, in a thread: the mesh goes on
changing meanwhile, and the answer is about the moment of the question.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from mesh.analysis import View, analyze, suppressions
from mesh.answers.describe import describe_pod, describe_service
from mesh.answers.difference import Sample, difference
from mesh.answers.matrix import matrix, who_can_reach
from mesh.assemble import Mesh
from mesh.identity import Allocations
from mesh.model import GATEWAY_CONTROLLER, Fragment, ObjectRef, Protocol
from mesh.routes.gateways import OWN_CLASSES
from mesh.status import KINDS, Attachments, Written, status_of
from mesh.status.conditions import generation_of
from xds.documents import ApiObject
from xds.pipeline import Pipeline
from xds.status import Status, plain

T = TypeVar("T")

#: Classes that are there though nobody wrote them.
_OWN_CLASSES = [
    ApiObject.of(
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "GatewayClass",
            "metadata": {"name": name},
            "spec": {"controllerName": GATEWAY_CONTROLLER},
        }
    )
    for name in OWN_CLASSES
]


@dataclass(frozen=True, slots=True)
class Photograph:
    """All that a mesh is made of, at one moment."""

    fragments: Mapping[ObjectRef, Fragment]
    hosts: frozenset[str]
    allocations: Allocations

    @classmethod
    def of(cls, mesh: Mesh) -> Photograph:
        return cls(mesh.fragments(), mesh.nodes.hosts, mesh.allocations.copy())

    def mesh(self, changes: Mapping[ObjectRef, Fragment] | None = None) -> Mesh:
        """A mesh of its own, with `changes` in the place of what was."""
        mesh = Mesh(self.allocations.copy(), self.hosts)
        mesh.apply({**self.fragments, **(changes or {})})
        return mesh


class Questions:
    """Answers are plain data, ready for JSON."""

    def __init__(self, pipeline: Pipeline, status: Status) -> None:
        self._pipeline = pipeline
        self._status = status

    async def matrix(self, namespaces: Iterable[str]) -> dict[str, Any]:
        return await self._ask(lambda photograph: matrix(photograph.mesh(), namespaces).plain())

    async def who_can_reach(self, target: str, protocol: Protocol) -> dict[str, Any]:
        """Raises UnknownName."""
        return await self._ask(lambda photograph: who_can_reach(photograph.mesh(), target, protocol).plain())

    async def analyze(self) -> dict[str, Any]:
        problems = tuple(self._status.problems)
        store = self._pipeline.store
        stored = [item for ref in store.refs() if (item := store.get(ref)) is not None]
        allowed = suppressions((item.ref, item.content) for item in stored)

        def answer(photograph: Photograph) -> dict[str, Any]:
            view = View.of(photograph.mesh(), problems)
            return {"findings": [finding.plain() for finding in analyze(view, allowed)]}

        return await self._ask(answer)

    async def difference(self, objects: Iterable[ApiObject], samples: Iterable[Sample]) -> dict[str, Any]:
        """What applying `objects` would change. Those that would be refused change nothing."""
        read = {item.ref: self._pipeline.admission.read(item) for item in objects}
        changes = {ref: fragment for ref, fragment in read.items() if fragment.valid}
        said = {
            "refused": [str(ref) for ref in read if ref not in changes],
            "problems": [plain(problem) for fragment in read.values() for problem in fragment.problems],
        }
        return await self._ask(
            lambda photograph: difference(photograph.mesh(), photograph.mesh(changes), samples).plain() | said
        )

    async def describe(self, kind: Literal["pod", "service"], name: str) -> dict[str, Any]:
        """What concerns a pod or a Service, `namespace/name`. Raises UnknownName."""
        problems = tuple(self._status.problems)
        views = {
            pod: view for node in self._pipeline.nodes.values() for pod, view in node.node.proxies.items()
        }
        describe = describe_pod if kind == "pod" else describe_service
        return await self._ask(lambda photograph: describe(photograph.mesh(), name, views, problems))

    async def get(self, wanted: Mapping[str, str]) -> list[dict[str, Any]]:
        """The stored objects of a kind, namespace and name, as far as those are given, and our own classes,
        with the status that the mesh gives them. What Secrets hold is left out."""
        store, admission = self._pipeline.store, self._pipeline.admission
        refused = self._status.refused
        found: list[tuple[dict[str, Any], Written]] = []
        stored = store.refs()
        unwritten = {item.ref: item for item in _OWN_CLASSES if item.ref not in stored}
        for ref in sorted({*stored, *unwritten}):
            fits = all(getattr(ref, key) == value for key, value in wanted.items())
            if fits and (item := unwritten.get(ref) or store.get(ref)) is not None:
                fragment = admission.read(item)
                earlier = None if fragment.valid else store.last_valid(ref)
                fallen_back = generation_of(earlier.content) if earlier else None
                found.append(
                    (
                        _shown(admission.standing(item)),
                        Written(item.content, fragment, fallen_back, refused.get(ref, "")),
                    )
                )

        def answer(photograph: Photograph) -> list[dict[str, Any]]:
            mesh = photograph.mesh({ref: admission.read(item) for ref, item in unwritten.items()})
            known = Attachments(mesh)
            return [
                content | {"status": status} if (status := status_of(mesh, written, known)) else content
                for content, written in found
            ]

        if not any(written.fragment.ref.kind in KINDS for _, written in found):
            return [content for content, _ in found]
        return await self._ask(answer)

    async def _ask(self, question: Callable[[Photograph], T]) -> T:
        return await asyncio.to_thread(question, Photograph.of(self._pipeline.mesh))


def _shown(item: Mapping[str, Any]) -> dict[str, Any]:
    """An object as people may see it."""
    content = dict(item)
    if item["kind"] == "Secret":
        for field in ("data", "stringData"):
            if isinstance(held := content.get(field), Mapping):
                content[field] = dict.fromkeys(held, "[redacted]")
    return content
