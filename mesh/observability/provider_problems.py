"""What is wrong between a Telemetry and MeshConfig: providers that it names and that are none there."""

from __future__ import annotations

from collections.abc import Iterator

from mesh.model import MeshConfig, Problem, Telemetry


def provider_problems(telemetry: Telemetry, config: MeshConfig) -> Iterator[Problem]:
    tracing = {provider.name for provider in config.tracing.providers}
    for index, rule in enumerate(telemetry.tracing):
        if rule.provider is not None and rule.provider not in tracing:
            text = "is no extension provider of tracing in MeshConfig, so nothing is traced"
            yield Problem(
                telemetry.ref, f"spec.tracing[{index}].providers[0].name", f"{rule.provider} {text}"
            )
    logging = {provider.name for provider in config.access_logging.providers}
    for index, logged in enumerate(telemetry.logging):
        for place, name in enumerate(logged.providers or ()):
            if name not in logging:
                where = f"spec.accessLogging[{index}].providers[{place}].name"
                text = "is no extension provider of access logs in MeshConfig, so it logs nothing"
                yield Problem(telemetry.ref, where, f"{name} {text}")
