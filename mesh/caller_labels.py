"""Whom rules mean, and by which labels callers must be told apart for that."""

from __future__ import annotations

from mesh.locality import asked_of_callers
from mesh.model import Callers, DestinationRule, EnvoyFilter, Route, Service, Sidecar

#: What may say other things to some callers than to others. (A MeshConfig may, too: of several one counts.)
Telling = Service | Route | DestinationRule | Sidecar | EnvoyFilter


def callers_of(noun: Telling) -> list[Callers]:
    """Whom it tells from others by name or label."""
    match noun:
        case Route():
            return [match.callers for rule in noun.all_rules for match in rule.matches]
        case DestinationRule() | Sidecar():
            return [noun.callers] if noun.callers else []
        case EnvoyFilter():
            return [noun.callers] if noun.steers_outward else []
        case Service():
            return []


def labels_asked(noun: Telling) -> set[str]:
    """The labels of callers for which it asks, those of their places included."""
    found = {key for callers in callers_of(noun) for key, _ in callers.labels}
    return found | asked_of_callers(noun) if isinstance(noun, Service | DestinationRule) else found
