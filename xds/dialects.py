"""Every API that Sluice reads, in one list: Kubernetes, Gateway API, Cilium and Istio."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from istio_integration import DIALECTS as ISTIO
from istio_integration import MISSING
from mesh import dialects
from mesh.dialects import Dialect
from mesh.model import EnvoyFilter, Fragment, Problem, WasmPlugin

DIALECTS: Mapping[tuple[str, str], Dialect] = {**dialects.DIALECTS, **ISTIO}


def read(object: Any) -> Fragment:
    """What is understood of one API object. Never raises."""
    found = dialects.read(object, DIALECTS, MISSING)
    written = (noun for noun in found.nouns if not isinstance(noun, WasmPlugin))
    filters = [noun for noun in written if isinstance(noun, EnvoyFilter)]
    problems = tuple(problem for noun in filters for problem in _of_values(noun))
    return replace(found, nouns=(), problems=(*found.problems, *problems), valid=False) if problems else found


def _of_values(found: EnvoyFilter) -> tuple[Problem, ...]:
    """What no dialect can know, for it knows no Envoy."""
    from xds.render.patches.checks import problems

    return problems(found)
