"""BackendTLSPolicy of gateway.networking.k8s.io: how what is sent to a Service is secured (GEP-1897).

Whether the authorities exist is not known here, nor which of several policies counts.
"""

from __future__ import annotations

from mesh.dialects.gateway_route import hostname, read_spec
from mesh.dialects.reading import Fields, Reader, shown
from mesh.dialects.syntax import created, is_label, name, printable
from mesh.model import BackendTls, ObjectRef, ServiceName, SubjectName, TlsTarget

SPEC = Fields(("targetRefs", "validation"), refused=("options",))
TARGET = Fields(("group", "kind", "name", "sectionName"))
VALIDATION = Fields(("caCertificateRefs", "wellKnownCACertificates", "hostname", "subjectAltNames"))
AUTHORITY = Fields(("group", "kind", "name"))
SUBJECT = Fields(("type", "hostname", "uri"))


def read_backend_tls_policy(root: Reader, ref: ObjectRef) -> tuple[BackendTls, ...]:
    spec = read_spec(root, SPEC)
    refs = spec.at("targetRefs")
    items = refs.items(at_most=16)
    if not items and refs.sound:
        refs.refuse("is required: name the Service whose backends speak TLS")
    targets = tuple(found for item in items if (found := _target(item)))
    if len(set(targets)) < len(targets):
        refs.refuse("names the same Service and port twice")
    validation = spec.at("validation").fields(VALIDATION)
    validation.require()
    host = _precise(validation.at("hostname"))
    names = tuple(dict.fromkeys(_subject(item) for item in validation.at("subjectAltNames").items(at_most=5)))
    authorities = _authorities(validation)
    if not targets:
        return ()
    return (BackendTls(ref, created(root), targets, host, names or (SubjectName("dns", host),), authorities),)


def _target(reader: Reader) -> TlsTarget | None:
    reader.fields(TARGET)
    group, kind = reader.at("group").text(), reader.at("kind").text()
    for required in ("group", "kind", "name"):
        reader.at(required).require()
    if (group, kind) != ("", "Service"):
        if reader.sound:
            reader.note(f"only Services are targets, not {shown(kind)}: this one is left to others")
        return None
    service = ServiceName(reader.ref.namespace, name(reader.at("name"), label=True))
    section = reader.at("sectionName")
    if section.present and section.sound and not is_label(section.text()):
        section.refuse(f"{shown(section.value)} is not the name of a port")
    return TlsTarget(service, section.text())


def _precise(reader: Reader) -> str:
    text = hostname(reader)
    if reader.require() and text.startswith("*"):
        reader.refuse("is what is asked for, so that no wildcard can stand here")
    return text


def _subject(reader: Reader) -> SubjectName:
    reader.fields(SUBJECT)
    type_, host, uri = reader.at("type"), reader.at("hostname"), reader.at("uri")
    type_.require()
    chosen = type_.choice(("Hostname", "URI"))
    wanted, other = (uri, host) if chosen == "URI" else (host, uri)
    wanted.require()
    if other.present:
        other.refuse(f"does not belong to type {shown(chosen)}")
    if chosen != "URI":
        return SubjectName("dns", hostname(host))
    text = printable(uri, 253)
    scheme, colon, rest = text.partition(":")
    if uri.sound and not (scheme and colon and rest):
        uri.refuse(f"{shown(text)} is not an absolute URI such as spiffe://cluster.local/ns/shop/sa/web")
    return SubjectName("uri", text)


def _authorities(reader: Reader) -> tuple[ObjectRef, ...]:
    """() is the system's, which must be asked for by name."""
    refs, known = reader.at("caCertificateRefs"), reader.at("wellKnownCACertificates")
    chosen = known.choice(("System",))
    found = tuple(_authority(item) for item in refs.items(at_most=8))
    if found and chosen:
        known.refuse("stands alone, without caCertificateRefs")
    if reader.present and not found and not chosen and reader.sound:
        reader.refuse("names no authority: write caCertificateRefs or wellKnownCACertificates: System")
    return found


def _authority(reader: Reader) -> ObjectRef:
    reader.fields(AUTHORITY)
    for required in ("group", "kind", "name"):
        reader.at(required).require()
    kind = reader.at("kind").choice(("ConfigMap", "Secret"))
    if reader.at("group").text():
        reader.at("group").refuse(f'of a {kind} is ""')
    return ObjectRef(kind, reader.ref.namespace, name(reader.at("name")))
