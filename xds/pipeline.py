"""The one loop in which changes become snapshots: store, read, assemble, compile, publish.

Every step costs what changed. What EnvoyFilters and WasmPlugins make of resources is tried first
(`xds.trial`), and new versions of them apart from all other changes, which so wait for one trial at most: all
new versions at once, and if that fails one after the other. What is published was computed from what is on
disk, and numbers are on disk before they are sent: a process killed anywhere here is followed by one that
sends the same, certificates aside. Knows no file format, no stream and no HTTP.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeVar

from mesh.assemble import Mesh
from mesh.change import Change as MeshChange
from mesh.discovery.resource import Snapshot
from mesh.model import Fragment, ObjectRef, Problem
from xds.admission import Admission
from xds.allocations import AllocationFile
from xds.authority import Authority
from xds.certificates import Certificates
from xds.documents import ApiObject
from xds.generation import Generations
from xds.health import Checkup
from xds.jwks import Fetched
from xds.modules import FetchedModule
from xds.resolver import Report
from xds.sandbox import Placement
from xds.snapshot import TRIED, NodeSnapshot
from xds.source import Bundle, Change, Edit
from xds.store import Bundles, Store
from xds.tables import SharedTables
from xds.trial import Answer, Trial, Trying
from xds.work import UNSEEN, Work

_LOG = logging.getLogger(__name__)

#: Seconds without a change after which time is let pass, and between two tries to ask an Envoy that could not
#: be asked.
_REST = 30.0

T = TypeVar("T")
#: Work that must know now and then what Envoy says.
Steps = Generator[tuple[Trying, ...], Answer, T]

Action = Literal["created", "configured", "unchanged", "deleted", "not found"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the objects of an Edit, and the generation that contains it."""

    generation: int
    actions: Mapping[ObjectRef, Action] = field(default_factory=dict)


class StoreFailed(Exception):
    """A change could not be written down and is therefore not in force."""


@dataclass(frozen=True, slots=True)
class _Entry:
    changes: tuple[Change, ...]
    #: When they came, in nanoseconds since the epoch.
    since: int = field(default_factory=time.time_ns)
    done: asyncio.Future[Outcome] | None = None


