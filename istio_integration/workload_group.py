"""WorkloadGroup of networking.istio.io, v1, v1beta1 and v1alpha3 (istio/api, workload_group.proto).

A template: `sluice register` makes a WorkloadEntry of it for a machine. Its probe is made from the node, for
nothing of ours runs on the machine.
"""

from __future__ import annotations

from ipaddress import ip_address

from istio_integration.endpoint import ENDPOINT, template
from mesh.dialects.reading import OBJECT, Fields, Reader, shown
from mesh.dialects.syntax import labels, port, printable, token
from mesh.model import HttpGet, ObjectRef, Probe, TcpSocket, WorkloadGroup, WorkloadName

WORKLOAD_GROUP = Fields(("metadata", "template", "probe"))
METADATA = Fields(("labels", "annotations"))
PROBE = Fields(
    (
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
        "httpGet",
        "tcpSocket",
    ),
    ("exec", "grpc"),
    "is not supported: the machine is asked from here, so write httpGet or tcpSocket",
)
HTTP_GET = Fields(("path", "port", "host", "scheme", "httpHeaders"))
HEADER = Fields(("name", "value"))
TCP_SOCKET = Fields(("host", "port"))
_HOUR = 3600


def read_workload_group(root: Reader, ref: ObjectRef) -> tuple[WorkloadGroup, ...]:
    root.fields(OBJECT)
    spec = root.at("spec").fields(WORKLOAD_GROUP)
    spec.require()
    metadata = spec.at("metadata").fields(METADATA)
    labels(metadata.at("labels"))
    for _, value in metadata.at("annotations").entries():
        value.text()
    spec.at("template").require()
    template(spec.at("template").fields(ENDPOINT))
    if spec.at("template").at("address").present:
        spec.at("template").at("address").note("has no effect: each machine has its own")
    probe = spec.at("probe")
    found = _probe(probe) if probe.present else None
    return (WorkloadGroup(WorkloadName(ref.namespace, ref.name), found),)


def _probe(reader: Reader) -> Probe | None:
    reader.fields(PROBE)
    http, tcp = reader.at("httpGet"), reader.at("tcpSocket")
    if http.present == tcp.present and reader.sound:
        reader.refuse("needs one of httpGet and tcpSocket")
    action = _http_get(http) if http.present else _tcp_socket(tcp)
    return Probe(
        action,
        # 0 is what an API server fills in for what is not said.
        initial_delay=reader.at("initialDelaySeconds").integer(0, _HOUR),
        period=reader.at("periodSeconds").integer(0, _HOUR) or 10,
        timeout=reader.at("timeoutSeconds").integer(0, _HOUR) or 1,
        failure_threshold=reader.at("failureThreshold").integer(0, 1000) or 3,
        success_threshold=reader.at("successThreshold").integer(0, 1000) or 1,
    )


def _http_get(reader: Reader) -> HttpGet:
    reader.fields(HTTP_GET)
    headers = []
    for item in reader.at("httpHeaders").items():
        item.fields(HEADER)
        headers.append((token(item.at("name"), item.at("name").text()), printable(item.at("value"), 4096)))
    reader.at("port").require()
    return HttpGet(
        port(reader.at("port")),
        "/" + printable(reader.at("path"), 4096).removeprefix("/"),
        _host(reader.at("host")),
        "HTTPS" if reader.at("scheme").choice(("HTTP", "HTTPS"), "HTTP") == "HTTPS" else "HTTP",
        tuple(headers),
    )


def _tcp_socket(reader: Reader) -> TcpSocket:
    reader.fields(TCP_SOCKET)
    if reader.present:
        reader.at("port").require()
    return TcpSocket(port(reader.at("port")), _host(reader.at("host")))


def _host(reader: Reader) -> str:
    """On the machine its loopback is meant; from here that is the machine's address."""
    text = printable(reader, 253)
    try:
        own = text in ("", "localhost") or ip_address(text).is_loopback
    except ValueError:
        own = False
    if not own:
        reader.refuse(f"{shown(text)}: each machine is asked at its own address, so leave it out")
    return ""
