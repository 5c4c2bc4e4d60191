"""RateLimit in the whole product: no connection goes round it, not even one from before."""

from __future__ import annotations

import sys
from subprocess import PIPE, Popen

from tests.node.mesh import RUN, RunningMesh, until

LIMIT = """
apiVersion: sluice.io/v1alpha1
kind: RateLimit
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  limits: [{requests: 2, per: hour, by: [{caller: {}}]}]
"""

#: Asks once, and again on the same connection when told to.
KEPT = """
import http.client, sys
connection = http.client.HTTPConnection(sys.argv[1], 8080, timeout=10)
for _ in range(2):
    try:
        connection.request("GET", "/")
        response = connection.getresponse()
        response.read()
        print(response.status)
    except (ConnectionError, http.client.HTTPException):
        print("ended")
    sys.stdin.readline()
"""


def test_a_limit_binds_connections_that_were_direct_before_and_each_caller(mesh: RunningMesh) -> None:
    """Rule 9: it is a rule that judges, so what it cannot see is ended."""
    address = mesh.pod("shop/web-v1")["ip"]
    url = f"http://{address}:8080/"
    command = [*RUN, "exec", "--name", mesh.name, "shop/client", "--", sys.executable, "-uc", KEPT, address]
    with Popen(command, stdin=PIPE, stdout=PIPE, text=True) as run:
        assert run.stdin and run.stdout and run.stdout.readline() == "200\n"
        assert "envoy" not in mesh.processes("shop/web-v1")
        mesh.apply(LIMIT)
        run.stdin.write("\n")
        run.stdin.flush()
        assert run.stdout.readline() == "ended\n"
    for pod in ("shop/client", "shop/other"):
        assert [mesh.get(pod, url)[0] for _ in range(3)] == [200, 200, 429]
    drops = until(lambda: mesh.observe("--verdict", "DROPPED", "--from", "shop/other"), "no flow")
    assert [(flow["l7"]["status"], flow["policies"]) for flow in drops] == [
        (429, ["RateLimit shop/web limits[0]"])
    ]
    answer = mesh.explain("shop/client", f"{address}:8080")
    assert (answer["verdict"], answer["path"]) == ("allow", "envoy")
    mesh.delete(LIMIT)
    assert [mesh.get("shop/client", url)[0] for _ in range(3)] == [200] * 3
    assert mesh.explain("shop/client", f"{address}:8080")["path"] == "kernel"
