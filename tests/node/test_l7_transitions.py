"""N58, N64: from one policy to another, kernel to Envoy and back, nothing passes that neither allows.

Requests without a pause, on new and on old connections, while a pod's policy goes from deny-all to "GET
/public only" to L4 to none, and back. The server writes down what reaches it; each entry must be explained by
a policy that was live while the request was under way.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from tests.agreement.history import History, Observation, check, now
from tests.node.manifests import pod
from tests.node.mesh import RUN, RunningMesh

HERE = Path(__file__).parent
PORT = 8080
LEDGER = pod("ledger", "shop", "{app: ledger}", str(PORT)).replace("server.py", "ledger.py")
DENY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: ledger, namespace: shop}
spec: {podSelector: {matchLabels: {app: ledger}}, policyTypes: [Ingress]}
"""
L4 = DENY.rstrip().removesuffix("}") + ", ingress: [{from: [{podSelector: {matchLabels: {app: client}}}]}]}\n"
L7 = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: ledger, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: ledger}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: client}}]
    toPorts: [{ports: [{port: "8080", protocol: TCP}], rules: {http: [{method: GET, path: "/public"}]}}]
"""
#: What is written, and whether GET and POST of /public are allowed then.
STATES: dict[str, tuple[tuple[str, ...], tuple[bool, bool]]] = {
    "nothing": ((), (True, True)),
    "deny": ((DENY,), (False, False)),
    "l4": ((L4,), (True, True)),
    "l7": ((DENY, L7), (True, False)),
}
#: Every transition there is, those between deny-all and L7 more than once.
WAY = (
    "deny", "l7", "deny", "l7", "deny", "l4", "l7", "l4", "nothing", "l7", "nothing", "deny", "nothing"
)  # fmt: skip
GET, POST = 0, 1


def go(mesh: RunningMesh, old: str, new: str) -> None:
    """From one state to the other, one change after the other where it takes two, the denying one first."""
    was, will = STATES[old][0], STATES[new][0]
    if add := [text for text in will if text not in was]:
        mesh.apply(*add)
    names = {_name(text) for text in will}
    if gone := [text for text in was if _name(text) not in names]:
        mesh.delete(*gone)


def _name(text: str) -> str:
    return text.split("kind: ")[1].split()[0]


@pytest.mark.timeout(600)
def test_no_request_passes_that_no_policy_of_its_time_allows(mesh: RunningMesh, long: bool) -> None:
    mesh.apply(LEDGER)
    history = History()
    history.flipped(0, now(), now(), STATES["nothing"][1])
    address = mesh.pod("shop/ledger")["ip"]
    asker = [sys.executable, "-u", str(HERE / "asker.py"), address, str(PORT), "/public"]
    command = [*RUN, "exec", "--name", mesh.name, "shop/client", "--", *asker]
    state = "nothing"
    try:
        with Popen(command, stdin=PIPE, stdout=PIPE, text=True) as run:
            assert run.stdin and run.stdout and run.stdout.readline() == "ready\n"
            for new in WAY * (20 if long else 1):
                before = now()
                go(mesh, state, new)
                history.flipped(len(history), before, now(), STATES[new][1])
                state = new
                time.sleep(0.1)  # it is lived in, too
            run.stdin.close()
            told = json.loads(run.stdout.readline())
    finally:
        go(mesh, state, "nothing")
    status, entries = mesh.get("shop/client", f"http://{address}:{PORT}/ledger")
    mesh.delete(LEDGER)
    assert status == 200 and isinstance(entries, list)
    arrivals = [
        Observation(POST if method == "POST" else GET, since, came, True) for method, since, came in entries
    ]
    answers = [
        Observation(POST if what.startswith("POST") else GET, since, until, outcome == 200)
        for what, since, until, outcome in told
        # A connection that broke proves nothing, and an old one's Envoy may judge it on until it has drained.
        if outcome in (200, 0) or (outcome == 403 and what.endswith("new"))
    ]
    tally = check(history, [*arrivals, *answers])
    seen = Counter((what, outcome) for what, _, _, outcome in told)
    print(f"{len(history) - 1} transitions, {len(arrivals)} requests delivered; {tally}; {dict(seen)}")
    assert tally.unexplained == []
    assert all(outcome in (200, 403, 0, -1) for _, outcome in seen), "no 5xx of an Envoy's own"
    assert (
        min(seen["POST new", 403], seen["POST kept", 403], seen["POST new", 0], seen["GET kept", 200]) > 100
    )
