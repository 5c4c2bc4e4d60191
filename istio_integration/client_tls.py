"""ClientTLSSettings: how an Envoy secures what it sends."""

from __future__ import annotations

from typing import Literal, cast

from mesh.dialects.reading import Fields, Reader
from mesh.dialects.syntax import name, printable
from mesh.model import ClientTls

OWN_FILES, THEIR_FILES = ("clientCertificate", "privateKey"), ("caCertificates", "caCrl")
FILES = (*OWN_FILES, *THEIR_FILES)
CLIENT_TLS = Fields(("mode", *FILES, "credentialName", "subjectAltNames", "sni", "insecureSkipVerify"))

Mode = Literal["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"]
_MODES = ("DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL")
#: What stands in the certificates of the mesh is the mesh's to say.
_WITH_FILES = ("SIMPLE", "MUTUAL")


def client_tls(reader: Reader) -> ClientTls | None:
    if not reader.fields(CLIENT_TLS).present:
        return None
    mode = reader.at("mode").choice(_MODES, "DISABLE")
    skip = reader.at("insecureSkipVerify").boolean()
    if mode not in _WITH_FILES:
        for field in (*FILES, "credentialName", "insecureSkipVerify"):
            if reader.at(field).present:
                reader.at(field).refuse(f"goes with mode SIMPLE or MUTUAL, not {mode}")
    credential = name(reader.at("credentialName"))
    for field in FILES:
        if credential and reader.at(field).present:
            reader.at(field).refuse("stands in the Secret that credentialName names")
        if mode == "MUTUAL" and field in OWN_FILES and not credential:
            reader.at(field).require()
    for field in (*THEIR_FILES, "subjectAltNames"):
        if skip and reader.at(field).present:
            reader.at(field).refuse("has no use beside insecureSkipVerify, which verifies nothing")
    certificate, key, authorities, revoked = (printable(reader.at(field), 4096) for field in FILES)
    return ClientTls(
        mode=cast(Mode, mode),
        sni=printable(reader.at("sni"), 253),
        names=tuple(printable(item, 4096) for item in reader.at("subjectAltNames").items()),
        certificate=certificate,
        key=key,
        authorities="" if authorities == "system" else authorities,
        revoked=revoked,
        verify=not skip,
        credential=credential,
    )
