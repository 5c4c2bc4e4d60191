"""There is no way round: raw sockets, direct addresses, second services, the other family, proxies."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.node.manifests import GET_ONLY
from tests.node.mesh import RunningMesh

#: A SYN by raw socket, with the right checksum, to ADDRESS:PORT; prints whether a SYN-ACK came.
RAW_SYN = """
import socket, struct, os
src, dst, dport, sport = {src!r}, {dst!r}, {port}, 33333
def csum(b):
    b += b"\\0" * (len(b) % 2)
    s = sum(struct.unpack("!%dH" % (len(b) // 2), b))
    while s >> 16: s = (s & 0xffff) + (s >> 16)
    return ~s & 0xffff
tcp = struct.pack("!HHIIBBHHH", sport, dport, 1, 0, 5 << 4, 2, 1024, 0, 0)
pseudo = socket.inet_aton(src) + socket.inet_aton(dst) + struct.pack("!BBH", 0, 6, len(tcp))
tcp = tcp[:16] + struct.pack("!H", csum(pseudo + tcp)) + tcp[18:]
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP); s.settimeout(1)
try:
    s.sendto(tcp, (dst, 0))
    while True:
        data, _ = s.recvfrom(2000)
        if data[20:24] == struct.pack("!HH", dport, sport):
            print("answered" if data[33] & 2 else "reset"); break
except OSError as e:
    print("nothing")
"""


@pytest.fixture(scope="module")
def ruled(mesh: RunningMesh) -> Iterator[RunningMesh]:
    mesh.apply(GET_ONLY)
    yield mesh
    mesh.delete(GET_ONLY)


def test_every_address_of_the_pod_is_judged(ruled: RunningMesh) -> None:
    pod = ruled.pod("shop/web-v1")
    four, six = pod["addresses"]
    for url in (
        "http://web",
        "http://web-v1",
        "http://sticky",
        f"http://{four}:8080",
        f"http://[{six}]:8080",
    ):
        assert ruled.get("shop/client", f"{url}/public")[0] == 200, url
        assert ruled.get("shop/client", f"{url}/secret")[0] == 403, url
        assert ruled.get("shop/other", f"{url}/public")[0] == 0, url


def test_another_host_header_changes_nothing(ruled: RunningMesh) -> None:
    assert ruled.get("shop/client", "http://web/secret", "-H", "Host: nobody")[0] == 403


def test_an_escaped_path_is_judged_as_it_is_forwarded(ruled: RunningMesh) -> None:
    for path in ("/public/../secret", "//secret", "/public/%2e%2e/secret"):
        assert ruled.get("shop/client", f"http://web{path}", "--path-as-is")[0] == 403, path


def test_a_raw_socket_is_dropped_where_the_verdict_is_deny(ruled: RunningMesh) -> None:
    source, target = ruled.pod("shop/other")["ip"], ruled.pod("shop/web-v1")["ip"]
    assert ruled.python("shop/other", RAW_SYN.format(src=source, dst=target, port=8080)) == "nothing"


def test_a_spoofed_source_gets_no_answer(ruled: RunningMesh) -> None:
    source, target = ruled.pod("shop/client")["ip"], ruled.pod("shop/web-v1")["ip"]
    code = RAW_SYN.format(src=source, dst=target, port=8080).replace(
        "s.settimeout(1)", "s.settimeout(1); s.setsockopt(0, 15, 1); s.bind((src, 0))"
    )
    assert ruled.python("shop/other", code) == "nothing"


def test_ping_is_denied_with_everything_else(ruled: RunningMesh) -> None:
    target = ruled.pod("shop/web-v1")["ip"]
    code = f"""
import socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP); s.settimeout(1)
body = struct.pack("!BBHHH", 8, 0, 0, 77, 1); total = sum(struct.unpack("!4H", body))
s.sendto(struct.pack("!BBHHH", 8, 0, ~((total & 0xffff) + (total >> 16)) & 0xffff, 77, 1), ({target!r}, 0))
try:
    while True:
        data = s.recv(200)
        if data[20] == 0 and data[24:26] == b"\\0\\x4d": print("pong"); break
except OSError: print("nothing")
"""
    assert ruled.python("shop/client", code) == "nothing"


def test_a_proxy_port_refuses_the_app(ruled: RunningMesh) -> None:
    for address in ("127.0.0.1", "127.0.1.0"):
        said = ruled.python(
            "shop/web-v1",
            f"""
import socket
try: socket.create_connection(({address!r}, 15001), 2); print("connected")
except OSError as e: print("refused")
""",
        )
        assert said == "refused", address


def test_bytes_that_are_no_http_are_not_let_through(ruled: RunningMesh) -> None:
    """Rule 21: nothing falls through to a bare TCP chain."""
    said = ruled.python(
        "shop/client",
        """
import socket, time
s = socket.create_connection(("web", 80), 3); s.settimeout(3)
s.sendall(b"\\r\\nG"); time.sleep(1.5); s.sendall(b"ET /secret HTTP/1.1\\r\\nHost: web\\r\\n\\r\\n")
print(s.recv(100).split(b" ")[1].decode())
""",
    )
    assert said in ("400", "403")
