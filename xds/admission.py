"""Which version of each object is in force: the newest that could be read (rule 18), and, of EnvoyFilters
and WasmPlugins, that was tried.

Without an earlier valid version the dialect's own answer to the unreadable stands; a WasmPlugin that did not
pass is one without a module, so that its failStrategy decides. Decides about
one object at a time; what is wrong between objects is `mesh.assemble`'s to say.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from mesh.model import EnvoyFilter, Fragment, Noun, ObjectRef, Problem, WasmPlugin, WorkloadName
from xds.dialects import read
from xds.documents import ApiObject
from xds.health import Checkup, Health, checked
from xds.sandbox import Placement, Sandbox, placed
from xds.store import Store

_LOG = logging.getLogger(__name__)

State = TypeVar("State")


class Admission:
    """Writes the store; `node` is the one whose pods get their status from sandboxes. That of
    WorkloadEntries is what probes say."""

    def __init__(self, store: Store, node: str) -> None:
        self._store = store
        self._node = node
        self._sandboxes: dict[WorkloadName, Sandbox] = {}
        self._health: dict[WorkloadName, Health] = {}
        self._unreadable: set[ObjectRef] = set()
        #: Versions that can be read and must be tried; until then the one before is in force.
        self.on_trial: dict[ObjectRef, Fragment] = {}
        #: Those of which Envoy could not be asked.
        self._unasked: set[ObjectRef] = set()
        #: What is wrong inside the newest version of each object.
        self.problems: dict[ObjectRef, tuple[Problem, ...]] = {}

    def load(self) -> dict[ObjectRef, Fragment]:
        """Everything stored. Sandboxes are not known yet: local pods have no address."""
        kept = self._store.kept()
        fragments = {item.ref: self._loaded(item, kept) for item in self._store.load()}
        for ref in kept:
            # Killed between storing a readable version (or deleting) and dropping the old one.
            if ref not in self._unreadable and ref not in self.on_trial:
                self._store.forget_valid(ref)
        return fragments

    def _loaded(self, item: ApiObject, kept: set[ObjectRef]) -> Fragment:
        found = self.read(item)
        if item.ref in kept and _needs_trial(found) and not self._store.refusal(item):
            return self._try(item, found)  # killed before it was tried
        return self._in_force(item, found)

    def read(self, item: ApiObject) -> Fragment:
        """What the newest version says by itself. Changes nothing."""
        return _read(item.ref, self.standing(item))

    def standing(self, item: ApiObject) -> Mapping[str, Any]:
        """An object with the status that others than its writer give it."""
        name = WorkloadName(item.ref.namespace, item.ref.name)
        match item.ref.kind:
            case "Pod":
                return placed(item.content, self._sandboxes.get(name), self._node)
            case "WorkloadEntry":
                return checked(item.content, self._health.get(name))
            case _:
                return item.content

    def admit(self, item: ApiObject) -> Fragment | None:
        """Store a version; the Fragment in force from now on, None if that very text is stored."""
        store, ref = self._store, item.ref
        if store.holds(item):
            return None
        given, item = item, store.dated(item)
        fragment = self.read(item)
        if fragment.valid and not _needs_trial(fragment):
            store.put(item, given)
            if ref in self._unreadable:
                store.forget_valid(ref)
        else:
            untried = ref in self._unreadable or ref in self.on_trial
            if not untried and (current := store.get(ref)) is not None:
                store.keep_valid(current)
            store.put(item, given)
        self.on_trial.pop(ref, None)
        self._unasked.discard(ref)
        if fragment.valid and _needs_trial(fragment):
            return self._try(item, fragment)
        return self._in_force(item, fragment)

    def accept(self, ref: ObjectRef) -> None:
        """A version passed its trial and is in force now."""
        self.on_trial.pop(ref, None)
        self._store.forget_valid(ref)

    def refuse(self, ref: ObjectRef, problems: tuple[Problem, ...], *, lasting: bool) -> Fragment:
        """A version did not pass. `lasting`: nor would it another time. Returns what is in force."""
        self.on_trial.pop(ref, None)
        item = self._store.get(ref)
        assert item is not None, f"{ref} was on trial and is not stored"
        if lasting:
            self._store.refuse(item, problems)
        else:
            self._unasked.add(ref)
        return self._in_force(item, Fragment(ref, _without_module(self.read(item)), problems, valid=False))

    def try_again(self) -> None:
        """Put those on trial of which Envoy could not be asked. What is in force stays."""
        for ref in sorted(self._unasked):
            if (item := self._store.get(ref)) is not None:
                self._try(item, self.read(item))
        self._unasked.clear()

    def _try(self, item: ApiObject, fragment: Fragment) -> Fragment:
        """Put a version on trial. Returns what is in force meanwhile."""
        earlier = self._in_force(item, Fragment(item.ref, problems=fragment.problems, valid=False))
        self._unreadable.discard(item.ref)
        self.on_trial[item.ref] = fragment
        return earlier if earlier.valid else Fragment(item.ref)

    def remove(self, ref: ObjectRef) -> bool:
        """Forget an object; False if there is none."""
        if self._store.digest(ref) is None:
            return False
        self._store.remove(ref)
        self._unreadable.discard(ref)
        self._unasked.discard(ref)
        self.on_trial.pop(ref, None)
        self.problems.pop(ref, None)
        return True

    def place(self, placement: Placement) -> tuple[ObjectRef, Fragment] | None:
        """The Fragment of a pod whose sandbox changed, if the pod is known."""
        _tell(self._sandboxes, placement.pod, placement.sandbox)
        return self._again(ObjectRef("Pod", *placement.pod))

    def check(self, checkup: Checkup) -> tuple[ObjectRef, Fragment] | None:
        """The Fragment of a WorkloadEntry whose health changed, if it is known."""
        _tell(self._health, checkup.entry, checkup.health)
        return self._again(ObjectRef("WorkloadEntry", *checkup.entry))

    def _again(self, ref: ObjectRef) -> tuple[ObjectRef, Fragment] | None:
        item = self._store.get(ref)
        return (ref, self._in_force(item, self.read(item))) if item is not None else None

    def _in_force(self, item: ApiObject, fragment: Fragment) -> Fragment:
        ref = item.ref
        if _needs_trial(fragment):
            if refused := self._store.refusal(item):
                fragment = Fragment(ref, _without_module(fragment), refused, valid=False)
        if fragment.problems:
            self.problems[ref] = fragment.problems
        else:
            self.problems.pop(ref, None)
        if fragment.valid:
            self._unreadable.discard(ref)
            return fragment
        self._unreadable.add(ref)
        last = self._store.last_valid(ref)
        if last is None:
            return fragment
        earlier = self.read(last)
        # A dialect that has become stricter may refuse what it once took.
        return earlier if earlier.valid else fragment


def _tell(known: dict[WorkloadName, State], name: WorkloadName, state: State | None) -> None:
    if state is None:
        known.pop(name, None)
    else:
        known[name] = state


def _needs_trial(fragment: Fragment) -> bool:
    return any(isinstance(noun, EnvoyFilter) for noun in fragment.nouns)


def _without_module(fragment: Fragment) -> tuple[Noun, ...]:
    return tuple(replace(noun, source=None) for noun in fragment.nouns if isinstance(noun, WasmPlugin))


def _read(ref: ObjectRef, content: Mapping[str, Any]) -> Fragment:
    try:
        return read(content)
    except Exception as error:
        # One object must not stop the mesh, whatever it made a dialect trip over.
        _LOG.exception("reading %s failed", ref)
        problem = Problem(ref, "", f"cannot be read, by a fault of ours: {type(error).__name__}: {error}")
        return Fragment(ref, problems=(problem,), valid=False)
