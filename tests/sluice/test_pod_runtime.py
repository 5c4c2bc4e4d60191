"""Pods as real processes: networking, readiness, restarts, adoption, and nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sluice.cgroups import processes
from sluice.namespaces import netns_names
from tests.sluice.conftest import Node, eventually

pytestmark = pytest.mark.root

SERVER = """
import http.server, socket, sys
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = self.client_address[0].encode()
        self.send_response(200); self.send_header("content-length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
Server(("::", 8080), Handler).serve_forever()
"""


def running(*command: str, **more: Any) -> dict[str, Any]:
    return {"containers": [{"name": "app", "command": list(command), **more}]}


def serving(**more: Any) -> dict[str, Any]:
    probe = {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 0.2}
    ports = [{"name": "http", "containerPort": 8080}]
    return running(sys.executable, "-c", SERVER, ports=ports, readinessProbe=probe, **more)


def fetch(node: Node, pod: str, address: str) -> str:
    host = f"[{address}]" if ":" in address else address
    text = f"import urllib.request as u; print(u.urlopen('http://{host}:8080/', timeout=5).read().decode())"
    return node.execute(pod, sys.executable, "-c", text).strip()


def test_pods_reach_each_other_over_both_families_from_their_own_addresses(node: Node) -> None:
    node.put("web", serving())
    node.put("client", running("sleep", "1000"))
    node.start()
    web, client = node.ready("web"), node.ready("client")
    for family in (0, 1):
        seen = fetch(node, "client", web["addresses"][family])
        assert seen.removeprefix("::ffff:") == client["addresses"][family]
        own = fetch(node, "web", web["addresses"][family])
        assert own.removeprefix("::ffff:") == web["addresses"][family]


def test_probes_come_from_the_node_and_nothing_is_added_to_the_machines_own_namespace(node: Node) -> None:
    before = subprocess.check_output(["ip", "-o", "link"])
    node.put("web", serving())
    node.start()
    web = node.ready("web")
    assert subprocess.check_output(["ip", "-o", "link"]) == before
    inside = ["nsenter", f"--net=/run/netns/{node.mesh.node_netns}", "--", "cat"]
    assert subprocess.check_output([*inside, "/proc/sys/net/ipv6/conf/all/forwarding"]).strip() == b"1"
    assert Path(web["netns"]).name in netns_names()
    assert web["cgroup"].endswith(f"sluice-{node.mesh.name}/pods/shop_web")


def test_containers_wait_for_the_gate_while_the_sandbox_is_already_recorded(node: Node) -> None:
    node.put("web", running("sleep", "1000"))
    node.start(opened=False)
    sandbox = eventually(lambda: node.sandbox("web"))
    assert not sandbox["ready"]
    eventually(lambda: "agent" in node.state("web").get("message", ""))
    assert processes(Path(sandbox["cgroup"])) == []
    node.open()
    node.ready("web")


def test_a_container_is_restarted_and_its_leftovers_are_killed(node: Node) -> None:
    node.put("web", running("sh", "-c", "sleep 1000 & exec sleep 1001"))
    node.start()
    cgroup = Path(node.ready("web")["cgroup"])
    first = eventually(lambda: len(found := processes(cgroup)) == 2 and found)
    main = eventually(lambda: [c["pid"] for c in node.state("web").get("containers", ()) if c["pid"]])[0]
    os.kill(main, 9)
    eventually(lambda: node.state("web")["containers"][0]["restarts"] == 1)
    second = eventually(lambda: len(found := processes(cgroup)) == 2 and found)
    assert not set(first) & set(second)


@pytest.mark.parametrize(
    ("policy", "status", "restarted"),
    [("Never", 1, False), ("OnFailure", 0, False), ("OnFailure", 1, True), ("Always", 0, True)],
)
def test_restart_policy_decides(node: Node, policy: str, status: int, restarted: bool) -> None:
    node.put("job", running("sh", "-c", f"exit {status}") | {"restartPolicy": policy})
    node.start()
    if restarted:
        eventually(lambda: any(c["restarts"] > 1 for c in node.state("job").get("containers", ())))
    else:
        phase = eventually(lambda: (p := node.state("job").get("phase")) in ("Succeeded", "Failed") and p)
        assert phase == ("Succeeded" if status == 0 else "Failed")
        assert node.state("job")["containers"][0]["exit_status"] == status


def test_an_exec_probe_decides_readiness_both_ways(node: Node, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    probe = {"exec": {"command": ["test", "-e", str(flag)]}, "periodSeconds": 0.1, "failureThreshold": 1}
    node.put("web", running("sleep", "1000", readinessProbe=probe))
    node.start()
    eventually(lambda: node.state("web").get("phase") == "Running")
    assert not node.sandbox("web")["ready"]  # type: ignore[index]
    flag.touch()
    node.ready("web")
    flag.unlink()
    eventually(lambda: not node.sandbox("web")["ready"])  # type: ignore[index]


def test_a_tcp_probe_finds_a_port(node: Node) -> None:
    spec = serving()
    spec["containers"][0]["readinessProbe"] = {"tcpSocket": {"port": 8080}}
    node.put("web", spec)
    node.start()
    node.ready("web")


def test_environment_arguments_and_working_directory_are_the_pods(node: Node, tmp_path: Path) -> None:
    env = [
        {"name": "GREETING", "value": "hello"},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "WHO", "value": "$(GREETING) $(IP) $$(IP)"},
    ]
    args = ['echo "$WHO $(GREETING) $PWD"; exec sleep 1000']
    spec = running("sh", "-c", args=args, env=env, workingDir=str(tmp_path))
    node.put("web", spec)
    node.start()
    address = node.ready("web")["addresses"][0]
    log = node.mesh.logs / "shop_web_app.log"
    eventually(lambda: log.read_text())
    assert log.read_text() == f"hello {address} $(IP) hello {tmp_path}\n"


def test_a_pod_knows_its_own_name_and_has_its_own_hosts_file(node: Node) -> None:
    node.put("web", running("sleep", "1000"))
    node.start()
    addresses = node.ready("web")["addresses"]
    assert node.execute("web", "getent", "ahostsv4", "web").split()[0] == addresses[0]
    assert "cluster.local" in node.execute("web", "cat", "/etc/resolv.conf")
    assert node.execute("web", "uname", "-n") == node.execute("web", "cat", "/etc/hostname") == "web\n"
    assert os.uname().nodename != "web"


def test_a_changed_spec_recreates_the_pod_and_an_equal_one_does_not(node: Node) -> None:
    node.put("web", running("sleep", "1000"))
    node.start()
    first = node.ready("web")
    node.put("web", running("sleep", "1000", image="ignored"))
    second = eventually(lambda: (s := node.sandbox("web")) and s["uid"] != first["uid"] and s["ready"] and s)
    assert second["addresses"] != first["addresses"]
    assert Path(first["netns"]).name not in netns_names()
    node.put("web", running("sleep", "1000", image="ignored"))
    node.put("other", running("sleep", "1000"))
    node.ready("other")
    assert node.sandbox("web") == second


def test_a_deleted_pod_ends_by_sigterm_and_leaves_nothing(node: Node, tmp_path: Path) -> None:
    said = tmp_path / "said"
    script = f"trap 'echo bye > {said}; exit 0' TERM; echo trapped; while :; do sleep 0.05; done"
    node.put("web", running("sh", "-c", script))
    node.start()
    sandbox = node.ready("web")
    eventually(lambda: "trapped" in (node.mesh.logs / "shop_web_app.log").read_text())
    node.delete("web")
    eventually(lambda: node.sandbox("web") is None)
    assert said.read_text() == "bye\n"
    assert not Path(sandbox["cgroup"]).exists()
    assert Path(sandbox["netns"]).name not in netns_names()
    links = subprocess.check_output(["ip", "-n", node.mesh.node_netns, "-o", "link"], text=True)
    assert sandbox["host_interface"] not in links


def test_a_pod_without_a_command_is_a_problem_and_the_others_run(node: Node) -> None:
    node.put("image", {"containers": [{"name": "app", "image": "nginx"}]})
    node.put("web", running("sleep", "1000"))
    node.start()
    node.ready("web")
    problem = eventually(node.problems)[0]
    assert problem == {
        "object": "Pod shop/image",
        "field": "spec.containers[0].command",
        "message": "images are not pulled; give command",
    }


def test_pods_of_other_nodes_are_not_run(node: Node) -> None:
    node.put("far", running("sleep", "1000") | {"nodeName": "elsewhere"})
    node.put("near", running("sleep", "1000") | {"nodeName": "local"})
    node.start()
    node.ready("near")
    assert node.state("far") == {}


def test_a_new_supervisor_adopts_running_pods_and_restarts_what_died_meanwhile(node: Node) -> None:
    node.put("web", serving())
    node.put("gone", running("sleep", "1000"))
    node.put("removed", running("sleep", "1000"))
    node.start()
    web, gone = node.ready("web"), node.ready("gone")
    node.ready("removed")
    pids = processes(Path(web["cgroup"]))
    node.kill()
    node.delete("removed")
    for pid in processes(Path(gone["cgroup"])):
        os.kill(pid, 9)
    node.mesh.pod_status.unlink()
    node.start()
    eventually(lambda: node.state("web").get("ready"))
    assert node.sandbox("web") == web
    assert processes(Path(web["cgroup"])) == pids
    eventually(lambda: (s := node.sandbox("gone")) and s["ready"] and s["uid"] != gone["uid"])
    eventually(lambda: node.sandbox("removed") is None)
    os.kill(pids[0], 9)
    eventually(lambda: processes(Path(web["cgroup"])) not in ([], pids))


def test_down_leaves_nothing_even_when_the_supervisor_is_dead(node: Node) -> None:
    node.put("web", running("sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"))
    node.start()
    sandbox = node.ready("web")
    node.kill()
    node.remove()
    mesh = node.mesh
    assert not [name for name in netns_names() if name.startswith(mesh.node_netns)]
    assert not any(path.exists() for path in (mesh.state, mesh.run, mesh.pins, mesh.cgroup))
    assert processes(Path(sandbox["cgroup"])) == []
