"""What is wrong with an EnvoyFilter by itself, whatever it is applied to: known before it is tried."""

from __future__ import annotations

from collections.abc import Iterator

from mesh.model import EnvoyFilter, EnvoyPatch, ListenerMatch, Problem
from xds.render.patches import guard
from xds.render.patches.values import Unreadable, value_of


def problems(found: EnvoyFilter) -> tuple[Problem, ...]:
    """With them it has no effect, and the last valid version stays."""
    return tuple(problem for patch in found.patches for problem in _problems(found, patch))


def _problems(found: EnvoyFilter, patch: EnvoyPatch) -> Iterator[Problem]:
    field = f"spec.{patch.field}"
    try:
        value = value_of(patch)
    except Unreadable as error:
        yield Problem(found.ref, f"{field}.patch.value{error.path}", error.message)
        return
    if files := guard.files(value):
        message = f"names a file or socket of the machine, {files}: write it inline"
        yield Problem(found.ref, f"{field}.patch.value", message)
    if patch.operation == "ADD" and patch.target == "CLUSTER":
        if objection := guard.new(value):
            yield Problem(found.ref, f"{field}.patch.value", objection)
    if patch.operation in ("REMOVE", "REPLACE", "MERGE") and isinstance(patch.where, ListenerMatch):
        if name := {patch.where.filter, patch.where.sub_filter} & guard.ENFORCING:
            message = f"would remove what enforces policy, {min(name)}, or change it"
            yield Problem(found.ref, f"{field}.match.listener.filterChain.filter", message)
