"""Access logs in a running mesh: an Envoy that runs anyway writes them, `sluice logs` shows them."""

from __future__ import annotations

from tests.node.manifests import CANARY
from tests.node.mesh import RunningMesh, until

CONFIG = """
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    accessLogFile: /dev/stdout
    accessLogFormat: "seen %REQ(:PATH)% %RESPONSE_CODE%"
"""

OFF = """
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: quiet, namespace: shop}
spec: {selector: {matchLabels: {app: client}}, accessLogging: [{disabled: true}]}
"""


def test_an_envoys_access_log_is_the_log_of_istio_proxy_until_a_telemetry_turns_it_off(
    mesh: RunningMesh,
) -> None:
    def seen() -> list[str]:
        written = mesh.run("logs", "shop/client", "-c", "istio-proxy").splitlines()
        return [line for line in written if line.startswith("seen ")]

    mesh.apply(CANARY, CONFIG)
    try:
        mesh.get("shop/client", "http://web/logged")
        until(lambda: seen() == ["seen /logged 200"], "the request has a line")
        mesh.apply(OFF)
        mesh.get("shop/client", "http://web/quiet")
        mesh.delete(OFF)
        mesh.get("shop/client", "http://web/again")
        until(lambda: seen()[1:] == ["seen /again 200"], "only the later request has a line")
    finally:
        mesh.delete(CANARY, CONFIG)