class Pipeline:
    """The control plane's truth. `node` is the node of this machine, whose pods are sandboxes; `hosts`
    are its own addresses; `publish` is called with each node that has a new snapshot; `identity_labels` are
    expressions beside the defaults of `mesh.label_filter`; `follow` is told how the mesh changed, before
    that is published, `work` how it was done; `trial` says what Envoy takes; `certificates` are those of
    mutual TLS."""

    def __init__(
        self,
        state: Path,
        node: str,
        service_ranges: Iterable[str],
        hosts: Iterable[str],
        publish: Callable[[str], None],
        identity_labels: Iterable[str] = (),
        follow: Callable[[MeshChange], None] = lambda change: None,
        work: Work = UNSEEN,
        trial: Trial | None = None,
        certificates: Certificates | None = None,
    ) -> None:
        self.store = Store(state)
        self.bundles = Bundles(state)
        self.admission = Admission(self.store, node)
        self.generations = Generations(state)
        self.nodes: dict[str, NodeSnapshot] = {}
        self.node = node
        self._allocations = AllocationFile(state, service_ranges, identity_labels)
        self.mesh = Mesh(self._allocations.allocations, hosts)
        self._shared = SharedTables(self.mesh)
        self._publish = publish
        self._follow = follow
        self._work = work
        self._trial = trial or Trial()
        self._certificates = certificates or Certificates(Authority(state / "authority"))
        #: EnvoyFilters that did not pass together.
        self._singly: list[ObjectRef] = []
        self._waiting: list[tuple[_Entry, Outcome, frozenset[ObjectRef]]] = []
        self._snapshots: dict[str, Snapshot] = {}
        self._file_problems: dict[str, tuple[Problem, ...]] = {}
        self._queue: asyncio.Queue[_Entry] = asyncio.Queue()

    # --- reading -----------------------------------------------------------------------------

    @property
    def problems(self) -> list[Problem]:
        """What is wrong in files, inside objects and between them, sorted."""
        found = set(self.mesh.problems)
        found.update(*(snapshot.problems for snapshot in self.nodes.values()), self._certificates.problems)
        found.update(*self._file_problems.values(), *self.admission.problems.values())
        return sorted(found)

    def snapshot_for(self, node: str) -> Snapshot | None:
        """What a node is to be sent; a node unknown until now is computed and kept current.

        None while its generation cannot be written down."""
        if node not in self.nodes:
            self._compile(node)
            self._settle({node}, trace=secrets.token_hex(16))
        return self._snapshots.get(node)

    # --- changing ----------------------------------------------------------------------------

    def start(self, changes: Iterable[Change]) -> None:
        """Take up what is stored, then what the sources found, and compile this machine's node.

        Nothing is published before: "not yet read" must never look like "removed"."""
        fragments: dict[ObjectRef, Fragment | None] = dict(self.admission.load())
        for change in changes:
            self._take(change, fragments, {})
        self._allocations.advance()
        whole = self.mesh.apply(fragments)
        self._shared.update(whole)
        self._follow(whole)
        self._compile(self.node)
        self._now(self._try_resources())
        self._settle({self.node}, trace=secrets.token_hex(16))
        if self.admission.on_trial:
            self._now(self._try_filters())  # together; who does not pass is tried beside all else

    def offer(self, changes: Sequence[Change]) -> None:
        """Queue what a source saw."""
        self._queue.put_nowait(_Entry(tuple(changes)))

    async def submit(self, change: Change) -> Outcome:
        """Queue a change and wait until it is published. Raises StoreFailed."""
        done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(_Entry((change,), done=done))
        return await done

    async def run(self) -> None:
        """Work the queue for ever: at once, together only what is already waiting."""
        again = time.monotonic() + _REST
        while True:
            entries = await self._taken()
            if time.monotonic() >= again:
                await self._beside(self._ask_again())
                self._renew()
                again = time.monotonic() + _REST
            if entries or not self.admission.on_trial:
                since = entries[0].since if entries else None
                outcomes = await self._beside(self._apply([e.changes for e in entries], since))
                for entry, outcome in zip(entries, outcomes, strict=True):
                    self._answer(entry, outcome)
            if self.admission.on_trial:
                await self._beside(self._try_filters())
            self._answer_tried()

    async def _taken(self) -> list[_Entry]:
        """What is waiting; nothing if nothing has come for long, or EnvoyFilters wait for their trial."""
        entries: list[_Entry] = []
        if not self.admission.on_trial:
            try:
                entries.append(await asyncio.wait_for(self._queue.get(), _REST))
            except TimeoutError:
                return []  # who waits for a number may get one
        while not self._queue.empty():
            entries.append(self._queue.get_nowait())
        return entries

    def _answer(self, entry: _Entry, outcome: Outcome | StoreFailed) -> None:
        if entry.done is None or entry.done.cancelled():
            return
        if isinstance(outcome, StoreFailed):
            entry.done.set_exception(outcome)
        elif tried := self.admission.on_trial.keys() & outcome.actions.keys():
            self._waiting.append((entry, outcome, frozenset(tried)))
        else:
            entry.done.set_result(outcome)

    def _answer_tried(self) -> None:
        waiting, self._waiting = self._waiting, []
        for entry, outcome, tried in waiting:
            if tried & self.admission.on_trial.keys():
                self._waiting.append((entry, outcome, tried))
            else:
                self._answer(entry, Outcome(self.generations.number, outcome.actions))

    def apply(
        self, batches: Sequence[Sequence[Change]], since: int | None = None
    ) -> list[Outcome | StoreFailed]:
        """Apply batches together, of which the first came at `since` (None: now): one generation for all of
        them, but for EnvoyFilters, and an outcome for each. Blocks where something must be tried."""
        outcomes = self._now(self._apply(batches, since))
        self._now(self._try_all_filters())
        return [
            replace(outcome, generation=self.generations.number) if isinstance(outcome, Outcome) else outcome
            for outcome in outcomes
        ]

    def _now(self, steps: Steps[T]) -> T:
        """Do it all, and wait for Envoy."""
        try:
            tried = next(steps)
            while True:
                tried = steps.send(self._trial.run(tried))
        except StopIteration as ended:
            return ended.value  # type: ignore[no-any-return]

    async def _beside(self, steps: Steps[T]) -> T:
        """The same, while streams are served."""
        try:
            tried = next(steps)
            while True:
                tried = steps.send(await asyncio.to_thread(self._trial.run, tried))
        except StopIteration as ended:
            return ended.value  # type: ignore[no-any-return]

    def _apply(
        self, batches: Sequence[Sequence[Change]], since: int | None
    ) -> Steps[list[Outcome | StoreFailed]]:
        begun = time.perf_counter()
        self._work.begin(time.time_ns() if since is None else since)
        fragments: dict[ObjectRef, Fragment | None] = {}
        results: list[dict[ObjectRef, Action] | StoreFailed] = []
        with self._work.step("read"):
            for batch in batches:
                actions: dict[ObjectRef, Action] = {}
                try:
                    for change in batch:
                        self._take(change, fragments, actions)
                    results.append(actions)
                except OSError as error:
                    _LOG.error("a change cannot be written down, so it is not applied: %s", error)
                    results.append(StoreFailed(f"cannot be written down: {error}"))
        yield from self._advance(fragments, begun)
        return [
            result if isinstance(result, StoreFailed) else Outcome(self.generations.number, result)
            for result in results
        ]

    def _advance(self, fragments: Mapping[ObjectRef, Fragment | None], begun: float) -> Steps[None]:
        if self._assemble(fragments):
            yield from self._try_resources()
            self._publish_all(fragments, begun)

    def _assemble(self, fragments: Mapping[ObjectRef, Fragment | None]) -> bool:
        """Did the mesh change?"""
        with self._work.step("assemble"):
            self._allocations.advance()
            change = self.mesh.apply(fragments)
        if not change:
            return False
        self._follow(change)
        self._shared.update(change)
        for node, snapshot in self.nodes.items():
            with self._work.step(f"compile {node}"):
                snapshot.update(change)
        return True

    def _publish_all(
        self,
        fragments: Mapping[ObjectRef, Fragment | None],
        begun: float,
        else_: str = "numbers that became free",
    ) -> None:
        """Who is concerned is told; it is about these objects, or else about what `else_` says."""
        trace = secrets.token_hex(16)
        with self._work.step("publish"):
            changed = self._settle(self.nodes.keys(), trace)
            for node in changed:
                self._publish(node)
        if changed:
            self._work.published(self.generations.number, trace, _listed(fragments), changed)
            _LOG.info(
                "generation %d: %s, for %s, %.1f ms, trace %s",
                self.generations.number,
                _listed(fragments) or else_,
                ", ".join(sorted(changed)),
                (time.perf_counter() - begun) * 1e3,
                trace,
            )

    def _renew(self) -> None:
        """Certificates that have been in use for long, and those that could not be had."""
        begun, renewed = time.perf_counter(), self._certificates.renew()
        for snapshot in self.nodes.values() if renewed else ():
            snapshot.renew(renewed)
        if renewed:
            self._publish_all({}, begun, f"{len(renewed)} certificates")
        self._certificates.forget(frozenset().union(*(one.identities for one in self.nodes.values())))

    # --- trying ------------------------------------------------------------------------------

    def _ask_again(self) -> Steps[None]:
        """About what Envoy could not be asked."""
        begun = time.perf_counter()
        if self._trial.forget_unasked():
            self.admission.try_again()
            yield from self._try_resources()
            self._publish_all({}, begun)

    def _try_all_filters(self) -> Steps[None]:
        while self.admission.on_trial:
            yield from self._try_filters()

    def _try_filters(self) -> Steps[None]:
        """Try the new versions of EnvoyFilters: of all if they were not tried yet, else of one."""
        begun, on_trial = time.perf_counter(), self.admission.on_trial
        self._work.begin(time.time_ns())
        self._singly = [ref for ref in self._singly if ref in on_trial]
        refs = self._singly[:1] or sorted(on_trial)
        before = {ref: self.mesh.fragment(ref) for ref in refs}
        new = {ref: on_trial[ref] for ref in refs}
        self._assemble(new)
        problems = [problem for problem in self._faults() if problem.object in new]
        answer = Answer("")
        if not problems and (tried := self._untried()):
            answer = yield tried
        if not problems and not answer.words:
            for ref in refs:
                self._accept(ref)
            for snapshot in self.nodes.values():
                snapshot.serve_tried()
            self._publish_all(new, begun)
        elif len(refs) > 1:
            self._assemble(before)
            self._singly = refs
            self._publish_all(before, begun)
        else:
            (ref,) = refs
            found = tuple(problems) or (Problem(ref, TRIED[ref.kind], _refusal(answer)),)
            in_force = self._refuse(ref, found, lasting=answer.envoys)
            for problem in found:
                _LOG.warning("%s", f"{problem.object} {problem.field}: {problem.message}")
            self._assemble({ref: in_force})
            yield from self._try_resources()
            self._publish_all({ref: in_force}, begun)
        self._singly = [ref for ref in self._singly if ref in on_trial]

    def _accept(self, ref: ObjectRef) -> None:
        try:
            self.admission.accept(ref)
        except OSError as error:
            _LOG.error("%s is in force, the version before it stays on disk: %s", ref, error)

    def _refuse(self, ref: ObjectRef, problems: tuple[Problem, ...], *, lasting: bool) -> Fragment:
        try:
            return self.admission.refuse(ref, problems, lasting=lasting)
        except OSError as error:
            _LOG.error("that %s is refused cannot be written down, so it will be tried again: %s", ref, error)
            return self.admission.refuse(ref, problems, lasting=False)

    def _try_resources(self) -> Steps[None]:
        """Try what other changes made of patched resources. Of those that Envoy refuses the version before
        stays."""
        while tried := self._untried():
            answer = yield tried
            if answer.words and len(tried) > 1:
                for one in tried:
                    yield (one,)
            for snapshot in self.nodes.values():
                snapshot.serve_tried()

    def _untried(self) -> tuple[Trying, ...]:
        found = {
            resource.digest: Trying(resource, around)
            for snapshot in self.nodes.values()
            for resource, around in snapshot.untried()
        }
        return tuple(found.values())

    def _faults(self) -> set[Problem]:
        return {problem for snapshot in self.nodes.values() for problem in snapshot.problems}

    def _compile(self, node: str) -> None:
        self.nodes[node] = NodeSnapshot(
            self.mesh,
            node,
            default=node == self.node,
            shared=self._shared,
            verdict=self._trial.verdict,
            secrets=self._certificates.resources,
        )

    def _settle(self, nodes: Iterable[str], trace: str) -> set[str]:
        """Number what changed, write the numbers down, make it the nodes' snapshots."""
        try:
            self._allocations.save()
            changed = self.generations.settle({node: self.nodes[node].digest for node in nodes})
        except OSError as error:
            # Sent without being remembered, a number could come to mean something else.
            _LOG.critical("numbers cannot be written down, so nothing new is sent: %s", error)
            return set()
        for node in changed | (set(nodes) - self._snapshots.keys()):
            self._snapshots[node] = self.nodes[node].stamped(self.generations.nodes[node].number, trace)
        return changed

    # --- from changes to fragments -----------------------------------------------------------

    def _take(
        self, change: Change, fragments: dict[ObjectRef, Fragment | None], actions: dict[ObjectRef, Action]
    ) -> None:
        """Store a change and add what follows from it. Raises OSError, with what was stored added."""
        match change:
            case Bundle():
                self._take_bundle(change, fragments, actions)
            case Edit():
                for item in change.set:
                    self._set(item, fragments, actions)
                for ref in change.delete:
                    self._delete(ref, fragments, actions)
            case Placement():
                placed = self.admission.place(change)
                if placed is not None:
                    fragments[placed[0]] = placed[1]
            case Checkup():
                checked = self.admission.check(change)
                if checked is not None:
                    fragments[checked[0]] = checked[1]
            case Report() | Fetched() | FetchedModule():
                fragments[change.ref] = change.fragment

    def _take_bundle(
        self, bundle: Bundle, fragments: dict[ObjectRef, Fragment | None], actions: dict[ObjectRef, Action]
    ) -> None:
        documents, origin = bundle.documents, bundle.origin
        brought = frozenset(item.ref for item in documents.objects)
        for item in documents.objects:
            self._set(item, fragments, actions)
        if documents.problems:
            # What is missing from a file that is partly unreadable may still be meant.
            for problem in documents.problems:
                _LOG.warning("%s", f"{origin} {problem.field} {problem.message}")
            self._file_problems[origin] = documents.problems
            self.bundles.record(origin, "", brought | self.bundles.brought(origin))
            return
        self._file_problems.pop(origin, None)
        for ref in sorted(self.bundles.vanished(origin, brought)):
            self._delete(ref, fragments, actions)
        self.bundles.record(origin, bundle.digest, brought)

    def _set(
        self, item: ApiObject, fragments: dict[ObjectRef, Fragment | None], actions: dict[ObjectRef, Action]
    ) -> None:
        known = item.ref in self.store.refs()
        fragment = self.admission.admit(item)
        if fragment is None:
            actions.setdefault(item.ref, "unchanged")
            return
        fragments[item.ref] = fragment
        actions[item.ref] = "configured" if known else "created"
        for problem in self.admission.problems.get(item.ref, ()):
            _LOG.warning("%s", f"{problem.object} {problem.field}: {problem.message}")

    def _delete(
        self, ref: ObjectRef, fragments: dict[ObjectRef, Fragment | None], actions: dict[ObjectRef, Action]
    ) -> None:
        if self.admission.remove(ref):
            fragments[ref] = None
            actions[ref] = "deleted"
        else:
            actions[ref] = "not found"


def _refusal(answer: Answer) -> str:
    return f"Envoy refuses what it makes: {answer.words}" if answer.envoys else answer.words


def _listed(fragments: Mapping[ObjectRef, Fragment | None]) -> str:
    """The objects of a change in a few words."""
    names = [str(ref) for ref in fragments]
    return ", ".join(names) if len(names) <= 3 else f"{', '.join(names[:2])} and {len(names) - 2} more"
