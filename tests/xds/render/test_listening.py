"""Listeners as rendered, in a network namespace of their own: that they can stand where they must, and that
nobody gets through who was not sent there by the kernel (rule 14).
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh.listener import EGRESS_PORT, INGRESS_PORT, egress_addresses, ingress_addresses
from mesh.model import HttpMatch
from mesh.proxy import L7Class
from tests.xds.render.standalone import Proxy
from tests.xds.render.views import destination, entry, l7, part, prefix, routed, to, view

SNIFFING = L7Class(301, "egress", plain=())
VIEW = view(
    routed=(routed("api", entry(prefix("/"), to("api"))),),
    destinations=(destination("api", part(8080, address="10.64.0.5")),),
    egress=(l7(300, "egress", HttpMatch()), SNIFFING),
    ingress=(l7(70000, "ingress", HttpMatch()),),
)
DIAL = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5) as connection:
    try:
        connection.sendall(b"GET / HTTP/1.1\\r\\nhost: a\\r\\n\\r\\n")
        print(len(connection.recv(4096)))
    except ConnectionResetError:
        print(0)
"""

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def proxy(folder: Path) -> Iterator[Proxy]:
    """An Envoy in a namespace that has what the agent sets up: loopback and the listeners' IPv6 block."""
    setup = "ip link set lo up && ip -6 route add local fd51:ce:1::/96 dev lo"
    inside = ["unshare", "--net", "sh", "-c", f'{setup} && exec "$@"', "envoy"]
    proxy = Proxy(VIEW, folder, as_rendered=True, inside=inside)
    yield proxy
    proxy.stop()


def test_every_listener_stands_on_both_of_its_addresses(proxy: Proxy) -> None:
    found = {
        status["name"]: {
            (address["socket_address"]["address"], address["socket_address"]["port_value"])
            for address in (status["local_address"], *status["additional_local_addresses"])
        }
        for status in json.loads(proxy.admin("/listeners?format=json"))["listener_statuses"]
    }
    assert found == {
        "virtualOutbound": {(address, EGRESS_PORT) for address in egress_addresses(1)},
        "virtualOutbound|300": {(address, EGRESS_PORT) for address in egress_addresses(300)},
        "virtualOutbound|301": {(address, EGRESS_PORT) for address in egress_addresses(301)},
        "virtualInbound|70000": {(address, INGRESS_PORT) for address in ingress_addresses(70000)},
    }


@pytest.mark.parametrize(
    "address", [address for number in (1, 300, 301) for address in egress_addresses(number)]
)
def test_who_dials_a_listener_is_cut_off_without_a_word(address: str, proxy: Proxy) -> None:
    namespace = f"--net=/proc/{proxy.pid}/ns/net"
    dial = ["nsenter", namespace, "python3", "-c", DIAL, address, str(EGRESS_PORT)]
    result = subprocess.run(dial, capture_output=True, check=True, timeout=20, env=dict(os.environ))
    assert result.stdout.strip() == b"0"


@pytest.mark.parametrize("address", ingress_addresses(70000))
def test_nobody_can_dial_an_ingress_listener(address: str, proxy: Proxy) -> None:
    namespace = f"--net=/proc/{proxy.pid}/ns/net"
    dial = ["nsenter", namespace, "python3", "-c", DIAL, address, str(INGRESS_PORT)]
    result = subprocess.run(dial, capture_output=True, timeout=20, env=dict(os.environ))
    assert result.returncode != 0
    assert b"unreachable" in result.stderr
