"""Real Envoys and servers, as for the tests of what is rendered."""

from tests.xds.render.conftest import folder, serve, servers

__all__ = ["folder", "serve", "servers"]
