"""Which version of each object is in force: the newest that could be read (rule 18).

Without an earlier valid version the dialect's own answer to the unreadable stands. Decides about
one object at a time; what is wrong between objects is `mesh.assemble`'s to say.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from mesh.model import Fragment, ObjectRef, Problem, WorkloadName
from xds.dialects import read
from xds.documents import ApiObject
from xds.sandbox import Placement, Sandbox, placed
from xds.store import Store

_LOG = logging.getLogger(__name__)


class Admission:
    """Writes the store; `node` is the one whose pods get their status from sandboxes."""

    def __init__(self, store: Store, node: str) -> None:
        self._store = store
        self._node = node
        self._sandboxes: dict[WorkloadName, Sandbox] = {}
        self._unreadable: set[ObjectRef] = set()
        #: What is wrong inside the newest version of each object.
        self.problems: dict[ObjectRef, tuple[Problem, ...]] = {}

    def load(self) -> dict[ObjectRef, Fragment]:
        """Everything stored. Sandboxes are not known yet: local pods have no address."""
        kept = self._store.kept()
        fragments = {item.ref: self._in_force(item, self.read(item)) for item in self._store.load()}
        for ref in kept:
            # Killed between storing a readable version (or deleting) and dropping the old one.
            if ref not in self._unreadable:
                self._store.forget_valid(ref)
        return fragments

    def read(self, item: ApiObject) -> Fragment:
        """What the newest version says by itself. Changes nothing."""
        content = item.content
        if item.ref.kind == "Pod":
            sandbox = self._sandboxes.get(WorkloadName(item.ref.namespace, item.ref.name))
            content = placed(content, sandbox, self._node)
        return _read(item.ref, content)

    def admit(self, item: ApiObject) -> Fragment | None:
        """Store a version; the Fragment in force from now on, None if that very text is stored."""
        store, ref = self._store, item.ref
        if store.digest(ref) == item.digest:
            return None
        fragment = self.read(item)
        if fragment.valid:
            store.put(item)
            if ref in self._unreadable:
                store.forget_valid(ref)
        else:
            if ref not in self._unreadable and (current := store.get(ref)) is not None:
                store.keep_valid(current)
            store.put(item)
        return self._in_force(item, fragment)

    def remove(self, ref: ObjectRef) -> bool:
        """Forget an object; False if there is none."""
        if self._store.digest(ref) is None:
            return False
        self._store.remove(ref)
        self._unreadable.discard(ref)
        self.problems.pop(ref, None)
        return True

    def place(self, placement: Placement) -> tuple[ObjectRef, Fragment] | None:
        """The Fragment of a pod whose sandbox changed, if the pod is known."""
        if placement.sandbox is None:
            self._sandboxes.pop(placement.pod, None)
        else:
            self._sandboxes[placement.pod] = placement.sandbox
        ref = ObjectRef("Pod", *placement.pod)
        item = self._store.get(ref)
        return (ref, self._in_force(item, self.read(item))) if item is not None else None

    def _in_force(self, item: ApiObject, fragment: Fragment) -> Fragment:
        ref = item.ref
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


def _read(ref: ObjectRef, content: Mapping[str, Any]) -> Fragment:
    try:
        return read(content)
    except Exception as error:
        # One object must not stop the mesh, whatever it made a dialect trip over.
        _LOG.exception("reading %s failed", ref)
        problem = Problem(ref, "", f"cannot be read, by a fault of ours: {type(error).__name__}: {error}")
        return Fragment(ref, problems=(problem,), valid=False)
