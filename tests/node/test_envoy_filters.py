"""EnvoyFilters in the whole product: what they put into an Envoy answers at both ends, and one that Envoy
would refuse never reaches it."""

from __future__ import annotations

from tests.node.mesh import RunningMesh, sluice


def script(code: str, context: str, app: str) -> str:
    return f"""
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {{name: lua, namespace: shop}}
spec:
  workloadSelector: {{labels: {{app: {app}}}}}
  configPatches:
  - applyTo: HTTP_FILTER
    match:
      context: {context}
      listener:
        filterChain:
          filter: {{name: envoy.filters.network.http_connection_manager, subFilter: {{name: envoy.filters.http.router}}}}
    patch:
      operation: INSERT_BEFORE
      value:
        name: lua
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua
          default_source_code: {{inline_string: '{code}'}}
"""  # noqa: E501


TOUCH = 'function envoy_on_response(handle) handle:headers():add("x-touched", "yes") end'


def touched(mesh: RunningMesh, url: str) -> bool:
    status, text = mesh.get("shop/client", url, "-i")
    assert status == 200
    return "x-touched: yes" in str(text)


def test_a_filter_touches_requests_and_a_broken_one_changes_nothing(mesh: RunningMesh) -> None:
    url = f"http://{mesh.pod('shop/web-v1')['ip']}:8080/"
    assert not touched(mesh, url)
    mesh.apply(script(TOUCH, "SIDECAR_INBOUND", "web"))
    assert touched(mesh, url)
    broken = script("function (", "SIDECAR_INBOUND", "web")
    told = sluice("apply", "--name", mesh.name, "-f", "-", stdin=broken)
    assert "Envoy refuses what it makes" in told.stdout + told.stderr
    assert touched(mesh, url), "the version before stays"
    problems = [problem["message"] for problem in mesh.status()["problems"]]
    assert len(problems) == 1 and problems[0].startswith("Envoy refuses what it makes"), "no proxy refused it"
    mesh.delete(broken)
    assert not touched(mesh, url)
    assert mesh.explain("shop/client", url.removeprefix("http://").rstrip("/"))["path"] == "kernel"


def test_a_filter_touches_what_a_pod_calls(mesh: RunningMesh) -> None:
    mesh.apply(script(TOUCH, "SIDECAR_OUTBOUND", "client"))
    assert touched(mesh, "http://web.shop.svc.cluster.local/")
    assert "envoy" not in mesh.processes("shop/web-v1")
    mesh.delete(script(TOUCH, "SIDECAR_OUTBOUND", "client"))
    assert not touched(mesh, "http://web.shop.svc.cluster.local/")
