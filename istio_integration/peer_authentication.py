"""PeerAuthentication of security.istio.io, v1 and v1beta1 (istio/api, peer_authentication.proto).

The validation is Istio's own. What cannot be read fails closed (semantics rule 18): it is STRICT for all that
is selected, or for the whole namespace if that is what cannot be read.
"""

from __future__ import annotations

from typing import cast

from mesh.dialects.reading import OBJECT, Fields, Reader, shown
from mesh.dialects.syntax import created, labels
from mesh.model import MutualTlsMode, ObjectRef, PeerAuthentication

SPEC = Fields(("selector", "mtls", "portLevelMtls"))
WORKLOADS = Fields(("matchLabels",))
MTLS = Fields(("mode",))

_MODES = ("UNSET", "DISABLE", "PERMISSIVE", "STRICT")


def read_peer_authentication(root: Reader, ref: ObjectRef) -> tuple[PeerAuthentication, ...]:
    root.fields(OBJECT)
    spec = root.at("spec").fields(SPEC)
    selector = spec.at("selector").fields(WORKLOADS)
    own = labels(selector.at("matchLabels"))
    ports = spec.at("portLevelMtls")
    if ports.present and ports.sound and not own:
        ports.refuse("is for the workloads of a selector, and there is none")
    found = {_port(number, item): _mode(item) for number, item in ports.entries(numbers=True)}
    mode = _mode(spec.at("mtls"))
    if not root.sound:
        found, mode = {}, "STRICT"
    chosen = own if own and selector.sound else None
    return (
        PeerAuthentication(ref, created(root), mode, tuple(sorted(found.items())) if chosen else (), chosen),
    )


def _mode(mtls: Reader) -> MutualTlsMode | None:
    """None where nothing is said."""
    mode = mtls.fields(MTLS).at("mode").choice(_MODES, "UNSET")
    return None if mode == "UNSET" else cast(MutualTlsMode, mode)


def _port(key: str, reader: Reader) -> int:
    if key.isascii() and key.isdigit() and len(key) < 6 and 0 < int(key) < 65536:
        return int(key)
    reader.refuse(f"key {shown(key)} must be the number of a port of the workload, 1 to 65535")
    return 0
