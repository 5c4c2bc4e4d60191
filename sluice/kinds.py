"""What people call the kinds that Sluice reads: as kubectl, singular or plural, in any case, short where
kubectl or the API's own definitions have a short name, and with the group behind a dot."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from mesh.dialects import ref_of
from sluice.failure import Failure
from xds.dialects import DIALECTS

_SHORT = {
    "BackendTLSPolicy": ("btlspolicy",),
    "CiliumClusterwideNetworkPolicy": ("ccnp",),
    "CiliumNetworkPolicy": ("cnp", "ciliumnp"),
    "ConfigMap": ("cm",),
    "DestinationRule": ("dr",),
    "Gateway": ("gtw", "gw"),
    "PeerAuthentication": ("pa",),
    "GatewayClass": ("gc",),
    "Namespace": ("ns",),
    "NetworkPolicy": ("netpol",),
    "Node": ("no",),
    "Pod": ("po",),
    "ReferenceGrant": ("refgrant",),
    "RequestAuthentication": ("ra",),
    "AuthorizationPolicy": ("ap",),
    "Service": ("svc",),
    "ServiceEntry": ("se",),
    "VirtualService": ("vs",),
    "WorkloadEntry": ("we",),
    "WorkloadGroup": ("wg",),
}


def kind_of(word: str) -> str:
    """The kind as the store calls it. Failure if there is none such."""
    names = {name: kind for kind, called in _called().items() for name in called}
    if word.lower() in names:
        return names[word.lower()]
    if near := get_close_matches(word.lower(), names, 1, 0.75):
        raise Failure(f"there is no kind {word!r}; is {near[0]} meant?")
    raise Failure(f"there is no kind {word!r}", f"kinds are {', '.join(sorted(_called()))}")


def is_namespaced(kind: str) -> bool:
    return any(
        ref_of(_object(version, k)).kind == kind and d.namespaced for (version, k), d in DIALECTS.items()
    )


def named(kind: str, namespace: str, name: str) -> dict[str, Any]:
    """An object of a kind, as the store calls it, that says no more than its name."""
    version, written = next(key for key in DIALECTS if ref_of(_object(*key)).kind == kind)
    metadata = {"name": name} | ({"namespace": namespace} if is_namespaced(kind) else {})
    return _object(version, written) | {"metadata": metadata}


def _called() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for version, kind in DIALECTS:
        own = ref_of(_object(version, kind)).kind
        words = {kind.lower(), _plural(kind.lower()), *_SHORT.get(kind, ())}
        group = version.rpartition("/")[0]
        full = {f"{word}.{group}" for word in words} if group else set()
        # Of two kinds of one name the second is called by its group.
        found.setdefault(own, set()).update(full if own != kind else words | full)
    return found


def _object(version: str, kind: str) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind}


def _plural(word: str) -> str:
    if word.endswith("y") and word[-2] not in "aeo":
        return f"{word[:-1]}ies"
    return f"{word}es" if word.endswith("s") else f"{word}s"
