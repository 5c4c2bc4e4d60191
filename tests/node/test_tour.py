"""Done-when 2: a connection meets Envoy while an L7 rule selects it, and only then."""

from __future__ import annotations

import sys
from subprocess import PIPE, Popen

from tests.node.manifests import GET_ONLY, L4
from tests.node.mesh import RUN, RunningMesh, until

WEB = ("shop/web-v1", "shop/web-v2")

#: Requests `/public` and then `/secret`, a line each, on one connection that is kept alive; after an end of
#: the connection it says so and opens another.
KEPT_ALIVE = """
import http.client, sys
c = http.client.HTTPConnection("web", 80, timeout=5)
for line in sys.stdin:
    try:
        c.request("GET", line.strip()); r = c.getresponse(); r.read(); print(r.status, flush=True)
    except Exception as e:
        c.close(); print(type(e).__name__, flush=True)
"""


def no_envoy(mesh: RunningMesh) -> bool:
    return not any("envoy" in mesh.processes(pod) for pod in (*WEB, "shop/client"))


def test_l4_policy_is_the_kernels_alone(mesh: RunningMesh) -> None:
    assert mesh.get("shop/other", "http://web/public")[0] == 200
    mesh.apply(L4)
    try:
        assert mesh.get("shop/client", "http://web/public")[0] == 200
        assert mesh.get("shop/client", "http://web/secret")[0] == 200
        assert mesh.get("shop/other", "http://web/public")[0] == 0, "refused at connect, not timed out"
        assert mesh.get("street/stranger", "http://web.shop/public")[0] == 0
        assert no_envoy(mesh)
        answer = mesh.explain("shop/other", "shop/web:80")
        assert (answer["verdict"], answer["path"]) == ("deny", "kernel")
        assert answer["reasons"][0]["object"] == "NetworkPolicy shop/web-from-shop"
        drops = mesh.observe("--from", "shop/other", "--verdict", "DROPPED", "--last", "20")
        assert drops and drops[-1]["policies"] == ["NetworkPolicy shop/web-from-shop"]
    finally:
        mesh.delete(L4)
    assert mesh.get("shop/other", "http://web/public")[0] == 200


def test_an_http_rule_brings_envoy_and_takes_it_away_again(mesh: RunningMesh) -> None:
    command = [*RUN, "exec", "--name", mesh.name, "shop/client", "--", sys.executable, "-u", "-c", KEPT_ALIVE]
    with Popen(command, stdin=PIPE, stdout=PIPE, text=True) as kept:
        assert kept.stdin and kept.stdout

        def ask(path: str) -> str:
            assert kept.stdin and kept.stdout
            kept.stdin.write(path + "\n")
            kept.stdin.flush()
            return kept.stdout.readline().strip()

        assert ask("/secret") == "200"
        pods = {pod["name"]: pod["ip"] for pod in mesh.status()["pods"]}
        mesh.apply(GET_ONLY)
        try:
            # The connection that was there before obeys: it was ended, and its successor is judged.
            assert ask("/secret") != "200"
            assert ask("/secret") == "403"
            assert ask("/public/a") == "200"
            assert mesh.get("shop/client", "http://web/public")[0] == 200
            assert mesh.get("shop/client", "http://web/secret")[0] == 403
            assert mesh.get("shop/client", "http://web/public", "-X", "POST")[0] == 403
            assert mesh.get("shop/other", "http://web/public")[0] == 0
            for pod in WEB:
                assert "envoy" in mesh.processes(pod)
                proxy = mesh.pod(pod)["proxy"]
                assert proxy["running"] and proxy["pid"]
                assert proxy["reasons"] == ["CiliumNetworkPolicy shop/get-only ingress[0].toPorts[0]"]
            assert "envoy" not in mesh.processes("shop/client")
            assert {p["name"]: p["ip"] for p in mesh.status()["pods"]} == pods, "the pods kept running"
            denied = mesh.explain("shop/client", "shop/web:80", "--method", "POST", "--path", "/public")
            assert (denied["verdict"], denied["path"]) == ("deny", "envoy")

            def seen() -> list[dict[str, object]]:
                flows = mesh.observe("--from", "shop/client", "--last", "100")
                return [f for f in flows if f.get("l7") and f["l7"]["status"] == 403]

            flow = until(seen, "the 403 is observed")[-1]
            assert (flow["verdict"], flow["path"]) == ("DROPPED", "envoy")
            assert flow["policies"] == ["CiliumNetworkPolicy shop/get-only ingress[0].toPorts[0]"]
        finally:
            mesh.delete(GET_ONLY)
        assert mesh.get("shop/client", "http://web/secret")[0] == 200
        assert ask("/secret") in ("200", "403")  # its Envoy may still serve it while it drains
        kept.stdin.close()
    until(lambda: no_envoy(mesh), "the Envoys are stopped when they have drained", 90)
    answer = mesh.explain("shop/client", "shop/web:80")
    assert (answer["verdict"], answer["path"], answer["reasons"]) == ("allow", "kernel", [])
    assert mesh.get("shop/client", "http://web/secret")[0] == 200
