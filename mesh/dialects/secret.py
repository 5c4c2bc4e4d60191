"""Secrets that hold certificates, and ConfigMaps that hold authorities.

A Secret of type kubernetes.io/tls, or an Opaque one with the keys of that, or with Istio's. Every other
Secret or ConfigMap means nothing here. No message shows what stands in one.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Mapping

from mesh.dialects import pem
from mesh.dialects.reading import Fields, Reader
from mesh.model import ObjectRef, PrivateKey, Secret, TrustBundle

OBJECT = Fields(("apiVersion", "kind", "metadata", "type", "data", "stringData", "immutable"))

TLS_TYPE = "kubernetes.io/tls"
OPAQUE = "Opaque"
#: Certificate, key, authorities and what those have taken back, as Kubernetes and as Istio call them.
KUBERNETES = ("tls.crt", "tls.key", "ca.crt", "ca.crl")
ISTIO = ("cert", "key", "cacert", "crl")


def read_secret(root: Reader, ref: ObjectRef) -> tuple[Secret, ...]:
    root.fields(OBJECT)
    type_ = root.at("type").text(OPAQUE)
    if type_ not in (TLS_TYPE, OPAQUE):
        return ()
    names = _names(root, type_)
    if names is None:
        return ()
    (certificate, chain), (key, private) = (_entry(root, name) for name in names[:2])
    return (
        Secret(
            ref,
            pem.certificates(certificate, chain),
            PrivateKey(pem.private_key(key, private)),
            *_judging(lambda name: _entry(root, name), *names[2:]),
        ),
    )


def read_trust_bundle(root: Reader, ref: ObjectRef) -> tuple[TrustBundle, ...]:
    """Of a ConfigMap."""
    data = root.at("data").mapping()

    def entry(name: str) -> tuple[Reader, bytes]:
        return data.at(name), data.at(name).text().encode(errors="replace")

    for *_, authorities, revoked in (KUBERNETES, ISTIO):
        if entry(authorities)[1]:
            return (TrustBundle(ref, *_judging(entry, authorities, revoked)),)
    return ()


def _judging(
    entry: Callable[[str], tuple[Reader, bytes]], authorities: str, revoked: str
) -> tuple[bytes, bytes]:
    """Authorities and what they have taken back. Who has the latter expects that it counts no more."""
    (reader, found), (taken_back, lists) = entry(authorities), entry(revoked)
    for *_, name in (KUBERNETES, ISTIO):
        if name != revoked and entry(name)[1]:
            entry(name)[0].refuse(f"is what stands beside {authorities} under the name {revoked}")
    if lists and not found:
        taken_back.refuse(f"needs {authorities} beside it: it takes back what that authority has given")
    return pem.certificates(reader, found), pem.revocations(taken_back, lists)


def _names(root: Reader, type_: str) -> tuple[str, str, str, str] | None:
    """Under which names all of that stands: a pair at least, or authorities alone."""
    if type_ == TLS_TYPE:
        for name in KUBERNETES[:2]:
            reader, content = _entry(root, name)
            if not content and reader.sound:
                reader.refuse(f"is required in a Secret of type {TLS_TYPE}")
        return KUBERNETES
    for names in (KUBERNETES, ISTIO):
        if all(_entry(root, name)[0].present for name in names[:2]):
            return names
    alone = (("", "", *names[2:]) for names in (KUBERNETES, ISTIO))
    return next((names for names in alone if _entry(root, names[2])[0].present), None)


def _entry(root: Reader, name: str) -> tuple[Reader, bytes]:
    """What stands under a name, as text in `stringData` or else in base64 in `data`; empty is absent."""
    for group in (root.at("data"), root.at("stringData")):
        if group.present and group.sound and not isinstance(group.value, Mapping):
            group.refuse("must be a mapping of names to text")
    plain, coded = root.at("stringData").at(name), root.at("data").at(name)
    reader = plain if plain.present else coded
    if not reader.present or not reader.sound:
        return reader, b""
    if not isinstance(reader.value, str):
        reader.refuse("must be text")
        return reader, b""
    content = reader.value.encode(errors="replace")
    if plain.present:
        return reader, content
    try:
        return reader, binascii.a2b_base64(b"".join(content.split()), strict_mode=True)
    except binascii.Error:
        reader.refuse("is not base64")
        return reader, b""
