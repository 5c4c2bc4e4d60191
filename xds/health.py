"""What probes say of WorkloadEntries: files beside the store, and an entry with the status they give it.

As in Istio health is a condition in the status of an entry, which no manifest brings. `checked` is pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesh.model import WorkloadName
from xds.status_files import StatusFiles


@dataclass(frozen=True, slots=True)
class Health:
    """`since` is when it changed last (RFC 3339)."""

    healthy: bool
    since: str


@dataclass(frozen=True, slots=True)
class Checkup:
    """This is what was found of an entry, or nobody asks it any more."""

    entry: WorkloadName
    health: Health | None


def checked(entry: Mapping[str, Any], health: Health | None) -> Mapping[str, Any]:
    """A WorkloadEntry as it stands; what nobody asks has the status that was written."""
    if health is None:
        return entry
    written = entry.get("status")
    status = written if isinstance(written, dict) else {}
    found = status.get("conditions")
    others = [c for c in found if not _is_of_health(c)] if isinstance(found, list) else []
    condition = {
        "type": "Healthy",
        "status": "True" if health.healthy else "False",
        "lastTransitionTime": health.since,
    }
    return {**entry, "status": {**status, "conditions": [*others, condition]}}


def _is_of_health(condition: Any) -> bool:
    return isinstance(condition, dict) and condition.get("type") == "Healthy"


def checkups(folder: Path) -> StatusFiles[Health, Checkup]:
    """The folder of these files."""
    return StatusFiles(folder, lambda said: Health(said["healthy"] is True, str(said["since"])), Checkup)
