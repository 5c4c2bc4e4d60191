"""An `AdsServer` on loopback whose snapshots are edited one resource at a time."""

from __future__ import annotations

from mesh.discovery.envoy import CLUSTER, LISTENER
from mesh.discovery.resource import Resource
from mesh.discovery.session import Event
from mesh.discovery.wire import bytes_field, integer_field, pack_any, text_field
from xds.server import AdsServer

NODE = "node~test"
HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"


def resource(type_url: str, name: str, content: str = "1") -> Resource:
    """A message with a name in field 1 and something in field 99 that makes versions."""
    return Resource.of(type_url, name, text_field(1, name) + text_field(99, content))


def cluster(name: str, content: str = "1", *, service: str = "") -> Resource:
    """A cluster of type EDS, as far as the protocol reads it."""
    eds = bytes_field(3, text_field(2, service))
    return Resource.of(
        CLUSTER, name, text_field(1, name) + integer_field(2, 3) + eds + text_field(99, content)
    )


def listener(name: str, *routes: str, content: str = "1") -> Resource:
    """A listener with a filter chain for each route configuration."""
    chains = (
        bytes_field(3, bytes_field(3, bytes_field(4, pack_any(HCM, bytes_field(3, text_field(2, route))))))
        for route in routes
    )
    return Resource.of(LISTENER, name, text_field(1, name) + b"".join(chains) + text_field(99, content))


class Served:
    def __init__(self) -> None:
        self.snapshots: dict[str, dict[str, dict[str, Resource]]] = {NODE: {}}
        self.events: list[tuple[str, Event]] = []
        self.ads = AdsServer(self.snapshots.get, lambda node, event: self.events.append((node, event)))
        self.address = ""

    async def start(self, address: str = "127.0.0.1:0") -> None:
        (port,) = await self.ads.start([address])
        self.address = address if address.startswith("unix:") else f"127.0.0.1:{port}"

    async def stop(self) -> None:
        await self.ads.stop()

    def set(self, type_url: str, *resources: Resource, node: str = NODE) -> None:
        """Make these the resources of a type; visible after `publish`."""
        before = self.snapshots.get(node, {})
        self.snapshots[node] = before | {type_url: {each.name: each for each in resources}}

    def put(self, type_url: str, *resources: Resource) -> None:
        """Add or replace resources and publish."""
        before = self.snapshots[NODE].get(type_url, {})
        self.set(type_url, *(before | {each.name: each for each in resources}).values())
        self.publish()

    def remove(self, type_url: str, *names: str) -> None:
        """Remove resources and publish."""
        before = self.snapshots[NODE].get(type_url, {})
        self.set(type_url, *(each for name, each in before.items() if name not in names))
        self.publish()

    def publish(self) -> None:
        self.ads.publish()
