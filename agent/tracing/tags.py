"""What a span says, as texts, for those who take nothing else."""

from __future__ import annotations

from opentelemetry.sdk.trace import ReadableSpan

#: What a pod's Envoy calls the pod's resource.
_SERVICE = "service.name"


def service(span: ReadableSpan) -> str:
    """Whose it is."""
    return str(span.resource.attributes.get(_SERVICE, ""))


def tags(span: ReadableSpan) -> dict[str, str]:
    """Its attributes and, but for the service, those of its resource."""
    found = {name: _text(value) for name, value in (span.attributes or {}).items()}
    return found | {name: _text(v) for name, v in span.resource.attributes.items() if name != _SERVICE}


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
