"""HTTPFaultInjection: requests that are delayed or answered with an error on purpose."""

from __future__ import annotations

from istio_integration.duration import duration_ms
from istio_integration.number import WHOLE, share
from mesh.dialects.reading import Fields, Reader, shown
from mesh.model import Fault

FAULT = Fields(("delay", "abort"))
DELAY = Fields(("percentage", "percent", "fixedDelay"), refused=("exponentialDelay",))
ABORT = Fields(("percentage", "httpStatus", "grpcStatus"), refused=("http2Error",))

#: In the order of their numbers.
GRPC_STATUSES = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)


def fault(reader: Reader) -> Fault | None:
    """Without a percentage nothing happens to any request, as in Istio."""
    if not reader.fields(FAULT).present:
        return None
    delay, abort = reader.at("delay").fields(DELAY), reader.at("abort").fields(ABORT)
    if not delay.present and not abort.present and reader.sound:
        reader.refuse("says nothing: write delay or abort")
    percent = delay.at("percent")
    if percent.present and delay.at("percentage").present:
        percent.refuse("is the old form of percentage: write only that")
    if delay.present:
        delay.at("fixedDelay").require()
    status, grpc = _error(abort)
    return Fault(
        delay_ms=duration_ms(delay.at("fixedDelay")),
        delayed=share(delay.at("percentage"), percent.integer(0, 100) * WHOLE // 100),
        status=status,
        grpc_status=grpc,
        aborted=share(abort.at("percentage"), 0),
    )


def _error(abort: Reader) -> tuple[int, int | None]:
    http, grpc = abort.at("httpStatus"), abort.at("grpcStatus")
    if http.present and grpc.present:
        grpc.refuse("cannot stand beside httpStatus: write one of them")
    if abort.present and abort.sound and not http.present and not grpc.present:
        abort.refuse("needs httpStatus or grpcStatus")
    return http.integer(200, 599), _grpc_status(grpc) if grpc.present else None


def _grpc_status(reader: Reader) -> int:
    """Istio takes names only."""
    text = reader.text()
    if text in GRPC_STATUSES:
        return GRPC_STATUSES.index(text)
    if reader.sound:
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 3 else len(GRPC_STATUSES)
        hint = f": write {GRPC_STATUSES[number]}" if number < len(GRPC_STATUSES) else ""
        reader.refuse(f"{shown(text)} is not the name of a gRPC status{hint or ' such as UNAVAILABLE'}")
    return 0
