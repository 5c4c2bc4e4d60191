"""Services in the kernel: names, both families, UDP, affinity, refusal without a ready pod."""

from __future__ import annotations

from collections import Counter

from tests.node.mesh import RunningMesh


def test_every_form_of_a_name_leads_to_the_service(mesh: RunningMesh) -> None:
    for name in ("web", "web.shop", "web.shop.svc", "web.shop.svc.cluster.local"):
        assert mesh.get("shop/client", f"http://{name}/")[0] == 200
    assert mesh.get("street/stranger", "http://web.shop/")[0] == 200


def test_both_backends_serve_and_the_pod_address_is_the_peer(mesh: RunningMesh) -> None:
    ip = mesh.pod("shop/client")["ip"]
    answers = [mesh.get("shop/client", "http://web/", "-4")[1] for _ in range(24)]
    names = Counter(a["name"] for a in answers if isinstance(a, dict))
    assert set(names) == {"v1", "v2"}
    assert {a["peer"] for a in answers if isinstance(a, dict)} == {ip}


def test_ipv6_is_served_alike(mesh: RunningMesh) -> None:
    status, answer = mesh.get("shop/client", "http://web/", "-6")
    assert status == 200 and isinstance(answer, dict) and ":" in answer["peer"]


def test_an_ipv4_mapped_socket_is_translated_and_sees_the_service_as_its_peer(mesh: RunningMesh) -> None:
    said = mesh.python(
        "shop/client",
        """
import socket
vip = socket.getaddrinfo("web", 80, socket.AF_INET)[0][4][0]
s = socket.socket(socket.AF_INET6); s.settimeout(3); s.connect(("::ffff:" + vip, 80))
print(s.getpeername()[:2] == ("::ffff:" + vip, 80))
""",
    )
    assert said == "True"


def test_udp_is_translated_there_and_back(mesh: RunningMesh) -> None:
    for family in ("AF_INET", "AF_INET6"):
        said = mesh.python(
            "shop/client",
            f"""
import socket
vip = socket.getaddrinfo("web", 9000, socket.{family})[0][4][0]
s = socket.socket(socket.{family}, socket.SOCK_DGRAM); s.settimeout(3)
s.sendto(b"hello", (vip, 9000)); data, peer = s.recvfrom(100)
print(data.decode(), peer[0] == vip, peer[1])
c = socket.socket(socket.{family}, socket.SOCK_DGRAM); c.settimeout(3)
c.connect((vip, 9000)); c.send(b"again"); print(c.recv(100).decode(), c.getpeername()[0] == vip)
""",
        )
        assert said == "hello True 9000\nagain True"


def test_a_service_without_a_ready_pod_refuses_at_once(mesh: RunningMesh) -> None:
    said = mesh.python(
        "shop/client",
        """
import socket
try: socket.create_connection(("nobody", 80), 3)
except OSError as e: print(type(e).__name__)
""",
    )
    assert said == "ConnectionRefusedError"


def test_client_ip_affinity_keeps_a_caller_at_its_backend(mesh: RunningMesh) -> None:
    for pod in ("shop/client", "shop/other", "street/stranger"):
        answers = [mesh.get(pod, "http://sticky.shop/")[1] for _ in range(6)]
        assert len({a["name"] for a in answers if isinstance(a, dict)}) == 1


def test_a_pod_reaches_itself_through_its_own_service(mesh: RunningMesh) -> None:
    assert mesh.get("shop/web-v1", "http://web-v1.shop/")[0] == 200


def test_the_exit_status_is_passed_through(mesh: RunningMesh) -> None:
    assert mesh.exec("shop/client", "sh", "-c", "exit 7").returncode == 7
