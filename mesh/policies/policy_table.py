"""Policies of every kind, as they are written and with their references resolved. Who refers to what is kept,
so that a change of a group, Service, name or key resolves those again that speak of it.

Knows what is referred to only by its Directory, and no address, identity or verdict.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace

from mesh.model import (
    EnvoyFilter,
    FailStrategy,
    KeySource,
    MeshConfig,
    ModuleSource,
    NamePattern,
    ObjectRef,
    Problem,
    WasmPlugin,
)
from mesh.policies.cidr import CidrIndex
from mesh.policies.references import (
    AnyPolicy,
    Directory,
    Source,
    cidrs_of,
    field_of_names,
    fields_of_keys,
    key_sources_of,
    patterns_of,
    resolve,
    sources_of,
)
from mesh.routes.envoy_filters import problems as envoy_filter_problems

_CLOSED = "until then requests that must meet it get 503, but where an earlier version serves"
_MEANWHILE: Mapping[FailStrategy, str] = {
    "FAIL_CLOSE": _CLOSED,
    "FAIL_RELOAD": _CLOSED,
    "FAIL_OPEN": "until then requests pass without it, but where an earlier version serves",
}


class PolicyTable:
    def __init__(self, directory: Directory, cidrs: CidrIndex) -> None:
        """`cidrs` is told of the blocks that policies name."""
        self._directory = directory
        self._cidrs = cidrs
        #: With their references resolved.
        self.all: dict[ObjectRef, tuple[AnyPolicy, ...]] = {}
        self._written: dict[ObjectRef, tuple[AnyPolicy, ...]] = {}
        #: Those that speak of DNS names, and the field where they do first.
        self._asking_names: dict[ObjectRef, str] = {}
        #: What policies refer to -> who does.
        self._referring: defaultdict[Source, set[ObjectRef]] = defaultdict(set)
        self._stale: set[ObjectRef] = set()

    def wanted_names(self) -> frozenset[NamePattern]:
        """The patterns of names whose addresses some policy speaks of."""
        return frozenset(pattern for policy in self._of("names") for pattern in patterns_of(policy))

    def wanted_keys(self) -> frozenset[KeySource]:
        """Where the keys come from that policies do not bring themselves."""
        return frozenset(source for policy in self._of("keys") for source in key_sources_of(policy))

    def wanted_modules(self) -> frozenset[ModuleSource]:
        """Where the modules come from that WasmPlugins run."""
        found = (policy.source for policy in self._of("modules") if isinstance(policy, WasmPlugin))
        return frozenset(source for source in found if source is not None)

    def problems(self, ref: ObjectRef) -> Iterator[Problem]:
        """What an object's policies lack, and what they do less of than it looks like."""
        yield from self._lacking_keys(ref)
        yield from self._lacking_modules(ref)
        for policy in self.all.get(ref, ()):
            if isinstance(policy, EnvoyFilter):
                yield from envoy_filter_problems(policy)

    def resolver_problems(self, *, there: bool) -> Iterator[tuple[ObjectRef, list[Problem]]]:
        """Policies that speak of DNS names need the mesh's resolver: it reports addresses, and it alone
        enforces rules on queries. Unless it is there they match nothing."""
        text = "the mesh has no resolver, the pod kube-system/sluice-dns, so this matches nothing"
        for ref, where in self._asking_names.items():
            yield ref, [] if there else [Problem(ref, where, text)]

    # --- changing ----------------------------------------------------------------------------

    def put(self, ref: ObjectRef, policy: AnyPolicy) -> set[Source]:
        """Take in one of an object's policies. Returns what it refers to."""
        self._written[ref] = (*self._written.get(ref, ()), policy)
        if found := field_of_names(policy):
            self._asking_names[ref] = f"spec.{found}"
        sources = sources_of(policy)
        for source in sources:
            self._referring[source].add(ref)
        self._stale.add(ref)
        return sources

    def remove(self, ref: ObjectRef, policy: AnyPolicy) -> set[Source]:
        """Forget an object's policies, of which this is one. Returns what it referred to."""
        self._written.pop(ref, None)
        self._asking_names.pop(ref, None)
        sources = sources_of(policy)
        for source in sources:
            self._referring[source].discard(ref)
        self._stale.add(ref)
        return sources

    def look_again(self, source: Source) -> None:
        """Something that policies refer to is another now."""
        self._stale |= self._referring[source]

    def configure(self, config: MeshConfig) -> None:
        self._directory = replace(self._directory, config=config)
        self.look_again("config")

    def settle(self) -> tuple[set[ObjectRef], set[ObjectRef]]:
        """Resolve what may mean something else now. Returns the objects at which it looked, and those that do
        mean something else."""
        looked, self._stale = self._stale, set()
        changed: set[ObjectRef] = set()
        for ref in looked:
            old = self.all.get(ref, ())
            written = self._written.get(ref, ())
            new = tuple(found for policy in written for found in resolve(policy, self._directory))
            if new == old:
                continue
            # In this order, so that a block that both name is not taken out in between.
            self._cidrs.add(cidrs_of(new))
            self._cidrs.remove(cidrs_of(old))
            if new:
                self.all[ref] = new
            else:
                del self.all[ref]
            changed.add(ref)
        return looked, changed

    def _lacking_keys(self, ref: ObjectRef) -> list[Problem]:
        """Why keys that an object wants cannot be fetched now."""
        fields = [found for policy in self._written.get(ref, ()) for found in fields_of_keys(policy)]
        return [problem for found in fields if (problem := self._lacks(ref, *found)) is not None]

    def _lacks(self, ref: ObjectRef, field: str, source: KeySource) -> Problem | None:
        known = self._directory.keys.get(source)
        if known is None or not known.failure:
            return None
        rest = "the keys from before stay in force" if known.keys else "until then its tokens get 401"
        return Problem(ref, f"spec.{field}", f"no keys from {source.uri}: {known.failure}; {rest}")

    def _lacking_modules(self, ref: ObjectRef) -> list[Problem]:
        """Why the module of an object is not there."""
        return [
            Problem(ref, "spec.url", f"no module from {url}: {why}; {_MEANWHILE[plugin.on_failure]}")
            for plugin in self._written.get(ref, ())
            if isinstance(plugin, WasmPlugin) and plugin.source and (why := self._awaits(plugin.source))
            for url in (plugin.source.url,)
        ]

    def _awaits(self, source: ModuleSource) -> str:
        known = self._directory.modules.get(source)
        if known is None:
            return "it has not come yet"
        return "" if known.code else known.failure

    def _of(self, source: Source) -> Iterator[AnyPolicy]:
        for ref in self._referring[source]:
            yield from self._written[ref]
